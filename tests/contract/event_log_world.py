"""What the event log's contract suites share: messages to send, ways to read, other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from paytm_lab.ports.event_log import EventLog, LogConsumer, Message, Record, TopicPartition

Make = Callable[[], EventLog]
DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
TOPIC = "payment_events"


class Process:
    """A running event_log_process.py."""

    def __init__(self, profile: str, place: str, command: str, *arguments: str) -> None:
        script = Path(__file__).with_name("event_log_process.py")
        self.popen = subprocess.Popen(
            [sys.executable, str(script), profile, place, command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def says(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def kill(self) -> list[str]:
        """kill -9, and what it had said that nobody read yet; nothing the second time."""
        if self.popen.returncode is not None:
            return []
        self.popen.kill()
        with self.popen:
            assert self.popen.stdout is not None
            return self.popen.stdout.read().splitlines()


def messages(count: int, topic: str = TOPIC, keys: int = 50) -> list[Message]:
    return [Message(topic, f"k{i % keys}", f"v{i}".encode()) for i in range(count)]


def everything(log: EventLog, topic: str = TOPIC) -> list[Record]:
    return [
        r
        for p in range(log.partitions(topic))
        for r in log.read(topic, p, 0, records_max=1_000_000)
    ]


def drain(consumer: LogConsumer, count: int, records_max: int = 100) -> list[Record]:
    """``count`` records, within the deadline."""
    records: list[Record] = []
    give_up_at = time.monotonic() + DEADLINE_S
    while len(records) < count:
        assert time.monotonic() < give_up_at, f"{len(records)} of {count} records"
        records += consumer.poll(records_max, 0.1)
    return records


def settle(consumers: Sequence[LogConsumer], done: Callable[[], bool]) -> None:
    """Let the members poll in turn until the group is as it should be."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < give_up_at, [sorted(c.assignment()) for c in consumers]
        for consumer in consumers:
            consumer.poll(0, 0.0)


def next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    return {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}
