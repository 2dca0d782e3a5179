"""The wrong way to spend, on purpose: look at a cached balance, then insert; the right one beside.

Nothing in the lab uses this. It shows, with the same tables and the same racing clients, what is
lost when the check and the posting are two steps, and that the audit sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from sqlalchemy import String, select

from paytm_lab.core.ids import PaymentIds
from paytm_lab.core.money import parse_rupees
from paytm_lab.ledger.operations import Outcome
from paytm_lab.ledger.schema import INSERT_COLUMNS, accounts, transactions
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.shard_database import ShardDatabase

WRONG = "wrong: check a cached balance, then insert"
RIGHT = "right: the ledger"
_TTL_S = 600.0


class Race(NamedTuple):
    """``clients`` press pay at the same moment, ``rounds`` times, each for ``amount_rupees``, from
    one account that holds ``opening_rupees``.
    """

    clients: int = 8
    rounds: int = 5
    amount_rupees: int = 100
    opening_rupees: int = 1_000


EIGHT_AT_ONCE = Race()


def race_spends(lab: Any, race: Race = EIGHT_AT_ONCE) -> list[dict[str, Any]]:
    """Both ways on an open lab of its own; one row each, for ``frames.naive_frame``.

    ``lost_paise``: what was paid out beyond what was there. The result is the same on each call
    with a fresh lab: all clients of a round look before any of them pays, which is what a race
    comes to.
    """
    wrong = _Naive(lab.system.databases[0], lab.system.cache, PaymentIds(lab.system.clock))
    rows = []
    for path, user in ((WRONG, "4"), (RIGHT, "8")):
        lab.create_account(user, race.opening_rupees)
        lab.create_account(user + "0", 0)
        spend = wrong.spender(user, user + "0", race) if path == WRONG else _right(lab, user, race)
        answers = _in_rounds(spend, race)
        paise = parse_rupees(str(race.amount_rupees))
        opening = parse_rupees(str(race.opening_rupees))
        accepted = sum(answers)
        rows.append(
            {
                "path": path,
                "accepted": accepted,
                "refused": len(answers) - accepted,
                "affordable": opening // paise,
                "lost_paise": max(0, accepted * paise - opening),
            }
        )
    return rows


def _in_rounds(spend: Callable[[threading.Barrier], bool], race: Race) -> list[bool]:
    together = threading.Barrier(race.clients, timeout=30.0)
    answers: list[bool] = []
    with ThreadPoolExecutor(race.clients, thread_name_prefix="client") as pool:
        for _ in range(race.rounds):
            answers += pool.map(spend, [together] * race.clients)
    return answers


def _right(lab: Any, user: str, race: Race) -> Callable[[threading.Barrier], bool]:
    def spend(together: threading.Barrier) -> bool:
        together.wait()
        outcome: Outcome = lab.transfer(user, user + "0", race.amount_rupees)
        return outcome.status == "COMPLETED"

    return spend


class _Naive:
    """Double entry on the real tables, without a lock, without the balance column."""

    def __init__(self, database: ShardDatabase, cache: Cache, ids: PaymentIds) -> None:
        self._database = database
        self._cache = cache
        self._ids = ids

    def spender(
        self, from_user: str, to_user: str, race: Race
    ) -> Callable[[threading.Barrier], bool]:
        key = f"naive:balance:{from_user}"
        self._cache.set_many({key: str(parse_rupees(str(race.opening_rupees))).encode()}, _TTL_S)
        amount = parse_rupees(str(race.amount_rupees))

        def spend(together: threading.Barrier) -> bool:
            balance = int(self._cache.get(key) or b"0")
            together.wait()  # everybody has looked; nobody has paid
            if balance < amount:
                return False
            self._insert(from_user, to_user, amount)
            together.wait()
            self._cache.set_many({key: str(balance - amount).encode()}, _TTL_S)
            together.wait()
            return True

        return spend

    def _account_id(self, user_id: str) -> int:
        with self._database.read() as connection:
            found = select(accounts.c.id).where(accounts.c.user_id == user_id)
            return int(connection.execute(found).scalar_one())

    def _insert(self, from_user: str, to_user: str, amount: int) -> None:
        payer, payee = self._account_id(from_user), self._account_id(to_user)
        payment, shard = self._ids.next(int(from_user)), self._database.shard_id
        transaction = self._database.begin()
        try:
            stamp = transaction.meta().stamp
            row = {
                "transaction_id": payment,
                "role": "local",
                "from_user_id": from_user,
                "to_user_id": to_user,
                "amount": amount,
                "currency": "INR",
                "status": "COMPLETED",
                "kind": "transfer",
                "from_shard": shard,
                "to_shard": shard,
                "map_version": 1,
            }
            times = dict.fromkeys(("stamp", "occurred_at", "created_at", "updated_at"), stamp)
            transaction.insert("transactions", [_whole_row(row | times)])
            transaction.insert(
                "ledger_entries",
                [
                    (payment, payer, amount, "debit", stamp, stamp),
                    (payment, payee, amount, "credit", stamp, stamp),
                ],
            )
            transaction.commit()
        finally:
            transaction.rollback()


def _whole_row(known: dict[str, Any]) -> tuple[Any, ...]:
    """In the table's order of columns; unknown ones NULL, or empty where NULL may not be."""
    values = []
    for name in INSERT_COLUMNS["transactions"]:
        column = transactions.c[name]
        empty = None if column.nullable else "" if isinstance(column.type, String) else 0
        values.append(known.get(name, empty))
    return tuple(values)
