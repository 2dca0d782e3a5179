"""A shard in memory: the promises of ports.shard_database in dictionaries, for tests of the rules
and of the writer that must be fast, or must see a database fail at a chosen call.

It checks what the real tables check: unique keys, available never below zero, positive entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paytm_lab.core.errors import DuplicateKey, StoreError
from paytm_lab.ledger.schema import FIRST_USER_ACCOUNT_ID, INSERT_COLUMNS
from paytm_lab.ports.shard_database import AccountRow, HoldRow, OutboxRow, PaymentRow, ShardMeta

ALL_SLOTS = b"\xff" * 128
Row = dict[str, Any]
_UNIQUE: dict[str, tuple[tuple[str, ...], ...]] = {
    "accounts": (("user_id",),),
    "transactions": (("transaction_id", "role"), ("key_hash",)),
    "holds": (("payment_id",),),
    "reviews": (("payment_id",),),
    "debts": (("refund_id",),),
    "applied_events": (("event_id",),),
}


class MemoryShard:
    """``before``: called with the name of each transaction's method before it runs; may raise, as a
    driver would. ``tables``: what is committed, as dicts by column name.
    """

    def __init__(self, shard_id: int = 0, owned_slots: bytes = ALL_SLOTS) -> None:
        self.shard_id = shard_id
        self.meta = ShardMeta(0, 1, owned_slots)
        self.tables: dict[str, list[Row]] = {name: [] for name in INSERT_COLUMNS}
        self.next_id = FIRST_USER_ACCOUNT_ID
        self.before: Callable[[str], None] = lambda name: None
        self.after_commit: Callable[[], None] = lambda: None
        self.commits = 0

    def begin(self) -> MemoryTransaction:
        self.before("begin")
        return MemoryTransaction(self)

    def outbox_rows(self) -> int:
        self.before("outbox_rows")
        return len(self.tables["outbox_events"])

    def read_outbox(self, rows_max: int) -> list[OutboxRow]:
        rows = self.tables["outbox_events"][:rows_max]
        return [OutboxRow(*(row[name] for name in OutboxRow._fields)) for row in rows]

    def delete_outbox(self, row_ids: Sequence[int]) -> None:
        gone = set(row_ids)
        kept = [row for row in self.tables["outbox_events"] if row["id"] not in gone]
        self.tables["outbox_events"] = kept

    def read(self) -> Any:
        raise NotImplementedError("the ledger's rules and writer never read outside a transaction")

    def ping(self) -> float:
        return 0.0

    def close(self) -> None:
        pass

    # -- looking ----------------------------------------------------------------------------------

    def account(self, user_id: str) -> Row:
        (found,) = [row for row in self.tables["accounts"] if row["user_id"] == user_id]
        return found

    def payment(self, payment_id: bytes, destination: bool = False) -> Row | None:
        for row in self.tables["transactions"]:
            is_destination = row["role"] == "destination"
            if row["transaction_id"] == payment_id and is_destination == destination:
                return row
        return None

    def balances(self) -> dict[str, int]:
        return {row["user_id"]: row["balance"] for row in self.tables["accounts"]}

    def entries_sum(self, account_id: int) -> int:
        """Credits less debits of one account."""
        return sum(
            row["amount"] if row["direction"] == "credit" else -row["amount"]
            for row in self.tables["ledger_entries"]
            if row["account_id"] == account_id
        )

    def events_of(self, aggregate_id: str) -> list[str]:
        rows = self.tables["outbox_events"]
        return [row["event_type"] for row in rows if row["aggregate_id"] == aggregate_id]


class MemoryTransaction:
    def __init__(self, shard: MemoryShard) -> None:
        self._shard = shard
        # Values of columns are never changed in place.
        self._tables = {name: [dict(row) for row in rows] for name, rows in shard.tables.items()}
        self._next_id = shard.next_id

    def meta(self) -> ShardMeta:
        self._shard.before("meta")
        return self._shard.meta

    def lock_accounts(self, user_ids: Sequence[str]) -> list[AccountRow]:
        self._shard.before("lock_accounts")
        wanted = set(user_ids)
        return [
            AccountRow(
                row["id"], row["user_id"], row["balance"], row["held"], row["currency"],
                row["state"], row["slot"], row["opening"],
                row["create_key"].hex() if row["create_key"] is not None else None,
            )
            for row in self._tables["accounts"]
            if row["user_id"] in wanted
        ]  # fmt: skip

    def _payments(self, column: str, values: Sequence[bytes]) -> list[PaymentRow]:
        wanted = set(values)
        return [
            PaymentRow(*(row[name] for name in PaymentRow._fields))
            for row in self._tables["transactions"]
            if row[column] in wanted
        ]

    def find_payments(self, payment_ids: Sequence[bytes]) -> list[PaymentRow]:
        self._shard.before("find_payments")
        return self._payments("transaction_id", payment_ids)

    def find_keys(self, key_hashes: Sequence[bytes]) -> list[PaymentRow]:
        self._shard.before("find_keys")
        return self._payments("key_hash", key_hashes)

    def find_holds(self, payment_ids: Sequence[bytes]) -> list[HoldRow]:
        wanted = set(payment_ids)
        return [
            HoldRow(*(row[name] for name in HoldRow._fields))
            for row in self._tables["holds"]
            if row["payment_id"] in wanted
        ]

    def find_reviews(self, payment_ids: Sequence[bytes]) -> list[tuple[bytes, str]]:
        wanted = set(payment_ids)
        return [
            (row["payment_id"], row["state"])
            for row in self._tables["reviews"]
            if row["payment_id"] in wanted
        ]

    def applied_events(self, event_ids: Sequence[str]) -> set[str]:
        return {row["event_id"] for row in self._tables["applied_events"]} & set(event_ids)

    def open_payments_of(self, user_id: str) -> int:
        return sum(
            row["open_since"] is not None
            and row["from_user_id"] == user_id
            and row["role"] != "destination"
            for row in self._tables["transactions"]
        )

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._shard.before("insert")
        for values in rows:
            row = dict(zip(INSERT_COLUMNS[table], values, strict=True))
            self._require_unique(table, row)
            _check(table, row)
            row["id"] = self._next_id
            self._next_id += 1
            self._tables[table].append(row)

    def _require_unique(self, table: str, new: Row) -> None:
        for columns in _UNIQUE.get(table, ()):
            key = tuple(new[column] for column in columns)
            if None in key:
                continue
            if any(tuple(row[c] for c in columns) == key for row in self._tables[table]):
                raise DuplicateKey(f"UNIQUE {table} {columns}")

    def update(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> int:
        self._shard.before("update")
        keys = [values[: len(key)] for values in rows]
        if len(set(keys)) != len(keys):
            raise StoreError("two rows of one update have the same key")
        changed = 0
        for values in rows:
            new = dict(zip(columns, values[len(key) :], strict=True))
            for row in self._tables[table]:
                if tuple(row[name] for name in key) == values[: len(key)]:
                    row.update(new)
                    _check(table, row)
                    changed += 1
        return changed

    def complete_sources(self, payment_ids: Sequence[bytes], updated_at: int) -> int:
        wanted = set(payment_ids)
        changed = 0
        for row in self._tables["transactions"]:
            is_open = (row["role"], row["status"]) == ("source", "PENDING")
            if is_open and row["transaction_id"] in wanted:
                row.update(status="COMPLETED", open_since=None, updated_at=updated_at)
                changed += 1
        return changed

    def defer(self) -> None:
        """Every write is done at once."""

    def commit(self) -> None:
        self._shard.before("commit")
        self._shard.tables = self._tables
        self._shard.next_id = self._next_id
        self._shard.commits += 1
        self._shard.after_commit()

    def rollback(self) -> None:
        pass


def _check(table: str, row: Row) -> None:
    if table == "accounts" and not row["balance"] >= row["held"] >= 0:
        raise StoreError(f"CHECK available_not_negative {row['user_id']}")
    if table == "ledger_entries" and row["amount"] <= 0:
        raise StoreError("CHECK amount_positive")
