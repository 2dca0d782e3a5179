"""A consumer that waits until records which belong together have come, and handles them at once.

A payment's events come through several partitions and at several times: its first and last from the
shards, the fraud decision somewhat later. What is stored by payment is stored once instead of three
times if they are handled in one batch. So records are held, uncommitted, until what they are about
began long enough ago for all of it to be here; a crash repeats what was held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paytm_lab.core.clock import Clock
from paytm_lab.messaging.consumer import ConsumerRunner, Handler
from paytm_lab.ports.event_log import EventLog, LogConsumer, Record, TopicPartition

HELD_PARTS = 4  # as many polls' records are held at most; then all go on, ripe or not


class TogetherHandler(Handler, Protocol):
    def expect(self, records: Sequence[Record]) -> None:
        """These have the keys of records that are handled next, and are handled later, in their
        partitions' order: what is stored by key may be stored for them now, and counts for nothing
        yet.
        """


class TogetherRunner(ConsumerRunner):
    """A ConsumerRunner that hands on a record when what it is about began ``hold_s`` ago, and none
    later than ``hold_s`` after it was polled. ``began_us(record)``: microseconds since 1970 UTC,
    the same for all that belongs together.

    Ripe records go to the handler every ``gather_s``, each partition's in offset order. One that is
    not ripe keeps those behind it; of these the handler is told to ``expect`` them. All go at once
    where nothing came for ``gather_s``, where ``HELD_PARTS`` times ``records_max`` are held, and
    while ``hurry`` is true.
    """

    def __init__(
        self,
        log: EventLog,
        group: str,
        topics: Sequence[str],
        handler: TogetherHandler,
        clock: Clock,
        *,
        hold_s: float,
        began_us: Callable[[Record], int],
        **options: Any,
    ) -> None:
        super().__init__(log, group, topics, handler, clock, **options)
        self._together = handler
        self._hold_s = hold_s
        self._began_us = began_us
        self._held: dict[TopicPartition, deque[tuple[float, Record]]] = {}
        self._came_at_s = float("-inf")
        self._next_at_s = float("-inf")

    def _next_records(self, consumer: LogConsumer, timeout_s: float) -> list[Record]:
        records = consumer.poll(max(0, min(self._room(), self._records_max)), timeout_s)
        self._give_back(consumer)  # what was lost in this very poll, too
        self._hold(records)
        ripe = self._take_ripe()
        if ripe:
            keys = {record.key for record in ripe}
            held = (record for held in self._held.values() for _, record in held)
            self._together.expect([record for record in held if record.key in keys])
        return ripe

    def held(self) -> int:
        """How many records were polled and are not ripe yet."""
        return sum(map(len, self._held.values()))

    def _room(self) -> int:
        return HELD_PARTS * self._records_max - self.held()

    def _give_back(self, consumer: LogConsumer) -> None:
        """What another member reads now is not ours to handle."""
        if lost := self._held.keys() - consumer.assignment():
            for partition in lost:
                del self._held[partition]

    def _hold(self, records: Sequence[Record]) -> None:
        if not records:
            return
        self._came_at_s = now_s = self._clock.monotonic_s()
        now_us = self._clock.now_us()
        for record in records:
            held = self._held.setdefault(TopicPartition(record.topic, record.partition), deque())
            while held and held[-1][1].offset >= record.offset:
                held.pop()  # the partition was lost, came back, and is read once more
            age_s = max(0.0, (now_us - self._began_us(record)) / 1e6)
            held.append((now_s + self._hold_s - age_s, record))

    def _take_ripe(self) -> list[Record]:
        now_s = self._clock.monotonic_s()
        quiet = now_s - self._came_at_s >= self._gather_s
        if self.hurry or quiet or self._room() <= 0:
            until_s = float("inf")
        elif now_s < self._next_at_s:
            return []
        else:
            until_s = now_s
        ripe = []
        for partition, held in list(self._held.items()):
            while held and held[0][0] <= until_s:
                ripe.append(held.popleft()[1])
            if not held:
                del self._held[partition]
        if ripe:
            self._next_at_s = now_s + self._gather_s
        return ripe

    def _drop_lost(self, consumer: LogConsumer) -> None:
        # What waits comes before what is held: when it comes again, so must that.
        super()._drop_lost(consumer)
        self._give_back(consumer)

    def _read_again(self, consumer: LogConsumer) -> None:
        self._held.clear()
        super()._read_again(consumer)

    def close(self) -> None:
        self._held.clear()
        super().close()
