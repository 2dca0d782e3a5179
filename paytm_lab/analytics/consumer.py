"""Keeps every payment and fraud event and counts each once: a messaging Handler on both topics.

An event counts if its (payment, type) is new, or was stored from this very place in the log. The
first makes a relay's second copy, at another offset, count for nothing; the second makes a batch
that crashed between storing its events and its totals count when it comes again. Totals carry the
offset they reach, so a batch that crashed after them is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from paytm_lab.analytics.rollups import (
    COMPLETED,
    DAY_US,
    HOUR_US,
    Totals,
    add_part,
    day_text,
    part_body,
)
from paytm_lab.analytics.tables import EVENTS, EVENTS_BY_HOUR, ROLLUPS
from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.core.events import (
    FraudData,
    PaymentData,
    Topic,
    read_fraud_event,
    read_payment_event,
)
from paytm_lab.core.ids import admitted_at_us, parse_payment_id
from paytm_lab.ports.event_log import Record
from paytm_lab.ports.wide_store import Row, WideStore

DAYS_CACHED_MAX = 64
_PAYMENT = str(Topic.PAYMENT)
_FRAUD = str(Topic.FRAUD)
_Place = tuple[str, int]


def began_us(record: Record) -> int:
    """When the payment was admitted that a record is about, microseconds since 1970 UTC; 0 where it
    is about none.
    """
    try:
        return admitted_at_us(parse_payment_id(record.key))
    except BadInput:
        return 0


class _Seen(NamedTuple):
    record: Record
    type: str
    data: PaymentData | FraudData
    latency_us: int | None


class _PartitionTotals:
    """One partition's totals in memory: all time, and the days last touched (the oldest touch
    first).
    """

    def __init__(self, next_offset: int) -> None:
        self.next_offset = next_offset
        self.totals = Totals()

    def touch(self, day: int) -> None:
        self.totals.days[day] = self.totals.days.pop(day, {})

    def forget_old_days(self) -> None:
        for day in list(self.totals.days)[:-DAYS_CACHED_MAX]:
            del self.totals.days[day]


class AnalyticsConsumer:
    """Raises what the wide store raises; then the batch counts as not handled and may come again.

    ``counters``: counted, duplicates, passed_over (already in the totals), batches; ``handled_us``
    is the clock's time when the last batch was done.
    """

    def __init__(self, wide_store: WideStore, clock: Clock) -> None:
        self.counters: Counter[str] = Counter()
        self.handled_us = 0
        self._store = wide_store
        self._clock = clock
        self._partitions: dict[_Place, _PartitionTotals] = {}
        self._parse_time_us = _TimeParser()
        self._ahead: Sequence[Record] = ()

    def expect(self, records: Sequence[Record]) -> None:
        """These come later, and have payments in common with what comes next: their events are
        stored with it, one write a payment. They count when they come. Where what comes next cannot
        be handled at once, they are as if nothing had been said of them.
        """
        self._ahead = records

    def handle(self, records: Sequence[Record]) -> None:
        ahead, self._ahead = self._ahead, ()  # of these records together, not of a part of them
        batch = [self._read(r) for r in records if r.topic in (_PAYMENT, _FRAUD)]
        if not batch:
            return
        try:
            self._handle(batch, self._readable(ahead))
        except BaseException:
            # Memory may be ahead of the store now; the store is what counts.
            self._partitions.clear()
            raise
        self.counters["batches"] += 1
        self.handled_us = self._clock.now_us()

    def _readable(self, records: Sequence[Record]) -> list[_Seen]:
        """What cannot be read is found out when it is handled."""
        seen = []
        for record in records:
            with suppress(Exception):
                seen.append(self._read(record))
        return seen

    def _read(self, record: Record) -> _Seen:
        if record.topic == _FRAUD:
            fraud = read_fraud_event(record.value)
            return _Seen(record, fraud.type, fraud.data, None)
        event = read_payment_event(record.value)
        data = event.data
        timed = event.type == COMPLETED and data.kind == "transfer"
        return _Seen(
            record,
            event.type,
            data,
            self._parse_time_us(event.time) - data.stamp_us if timed else None,
        )

    def _handle(self, batch: Sequence[_Seen], ahead: Sequence[_Seen]) -> None:
        self._load_totals({(s.record.topic, s.record.partition) for s in batch})
        todo = [s for s in batch if s.record.offset >= self._at(s).next_offset]
        self.counters["passed_over"] += len(batch) - len(todo)
        if not todo:
            return
        counted = self._store_events(todo, ahead)
        self.counters["duplicates"] += len(todo) - len(counted)
        self.counters["counted"] += len(counted)
        self._store_totals(todo, counted)

    def _store_events(self, todo: Sequence[_Seen], ahead: Sequence[_Seen]) -> list[_Seen]:
        """Store what is new; returns what counts, which of those ahead is nothing."""
        first: dict[tuple[str, str], _Seen] = {}
        for seen in todo:
            first.setdefault((seen.data.payment_id, seen.type), seen)
        early: dict[tuple[str, str], _Seen] = {}
        for seen in ahead:
            if (key := (seen.data.payment_id, seen.type)) not in first:
                early.setdefault(key, seen)
        stored = self._store.fetch(EVENTS, [*first, *early])
        new = [s for key, s in (first | early).items() if key not in stored]
        counted = [
            s for key, s in first.items() if key not in stored or _same_place(stored[key], s.record)
        ]
        if new:
            self._store.upsert(EVENTS, [_event_row(s) for s in new])
        if counted:
            self._store.upsert(EVENTS_BY_HOUR, [_hour_row(s) for s in counted])
        return counted

    def _store_totals(self, todo: Sequence[_Seen], counted: Sequence[_Seen]) -> None:
        touched: dict[_Place, set[int]] = {}
        for seen in todo:
            touched.setdefault((seen.record.topic, seen.record.partition), set())
        for seen in counted:
            touched[seen.record.topic, seen.record.partition].add(seen.data.at_us // DAY_US)
        self._load_days(touched)
        for seen in counted:
            self._count(seen)
        for seen in todo:
            at = self._at(seen)
            at.next_offset = max(at.next_offset, seen.record.offset + 1)
        self._store.upsert(
            ROLLUPS, [row for place, days in touched.items() for row in self._rows(place, days)]
        )
        for place in touched:
            self._partitions[place].forget_old_days()

    def _count(self, seen: _Seen) -> None:
        totals = self._at(seen).totals
        data = seen.data
        if isinstance(data, FraudData):
            totals.add_fraud(seen.type, data)
        else:
            totals.add_payment(seen.type, data, seen.latency_us)

    def _at(self, seen: _Seen) -> _PartitionTotals:
        return self._partitions[seen.record.topic, seen.record.partition]

    def _load_totals(self, places: Iterable[_Place]) -> None:
        """Compare memory with the store: another member may have had the partition in between."""
        wanted = list(places)
        stored = self._store.fetch(ROLLUPS, [(*place, "") for place in wanted])
        for place in wanted:
            row = stored.get((*place, ""))
            next_offset = int(row["next_offset"]) if row is not None else 0
            known = self._partitions.get(place)
            if known is not None and known.next_offset == next_offset:
                continue
            fresh = self._partitions[place] = _PartitionTotals(next_offset)
            if row is not None:
                add_part(fresh.totals, "", row["body"])

    def _load_days(self, touched: dict[_Place, set[int]]) -> None:
        missing = [
            (*place, day)
            for place, days in touched.items()
            for day in days
            if day not in self._partitions[place].totals.days
        ]
        if missing:
            stored = self._store.fetch(
                ROLLUPS, [(topic, partition, day_text(day)) for topic, partition, day in missing]
            )
            for (topic, partition, part), row in stored.items():
                add_part(self._partitions[topic, partition].totals, part, row["body"])
        for place, days in touched.items():
            for day in sorted(days):
                self._partitions[place].touch(day)

    def _rows(self, place: _Place, days: Iterable[int]) -> list[Row]:
        at = self._partitions[place]
        return [
            {
                "log_topic": place[0],
                "log_partition": place[1],
                "part": "" if day is None else day_text(day),
                "next_offset": at.next_offset,
                "body": part_body(at.totals, day),
            }
            for day in (None, *sorted(days))
        ]


class _TimeParser:
    """An envelope's time -> microseconds. Consecutive events share the second, which is the slow
    part.
    """

    def __init__(self) -> None:
        self._text = ""
        self._second_us = 0

    def __call__(self, time: str) -> int:
        second = time[:19]
        try:
            if second != self._text:
                self._second_us = (
                    int(datetime.fromisoformat(second + "+00:00").timestamp()) * 1_000_000
                )
                self._text = second
            return self._second_us + int(time[20:-1].ljust(6, "0")[:6] or 0)
        except ValueError as error:
            raise BadInput(
                f"{time!r:.40} is not an event's time", place="event envelope"
            ) from error


def _same_place(row: Row, record: Record) -> bool:
    return bool(
        row["log_offset"] == record.offset
        and row["log_partition"] == record.partition
        and row["log_topic"] == record.topic
    )


def _event_row(seen: _Seen) -> Row:
    record = seen.record
    return {
        "payment_id": seen.data.payment_id,
        "type": seen.type,
        "body": record.value.decode(),
        "log_topic": record.topic,
        "log_partition": record.partition,
        "log_offset": record.offset,
    }


def _hour_row(seen: _Seen) -> Row:
    data = seen.data
    return {
        "hour": data.at_us // HOUR_US,
        "bucket": seen.record.partition,
        "at_us": data.at_us,
        "payment_id": data.payment_id,
        "type": seen.type,
    }
