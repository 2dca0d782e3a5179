"""A user's notifications as the store has them, whatever carried them."""

from __future__ import annotations

from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.notifications.records import month_of, time_of_place
from paytm_lab.notifications.tables import INBOX
from paytm_lab.ports.wide_store import Row, WideStore

MONTHS_MAX = 13
PLACE_CHARACTERS_MAX = 200


class Page(NamedTuple):
    """Rows of INBOX, newest first; ``next_cursor``: of the page behind them, None at the end."""

    rows: list[Row]
    next_cursor: str | None


class UserInbox:
    def __init__(self, store: WideStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def page(self, user_id: str, rows_max: int, cursor: str | None = None) -> Page:
        """BadInput for a cursor that is none. Goes ``MONTHS_MAX`` months back, a read for each that
        the page touches.
        """
        month, after = month_of(self._clock.now_us()), ""
        if cursor:
            try:
                month, after = month_of(time_of_place(cursor)), cursor
            except ValueError:
                raise BadInput(
                    f"{cursor!r:.80} is not a cursor", place="query.cursor",
                    remedy="Send the next_cursor of the page before.",
                ) from None  # fmt: skip
        rows: list[Row] = []
        oldest = _months_before(month_of(self._clock.now_us()), MONTHS_MAX)
        while len(rows) <= rows_max and month > oldest:
            rows += self._store.partition(
                INBOX,
                (user_id, month),
                rows_max + 1 - len(rows),
                after=(after,) if after else (),
            )
            month, after = _months_before(month, 1), ""
        more = len(rows) > rows_max
        rows = rows[:rows_max]
        return Page(rows, rows[-1]["place"] if more else None)


def _months_before(month: str, count: int) -> str:
    months = int(month[:4]) * 12 + int(month[5:]) - 1 - count
    return f"{months // 12:04}-{months % 12 + 1:02}"
