"""What is to be sent later: durable, by the minute in which it is due.

A minute is divided into lanes, and a lane takes ``LANE_ROWS_MAX``; what finds its lane full goes to
a later minute, and where an hour is full nothing more is taken (Unavailable): then events wait in
the log instead. So every partition of the store stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import Unavailable
from paytm_lab.notifications.records import Parcel, decode_parcel
from paytm_lab.notifications.tables import SWEEPS, WAITING
from paytm_lab.ports.wide_store import Row, WideStore

MINUTE_US = 60_000_000
LANES = 4
LANE_ROWS_MAX = 4_000
LATER_MINUTES_MAX = 60
# A minute is looked at again for so long after it ended: who put something there had read the clock
# before, and may have been held up.
GRACE_MINUTES = 2
PUTS_MAX = 5
_KNOWN_MAX = 10_000
_SWEEP = "waiting"


class Waiting:
    """Puts, finds and removes what waits. Any thread may put; one sweeper finds and removes."""

    def __init__(self, store: WideStore, clock: Clock, lane_rows_max: int = LANE_ROWS_MAX) -> None:
        self._store = store
        self._clock = clock
        self._lane_rows_max = lane_rows_max
        self._swept_from = False
        self._swept_before = 0  # as far as this process knows
        self._rows_known: dict[tuple[int, int], int] = {}

    def put(self, parcels: Sequence[Parcel]) -> None:
        """Durable when it returns, and sure to be found: where it took so long that the minute may
        have been swept, or another machine's clock has swept it before its time, it is put again,
        into a later one. A repeat puts the same rows.
        """
        if not parcels:
            return
        if not self._swept_from:
            first = self._clock.now_us() // MINUTE_US - GRACE_MINUTES
            self._store.insert_if_absent(SWEEPS, [{"name": _SWEEP, "minute": first}])
            self._swept_from = True
        rest = list(parcels)
        missed: list[Row] = []
        for _ in range(PUTS_MAX):
            if not rest:
                return
            now_us = self._clock.now_us()
            rows = [self._row(parcel, now_us) for parcel in rest]
            self._store.upsert(WAITING, rows)
            if missed:
                self.remove(missed)  # nobody else would
            late_us = self._clock.now_us() - (GRACE_MINUTES - 1) * MINUTE_US
            self._swept_before = max(self._swept_before, self.first_minute() or 0)
            first = max(self._swept_before, -(-late_us // MINUTE_US) - 1)
            rest = [parcel for parcel, row in zip(rest, rows, strict=True) if row["minute"] < first]
            missed = [row for row in rows if row["minute"] < first]
        raise Unavailable("the wide store takes minutes for a write", place="notifications")

    def _row(self, parcel: Parcel, now_us: int) -> Row:
        due_us = max(parcel.due_us, now_us)
        lane = crc32(parcel.id.encode()) % LANES
        first = max(due_us // MINUTE_US, self._swept_before)
        for minute in range(first, first + LATER_MINUTES_MAX):
            if self._has_room(minute, lane):
                return {
                    "minute": minute,
                    "lane": lane,
                    "due_us": max(due_us, minute * MINUTE_US),
                    "notification_id": parcel.id,
                    "attempts": parcel.attempts,
                    "parcel": msgspec.json.encode(parcel).decode(),
                }
        raise Unavailable(
            "too many notifications wait already",
            place="notifications",
            remedy="See why they wait: GET /health of the notification service, its log.",
        )

    def _has_room(self, minute: int, lane: int) -> bool:
        """By what was there at first sight and what came from here since."""
        if (minute, lane) not in self._rows_known:
            if len(self._rows_known) >= _KNOWN_MAX:
                self._rows_known.clear()
            there = self._store.partition(WAITING, (minute, lane), self._lane_rows_max)
            self._rows_known[minute, lane] = len(there)
        if self._rows_known[minute, lane] >= self._lane_rows_max:
            return False
        self._rows_known[minute, lane] += 1
        return True

    def due(self, minute: int, rows_max: int) -> tuple[list[Row], bool]:
        """(rows of this minute that are due by now, the earliest first and at most ``rows_max`` a
        lane; whether the minute holds nothing else).
        """
        now_us = self._clock.now_us()
        found: list[Row] = []
        empty = True
        for lane in range(LANES):
            rows = self._store.partition(WAITING, (minute, lane), rows_max)
            due = [row for row in rows if row["due_us"] <= now_us]
            found += due
            empty = empty and len(due) == len(rows) < rows_max
        return found, empty

    def remove(self, rows: Sequence[Row]) -> None:
        self._store.delete(
            WAITING, [(r["minute"], r["lane"], r["due_us"], r["notification_id"]) for r in rows]
        )

    def first_minute(self) -> int | None:
        """The first that may hold something; None where nothing has ever waited."""
        row = self._store.fetch(SWEEPS, [(_SWEEP,)]).get((_SWEEP,))
        return None if row is None else int(row["minute"])

    def swept_before(self, minute: int) -> None:
        self._store.upsert(SWEEPS, [{"name": _SWEEP, "minute": minute}])


def parcels_of(rows: Sequence[Row]) -> Iterator[Parcel]:
    for row in rows:
        yield decode_parcel(row["parcel"])
