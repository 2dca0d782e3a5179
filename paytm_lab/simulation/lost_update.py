"""The orders of ``isolation`` played on a real shard: SQLite's file, or a MySQL server.

The clients write the balance column directly, past the ledger: on a lab of its own, whose audit
then says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from paytm_lab.core.errors import BadInput, Deadlock, LockTimeout
from paytm_lab.core.money import format_rupees
from paytm_lab.ports.plain_session import PlainSession
from paytm_lab.simulation.isolation import (
    AMOUNT_PAISE,
    NAMES,
    OPENING_PAISE,
    READ,
    WRITE,
    History,
    orders,
    require_order,
    take_turns,
)

USER = "4"
LEVELS_OF = {
    "embedded": ("autocommit", "deferred", "immediate", "one statement"),
    "servers": (
        "autocommit", "read committed", "repeatable read", "serializable",
        "repeatable read, FOR UPDATE", "one statement",
    ),
}  # fmt: skip


class EngineClient:
    """A ``Player`` with a connection of its own."""

    def __init__(self, name: str, session: PlainSession, level: str, amount_paise: int) -> None:
        self.name = name
        self._session = session
        self._at_once = level == "one statement"
        self._amount = amount_paise
        self._seen = 0

    def do(self, action: str) -> tuple[str, int]:
        said = "done"
        try:
            self._do(action)
        except LockTimeout:
            said = "waits"
        except Deadlock:
            said = "gives up"
        return said, self._seen + self._amount * (action != READ)

    def _do(self, action: str) -> None:
        if action == READ:
            self._seen = self._session.read(USER)
        elif action == WRITE and self._at_once:
            self._session.add(USER, self._amount)
        elif action == WRITE:
            self._session.write(USER, self._seen + self._amount)
        else:
            self._session.commit()

    def give_up(self) -> None:
        self._session.close()


def play_on(lab: Any, level: str, order: str, amount_paise: int = AMOUNT_PAISE) -> History:
    """One order on shard 0 of an open lab, by real statements on real connections. The balance is
    set back to 100 rupees first. BadInput for a level that the lab's engine does not have.
    """
    levels = LEVELS_OF[lab.profile]
    if level not in levels:
        raise BadInput(
            f"the {lab.profile} profile has no level {level!r}",
            remedy=f"Use one of {', '.join(levels)}.",
        )
    shard = lab.system.router.locate(USER)[1]
    database = lab.system.databases[shard].inner
    if lab.account(USER) is None:
        lab.create_account(USER, format_rupees(OPENING_PAISE))
    lab.drain()  # on SQLite everybody shares the file's one write lock, the relay too
    names = NAMES[: require_order(order)]
    with ExitStack() as sessions:

        def session(at: str) -> PlainSession:
            made: PlainSession = database.plain_session(at)
            sessions.callback(made.close)
            return made

        watcher = session("autocommit")
        watcher.write(USER, OPENING_PAISE)
        players = [EngineClient(name, session(level), level, amount_paise) for name in names]
        return take_turns(level, order, players, lambda: watcher.read(USER), amount_paise)


def all_orders_on(lab: Any, levels: Iterable[str] = ()) -> list[History]:
    """Every order of two clients at every level that the lab's engine has (or at ``levels``)."""
    chosen = tuple(levels) or LEVELS_OF[lab.profile]
    return [play_on(lab, level, order) for level in chosen for order in orders()]
