"""Balances and statements as of a closed stamp: the same answer today, tomorrow and across shards.

A payment carries one stamp on both shards, so the entries stamped up to a closed S are final. Money
that is neither with its sender nor with its receiver belongs to a listed open payment, and

    users + open payments + receivable = funded      (receivable is negative: money owed back)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, case, func, or_, select, true

from paytm_lab.core import errors
from paytm_lab.ledger.closing import ClosedStamp, close_at, close_stamp, pending_sources
from paytm_lab.ledger.queries import Databases, destination_status, shards_of
from paytm_lab.ledger.schema import (
    FIRST_USER_ACCOUNT_ID,
    FUNDING_ID,
    IN_TRANSIT_ID_BASE,
    RECEIVABLE_ID,
    accounts,
    ledger_entries,
    transactions,
)
from paytm_lab.ledger.sums import sum_halves, whole
from paytm_lab.ports.shard_database import PaymentRow, ShardDatabase

__all__ = [
    "AsOf", "ClosedStamp", "OpenPayment", "Statement", "StatementRow", "balance_as_of",
    "balances_as_of", "close_at", "close_stamp", "ended_later", "ledger_as_of", "net_of_account",
    "open_payments_as_of", "open_payments_now", "statement",
]  # fmt: skip

_E = ledger_entries.c
_T = transactions.c
_NET = case((_E.direction == "credit", _E.amount), else_=-_E.amount)
_IN_TRANSIT = and_(_E.account_id >= IN_TRANSIT_ID_BASE, _E.account_id < FIRST_USER_ACCOUNT_ID - 1)


class OpenPayment(NamedTuple):
    """Money under way: debited, not credited and not given back. ``receivable_paise`` of the amount
    came from ``system:receivable``, not the sender. ``refused``: the receiver's shard said no.
    """

    payment_id: bytes
    from_user_id: str
    to_user_id: str
    amount_paise: int
    receivable_paise: int
    from_shard: int
    to_shard: int
    stamp_us: int
    refused: bool = False


class AsOf(NamedTuple):
    """The whole ledger as of ``stamp_us``. Users without an entry by then are absent."""

    stamp_us: int
    balances: dict[str, int]
    open_payments: list[OpenPayment]
    receivable_paise: int
    funded_paise: int

    @property
    def users_paise(self) -> int:
        return sum(self.balances.values())

    @property
    def open_paise(self) -> int:
        return sum(payment.amount_paise for payment in self.open_payments)

    @property
    def difference_paise(self) -> int:
        """Zero, always: users + open payments + receivable - funded."""
        return self.users_paise + self.open_paise + self.receivable_paise - self.funded_paise


class StatementRow(NamedTuple):
    """One entry of an account; ``balance_paise`` is the account's after it."""

    stamp_us: int
    entry_id: int
    payment_id: bytes
    direction: str
    amount_paise: int
    balance_paise: int
    other_user_id: str
    kind: str
    created_at_us: int


class Statement(NamedTuple):
    """A page. ``cursor`` fetches the next one; empty at the end. Amounts in paise."""

    user_id: str
    stamp_us: int | None
    opening_balance_paise: int
    rows: list[StatementRow]
    cursor: str


def balance_as_of(database: ShardDatabase, user_id: str, stamp_us: int) -> int | None:
    """A user's balance in paise as of a stamp; None where the user has no account on this shard.

    Final only if the stamp is closed.
    """
    with database.read() as connection:
        account_id = _account_id(connection, user_id)
        return (
            None if account_id is None else _balance(connection, account_id, _E.stamp <= stamp_us)
        )


def balances_as_of(databases: Databases, stamp_us: int) -> dict[str, int]:
    """Users' balances in paise as of a stamp, over all shards; without an entry, no balance."""
    sums = (
        select(_E.account_id, func.sum(_NET).label("balance"))
        .where(_E.account_id >= FIRST_USER_ACCOUNT_ID, _E.stamp <= stamp_us)
        .group_by(_E.account_id)
        .subquery()
    )
    wanted = select(accounts.c.user_id, sums.c.balance).join(
        sums, sums.c.account_id == accounts.c.id
    )
    found: dict[str, int] = {}
    for database in shards_of(databases).values():
        with database.read() as connection:
            # A user whose slot has moved may have entries on two shards.
            for user_id, balance in connection.execute(wanted):
                found[user_id] = found.get(user_id, 0) + int(balance)
    return found


def ledger_as_of(databases: Databases, closed: ClosedStamp | int) -> AsOf:
    """Balances, open payments and totals of all shards as of a closed stamp."""
    stamp_us = closed if isinstance(closed, int) else closed.stamp_us
    shards = shards_of(databases)
    receivable = funding = 0
    for database in shards.values():
        with database.read() as connection:
            receivable += _balance(connection, RECEIVABLE_ID, _E.stamp <= stamp_us)
            funding += _balance(connection, FUNDING_ID, _E.stamp <= stamp_us)
    return AsOf(
        stamp_us,
        balances_as_of(shards, stamp_us),
        open_payments_as_of(shards, stamp_us),
        receivable,
        -funding,
    )


def open_payments_as_of(databases: Databases, stamp_us: int) -> list[OpenPayment]:
    """Payments that were under way as of a closed stamp, in stamp order: debited by then, and never
    credited (a credit carries the debit's stamp), or given back only later. The list is final.
    """
    shards = shards_of(databases)
    found: list[OpenPayment] = []
    pending: dict[int, list[PaymentRow]] = {}
    for database in shards.values():
        with database.read() as connection:
            for row in pending_sources(connection, stamp_us):
                pending.setdefault(row.to_shard, []).append(row)
            found += ended_later(connection, stamp_us)
    found += _not_credited(shards, pending)
    return sorted(found, key=lambda payment: (payment.stamp_us, payment.payment_id))


def open_payments_now(databases: Databases) -> list[OpenPayment]:
    """Payments that are under way now: PENDING and not credited. Exact where nothing is running."""
    shards = shards_of(databases)
    pending: dict[int, list[PaymentRow]] = {}
    for database in shards.values():
        with database.read() as connection:
            for row in pending_sources(connection, None):
                pending.setdefault(row.to_shard, []).append(row)
    return sorted(_not_credited(shards, pending), key=lambda p: (p.stamp_us, p.payment_id))


def _not_credited(
    shards: dict[int, ShardDatabase], pending: dict[int, list[PaymentRow]]
) -> list[OpenPayment]:
    found = []
    for shard, rows in pending.items():
        status: dict[bytes, tuple[str, str]] = {}
        if shard in shards:
            with shards[shard].read() as connection:
                status = destination_status(connection, [row.transaction_id for row in rows])
        for row in rows:
            state = status.get(row.transaction_id, ("", ""))[0]
            if state != "COMPLETED":
                found.append(_open(row, refused=state == "FAILED"))
    return found


def _open(row: PaymentRow, refused: bool) -> OpenPayment:
    return OpenPayment(
        row.transaction_id, row.from_user_id, row.to_user_id, row.amount, row.receivable,
        row.from_shard, row.to_shard, row.stamp, refused,
    )  # fmt: skip


def ended_later(connection: Connection, stamp_us: int) -> list[OpenPayment]:
    """Payments stamped by ``stamp_us`` whose money left their source's in_transit only after it.

    That is a give-back, or a re-target to the source's own shard; a re-target to another shard
    leaves the sum of in_transit as it was.
    """
    left = (
        select(_E.payment_id)
        .where(_IN_TRANSIT, _E.stamp > stamp_us)
        .group_by(_E.payment_id)
        .having(func.sum(_NET) < 0)
        .scalar_subquery()
    )
    statement = select(*[_T[name] for name in PaymentRow._fields]).where(
        _T.transaction_id.in_(left), _T.role != "destination", _T.stamp <= stamp_us
    )
    return [
        _open(PaymentRow._make(row), refused=row.status == "FAILED")
        for row in connection.execute(statement)
    ]


def statement(
    database: ShardDatabase,
    user_id: str,
    stamp_us: int | None = None,
    after: str = "",
    rows_max: int = 100,
) -> Statement:
    """A page of a user's entries in (stamp, id) order with the running balance, from one snapshot.

    ``stamp_us``: only entries up to this (closed) stamp; None: up to now. ``after``: the last
    page's ``cursor``. BadInput for rows_max < 1, no cursor, a user without account here.
    """
    if rows_max < 1:
        raise errors.BadInput(f"{rows_max} rows a page", remedy="Ask for at least one.")
    start = _parse_cursor(after) if after else None
    with database.read() as connection:
        account_id = _account_id(connection, user_id)
        if account_id is None:
            raise errors.InvalidUserId(
                f"user {user_id!r} has no account", place=f"shard-{database.shard_id}"
            )
        balance = 0
        page = select(_E.stamp, _E.id, _E.payment_id, _E.direction, _E.amount, _E.created_at).where(
            _E.account_id == account_id
        )
        if stamp_us is not None:
            page = page.where(_E.stamp <= stamp_us)
        if start is not None:
            stamp, entry_id = start
            before = or_(_E.stamp < stamp, and_(_E.stamp == stamp, _E.id <= entry_id))
            balance = _balance(connection, account_id, before)
            # The first bound is implied by the second, but only it can use the index.
            page = page.where(
                _E.stamp >= stamp, or_(_E.stamp > stamp, and_(_E.stamp == stamp, _E.id > entry_id))
            )
        entries = connection.execute(page.order_by(_E.stamp, _E.id).limit(rows_max + 1)).all()
        shown = entries[:rows_max]
        payments = _payments(connection, user_id, {entry.payment_id for entry in shown})
    rows = []
    opening = balance
    for entry in shown:
        balance += entry.amount if entry.direction == "credit" else -entry.amount
        other, kind = payments.get(entry.payment_id, ("", ""))
        rows.append(
            StatementRow(
                entry.stamp, entry.id, entry.payment_id, entry.direction, entry.amount, balance,
                other, kind, entry.created_at,
            )
        )  # fmt: skip
    cursor = f"{rows[-1].stamp_us}-{rows[-1].entry_id}" if len(entries) > rows_max else ""
    return Statement(user_id, stamp_us, opening, rows, cursor)


def _parse_cursor(text: str) -> tuple[int, int]:
    parts = text.split("-")
    if len(parts) != 2 or not all(map(_is_number, parts)):
        raise errors.BadInput(
            f"{text!r:.80} is not a cursor", remedy="Give the cursor of the page before."
        )
    return int(parts[0]), int(parts[1])


def _is_number(text: str) -> bool:
    """Of a column: at most 64 bits, with a sign."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63


def _account_id(connection: Connection, user_id: str) -> int | None:
    wanted = select(accounts.c.id).where(
        accounts.c.user_id == user_id, accounts.c.id >= FIRST_USER_ACCOUNT_ID
    )
    return connection.execute(wanted).scalar_one_or_none()


def net_of_account(connection: Connection, account_id: int, stamp_us: int | None) -> int:
    """Credits less debits of an account in a snapshot, up to a stamp (None: all), in paise."""
    return _balance(connection, account_id, true() if stamp_us is None else _E.stamp <= stamp_us)


def _balance(connection: Connection, account_id: int, when: Any) -> int:
    total = select(
        *sum_halves(_E.direction == "credit"), *sum_halves(_E.direction == "debit")
    ).where(_E.account_id == account_id, when)
    row = connection.execute(total).one()
    return whole(row[0], row[1]) - whole(row[2], row[3])


def _payments(
    connection: Connection, user_id: str, payment_ids: set[bytes]
) -> dict[bytes, tuple[str, str]]:
    """Payment id -> (the other side's user id, kind), from this shard's rows."""
    wanted = select(_T.transaction_id, _T.from_user_id, _T.to_user_id, _T.kind).where(
        _T.transaction_id.in_(payment_ids)
    )
    found = {}
    for payment_id, sender, receiver, kind in connection.execute(wanted):
        found[payment_id] = (receiver if sender == user_id else sender, kind)
    return found
