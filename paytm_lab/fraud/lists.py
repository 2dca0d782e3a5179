"""Users the rules know by name: frozen ones and mules."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput, Conflict, PaytmLabError
from paytm_lab.fraud.tables import LIST_CHANGES, LISTS
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.wide_store import Row, WideStore

FROZEN = "frozen"
MULE = "mule"
NAMES = (FROZEN, MULE)
BY_LEDGER = "system:ledger"
NEWS = "fraud_lists"
_USERS_MAX = 1_000_000
_TELL_TRIES_MAX = 20
_logger = logging.getLogger(__name__)


class ListChange(NamedTuple):
    """``was`` and ``listed``: whether the user was on the list before, and is after."""

    which: str
    user_id: str
    was: bool
    listed: bool
    changed_by: str
    changed_at_us: int
    note: str


class FraudLists:
    """Read from memory on the hot path. With a store the lists are durable, ``load`` reads what
    others wrote, and every change leaves a trail: it is written before the change itself, so that
    there is none without; a repeat that changes nothing leaves one too.

    The ledger stays the authority on who is frozen; whoever freezes or releases an account there
    tells this list.
    """

    def __init__(self, wide_store: WideStore | None = None, clock: Clock | None = None) -> None:
        self._store = wide_store
        self._clock = clock
        self._lock = threading.Lock()
        # Replaced whole on each change, so that readers need no lock.
        self._users: dict[str, frozenset[str]] = {FROZEN: frozenset(), MULE: frozenset()}

    @property
    def frozen(self) -> frozenset[str]:
        return self._users[FROZEN]

    @property
    def mules(self) -> frozenset[str]:
        return self._users[MULE]

    def users(self, which: str) -> frozenset[str]:
        """BadInput for a list that there is not."""
        if which not in self._users:
            raise BadInput(f"{which!r} is not a fraud list", remedy=f"Use {FROZEN!r} or {MULE!r}.")
        return self._users[which]

    def add(self, which: str, user_ids: Iterable[str], note: str = "", by: str = BY_LEDGER) -> None:
        """``by``: the user id of who did it, or the part of the system that did."""
        self._change(which, list(user_ids), True, note, by)

    def remove(
        self, which: str, user_ids: Iterable[str], note: str = "", by: str = BY_LEDGER
    ) -> None:
        self._change(which, list(user_ids), False, note, by)

    def load(self) -> None:
        """Take both lists from the store; without one nothing changes."""
        if self._store is None:
            return
        with self._lock:
            self._users = {
                which: frozenset(
                    str(row["user_id"])
                    for row in self._store.partition(LISTS, (which,), rows_max=_USERS_MAX)
                    if row["listed"]
                )
                for which in NAMES
            }

    def row_of(self, which: str, user_id: str) -> Row | None:
        """What the store has on one user, or None."""
        if self._store is None:
            return None
        return self._store.fetch(LISTS, [(which, user_id)]).get((which, user_id))

    def changes_of_user(self, which: str, user_id: str, changes_max: int) -> list[ListChange]:
        """The newest first."""
        return self._changes(which, f"user:{user_id}", changes_max)

    def changes_of_day(self, which: str, day: str, changes_max: int) -> list[ListChange]:
        """The newest first. ``day``: in UTC, as 2026-01-31."""
        return self._changes(which, f"day:{day}", changes_max)

    def _changes(self, which: str, part: str, changes_max: int) -> list[ListChange]:
        if self._store is None:
            return []
        return [
            ListChange(
                which,
                row["user_id"],
                bool(row["was"]),
                bool(row["listed"]),
                row["changed_by"],
                -row["newest_first"],
                row["note"],
            )
            for row in self._store.partition(LIST_CHANGES, (which, part), rows_max=changes_max)
        ]

    def _change(self, which: str, user_ids: list[str], listed: bool, note: str, by: str) -> None:
        self.users(which)
        with self._lock:
            old = self._users[which]
            if self._store is not None:
                now_us = self._clock.now_us() if self._clock is not None else 0
                # The store knows what other processes did a moment ago.
                there = self._store.fetch(LISTS, [(which, u) for u in user_ids])
                listed_before = {row["user_id"] for row in there.values() if row["listed"]}
                trail = [
                    _trail(which, u, u in listed_before, listed, now_us, by, note) for u in user_ids
                ]
                self._store.upsert(LIST_CHANGES, [row for pair in trail for row in pair])
                self._store.upsert(
                    LISTS,
                    [
                        {
                            "list": which,
                            "user_id": u,
                            "listed": int(listed),
                            "note": note,
                            "changed_at_us": now_us,
                            "changed_by": by,
                        }
                        for u in user_ids
                    ],
                )
            new = old.union(user_ids) if listed else old.difference(user_ids)
            self._users = {**self._users, which: new}


def day_of(at_us: int) -> str:
    """In UTC, as 2026-01-31."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).date().isoformat()


def _trail(
    which: str, user_id: str, was: bool, listed: bool, now_us: int, by: str, note: str
) -> list[Row]:
    row: Row = {
        "list": which,
        "newest_first": -now_us,
        "change_id": f"{user_id}:{was:d}{listed:d}",
        "user_id": user_id,
        "was": int(was),
        "listed": int(listed),
        "changed_by": by,
        "note": note,
    }
    return [row | {"part": part} for part in (f"day:{day_of(now_us)}", f"user:{user_id}")]


class ListNews:
    """Tells the other processes at once that somebody has changed a list: a document that each of
    them watches. ``on_news`` is what a process does then: it must not block. Without news they look
    every few seconds.
    """

    def __init__(self, coordination: Coordination) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self._coordination = coordination
        coordination.watch_document(NEWS, lambda _body, _version: self.on_news())

    def tell(self) -> None:
        """That it fails is logged and no more: the change is stored already."""
        try:
            for _ in range(_TELL_TRIES_MAX):
                found = self._coordination.read_document(NEWS)
                try:
                    self._coordination.write_document(
                        NEWS, b"changed", None if found is None else found[1]
                    )
                    return
                except Conflict:
                    continue
        except PaytmLabError as error:
            _logger.warning("a change of the fraud lists is seen a little later: %s", error)
