"""Notifications that were given up: what they are, why, and how they get another try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import NotFound
from paytm_lab.notifications.delivery import day_of
from paytm_lab.notifications.records import (
    FAILED,
    WAITING,
    Parcel,
    decode_parcel,
    stored_rows,
)
from paytm_lab.notifications.tables import DEAD_LETTERS
from paytm_lab.notifications.waiting import Waiting
from paytm_lab.ports.wide_store import Row, WideStore

DAYS_MAX = 31
PAGE_MAX = 1_000


class DeadLetter(NamedTuple):
    """``failed_us``: microseconds since 1970 UTC."""

    parcel: Parcel
    error: str
    attempts: int
    failed_us: int


class DeadLetters:
    def __init__(self, store: WideStore, waiting: Waiting, clock: Clock) -> None:
        self._store = store
        self._waiting = waiting
        self._clock = clock

    def of_day(self, day: str, after: str, rows_max: int) -> list[DeadLetter]:
        """One UTC day's, by notification id, behind ``after`` ('' from the first); those that got
        another try are not among them.
        """
        found: list[DeadLetter] = []
        while len(found) < rows_max:
            rows = self._store.partition(
                DEAD_LETTERS, (day,), rows_max, after=(after,) if after else ()
            )
            found += self._still_dead(rows)
            if len(rows) < rows_max:
                break
            after = rows[-1]["notification_id"]
        return found[:rows_max]

    def _still_dead(self, rows: list[Row]) -> list[DeadLetter]:
        stored = stored_rows(self._store, [row["notification_id"] for row in rows])
        return [
            DeadLetter(
                decode_parcel(row["parcel"]), row["error"], row["attempts"], row["failed_at_us"]
            )
            for row in rows
            if stored.get(row["notification_id"], {}).get("state") == FAILED
        ]

    def retry(self, id_: str) -> None:
        """Let the sweeper try it as if it were new. NotFound for what is no dead letter."""
        missing = NotFound(
            f"there is no dead letter {id_!r:.200}", remedy="GET /dead-letters lists them."
        )
        now = stored_rows(self._store, [id_]).get(id_)
        if now is None or now["state"] != FAILED:
            raise missing
        key = (day_of(now["ended_at_us"]), id_)
        row = self._store.fetch(DEAD_LETTERS, [key]).get(key)
        if row is None:
            raise missing
        parcel = decode_parcel(row["parcel"])
        parcel.state, parcel.due_us = WAITING, self._clock.now_us()
        parcel.attempts = parcel.attempts_before = now["attempts"]
        # First the row that is to be found, so that dying here loses neither.
        self._waiting.put([parcel])
        self._store.delete(DEAD_LETTERS, [key])


def days_back(now_us: int, days: int) -> list[str]:
    """The last so many UTC days, today first."""
    today = datetime.fromtimestamp(now_us / 1e6, UTC)
    return [f"{today - timedelta(days=n):%Y-%m-%d}" for n in range(days)]
