"""A member of a consumer group: polls the topics' files, commits to the group's."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping

from paytm_lab.backends.embedded.consumer_group import GroupFile, Instance, Membership
from paytm_lab.backends.embedded.topic_file import TopicFile
from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import TransientStoreError
from paytm_lab.ports.event_log import Record, TopicPartition

PEER_CHECK_S = 1.0  # how often a member looks whether the others still live
WAIT_SLICE_S = 0.025  # how long a waiting poll does not look for other processes' appends
REFRESH_S = 0.02  # the same, while there is work


class Arrivals:
    """Wakes consumers of this process when something was appended here."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.seen = 0

    def announce(self) -> None:
        with self._condition:
            self.seen += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float) -> None:
        """Return at once if there were arrivals since ``seen``, else at the next one or in time."""
        with self._condition:
            if self.seen == seen:
                self._condition.wait(timeout_s)


class EmbeddedConsumer:
    """A ``ports.event_log.LogConsumer``. Waiting is in real time; leases follow the log's clock."""

    def __init__(
        self,
        group: GroupFile,
        instance: Instance,
        topics: Mapping[str, TopicFile],
        arrivals: Arrivals,
        clock: Clock,
        lease_s: float,
    ) -> None:
        self._group = group
        self._instance = instance
        self._topics = topics
        self._arrivals = arrivals
        self._clock = clock
        self._lease_us = round(lease_s * 1e6)
        self._member = f"{instance.id}-{secrets.token_hex(4)}"
        self._positions: dict[TopicPartition, int] = {}
        self._read_from: dict[TopicPartition, int] = {}  # the lowest position under this claim
        self._fetched: dict[TopicPartition, list[Record]] = {}
        self._order: list[TopicPartition] = []
        self._first = 0  # where in the order the next poll begins, so that no partition starves
        self._peers_checked_us = 0
        self._closed = False
        self._membership = Membership(-1, {}, 0)
        self._sync()

    def _sync(self) -> None:
        now_us = self._clock.now_us()
        counts = {name: len(file.ends) for name, file in self._topics.items()}
        before = self._membership.claims
        self._membership = self._group.sync(
            self._member, self._instance, counts, now_us, self._lease_us
        )
        self._peers_checked_us = now_us
        claims = self._membership.claims
        for partition in [p for p in self._positions if p not in claims]:
            del self._positions[partition]
            self._fetched.pop(partition, None)
        for partition, claim in claims.items():
            if partition not in before or before[partition].epoch != claim.epoch:
                start = claim.next_offset or 0
                self._positions[partition] = self._read_from[partition] = start
                self._fetched.pop(partition, None)
        self._order = sorted(claims)

    def _sync_if_needed(self) -> None:
        now_us = self._clock.now_us()
        due = now_us >= self._membership.lease_until_us - self._lease_us * 2 // 3
        if not due and now_us - self._peers_checked_us >= PEER_CHECK_S * 1e6:
            self._peers_checked_us = now_us
            due = bool(self._group.gone(self._member, now_us, self._instance.lives))
        if due or self._group.version(REFRESH_S) != self._membership.version:
            self._sync()

    def poll(self, records_max: int, timeout_s: float) -> list[Record]:
        deadline_s = time.monotonic() + timeout_s
        while True:
            seen = self._arrivals.seen
            self._sync_if_needed()
            records = self._gather(records_max) if records_max > 0 else []
            left_s = deadline_s - time.monotonic()
            if records or records_max <= 0 or left_s <= 0 or self._closed:
                return records
            self._arrivals.wait(seen, min(left_s, WAIT_SLICE_S))

    def _gather(self, records_max: int) -> list[Record]:
        for stale_s in (REFRESH_S, 0.0):  # only when there is nothing, look at the files now
            for file in self._topics.values():
                file.refresh(stale_s)
            records: list[Record] = []
            order = self._order[self._first :] + self._order[: self._first]
            for partition in order:
                if len(records) >= records_max:
                    break
                records += self._take(partition, records_max - len(records))
                self._first = (self._order.index(partition) + 1) % len(order)
            if records:
                return records
        return []

    def _take(self, partition: TopicPartition, records_max: int) -> list[Record]:
        position = self._positions[partition]
        file = self._topics[partition.topic]
        if position >= file.ends[partition.partition]:
            return []
        fetched = self._fetched.pop(partition, None)
        if not fetched or not fetched[0].offset <= position <= fetched[-1].offset:
            fetched = file.read(partition.partition, position, records_max)
            if not fetched:
                return []
            position = max(position, fetched[0].offset)  # the first records may have been deleted
        index = position - fetched[0].offset
        taken = fetched[index : index + records_max]
        self._positions[partition] = taken[-1].offset + 1
        if taken[-1] is not fetched[-1]:
            self._fetched[partition] = fetched
        return taken

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """As the port says. What was polled before a partition was lost does not count after it
        came back: its offset is none of those that were read since, and is refused too.
        """
        claims = self._membership.claims
        for partition, offset in offsets.items():
            if partition not in claims:
                raise TransientStoreError(f"{partition} belongs to another member now")
            if not self._read_from[partition] <= offset <= self._positions[partition]:
                raise TransientStoreError(f"{partition} was lost since offset {offset} was read")
        if offsets:
            rows = [(*p, claims[p].epoch, offset) for p, offset in offsets.items()]
            self._group.commit(self._member, rows)

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            if partition in self._positions:
                self._positions[partition] = offset
                self._read_from[partition] = min(offset, self._read_from[partition])

    def assignment(self) -> set[TopicPartition]:
        return set(self._membership.claims)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._membership = Membership(-1, {}, 0)
            self._positions.clear()
            self._order = []
            self._group.leave(self._member)
            self._arrivals.announce()
