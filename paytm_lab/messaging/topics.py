"""The topics, their partitions, and who reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from paytm_lab.core.events import Topic
from paytm_lab.ports.event_log import EventLog

# payment_events carries most and is read by everybody, so it can be shared among most consumers.
PARTITIONS: dict[str, int] = {
    str(Topic.PAYMENT): 8,
    str(Topic.FRAUD): 4,
    str(Topic.NOTIFICATION): 4,
    str(Topic.ANALYTICS): 4,
}

FRAUD = "fraud"
ANALYTICS = "analytics"
NOTIFICATIONS = "notifications"
SHARD_MANAGER = "shard_manager"
GROUPS: dict[str, tuple[str, ...]] = {
    FRAUD: (str(Topic.PAYMENT),),
    ANALYTICS: (str(Topic.PAYMENT), str(Topic.FRAUD)),
    NOTIFICATIONS: (str(Topic.PAYMENT), str(Topic.FRAUD), str(Topic.ANALYTICS)),
    SHARD_MANAGER: (str(Topic.FRAUD),),
}
"""Consumer group -> the topics it reads."""


def dead_letter(topic: str) -> str:
    """Where the messages of ``topic`` go that nobody could handle."""
    return f"{topic}.dead_letter"


def create_topics(log: EventLog, partitions: Mapping[str, int] = PARTITIONS) -> None:
    """All topics and their dead letter topics, those that are missing."""
    log.create_topics({**partitions, **{dead_letter(topic): 1 for topic in partitions}})


def consumer_lag(log: EventLog, group: str, topics: Sequence[str]) -> int:
    """How many records of ``topics`` the group has not committed yet."""
    lag = 0
    for topic in topics:
        starts = log.start_offsets(topic)
        committed = log.committed(group, topic)
        ends = log.end_offsets(topic)  # after the committed ones, so that the lag is not negative
        for start, done, end in zip(starts, committed, ends, strict=True):
            lag += end - max(start, done if done is not None else start)
    return lag


def events_behind(log: EventLog, groups: Mapping[str, Sequence[str]]) -> int:
    """About how many records the slowest of these groups (name -> topics) has not committed yet.
    Each topic's ends are asked for once, as on servers every question is a round trip; records that
    expired unread are counted, too.
    """
    committed = {
        (group, topic): log.committed(group, topic)
        for group, topics in groups.items()
        for topic in topics
    }
    ends: dict[str, list[int]] = {}
    behind: Counter[str] = Counter()
    for (group, topic), done in committed.items():
        if topic not in ends:
            ends[topic] = log.end_offsets(topic)
        read = [at for at in done if at is not None]
        if len(read) < len(done):
            starts = log.start_offsets(topic)
            read += [starts[number] for number, at in enumerate(done) if at is None]
        behind[group] += sum(ends[topic]) - sum(read)
    return max(behind.values(), default=0)
