"""Sends what waited, once it is due. One process at a time does it.

The order of its writes is what makes each notification go out once: ``sending`` is stored before
the provider is asked, the next wait before the state that names it, and the row that waited is
removed last. Whatever dies in between, the next one finds the row again; where it says ``sending``
the provider may have been asked already, so that the notification counts as a possible repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.notifications.channels import Outgoing
from paytm_lab.notifications.delivery import Delivery
from paytm_lab.notifications.records import (
    FAILED,
    SENDING,
    SENT,
    WAITING,
    Parcel,
    row_of,
    stored_rows,
)
from paytm_lab.notifications.tables import NOTIFICATIONS
from paytm_lab.notifications.waiting import GRACE_MINUTES, MINUTE_US, parcels_of
from paytm_lab.ports.coordination import Coordination, Leadership
from paytm_lab.ports.wide_store import Row, WideStore

LANE_ROWS_MAX = 200
MINUTES_MAX = 240  # that one step looks at: of a time in which nobody swept
INTERVAL_S = 1.0
STEP_S_MAX = 5.0
# Of a dead letter nothing waits under the number of its last try, unless it is to be retried.
_WAITS = (WAITING, SENDING, FAILED)
LOCK = "notification-sweeper"


class Sweeper:
    """One thread at a time calls ``step``."""

    def __init__(
        self, store: WideStore, delivery: Delivery, coordination: Coordination, clock: Clock
    ) -> None:
        self._store = store
        self._delivery = delivery
        self._coordination = coordination
        self._clock = clock
        self._leadership: Leadership | None = None
        self._first: int | None = None
        self._due_s = float("-inf")

    def step(self) -> int:
        """Send what is due, if this process is the one that does; how many rows it dealt with."""
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s or not self._leads():
            return 0
        if self._first is None:
            self._first = self._delivery.waiting.first_minute()
        first = self._first
        if first is None:
            self._due_s = now_s + INTERVAL_S
            return 0
        now_minute = self._clock.now_us() // MINUTE_US
        done, swept = 0, first
        for minute in range(first, min(now_minute + 1, first + MINUTES_MAX)):
            rows, empty = self._delivery.waiting.due(minute, LANE_ROWS_MAX)
            if rows:
                if self._leadership is None or not self._leadership.held():
                    return done  # it has taken a while, and another leads by now
                self._deal_with(rows)
                done += len(rows)
                if self._clock.monotonic_s() - now_s > STEP_S_MAX:
                    break  # the next step goes on
            if minute == swept and empty and minute < now_minute - GRACE_MINUTES:
                swept = minute + 1
        if swept != first:
            self._delivery.waiting.swept_before(swept)
            self._first = swept
        if not done and now_minute < first + MINUTES_MAX:
            self._due_s = now_s + INTERVAL_S
        return done

    def _deal_with(self, rows: Sequence[Row]) -> None:
        """Send each that still waits as this row says; drop rows that tell of another time."""
        stored = stored_rows(self._store, [row["notification_id"] for row in rows])
        to_send: dict[str, Parcel] = {}
        settled = []
        for row, parcel in zip(rows, parcels_of(rows), strict=True):
            now = stored.get(parcel.id)
            if now is None:
                continue
            if now["state"] in _WAITS and now["attempts"] == row["attempts"]:
                parcel.claimed_us = now["claimed_at_us"]
                parcel.possible_repeat = now["possible_repeat"]
                if now["state"] == SENDING:
                    parcel.possible_repeat = 1
                parcel.due_us = 0
                to_send[parcel.id] = parcel
            elif now["state"] in (SENT, FAILED):
                # Perhaps nobody was told: who sent it, or gave it up, may have died before.
                parcel.state, parcel.attempts = now["state"], now["attempts"]
                parcel.message = _sent_at(parcel, now["ended_at_us"])
                settled.append(parcel)
        reachable = self._reachable(to_send.values())
        self._send(reachable)
        with self._delivery.showing([*reachable, *settled]):
            self._delivery.announce([*reachable, *settled])
        self._delivery.waiting.remove(rows)

    def _reachable(self, parcels: Iterable[Parcel]) -> list[Parcel]:
        """Those whose provider is there. The others only change their minute: an outage of hours
        must not be more work than that.
        """
        reachable: list[Parcel] = []
        postponed: list[Parcel] = []
        for parcel in parcels:
            (postponed if self._delivery.postpone([parcel]) else reachable).append(parcel)
        self._delivery.waiting.put(postponed)
        return reachable

    def _send(self, parcels: Sequence[Parcel]) -> None:
        if not parcels:
            return
        now_us = self._clock.now_us()
        for parcel in parcels:
            parcel.state = SENDING
            parcel.message = _sent_at(parcel, now_us)
        self._store.upsert(NOTIFICATIONS, [row_of(parcel) for parcel in parcels])
        self._delivery.send(parcels)
        # What was sent is written down first: were it not, it would be sent again.
        self._delivery.record([parcel for parcel in parcels if parcel.state != WAITING])
        waiting = [parcel for parcel in parcels if parcel.state == WAITING]
        self._delivery.waiting.put(waiting)
        self._delivery.record(waiting)

    def _leads(self) -> bool:
        leadership = self._leadership
        if leadership is not None and not leadership.held():
            leadership.release()
            leadership = self._leadership = None
        if leadership is None:
            leadership = self._leadership = self._coordination.try_lead(LOCK)
            self._first = None  # somebody else may have gone on
            if leadership is None:
                self._due_s = self._clock.monotonic_s() + INTERVAL_S
        return leadership is not None

    def close(self) -> None:
        """Let another process do it. Harmless when called twice."""
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            leadership.release()


def _sent_at(parcel: Parcel, time_us: int) -> Outgoing:
    return msgspec.structs.replace(parcel.message, sent_us=time_us)
