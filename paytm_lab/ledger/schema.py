"""The tables of one shard. The one home of their definition; every backend creates them from here.

Times are microseconds since 1970 UTC, amounts and balances are paise, ids of payments are 16 bytes.
``open_since`` is set while a payment is HELD or PENDING: its index is the recovery's work list.

A column that is added here needs a ``server_default``: with it, a shard made before gets the column
when it is opened. A table that is added says so in its ``info``, and is made then.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

from paytm_lab.core.ids import FUNDING, RECEIVABLE, in_transit

# SQLite gives automatic ids only to columns declared exactly INTEGER.
_ID = BigInteger().with_variant(Integer, "sqlite")
# NO PAD and binary: 'a', 'A' and 'a ' are three users, as in SQLite.
_USER = String(64).with_variant(mysql.VARCHAR(64, collation="utf8mb4_0900_bin"), "mysql")
_UUID = LargeBinary(16).with_variant(mysql.BINARY(16), "mysql")
_WORD = String(32).with_variant(mysql.VARCHAR(32, charset="ascii"), "mysql")
_EVENT_ID = String(160).with_variant(mysql.VARCHAR(160, collation="utf8mb4_0900_bin"), "mysql")

FUNDING_ID = 1
RECEIVABLE_ID = 2
IN_TRANSIT_ID_BASE = 10
FIRST_USER_ACCOUNT_ID = 2_000  # ids below are the system accounts of at most 1,024 peers

metadata = MetaData()


def _table(name: str, *parts: Column[object] | Index | CheckConstraint | UniqueConstraint) -> Table:
    return Table(name, metadata, *parts, mysql_engine="InnoDB", mysql_charset="utf8mb4")


shard_meta = _table(
    "shard_meta",
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("shard_id", SmallInteger, nullable=False),
    Column("stamp", BigInteger, nullable=False),
    Column("map_version", Integer, nullable=False),
    Column("owned_slots", LargeBinary(128), nullable=False),
)
accounts = _table(
    "accounts",
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("user_id", _USER, nullable=False, unique=True),
    Column("balance", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("currency", _WORD, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("opening", BigInteger, nullable=False),
    Column("create_key", _UUID),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    CheckConstraint("balance >= held AND held >= 0", name="available_not_negative"),
)
transactions = _table(
    "transactions",
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("transaction_id", _UUID, nullable=False),
    Column("role", _WORD, nullable=False),
    Column("from_user_id", _USER, nullable=False),
    Column("to_user_id", _USER, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", _WORD, nullable=False),
    Column("status", _WORD, nullable=False),
    Column("reason", _WORD, nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("from_shard", SmallInteger, nullable=False),
    Column("to_shard", SmallInteger, nullable=False),
    Column("map_version", Integer, nullable=False),
    Column("stamp", BigInteger, nullable=False),
    Column("occurred_at", BigInteger, nullable=False),
    Column("key_hash", _UUID),
    Column("refund_of", _UUID),
    Column("receivable", BigInteger, nullable=False),
    Column("open_since", BigInteger),
    Column("fraud_decision", _WORD, nullable=False),
    Column("fraud_score", Double),
    Column("fraud_rule", _WORD, nullable=False, server_default=""),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("transaction_id", "role", name="transactions_by_id"),
)
Index(
    "transactions_by_key",
    transactions.c.key_hash,
    unique=True,
    sqlite_where=transactions.c.key_hash.is_not(None),
)
Index(
    "transactions_open",
    transactions.c.open_since,
    sqlite_where=transactions.c.open_since.is_not(None),
)
ledger_entries = _table(
    "ledger_entries",
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("payment_id", _UUID, nullable=False),
    Column("account_id", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("direction", _WORD, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("stamp", BigInteger, nullable=False),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("direction IN ('debit', 'credit')", name="direction_known"),
)
# Statements and as-of balances walk one account in stamp order; a payment's own entries are found
# by the account and stamp that its row names, so no second index is paid for on each posting.
Index("ledger_entries_by_account", ledger_entries.c.account_id, ledger_entries.c.stamp)
outbox_events = Table(
    "outbox_events",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("event_id", _EVENT_ID, nullable=False),
    Column("event_type", _WORD, nullable=False),
    Column("aggregate_id", _USER, nullable=False),
    Column("event_data", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("traceparent", String(64), nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
    sqlite_autoincrement=True,  # ids of deleted rows must not come back: the relay deletes by id
)
holds = _table(
    "holds",
    Column("payment_id", _UUID, primary_key=True),
    Column("account_id", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("holds_expiring", holds.c.state, holds.c.expires_at)
reviews = _table(
    "reviews",
    Column("payment_id", _UUID, primary_key=True),
    Column("state", _WORD, nullable=False),
    Column("decision", _WORD, nullable=False),
    Column("rule", _WORD, nullable=False),
    Column("decided_by", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index("reviews_open", reviews.c.state, reviews.c.created_at)
debts = _table(
    "debts",
    Column("refund_id", _UUID, primary_key=True),
    Column("user_id", _USER, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
applied_events = _table(
    "applied_events",
    Column("event_id", _EVENT_ID, primary_key=True),
    Column("applied_at", BigInteger, nullable=False),
)

# How a user logs in; made with the account, in the same transaction. ``version`` grows with each
# change. ``permissions``: words with spaces between.
credentials = _table(
    "credentials",
    Column("user_id", _USER, primary_key=True),
    Column("password_hash", String(255), nullable=False),
    Column("permissions", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
credentials.info["added_later"] = True

INSERT_COLUMNS: dict[str, tuple[str, ...]] = {
    table.name: tuple(c.name for c in table.columns if c.name != "id")
    for table in metadata.tables.values()
}


def system_accounts(peers: int) -> list[tuple[int, str]]:
    """(account id, user id) of the system accounts of a shard with shards 0..peers-1."""
    return [(FUNDING_ID, FUNDING), (RECEIVABLE_ID, RECEIVABLE)] + [
        (IN_TRANSIT_ID_BASE + peer, in_transit(peer)) for peer in range(peers)
    ]
