"""What one shard's database says of itself: sums and contradictions, and its payments as columns.

Everything here is SQL on one shard; what it means is decided in shard_checks, cross_checks, events.
Statements are made once: making one takes longer than a small shard takes to answer it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, exists, func, not_, or_, select

from paytm_lab.core.errors import PaytmLabError, StorageCorrupt
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.as_of import OpenPayment, ended_later
from paytm_lab.ledger.audit.columns import (
    EventColumns,
    PaymentColumns,
    event_columns,
    payment_columns,
)
from paytm_lab.ledger.schema import (
    FIRST_USER_ACCOUNT_ID,
    FUNDING_ID,
    IN_TRANSIT_ID_BASE,
    RECEIVABLE_ID,
    accounts,
    debts,
    holds,
    ledger_entries,
    outbox_events,
    transactions,
)
from paytm_lab.ledger.sums import halves_of, sum_halves, whole
from paytm_lab.ports.shard_database import ShardDatabase

FOUND_MAX = 1_000

_E = ledger_entries.c
_T = transactions.c
_DEBIT = _E.direction == "debit"
_CREDIT = _E.direction == "credit"


@dataclass
class ShardFacts:
    """One shard's facts. ``error`` is set, and the rest empty, where it could not be read.

    Sums are paise. ``transit`` maps peer shard -> credits less debits; it, ``users_paise``,
    ``receivable`` and ``funding`` are as of the closed stamp where one was given, else current.
    ``retargeted``: a payment by that stamp was pointed at another shard after it.
    """

    shard: int
    error: PaytmLabError | None = None
    entries: int = 0
    debits: int = 0
    credits: int = 0
    transit: dict[int, int] = field(default_factory=dict)
    users_paise: int = 0
    receivable: int = 0
    funding: int = 0
    receivable_now: int = 0
    funding_now: int = 0
    funding_payments: int = 0
    debts_open: int = 0
    retargeted: bool = False
    unbalanced: list[str] = field(default_factory=list)
    overdrawn: list[str] = field(default_factory=list)
    wrong_holds: list[str] = field(default_factory=list)
    two_roles: list[str] = field(default_factory=list)
    wrong_entries: list[str] = field(default_factory=list)
    ended_later: list[OpenPayment] = field(default_factory=list)
    payments: PaymentColumns = field(default_factory=PaymentColumns.empty)
    outbox: EventColumns = field(default_factory=EventColumns.empty)


def read_sums(database: ShardDatabase, facts: ShardFacts, stamp_us: int | None) -> None:
    """What the database can add up and compare by itself, in one snapshot."""
    with _errors_into(facts), database.read() as connection:
        _read_sums(connection, facts, stamp_us)
        _read_contradictions(connection, facts)


def read_rows(
    database: ShardDatabase, facts: ShardFacts, stamp_us: int | None, with_events: bool
) -> None:
    """Every payment, its waiting events and what became of it after the stamp, in one snapshot."""
    with _errors_into(facts), database.read() as connection:
        facts.payments = payment_columns(connection, database.shard_id)
        if with_events:
            facts.outbox = _outbox(connection)
        if stamp_us is not None:
            _read_later(connection, facts, stamp_us)


@contextmanager
def _errors_into(facts: ShardFacts) -> Iterator[None]:
    try:
        yield
    except PaytmLabError as error:
        facts.error = error
    except (TypeError, ValueError, OverflowError) as error:  # a number or id that is none
        facts.error = StorageCorrupt(str(error), place=f"shard-{facts.shard}")


def _read_sums(connection: Connection, facts: ShardFacts, stamp_us: int | None) -> None:
    now = _sums_by_account(connection, None)
    later = _sums_by_account(connection, stamp_us) if stamp_us is not None else {}
    for account_id, (count, credits_, debits_) in now.items():
        facts.entries += count
        facts.credits += credits_
        facts.debits += debits_
        _, later_credits, later_debits = later.get(account_id, (0, 0, 0))
        net = credits_ - debits_ - (later_credits - later_debits)
        if account_id >= FIRST_USER_ACCOUNT_ID:
            facts.users_paise += net
        elif account_id >= IN_TRANSIT_ID_BASE:
            facts.transit[account_id - IN_TRANSIT_ID_BASE] = net
        elif account_id == RECEIVABLE_ID:
            facts.receivable, facts.receivable_now = net, credits_ - debits_
        elif account_id == FUNDING_ID:
            facts.funding, facts.funding_now = net, credits_ - debits_
    _compare_accounts(connection, facts, now)
    facts.funding_payments = whole(*connection.execute(_funded()).one())
    facts.debts_open = whole(*connection.execute(_owed()).one())


def _sums_by_account(
    connection: Connection, after_us: int | None
) -> dict[int, tuple[int, int, int]]:
    """Account id -> (entries, sum of credits, sum of debits), of all or of those stamped later."""
    if after_us is None:
        rows = connection.execute(_account_sums())
    else:
        rows = connection.execute(_later_account_sums(), {"after_us": after_us})
    return {row[0]: (row[1], whole(row[2], row[3]), whole(row[4], row[5])) for row in rows}


@cache
def _account_sums() -> Any:
    return select(_E.account_id, func.count(), *sum_halves(_CREDIT), *sum_halves(_DEBIT)).group_by(
        _E.account_id
    )


@cache
def _later_account_sums() -> Any:
    return _account_sums().where(_E.stamp > bindparam("after_us"))


def _compare_accounts(
    connection: Connection, facts: ShardFacts, sums: dict[int, tuple[int, int, int]]
) -> None:
    """Each stored balance against its entries, and holds; an entry's account must exist."""
    held = {row[0]: int(row[1]) for row in connection.execute(_held())}
    known: set[int] = set()
    for account_id, user_id, balance, account_held in connection.execute(_balances()):
        known.add(account_id)
        _, credits_, debits_ = sums.get(account_id, (0, 0, 0))
        # A system account's balance is its entries; nothing may be stored beside them.
        expected = credits_ - debits_ if account_id >= FIRST_USER_ACCOUNT_ID else 0
        if balance != expected:
            facts.unbalanced.append(user_id)
        if balance < account_held or account_held < 0:
            facts.overdrawn.append(user_id)
        if account_held != held.pop(account_id, 0):
            facts.wrong_holds.append(user_id)
    facts.unbalanced += [f"account {missing}" for missing in sorted(sums.keys() - known)]
    facts.wrong_holds += [f"account {missing}" for missing in sorted(held)]


@cache
def _held() -> Any:
    return (
        select(holds.c.account_id, func.sum(holds.c.amount))
        .where(holds.c.state == "active")
        .group_by(holds.c.account_id)
    )


@cache
def _balances() -> Any:
    return select(accounts.c.id, accounts.c.user_id, accounts.c.balance, accounts.c.held)


@cache
def _funded() -> Any:
    return _exact_sum(_T.amount, and_(_T.kind == "funding", _T.status == "COMPLETED"))


@cache
def _owed() -> Any:
    return _exact_sum(debts.c.amount, debts.c.state == "open")


def _exact_sum(amount: Any, when: Any) -> Any:
    """The halves of a sum over few rows or many that no 64-bit integer need hold."""
    return select(*halves_of(amount)).where(when)


def _read_contradictions(connection: Connection, facts: ShardFacts) -> None:
    facts.two_roles = _names(connection, _in_two_roles())
    doubled = set(facts.two_roles)  # two rows of one id can not both fit its entries
    wrong = _names(connection, _wrong_entries()) + _names(connection, _orphans())
    facts.wrong_entries = [name for name in wrong if name not in doubled]
    found = {name for which in _holds_without_payments() for name in _names(connection, which)}
    facts.wrong_holds += sorted(found)


@cache
def _in_two_roles() -> Any:
    roles = select(_T.transaction_id).group_by(_T.transaction_id).having(func.count() > 1)
    return roles.limit(FOUND_MAX)


@cache
def _holds_without_payments() -> tuple[Any, ...]:
    """HELD payments without an active hold of their amount, active holds without a payment, and
    those on another account than the payer's.
    """
    matches = and_(
        _T.transaction_id == holds.c.payment_id, _T.status == "HELD", _T.amount == holds.c.amount
    )
    bare = select(_T.transaction_id).where(
        _T.open_since > 0,
        _T.status == "HELD",
        ~exists().where(matches, holds.c.state == "active").correlate(transactions),
    )
    loose = select(holds.c.payment_id).where(
        holds.c.state == "active", ~exists().where(matches).correlate(holds)
    )
    # An account that is gone is named elsewhere.
    others = (
        select(holds.c.payment_id)
        .join(transactions, matches)
        .join(accounts, accounts.c.id == holds.c.account_id)
        .where(holds.c.state == "active", accounts.c.user_id != _T.from_user_id)
    )
    return tuple(which.limit(FOUND_MAX) for which in (bare, loose, others))


@cache
def _wrong_entries() -> Any:
    """Payments whose entries on this shard are not what their row says.

    Outside in_transit a payment debits its amount at its source and credits it at its destination;
    a local one does both; one that was given back does both too; all others have no entries. It is
    its own sender who pays and its receiver who gets it, or the sender where it was given back. A
    debit bears the payment's stamp, a credit the same or, where it came back, a later one.
    """
    sums = _sums_by_payment()
    out, into = func.coalesce(sums.c.out, 0), func.coalesce(sums.c.into, 0)
    both = and_(out == _T.amount, into == _T.amount)
    neither = and_(out == 0, into == 0)
    right = case(
        (func.coalesce(sums.c.net, 0) != 0, False),
        (_T.role == "destination", and_(out == 0, into == _paid_amount())),
        (_T.status == "FAILED", or_(neither, both)),
        (_T.status.in_(("HELD", "CANCELLED")), sums.c.payment_id.is_(None)),
        (_T.role == "local", both),
        else_=and_(out == _T.amount, into == 0),
    )
    payer, payee = accounts.alias("payer"), accounts.alias("payee")
    # Nothing is said where there is no such entry; an account that is gone is named elsewhere.
    others = or_(
        sums.c.payer_least != sums.c.payer_most,
        sums.c.payee_least != sums.c.payee_most,
        payer.c.user_id != _T.from_user_id,
        payee.c.user_id != case((_T.status == "FAILED", _T.from_user_id), else_=_T.to_user_id),
        sums.c.out_first != _T.stamp,
        sums.c.out_last != _T.stamp,
        sums.c.into_first < _T.stamp,
        # A local one that ends later was to cross, and its receiver's slot came home.
        and_(
            or_(_T.role == "destination", sums.c.crossing.is_(None)),
            sums.c.into_last != _T.stamp,
        ),
    )
    joined = (
        transactions.outerjoin(sums, sums.c.payment_id == _T.transaction_id)
        .outerjoin(payer, payer.c.id == sums.c.payer_least)
        .outerjoin(payee, payee.c.id == sums.c.payee_least)
    )
    wrong = select(_T.transaction_id).select_from(joined).where(or_(not_(right), others))
    return wrong.limit(FOUND_MAX)


@cache
def _orphans() -> Any:
    """Entries of no payment."""
    payment = exists().where(_T.transaction_id == _E.payment_id).correlate(ledger_entries)
    return select(_E.payment_id).where(~payment).distinct().limit(FOUND_MAX)


def _sums_by_payment() -> Any:
    """What each payment's entries come to outside in_transit: paise, users' accounts, stamps."""
    in_transit = and_(_E.account_id >= IN_TRANSIT_ID_BASE, _E.account_id < FIRST_USER_ACCOUNT_ID)
    out, into = and_(_DEBIT, not_(in_transit)), and_(_CREDIT, not_(in_transit))
    payer = case((and_(_DEBIT, _E.account_id >= FIRST_USER_ACCOUNT_ID), _E.account_id))
    payee = case((and_(_CREDIT, _E.account_id >= FIRST_USER_ACCOUNT_ID), _E.account_id))
    out_stamp, into_stamp = case((out, _E.stamp)), case((into, _E.stamp))

    def total(when: Any) -> Any:
        return func.sum(case((when, _E.amount), else_=0))

    return (
        select(
            _E.payment_id,
            total(out).label("out"),
            total(into).label("into"),
            (total(_CREDIT) - total(_DEBIT)).label("net"),
            func.min(payer).label("payer_least"),
            func.max(payer).label("payer_most"),
            func.min(payee).label("payee_least"),
            func.max(payee).label("payee_most"),
            func.min(out_stamp).label("out_first"),
            func.max(out_stamp).label("out_last"),
            func.min(into_stamp).label("into_first"),
            func.max(into_stamp).label("into_last"),
            func.max(case((in_transit, 1))).label("crossing"),
        )
        .group_by(_E.payment_id)
        .subquery()
    )


def _paid_amount() -> Any:
    return case((_T.status == "COMPLETED", _T.amount), else_=0)


def _read_later(connection: Connection, facts: ShardFacts, stamp_us: int) -> None:
    """What happened after the closed stamp to payments that it covers."""
    facts.ended_later = ended_later(connection, stamp_us)
    moved_home = any(payment.to_shard == facts.shard for payment in facts.ended_later)
    later = {"stamp_us": stamp_us}
    facts.retargeted = (
        moved_home or connection.execute(_credited_later(), later).first() is not None
    )


@cache
def _credited_later() -> Any:
    """One payment by the stamp that in_transit was credited for after it."""
    in_transit = and_(_E.account_id >= IN_TRANSIT_ID_BASE, _E.account_id < FIRST_USER_ACCOUNT_ID)
    stamp_us: Any = bindparam("stamp_us")
    return (
        select(_E.payment_id)
        .join(transactions, _T.transaction_id == _E.payment_id)
        .where(in_transit, _CREDIT, _E.stamp > stamp_us)
        .where(_T.role != "destination", _T.stamp <= stamp_us)
        .limit(1)
    )


def _outbox(connection: Connection) -> EventColumns:
    return event_columns(connection.execute(_payment_events()))


@cache
def _payment_events() -> Any:
    return select(
        outbox_events.c.aggregate_id, outbox_events.c.event_id, outbox_events.c.event_type
    ).where(outbox_events.c.event_type.like("Payment%"))


def _names(connection: Connection, statement: Any) -> list[str]:
    return [_name(payment_id) for payment_id in connection.execute(statement).scalars()]


def _name(payment_id: bytes) -> str:
    return payment_id_text(payment_id) if len(payment_id) == 16 else payment_id.hex()


def unreadable(shards: Sequence[ShardFacts]) -> list[str]:
    """'shard-2 could not be read' for each shard that was not."""
    return [f"shard-{facts.shard} could not be read" for facts in shards if facts.error is not None]
