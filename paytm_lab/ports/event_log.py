"""A durable, partitioned log of events with consumer groups: what Kafka promises, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """What is produced. ``key`` chooses the partition: same key, same partition, in order."""

    topic: str
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Record(NamedTuple):
    """What is read. ``offset`` counts from 0 in a partition; ``time_us``: when it was appended."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    time_us: int


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class LogConsumer(Protocol):
    """A member of a consumer group. One thread uses it."""

    def poll(self, records_max: int, timeout_s: float) -> list[Record]:
        """Up to ``records_max`` records of the assigned partitions, each partition in offset order;
        empty after ``timeout_s`` without any. Starts at the group's committed offset, or at the
        first record where none is committed. Advances the member's position, not the committed
        offset.
        """

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Durably record, for the group, the next offset to read of each partition: the last
        handled one + 1. Raises core.errors.TransientStoreError when this member no longer owns a
        partition.
        """

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read next from these offsets; partitions that are not assigned are ignored."""

    def assignment(self) -> set[TopicPartition]:
        """The partitions that this member owns now. Each belongs to one member of the group."""

    def close(self) -> None:
        """Leave the group; its partitions go to the other members."""


class EventLog(Protocol):
    def create_topics(self, partitions: Mapping[str, int]) -> None:
        """Create the topics that are missing, with so many partitions; others stay as they are."""

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; BadInput for an unknown topic."""

    def append(self, messages: Sequence[Message]) -> None:
        """Append all, in the order given within each partition. Durable when it returns. When it
        raises, any prefix of each partition's share may have been appended: repeat and deduplicate.
        """

    def consumer(
        self, group: str, topics: Sequence[str], *, patience_s: float = 0.0
    ) -> LogConsumer:
        """Join a group, whose live members share the partitions of ``topics`` evenly. Records may
        come so much later (``patience_s``) where that lets the log hand out more of them at once.
        """

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Records from ``offset`` on, outside any group; empty at the end."""

    def start_offsets(self, topic: str) -> list[int]:
        """The first offset still there, by partition; 0 where nothing was ever dropped."""

    def end_offsets(self, topic: str) -> list[int]:
        """One past the last durable record, by partition."""

    def committed(self, group: str, topic: str) -> list[int | None]:
        """The group's committed offset by partition; None where it never committed."""

    def close(self) -> None:
        """Release files and connections. Harmless when called twice."""
