"""What a member of a Kafka consumer group has read of its partitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka import TopicPartition as KafkaPartition


class Positions(ConsumerRebalanceListener):  # type: ignore[misc]  # the package has no types
    """What this member has handed out, by partition, for as long as nobody else had it.

    The group takes all partitions from all members whenever one comes or goes, and gives most of
    them back. Those go on where they were, not at the committed offset. Called by the client
    during a poll.
    """

    def __init__(self) -> None:
        self.read_from: dict[KafkaPartition, int] = {}  # the first offset handed out
        self.next: dict[KafkaPartition, int] = {}
        self.fetched: dict[KafkaPartition, list[Any]] = {}  # not handed out yet
        self.consumer: KafkaConsumer | None = None
        self._held: set[KafkaPartition] = set()
        self._joined = (-1, "")

    def _generation(self) -> tuple[int, str]:
        if self.consumer is None:
            return -1, ""
        seen = self.consumer.group_metadata()
        return seen.generation_id, seen.member_id

    def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        self._held = set(revoked)

    def on_partitions_lost(self, lost: Iterable[KafkaPartition]) -> None:
        self._held = set()

    def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        generation, member = joined = self._generation()
        unbroken = self._joined == (generation - 1, member)
        self._joined = joined
        kept = self._held & set(assigned) if unbroken else set()
        for known in (self.read_from, self.next, self.fetched):
            for partition in [p for p in known if p not in kept]:
                del known[partition]
        for partition in kept & self.next.keys():
            fetched = self.fetched.get(partition)
            at = fetched[-1].offset + 1 if fetched else self.next[partition]
            if self.consumer is not None:
                self.consumer.seek(partition, at)

    def hand_out(self, records_max: int) -> list[tuple[KafkaPartition, list[Any]]]:
        """At most so many of what was fetched: a fair share of each partition, and then what there
        is. Who was served goes last.
        """
        fetched = self.fetched
        taken: list[tuple[KafkaPartition, list[Any]]] = []
        left = records_max
        while fetched and left > 0:
            share = max(1, left // len(fetched))
            for partition in list(fetched):
                count = min(share, left)
                if count <= 0:
                    break
                found = fetched.pop(partition)
                if len(found) > count:
                    fetched[partition] = found[count:]
                    found = found[:count]
                self.read_from.setdefault(partition, found[0].offset)
                self.next[partition] = found[-1].offset + 1
                taken.append((partition, found))
                left -= len(found)
        return taken
