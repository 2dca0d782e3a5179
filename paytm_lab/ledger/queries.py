"""Reads of one shard, or of all of them, that lock nothing: lookups, work lists, totals, columns.

Every function opens one snapshot per shard. Amounts are paise, times microseconds since 1970 UTC.
A shard that is away raises ``core.errors.ShardUnavailable``, an unreadable one a StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, or_, select

from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.schema import (
    FIRST_USER_ACCOUNT_ID,
    accounts,
    credentials,
    holds,
    ledger_entries,
    outbox_events,
    reviews,
    transactions,
)
from paytm_lab.ledger.sums import halves_of, whole
from paytm_lab.ports.shard_database import HoldRow, PaymentRow, ShardDatabase

ROWS_MAX = 1_000
_EVER_US = 2**63 - 1
_IDS_MAX = 500  # ids a statement: well under every engine's limit on parameters

Databases = Mapping[int, ShardDatabase] | Iterable[ShardDatabase]

_PAYMENT = [transactions.c[name] for name in PaymentRow._fields]
_HOLD = [holds.c[name] for name in HoldRow._fields]

_BY_ID = select(*_PAYMENT).where(transactions.c.transaction_id == bindparam("payment_id"))
_KNOWN_KEYS = select(transactions.c.key_hash).where(
    transactions.c.key_hash.in_(bindparam("key_hashes", expanding=True))
)
_ACCOUNT = select(accounts).where(accounts.c.user_id == bindparam("user_id"))

# What housekeeping looks for each second: made once, as to make one costs more than to ask it.
_opened = transactions.c.open_since
_OPEN_PAYMENTS = (
    select(*_PAYMENT)
    # The first bound, because the index holds only rows that are open.
    .where(_opened > 0, or_(_opened <= bindparam("before_us"), _opened > bindparam("after_us")))
    .where(transactions.c.status == "PENDING", transactions.c.role == "source")
    .order_by(_opened, transactions.c.id)
    .limit(bindparam("rows_max"))
)
_OPEN_COUNTS = (
    select(transactions.c.status, func.count()).where(_opened > 0).group_by(transactions.c.status)
)
_EXPIRED_HOLDS = (
    select(*_HOLD)
    .where(holds.c.state == "active", holds.c.expires_at <= bindparam("now_us"))
    .order_by(holds.c.expires_at)
    .limit(bindparam("rows_max"))
)
_REVIEW = ("payment_id", "state", "decision", "rule", "decided_by", "created_at")
_REVIEWED = ("from_user_id", "to_user_id", "amount", "status")
_REVIEWS: Select[Any] = (
    select(*(reviews.c[name] for name in _REVIEW), *(transactions.c[name] for name in _REVIEWED))
    .join(transactions, transactions.c.transaction_id == reviews.c.payment_id)
    .where(transactions.c.role != "destination")
    .order_by(reviews.c.created_at, reviews.c.payment_id)
    .limit(bindparam("rows_max"))
)
_REVIEWS_IN = _REVIEWS.where(reviews.c.state == bindparam("in_state"))


class AccountView(NamedTuple):
    """A user's account as it stands now. ``available_paise`` is balance less active holds."""

    user_id: str
    shard: int
    balance_paise: int
    held_paise: int
    available_paise: int
    state: str
    currency: str
    slot: int
    created_at_us: int


class ReviewRow(NamedTuple):
    """``state``: open | approved | rejecting | rejected; ``rule`` is what asked for the review."""

    payment_id: bytes
    state: str
    decision: str
    rule: str
    decided_by: str
    created_at_us: int
    from_user_id: str
    to_user_id: str
    amount_paise: int
    status: str

    @property
    def payment(self) -> str:
        """The payment id as text."""
        return payment_id_text(self.payment_id)


class ShardTotals(NamedTuple):
    """``payments`` counts source and local rows by status: each payment once over all shards."""

    shard: int
    accounts: int
    balance_paise: int
    held_paise: int
    payments: dict[str, int]
    entries: int
    outbox_rows: int


def shards_of(databases: Databases) -> dict[int, ShardDatabase]:
    """Shard number -> database, in the order given, from a mapping or plain databases."""
    if isinstance(databases, Mapping):
        return dict(databases)
    return {database.shard_id: database for database in databases}


def payment_rows(database: ShardDatabase, payment_id: bytes) -> list[PaymentRow]:
    """The rows of one payment on this shard (one, unless the data contradicts itself)."""
    with database.read() as connection:
        return [
            PaymentRow._make(row) for row in connection.execute(_BY_ID, {"payment_id": payment_id})
        ]


def payment_on_all_sides(
    databases: Databases, source_shard: int, payment_id: bytes
) -> list[PaymentRow]:
    """The source or local row, then the destination row where there is one; empty if it is unknown.

    ``source_shard`` is asked first (the id's slot says which it is); only the shard that its row
    names is asked second. The two reads are two snapshots.
    """
    by_id = shards_of(databases)
    rows = payment_rows(by_id[source_shard], payment_id)
    peer = next((row.to_shard for row in rows if row.role == "source"), source_shard)
    if peer != source_shard and peer in by_id:
        rows += payment_rows(by_id[peer], payment_id)
    return rows


def payment_times(database: ShardDatabase, payment_id: bytes) -> tuple[int, int]:
    """(created, last updated) of the payment's row on this shard, microseconds since 1970 UTC."""
    statement = select(transactions.c.created_at, transactions.c.updated_at).where(
        transactions.c.transaction_id == payment_id
    )
    with database.read() as connection:
        row = connection.execute(statement).first()
    return (0, 0) if row is None else (row[0], row[1])


def known_keys(database: ShardDatabase, key_hashes: Sequence[bytes]) -> set[bytes]:
    """Those of these idempotency keys under which a payment was posted on this shard."""
    found: set[bytes] = set()
    with database.read() as connection:
        for start in range(0, len(key_hashes), _IDS_MAX):
            part = key_hashes[start : start + _IDS_MAX]
            found.update(connection.scalars(_KNOWN_KEYS, {"key_hashes": part}))
    return found


def open_payments(
    database: ShardDatabase, before_us: int, rows_max: int = ROWS_MAX, after_us: int = _EVER_US
) -> list[PaymentRow]:
    """PENDING payments whose source is this shard, oldest first: those that were opened up to one
    time, or, by a clock that is not ours, after another.
    """
    given = {"before_us": before_us, "after_us": after_us, "rows_max": rows_max}
    with database.read() as connection:
        return [PaymentRow._make(row) for row in connection.execute(_OPEN_PAYMENTS, given)]


def open_counts(database: ShardDatabase) -> dict[str, int]:
    """How many payments are HELD and PENDING, by status; from the index of open rows alone."""
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(_OPEN_COUNTS)}


def expired_holds(database: ShardDatabase, now_us: int, rows_max: int = ROWS_MAX) -> list[HoldRow]:
    """Active holds past their time, the longest expired first."""
    given = {"now_us": now_us, "rows_max": rows_max}
    with database.read() as connection:
        return [HoldRow._make(row) for row in connection.execute(_EXPIRED_HOLDS, given)]


def hold(database: ShardDatabase, payment_id: bytes) -> HoldRow | None:
    """The hold of one payment on its source shard."""
    statement = select(*_HOLD).where(holds.c.payment_id == payment_id)
    with database.read() as connection:
        row = connection.execute(statement).one_or_none()
    return None if row is None else HoldRow._make(row)


def list_reviews(
    database: ShardDatabase, state: str | None = "open", rows_max: int = ROWS_MAX
) -> list[ReviewRow]:
    """Reviews in one state (None: in any), oldest first, with the payment that each is about."""
    given = {"rows_max": rows_max} | ({} if state is None else {"in_state": state})
    statement = _REVIEWS if state is None else _REVIEWS_IN
    with database.read() as connection:
        return [ReviewRow._make(row) for row in connection.execute(statement, given)]


def review_state(database: ShardDatabase, payment_id: bytes) -> str | None:
    """The state of a payment's review on its source shard; None where it has none."""
    statement = select(reviews.c.state).where(reviews.c.payment_id == payment_id)
    with database.read() as connection:
        return connection.execute(statement).scalar_one_or_none()


def account(database: ShardDatabase, user_id: str) -> AccountView | None:
    """A user's account on this shard; None where there is none (system accounts are none)."""
    with database.read() as connection:
        row = connection.execute(_ACCOUNT, {"user_id": user_id}).one_or_none()
    if row is None or row.id < FIRST_USER_ACCOUNT_ID:
        return None
    return AccountView(
        row.user_id, database.shard_id, row.balance, row.held, row.balance - row.held,
        row.state, row.currency, row.slot, row.created_at,
    )  # fmt: skip


def user_ids(database: ShardDatabase) -> list[str]:
    """The users that this shard holds, in the order of their creation."""
    statement = (
        select(accounts.c.user_id)
        .where(accounts.c.id >= FIRST_USER_ACCOUNT_ID)
        .order_by(accounts.c.id)
    )
    with database.read() as connection:
        return list(connection.execute(statement).scalars())


def outbox_oldest_us(database: ShardDatabase) -> int | None:
    """When the oldest event that was not relayed yet was written; None where none waits."""
    oldest = select(outbox_events.c.created_at).order_by(outbox_events.c.id).limit(1)
    with database.read() as connection:
        return connection.execute(oldest).scalar_one_or_none()


def balances(database: ShardDatabase) -> dict[str, int]:
    """Every user's stored balance on this shard, in paise."""
    statement = select(accounts.c.user_id, accounts.c.balance).where(
        accounts.c.id >= FIRST_USER_ACCOUNT_ID
    )
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(statement)}


def totals(database: ShardDatabase) -> ShardTotals:
    """Counts and sums of one shard in one snapshot; scans accounts, transactions and entries."""
    users = select(func.count(), *halves_of(accounts.c.balance), *halves_of(accounts.c.held)).where(
        accounts.c.id >= FIRST_USER_ACCOUNT_ID
    )
    by_status = (
        select(transactions.c.status, func.count())
        .where(transactions.c.role != "destination")
        .group_by(transactions.c.status)
    )
    with database.read() as connection:
        number, *halves = connection.execute(users).one()
        payments = {row[0]: row[1] for row in connection.execute(by_status)}
        entries = connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()
        waiting = connection.execute(select(func.count()).select_from(outbox_events)).scalar_one()
    balance, held = whole(*halves[:2]), whole(*halves[2:])
    return ShardTotals(database.shard_id, number, balance, held, payments, entries, waiting)


PAYMENT_COLUMNS = (
    "payment_id",
    "from_user_id",
    "to_user_id",
    "from_shard",
    "to_shard",
    "amount_paise",
    "status",
    "reason",
    "kind",
    "stamp_us",
    "occurred_at_us",
    "created_at_us",
    "updated_at_us",
    "fraud_decision",
    "fraud_score",
)


_PENDING = (
    select(func.count())
    .select_from(transactions)
    .where(_opened > 0, transactions.c.status == "PENDING")
)
_MARK = select(
    select(func.max(ledger_entries.c.id)).scalar_subquery(),
    select(func.max(transactions.c.id)).scalar_subquery(),
    _PENDING.scalar_subquery(),
)


def ledger_mark(database: ShardDatabase) -> tuple[int, int, int]:
    """The last entry's id, the last payment row's id, and how many payments are PENDING: what any
    posting, and any end of a PENDING payment, changes.
    """
    with database.read() as connection:
        entry, payment, pending = connection.execute(_MARK).one()
        return (entry or 0, payment or 0, pending)


def payment_marks(databases: Databases) -> dict[int, int]:
    """Shard -> the last row id of its payments: where a run that starts now will begin."""
    marks = {}
    for database in shards_of(databases).values():
        with database.read() as connection:
            last = connection.execute(select(func.max(transactions.c.id))).scalar_one()
        marks[database.shard_id] = last or 0
    return marks


def payment_columns(
    databases: Databases,
    after: Mapping[int, int] | None = None,
    kinds: tuple[str, ...] = ("transfer", "refund"),
) -> dict[str, list[Any]]:
    """Payments as columns of equal length (``PAYMENT_COLUMNS``), each payment once: source and
    local rows only. ``after``: only rows made since these ``payment_marks``. By shard and row id.
    """
    wanted = [
        transactions.c.transaction_id, transactions.c.from_user_id, transactions.c.to_user_id,
        transactions.c.from_shard, transactions.c.to_shard, transactions.c.amount,
        transactions.c.status, transactions.c.reason, transactions.c.kind, transactions.c.stamp,
        transactions.c.occurred_at, transactions.c.created_at, transactions.c.updated_at,
        transactions.c.fraud_decision, transactions.c.fraud_score,
    ]  # fmt: skip
    columns: list[list[Any]] = [[] for _ in PAYMENT_COLUMNS]
    for database in shards_of(databases).values():
        statement = (
            select(*wanted)
            .where(transactions.c.role != "destination", transactions.c.kind.in_(kinds))
            .where(transactions.c.id > (after or {}).get(database.shard_id, 0))
            .order_by(transactions.c.id)
        )
        with database.read() as connection:
            result = connection.execute(statement)
            for part in result.partitions(10_000):
                for column, values in zip(columns, zip(*part, strict=True), strict=True):
                    column.extend(values)
    columns[0] = [payment_id_text(payment_id) for payment_id in columns[0]]
    return dict(zip(PAYMENT_COLUMNS, columns, strict=True))


def destination_status(
    connection: Connection, payment_ids: Iterable[bytes]
) -> dict[bytes, tuple[str, str]]:
    """(status, reason) of the destination rows that exist among these payments in a snapshot."""
    ids = list(payment_ids)
    found: dict[bytes, tuple[str, str]] = {}
    for start in range(0, len(ids), _IDS_MAX):
        statement = select(
            transactions.c.transaction_id, transactions.c.status, transactions.c.reason
        ).where(
            transactions.c.role == "destination",
            transactions.c.transaction_id.in_(ids[start : start + _IDS_MAX]),
        )
        for payment_id, status, reason in connection.execute(statement):
            found[payment_id] = (status, reason)
    return found


class CredentialRow(NamedTuple):
    """A row of ``credentials``; ``permissions``: words with spaces between."""

    user_id: str
    password_hash: str
    permissions: str
    version: int


def credential(database: ShardDatabase, user_id: str) -> CredentialRow | None:
    """How this user logs in; None for a user of another shard, or one who cannot."""
    table = credentials
    columns = [table.c[name] for name in CredentialRow._fields]
    with database.read() as connection:
        row = connection.execute(select(*columns).where(table.c.user_id == user_id)).first()
    return None if row is None else CredentialRow(*row)
