"""Totals that merge: pure counters, the views that reports read, and their stored form.

Everything counted of an event is its cell, a small tuple; a total is how many events (and paise)
each cell saw. Any two totals merge by adding, in any order, which is what lets each partition of
the log keep its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

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

    cells: list[tuple[Any, ...]] = []
    latency: list[tuple[int, int]] = []


class Totals:
    """Mutable counters: [events, paise] by Cell, and by day (days since 1970 UTC) and HourCell.

    ``latency`` counts completed payments by bin of microseconds from their stamp to their end.
    """

    def __init__(self) -> None:
        self.cells: dict[Cell, list[int]] = {}
        self.days: dict[int, dict[HourCell, list[int]]] = {}
        self.latency: Counter[int] = Counter()

    def add_payment(self, event_type: str, data: PaymentData, latency_us: int | None) -> None:
        """Count one payment event."""
        cross = 1 if data.from_shard != data.to_shard else 0
        cell = (event_type, data.kind, data.reason, data.from_shard, data.to_shard)
        self._add(cell, data.amount_paise, data.at_us, cross)
        if latency_us is not None:
            self.latency[latency_bin(latency_us)] += 1

    def add_fraud(self, event_type: str, data: FraudData) -> None:
        """Count one fraud event."""
        score_bin = min(SCORE_BINS - 1, max(0, int(data.score * SCORE_BINS)))
        cell = (event_type, data.decision, data.rule, score_bin, 0)
        self._add(cell, data.amount_paise, data.at_us, 0)

    def _add(
        self, cell: tuple[str, str, str, int, int], amount_paise: int, at_us: int, cross: int
    ) -> None:
        # Runs for each event: a NamedTuple, which equals its tuple, is only made for a new cell.
        counts = self.cells.get(cell)  # type: ignore[call-overload]
        if counts is None:
            counts = self.cells[Cell(*cell)] = [0, 0]
        counts[0] += 1
        counts[1] += amount_paise
        day, within_us = divmod(at_us, DAY_US)
        hours = self.days.get(day)
        if hours is None:
            hours = self.days[day] = {}
        hour_cell = (within_us // HOUR_US, cell[0], cell[1], cross)
        counts = hours.get(hour_cell)  # type: ignore[call-overload]
        if counts is None:
            counts = hours[HourCell(*hour_cell)] = [0, 0]
        counts[0] += 1
        counts[1] += amount_paise

    def merge(self, other: Totals) -> None:
        """Add the other's counts to these."""
        _merge(self.cells, other.cells)
        self.latency.update(other.latency)
        for day, hours in other.days.items():
            _merge(self.days.setdefault(day, {}), hours)

    # Views. All count payments of kind 'transfer' unless they say otherwise.

    def outcome(self, event_type: str, kind: str = "transfer") -> Sum:
        """Events of one type and payment kind."""
        return self._sum(c for c in self.cells if c.type == event_type and c.kind == kind)

    def outcomes_by_kind(self) -> dict[tuple[str, str], Sum]:
        """(type, kind) -> sum; kinds: transfer, funding, refund (fraud events: decisions)."""
        return {
            (t, k): self.outcome(t, k) for t, k in sorted({(c.type, c.kind) for c in self.cells})
        }

    def reasons(self, event_type: str, kind: str = "transfer") -> dict[str, Sum]:
        """Why payments failed (or were cancelled): reason -> sum."""
        found = sorted({c.detail for c in self.cells if c.type == event_type and c.kind == kind})
        return {
            r: self._sum(
                c for c in self.cells if c.type == event_type and c.kind == kind and c.detail == r
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
        found = sorted({(c.a, c.b) for c in self.cells if c.type == COMPLETED and c.kind == kind})
        return {
            (a, b): self._sum(
                c
                for c in self.cells
                if c.type == COMPLETED and c.kind == kind and (c.a, c.b) == (a, b)
            )
            for a, b in found
        }

    def shards(self) -> dict[int, dict[str, Sum]]:
        """Completed transfers per shard: 'out' (its users paid), 'in' (its users received)."""
        routes = self.routes()
        return {
            s: {
                "out": _sum(v for (a, _), v in routes.items() if a == s),
                "in": _sum(v for (_, b), v in routes.items() if b == s),
            }
            for s in sorted({s for route in routes for s in route})
        }

    def same_and_cross(self) -> tuple[Sum, Sum]:
        """Completed transfers within one shard, and across two."""
        routes = self.routes()
        return (
            _sum(v for (a, b), v in routes.items() if a == b),
            _sum(v for (a, b), v in routes.items() if a != b),
        )

    def by_day(self, event_type: str = COMPLETED, kind: str = "transfer") -> dict[str, Sum]:
        """'YYYY-MM-DD' (UTC, business time) -> sum."""
        return {
            day_text(day): _sum(
                v for c, v in self.days[day].items() if c.type == event_type and c.kind == kind
            )
            for day in sorted(self.days)
        }

    def by_hour_of_day(self, event_type: str = COMPLETED, kind: str = "transfer") -> list[Sum]:
        """24 sums, hour 0..23 UTC of business time, over all days."""
        by_hour: list[list[list[int]]] = [[] for _ in range(24)]
        for hours in self.days.values():
            for cell, counts in hours.items():
                if cell.type == event_type and cell.kind == kind:
                    by_hour[cell.hour].append(counts)
        return [_sum(counts) for counts in by_hour]

    def fraud_decisions(self) -> dict[tuple[str, str], Sum]:
        """(decision, rule) -> payments scored."""
        found = sorted({(c.kind, c.detail) for c in self.cells if c.type == SCORED})
        return {
            (d, r): self._sum(
                c for c in self.cells if c.type == SCORED and (c.kind, c.detail) == (d, r)
            )
            for d, r in found
        }

    def score_histogram(self) -> list[int]:
        """Payments scored, by bins of 0.1; a score of 1 is in the last."""
        bins = [0] * SCORE_BINS
        for cell, (count, _) in self.cells.items():
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
        return _sum(self.cells[c] for c in cells)


def _merge(into: dict[Any, list[int]], other: Mapping[Any, Sequence[int]]) -> None:
    for cell, (count, paise) in other.items():
        counts = into.setdefault(cell, [0, 0])
        counts[0] += count
        counts[1] += paise


def _sum(counts: Iterable[Sequence[int]]) -> Sum:
    found = list(counts)
    return Sum(sum(c[0] for c in found), sum(c[1] for c in found))


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
    cells: Mapping[Any, Sequence[int]] = totals.cells if day is None else totals.days[day]
    latency = list(totals.latency.items()) if day is None else []
    return _encode(TotalsPart([(*c, *counts) for c, counts in cells.items()], latency)).decode()


def add_part(totals: Totals, part_name: str, body: str) -> None:
    """Add a stored part to the totals; StorageCorrupt when it cannot be read."""
    try:
        part = _decode(body)
        if part_name:
            hours = {HourCell(*row[:4]): row[4:] for row in _rows(part, 6)}
            _merge(totals.days.setdefault(day_number(part_name), {}), hours)
            return
        _merge(totals.cells, {Cell(*row[:5]): row[5:] for row in _rows(part, 7)})
        totals.latency.update(dict(part.latency))
    except (msgspec.DecodeError, ValueError) as error:
        raise StorageCorrupt(
            f"a rollup cannot be read: {error}", place=f"rollups part {part_name!r}"
        ) from error


def _rows(part: TotalsPart, length: int) -> list[tuple[Any, ...]]:
    if any(len(row) != length for row in part.cells):
        raise ValueError(f"a cell has not {length} fields")
    return part.cells


def read_rollups(wide_store: WideStore) -> Totals:
    """All partitions' totals in one: what reports and dashboards show."""
    totals = Totals()
    for row in wide_store.scan(ROLLUPS):
        add_part(totals, row["part"], row["body"])
    return totals
