"""Users the rules know by name: frozen ones and mules."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.tables import LISTS
from paytm_lab.ports.wide_store import WideStore

FROZEN = "frozen"
MULE = "mule"
_USERS_MAX = 1_000_000


class FraudLists:
    """Read from memory on the hot path. With a store the lists are durable and ``load`` reads what
    others wrote.

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

    def add(self, which: str, user_ids: Iterable[str], note: str = "") -> None:
        self._change(which, list(user_ids), listed=True, note=note)

    def remove(self, which: str, user_ids: Iterable[str], note: str = "") -> None:
        self._change(which, list(user_ids), listed=False, note=note)

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
                for which in (FROZEN, MULE)
            }

    def _change(self, which: str, user_ids: list[str], *, listed: bool, note: str) -> None:
        if which not in self._users:
            raise BadInput(f"{which!r} is not a fraud list", remedy=f"Use {FROZEN!r} or {MULE!r}.")
        with self._lock:
            if self._store is not None:
                now_us = self._clock.now_us() if self._clock is not None else 0
                self._store.upsert(
                    LISTS,
                    [
                        {
                            "list": which,
                            "user_id": u,
                            "listed": int(listed),
                            "note": note,
                            "changed_at_us": now_us,
                        }
                        for u in user_ids
                    ],
                )
            old = self._users[which]
            new = old.union(user_ids) if listed else old.difference(user_ids)
            self._users = {**self._users, which: new}
