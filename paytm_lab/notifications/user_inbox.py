"""A user's notifications as the store has them, whatever carried them."""

from __future__ import annotations

from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.notifications.records import (
    HOUR_US,
    HOURS_END,
    inbox_part,
    month_of,
    shown_in_inbox,
    time_of_place,
)
from paytm_lab.notifications.tables import INBOX, INBOX_HOURS
from paytm_lab.ports.wide_store import Row, WideStore

MONTHS_MAX = 13
HOURS_MAX = 31 * 24
PLACE_CHARACTERS_MAX = 200


class Page(NamedTuple):
    """Rows as ``shown_in_inbox`` gives them, newest first; ``next_cursor``: of the page behind
    them, None at the end.
    """

    rows: list[Row]
    next_cursor: str | None


class UserInbox:
    def __init__(self, store: WideStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def page(self, user_id: str, rows_max: int, cursor: str | None = None) -> Page:
        """BadInput for a cursor that is none. Goes ``MONTHS_MAX`` months back, a read for each of
        them and for each hour that the page touches.
        """
        month, hour, after = month_of(self._clock.now_us()), HOURS_END, ""
        if cursor:
            try:
                time_us = time_of_place(cursor)
            except ValueError:
                raise BadInput(
                    f"{cursor!r:.80} is not a cursor", place="query.cursor",
                    remedy="Send the next_cursor of the page before.",
                ) from None  # fmt: skip
            month, hour, after = month_of(time_us), time_us // HOUR_US, cursor
        rows: list[Row] = []
        oldest = _months_before(month_of(self._clock.now_us()), MONTHS_MAX)
        while len(rows) <= rows_max and month > oldest:
            for found in self._hours(user_id, month, hour):
                start = after if found == hour else ""
                rows += self._of_hour(user_id, found, start, rows_max + 1 - len(rows))
                if len(rows) > rows_max:
                    break
            month, hour = _months_before(month, 1), HOURS_END
        more = len(rows) > rows_max
        rows = rows[:rows_max]
        return Page(rows, rows[-1]["place"] if more else None)

    def _hours(self, user_id: str, month: str, newest: int) -> list[int]:
        """The month's hours, up to ``newest``, in which the user has anything, newest first."""
        after = (HOURS_END - newest - 1,)
        rows = self._store.partition(INBOX_HOURS, (user_id, month), HOURS_MAX, after=after)
        return [HOURS_END - row["hours_left"] for row in rows]

    def _of_hour(self, user_id: str, hour: int, after: str, rows_max: int) -> list[Row]:
        key = (hour, inbox_part(user_id))
        rows = self._store.partition(INBOX, key, rows_max, after=(user_id, after))
        # Others' come behind the user's own.
        return [shown_in_inbox(row) for row in rows if row["user_id"] == user_id]


def _months_before(month: str, count: int) -> str:
    months = int(month[:4]) * 12 + int(month[5:]) - 1 - count
    return f"{months // 12:04}-{months % 12 + 1:02}"
