"""Totals that merge: pure counters, the views that reports read, and their stored form.

Everything counted of an event is its cell, a small tuple; a total is how many events (and paise)
each cell saw. Any two totals merge by adding, in any order, which is what lets each partition of
the log keep its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from paytm_lab.analytics.tables import ROLLUPS
from paytm_lab.core.errors import StorageCorrupt
from paytm_lab.core.events import EventType, FraudData, PaymentData
from paytm_lab.ports.wide_store import WideStore

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SCORE_BINS = 10
COMPLETED = str(EventType.PAYMENT_COMPLETED)
FAILED = str(EventType.PAYMENT_FAILED)
CANCELLED = str(EventType.PAYMENT_CANCELLED)
INITIATED = str(EventType.PAYMENT_INITIATED)
SCORED = str(EventType.FRAUD_SCORE_CALCULATED)


class Cell(NamedTuple):
    """One kind of event. Payments: (type, kind, reason, from_shard, to_shard).
    Fraud events: (type, decision, rule, score bin 0..9, 0).
    """

    type: str
    kind: str
    detail: str
    a: int
    b: int


class HourCell(NamedTuple):
    """``hour`` of the day 0..23 UTC; ``cross`` is 1 where the payment crosses shards, 0 for fraud
    events.
    """

    hour: int
    type: str
    kind: str
    cross: int


class Sum(NamedTuple):
    payments: int
    amount_paise: int


class TotalsPart(msgspec.Struct):
    """The stored form: ``cells`` are [*cell, events, paise]; ``latency`` is [bin, payments]."""

    cells: list[tuple[str | int, ...]] = []
    latency: list[tuple[int, int]] = []


class Totals:
    """Mutable counters. ``events`` and ``paise`` by Cell; by day number (days since 1970 UTC) and
    HourCell; ``latency`` counts completed payments by bin of microseconds from their stamp to their
    completion.
    """

    def __init__(self) -> None:
        self.events: Counter[Cell] = Counter()
        self.paise: Counter[Cell] = Counter()
        self.day_events: dict[int, Counter[HourCell]] = {}
        self.day_paise: dict[int, Counter[HourCell]] = {}
        self.latency: Counter[int] = Counter()

    def add_payment(self, event_type: str, data: PaymentData, latency_us: int | None) -> int:
        """Count one payment event; returns its day number."""
        cell = Cell(event_type, data.kind, data.reason, data.from_shard, data.to_shard)
        if latency_us is not None:
            self.latency[latency_bin(latency_us)] += 1
        return self._add(cell, data.amount_paise, data.at_us, int(data.from_shard != data.to_shard))

    def add_fraud(self, event_type: str, data: FraudData) -> int:
        """Count one fraud event; returns its day number."""
        score_bin = min(SCORE_BINS - 1, max(0, int(data.score * SCORE_BINS)))
        cell = Cell(event_type, data.decision, data.rule, score_bin, 0)
        return self._add(cell, data.amount_paise, data.at_us, 0)

    def _add(self, cell: Cell, amount_paise: int, at_us: int, cross: int) -> int:
        self.events[cell] += 1
        self.paise[cell] += amount_paise
        day, within_us = divmod(at_us, DAY_US)
        hour_cell = HourCell(within_us // HOUR_US, cell.type, cell.kind, cross)
        events = self.day_events.get(day)
        if events is None:
            events = self.day_events[day] = Counter()
            self.day_paise[day] = Counter()
        events[hour_cell] += 1
        self.day_paise[day][hour_cell] += amount_paise
        return day

    def merge(self, other: Totals) -> None:
        """Add the other's counts to these."""
        self.events.update(other.events)
        self.paise.update(other.paise)
        self.latency.update(other.latency)
        for day, events in other.day_events.items():
            self.day_events.setdefault(day, Counter()).update(events)
            self.day_paise.setdefault(day, Counter()).update(other.day_paise[day])

    # Views. All count payments of kind 'transfer' unless they say otherwise.

    def outcome(self, event_type: str, kind: str = "transfer") -> Sum:
        """Events of one type and payment kind."""
        return self._sum(c for c in self.events if c.type == event_type and c.kind == kind)

    def outcomes_by_kind(self) -> dict[tuple[str, str], Sum]:
        """(type, kind) -> sum; kinds: transfer, funding, refund (fraud events: decisions)."""
        return {
            (t, k): self.outcome(t, k) for t, k in sorted({(c.type, c.kind) for c in self.events})
        }

    def reasons(self, event_type: str, kind: str = "transfer") -> dict[str, Sum]:
        """Why payments failed (or were cancelled): reason -> sum."""
        found = sorted({c.detail for c in self.events if c.type == event_type and c.kind == kind})
        return {
            r: self._sum(
                c for c in self.events if c.type == event_type and c.kind == kind and c.detail == r
            )
            for r in found
        }

    def success_rate(self) -> float | None:
        """Completed / (completed + failed + cancelled); None before the first."""
        done = self.outcome(COMPLETED).payments
        ended = done + self.outcome(FAILED).payments + self.outcome(CANCELLED).payments
        return done / ended if ended else None

    def routes(self, kind: str = "transfer") -> dict[tuple[int, int], Sum]:
        """Completed payments by (from_shard, to_shard)."""
        found = sorted({(c.a, c.b) for c in self.events if c.type == COMPLETED and c.kind == kind})
        return {
            (a, b): self._sum(
                c
                for c in self.events
                if c.type == COMPLETED and c.kind == kind and (c.a, c.b) == (a, b)
            )
            for a, b in found
        }

    def shards(self) -> dict[int, dict[str, Sum]]:
        """Completed transfers per shard: 'out' (its users paid), 'in' (its users received)."""
        routes = self.routes()
        return {
            s: {
                "out": _plus(v for (a, _), v in routes.items() if a == s),
                "in": _plus(v for (_, b), v in routes.items() if b == s),
            }
            for s in sorted({s for route in routes for s in route})
        }

    def same_and_cross(self) -> tuple[Sum, Sum]:
        """Completed transfers within one shard, and across two."""
        routes = self.routes()
        return (
            _plus(v for (a, b), v in routes.items() if a == b),
            _plus(v for (a, b), v in routes.items() if a != b),
        )

    def by_day(self, event_type: str = COMPLETED, kind: str = "transfer") -> dict[str, Sum]:
        """'YYYY-MM-DD' (UTC, business time) -> sum."""
        return {
            day_text(day): self._hours(
                day, [c for c in self.day_events[day] if c.type == event_type and c.kind == kind]
            )
            for day in sorted(self.day_events)
        }

    def by_hour_of_day(self, event_type: str = COMPLETED, kind: str = "transfer") -> list[Sum]:
        """24 sums, hour 0..23 UTC of business time, over all days."""
        return [
            _plus(
                self._hours(
                    day,
                    [
                        c
                        for c in events
                        if c.hour == hour and c.type == event_type and c.kind == kind
                    ],
                )
                for day, events in self.day_events.items()
            )
            for hour in range(24)
        ]

    def fraud_decisions(self) -> dict[tuple[str, str], Sum]:
        """(decision, rule) -> payments scored."""
        found = sorted({(c.kind, c.detail) for c in self.events if c.type == SCORED})
        return {
            (d, r): self._sum(
                c for c in self.events if c.type == SCORED and (c.kind, c.detail) == (d, r)
            )
            for d, r in found
        }

    def score_histogram(self) -> list[int]:
        """Payments scored, by bins of 0.1; a score of 1 is in the last."""
        bins = [0] * SCORE_BINS
        for cell, count in self.events.items():
            if cell.type == SCORED:
                bins[cell.a] += count
        return bins

    def latency_ms(self, quantile: float) -> float | None:
        """Milliseconds from stamp to completion, at most 12.5 % too high; None before the first."""
        total = sum(self.latency.values())
        seen = 0
        for bin_ in sorted(self.latency):
            seen += self.latency[bin_]
            if seen >= quantile * total:
                return latency_bin_top_us(bin_) / 1000
        return None

    def _sum(self, cells: Iterable[Cell]) -> Sum:
        found = list(cells)
        return Sum(sum(self.events[c] for c in found), sum(self.paise[c] for c in found))

    def _hours(self, day: int, cells: list[HourCell]) -> Sum:
        return Sum(
            sum(self.day_events[day][c] for c in cells), sum(self.day_paise[day][c] for c in cells)
        )


def _plus(sums: Iterable[Sum]) -> Sum:
    found = list(sums)
    return Sum(sum(s.payments for s in found), sum(s.amount_paise for s in found))


def day_text(day: int) -> str:
    return f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"


def day_number(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) // 86_400


def latency_bin(latency_us: int) -> int:
    """Bins of an eighth of a power of two: exact below 16 us, then at most 12.5 % wide."""
    value = max(0, latency_us)
    if value < 16:
        return value
    shift = value.bit_length() - 4
    return (shift << 3) + (value >> shift)


def latency_bin_top_us(bin_: int) -> int:
    """The largest latency in the bin."""
    if bin_ < 16:
        return bin_
    shift = (bin_ >> 3) - 1
    return (((bin_ & 7) + 9) << shift) - 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TotalsPart).decode


def part_body(totals: Totals, day: int | None) -> str:
    """JSON of one stored part: of a day, or (None) of all time."""
    if day is None:
        part = TotalsPart(
            [(*c, n, totals.paise[c]) for c, n in totals.events.items()],
            list(totals.latency.items()),
        )
    else:
        paise = totals.day_paise[day]
        part = TotalsPart([(*c, n, paise[c]) for c, n in totals.day_events[day].items()])
    return _encode(part).decode()


def add_part(totals: Totals, part_name: str, body: str) -> None:
    """Add a stored part to the totals; StorageCorrupt when it cannot be read."""
    try:
        part = _decode(body)
        if part_name:
            day = day_number(part_name)
            events = totals.day_events.setdefault(day, Counter())
            paise = totals.day_paise.setdefault(day, Counter())
            for hour, event_type, kind, cross, count, amount in part.cells:
                hour_cell = HourCell(int(hour), str(event_type), str(kind), int(cross))
                events[hour_cell] += int(count)
                paise[hour_cell] += int(amount)
            return
        for event_type, kind, detail, a, b, count, amount in part.cells:
            cell = Cell(str(event_type), str(kind), str(detail), int(a), int(b))
            totals.events[cell] += int(count)
            totals.paise[cell] += int(amount)
        totals.latency.update(dict(part.latency))
    except (msgspec.DecodeError, ValueError) as error:
        raise StorageCorrupt(
            f"a rollup cannot be read: {error}", place=f"rollups part {part_name!r}"
        ) from error


def read_rollups(wide_store: WideStore) -> Totals:
    """All partitions' totals in one: what reports and dashboards show."""
    totals = Totals()
    for row in wide_store.scan(ROLLUPS):
        add_part(totals, row["part"], row["body"])
    return totals
