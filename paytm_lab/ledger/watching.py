"""Cheap questions to one shard for those who watch it: what is new since a row, sums of few rows,
and checks of a small range, each in the snapshot that it is given.

Ranges of row ids are ``after < id <= up_to``. Amounts are paise, times microseconds since 1970 UTC.
Sums come in two halves (``sums``), so that none can overflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, case, func, select

from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.schema import (
    FIRST_USER_ACCOUNT_ID,
    FUNDING_ID,
    IN_TRANSIT_ID_BASE,
    accounts,
    ledger_entries,
    reviews,
    transactions,
)
from paytm_lab.ledger.sums import halves_of, whole

NEAR = 10_000  # the entries of one commit lie this close together
LOOKED_AT_MAX = 2_000  # the entries of an account that are looked at for one that explains it
_IDS_MAX = 500

_A, _E, _T = accounts.c, ledger_entries.c, transactions.c
_NET = case((_E.direction == "credit", _E.amount), else_=-_E.amount)
_CROSS = case((_T.from_shard != _T.to_shard, 1), else_=0)
_OWN = _T.role != "destination"


class Heads(NamedTuple):
    """The last row ids of a shard in a snapshot; 0 where there is none."""

    entry: int
    payment: int
    account: int


class UserSums(NamedTuple):
    """Of the users' accounts: how many, and what they store."""

    accounts: int
    balance_paise: int
    held_paise: int


class PaymentKind(NamedTuple):
    """``cross`` is 1 where the payment has two shards."""

    status: str
    kind: str
    cross: int


class OpenRow(NamedTuple):
    """A HELD or PENDING payment of this shard's users."""

    row: int
    what: PaymentKind
    amount_paise: int
    payment_id: bytes
    stamp_us: int


class SystemEntry(NamedTuple):
    """An entry of a system account; ``net_paise``: credited, or if negative debited."""

    id: int
    payment_id: bytes
    account_id: int
    net_paise: int
    stamp_us: int


class Unbalanced(NamedTuple):
    """Entries of a payment within a range whose debits are not its credits."""

    payment_id: bytes
    net_paise: int
    first: int
    last: int


class WrongBalance(NamedTuple):
    """A balance that is not the sum of its entries."""

    account_id: int
    user_id: str
    balance_paise: int
    entries_paise: int


def heads(connection: Connection) -> Heads:
    return Heads(
        *(
            connection.execute(select(func.max(column))).scalar_one() or 0
            for column in (_E.id, _T.id, _A.id)
        )
    )


def user_sums(connection: Connection) -> UserSums:
    """Walks all accounts of the shard."""
    row = connection.execute(
        select(func.count(), *halves_of(_A.balance), *halves_of(_A.held)).where(
            _A.id >= FIRST_USER_ACCOUNT_ID
        )
    ).one()
    return UserSums(row[0], whole(row[1], row[2]), whole(row[3], row[4]))


def entries_between(connection: Connection, after: int, up_to: int) -> int:
    """How many entries a range has."""
    wanted = select(func.count()).select_from(ledger_entries)
    return int(connection.execute(wanted.where(_E.id > after, _E.id <= up_to)).scalar_one())


def system_entries(
    connection: Connection, after: int, up_to: int, rows_max: int
) -> list[SystemEntry]:
    """Entries of system accounts within a range, by id."""
    wanted = (
        select(_E.id, _E.payment_id, _E.account_id, _NET, _E.stamp)
        .where(_E.id > after, _E.id <= up_to, _E.account_id < FIRST_USER_ACCOUNT_ID)
        .order_by(_E.id)
        .limit(rows_max)
    )
    return [SystemEntry._make(row) for row in connection.execute(wanted)]


def system_net(connection: Connection) -> int:
    """Credits less debits of all system accounts; walks all their entries."""
    row = connection.execute(
        select(*halves_of(_E.amount, _E.direction == "credit"),
               *halves_of(_E.amount, _E.direction == "debit"))
        .where(_E.account_id >= FUNDING_ID, _E.account_id < FIRST_USER_ACCOUNT_ID)
    ).one()  # fmt: skip
    return whole(row[0], row[1]) - whole(row[2], row[3])


def ended_payments(
    connection: Connection, after: int, up_to: int
) -> dict[PaymentKind, tuple[int, int]]:
    """(payments, their paise) within a range of rows, of those that have ended; by what they are.
    Each payment counts on its sender's shard.
    """
    wanted = (
        select(_T.status, _T.kind, _CROSS, func.count(), *halves_of(_T.amount))
        .where(_T.id > after, _T.id <= up_to, _OWN, _T.open_since.is_(None))
        .group_by(_T.status, _T.kind, _CROSS)
    )
    return {
        PaymentKind(row[0], row[1], row[2]): (row[3], whole(row[4], row[5]))
        for row in connection.execute(wanted)
    }


_OPEN = select(_T.id, _T.status, _T.kind, _CROSS, _T.amount, _T.transaction_id, _T.stamp)


def open_rows(connection: Connection) -> list[OpenRow]:
    """Payments that have not ended, from the index of those."""
    return _as_open(connection.execute(_OPEN.where(_T.open_since > 0, _OWN)))


def rows_of(connection: Connection, row_ids: Iterable[int]) -> list[OpenRow]:
    """Payments by row id, whether they have ended or not."""
    wanted, found = sorted(row_ids), []
    for start in range(0, len(wanted), _IDS_MAX):
        some = wanted[start : start + _IDS_MAX]
        found += _as_open(connection.execute(_OPEN.where(_T.id.in_(some))))
    return found


def _as_open(rows: Iterable[Any]) -> list[OpenRow]:
    return [OpenRow(r[0], PaymentKind(r[1], r[2], r[3]), r[4], r[5], r[6]) for r in rows]


def open_reviews(connection: Connection) -> int:
    """How many reviews wait, from their index alone."""
    wanted = select(func.count()).select_from(reviews).where(reviews.c.state == "open")
    return int(connection.execute(wanted).scalar_one())


def unbalanced(connection: Connection, after: int, up_to: int) -> list[Unbalanced]:
    """Payments whose entries within a range do not add up to nothing; at the range's ends they may
    go on outside it.
    """
    net = func.sum(_NET)
    wanted = (
        select(_E.payment_id, net, func.min(_E.id), func.max(_E.id))
        .where(_E.id > after, _E.id <= up_to)
        .group_by(_E.payment_id)
        .having(net != 0)
    )
    return [Unbalanced(row[0], int(row[1]), row[2], row[3]) for row in connection.execute(wanted)]


def still_unbalanced(connection: Connection, found: Unbalanced) -> int:
    """What the payment's entries near the ones found add up to now."""
    wanted = select(func.coalesce(func.sum(_NET), 0)).where(
        _E.id > found.first - NEAR, _E.id <= found.last + NEAR, _E.payment_id == found.payment_id
    )
    return int(connection.execute(wanted).scalar_one())


def wrong_balances(connection: Connection, after: int, up_to: int) -> list[WrongBalance]:
    """Users' accounts within a range of account ids whose balance is not the sum of their entries.
    Walks all entries of these accounts.
    """
    net = func.coalesce(func.sum(_NET), 0)
    wanted = (
        select(_A.id, _A.user_id, _A.balance, net)
        .outerjoin(ledger_entries, _E.account_id == _A.id)
        .where(_A.id > max(after, FIRST_USER_ACCOUNT_ID - 1), _A.id <= up_to)
        .group_by(_A.id, _A.user_id, _A.balance)
        .having(_A.balance != net)
    )
    return [WrongBalance(row[0], row[1], row[2], int(row[3])) for row in connection.execute(wanted)]


def explained(connection: Connection, account_id: int) -> tuple[str, bool]:
    """(payment id, True) of an account's latest entry that is not of its payment's amount; else
    (its last payment, False), as nothing but the balance itself can have been changed. '' for an
    account without entries.
    """
    wanted = (
        select(_E.payment_id, _E.amount)
        .where(_E.account_id == account_id)
        .order_by(_E.stamp.desc(), _E.id.desc())
        .limit(LOOKED_AT_MAX)
    )
    entries = connection.execute(wanted).all()
    for start in range(0, len(entries), _IDS_MAX):
        some = entries[start : start + _IDS_MAX]
        terms = {
            row[0]: (row[1], row[1] - row[2])
            for row in connection.execute(
                select(_T.transaction_id, _T.amount, _T.receivable).where(
                    _T.transaction_id.in_({entry[0] for entry in some})
                )
            )
        }
        for payment_id, amount in some:
            if amount not in terms.get(payment_id, ()):
                return payment_id_text(payment_id), True
    return (payment_id_text(entries[0][0]), False) if entries else ("", False)


def is_in_transit(account_id: int) -> bool:
    return IN_TRANSIT_ID_BASE <= account_id < FIRST_USER_ACCOUNT_ID


def payment_state(connection: Connection, payment_id: bytes) -> str | None:
    """A payment's status at its sender's shard; None where this is not that."""
    wanted = select(_T.status).where(_T.transaction_id == payment_id, _OWN)
    return connection.execute(wanted).scalar_one_or_none()


def transit_net(connection: Connection, payment_id: bytes, stamp_us: int, peers: int) -> int:
    """Credits less debits of a payment's entries in transit, of those with this stamp."""
    accounts_ = [IN_TRANSIT_ID_BASE + peer for peer in range(peers)]
    wanted = select(func.coalesce(func.sum(_NET), 0)).where(
        _E.account_id.in_(accounts_), _E.stamp == stamp_us, _E.payment_id == payment_id
    )
    return int(connection.execute(wanted).scalar_one())


class PaymentEntry(NamedTuple):
    """``account``: a user's id or a system account's."""

    account: str
    direction: str
    amount_paise: int
    created_at_us: int


def payment_entries(
    connection: Connection, payment_id: bytes, user_ids: Iterable[str], peers: int, until_us: int
) -> list[PaymentEntry]:
    """A payment's entries on this shard stamped up to ``until_us``, by id. ``user_ids``: its two
    users.
    """
    stamp = connection.execute(
        select(func.min(_T.stamp)).where(_T.transaction_id == payment_id)
    ).scalar_one()
    if stamp is None:
        return []
    names = dict(
        connection.execute(select(_A.id, _A.user_id).where(_A.user_id.in_(list(user_ids)))).all()
    )
    names |= dict(
        connection.execute(
            select(_A.id, _A.user_id).where(_A.id < IN_TRANSIT_ID_BASE + peers)
        ).all()
    )
    wanted = (
        select(_E.account_id, _E.direction, _E.amount, _E.created_at)
        .where(_E.account_id.in_(names), _E.stamp >= stamp, _E.stamp <= max(stamp, until_us))
        .where(_E.payment_id == payment_id)
        .order_by(_E.id)
    )
    return [
        PaymentEntry(names[row[0]], row[1], row[2], row[3]) for row in connection.execute(wanted)
    ]
