"""One shard's database. The ledger's single writer, its readers and the outbox relay use it.

New rows cross this port as plain tuples in the column order of ``ledger/schema.py``
(``INSERT_COLUMNS``), because the writer's hot path handles thousands of them a second. All driver
errors arrive as ``core.errors.StoreError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection


class ShardMeta(NamedTuple):
    """The shard's single meta row. ``stamp``: no new payment may be stamped at or below it.
    ``owned_slots``: 128 bytes, bit ``s % 8`` of byte ``s // 8`` is set when the shard owns slot s.
    """

    stamp: int
    map_version: int
    owned_slots: bytes


class AccountRow(msgspec.Struct, array_like=True, gc=False, eq=False):
    """``state``: active | frozen (no debits) | frozen_all (no credits either) | closed. Paise are
    ints; ``create_key`` is hex. A struct that can be decoded whole from a JSON array, and that the
    ledger then changes in place: thousands of them pass here a second.
    """

    id: int
    user_id: str
    balance: int
    held: int
    currency: str
    state: str
    slot: int
    opening: int
    create_key: str | None
    changed: bool = False


class PaymentRow(NamedTuple):
    """A row of ``transactions``. Its id, ``key_hash`` and ``refund_of`` are 16 bytes or None."""

    transaction_id: bytes
    role: str
    from_user_id: str
    to_user_id: str
    amount: int
    currency: str
    status: str
    reason: str
    kind: str
    from_shard: int
    to_shard: int
    map_version: int
    stamp: int
    occurred_at: int
    key_hash: bytes | None
    refund_of: bytes | None
    receivable: int = 0
    fraud_decision: str = ""
    fraud_score: float | None = None
    fraud_rule: str = ""


class HoldRow(NamedTuple):
    """A row of ``holds``. ``state``: active | captured | released. ``expires_at``: microseconds."""

    payment_id: bytes
    account_id: int
    amount: int
    captured: int
    state: str
    expires_at: int


class OutboxRow(NamedTuple):
    """``event_data``: the event's ``data`` as JSON text. ``created_at``: us since 1970 UTC."""

    id: int
    event_id: str
    event_type: str
    aggregate_id: str
    event_data: str
    created_at: int
    traceparent: str


class ShardTransaction(Protocol):
    """One open read-write transaction, READ COMMITTED: reads see what others have committed.

    Every method may raise a TransientStoreError; then call ``rollback`` and perhaps try again.
    """

    def meta(self) -> ShardMeta:
        """The meta row; it stays as it is until the transaction ends. Other writers may read it."""

    def lock_accounts(self, user_ids: Sequence[str]) -> list[AccountRow]:
        """The accounts that exist among ``user_ids`` (no duplicates). They are locked in one fixed
        order and returned in any.
        """

    def find_payments(self, payment_ids: Sequence[bytes]) -> list[PaymentRow]:
        """All rows (any role) of these payments that exist on this shard."""

    def find_keys(self, key_hashes: Sequence[bytes]) -> list[PaymentRow]:
        """The payments posted under these idempotency keys on this shard."""

    def find_holds(self, payment_ids: Sequence[bytes]) -> list[HoldRow]:
        """The holds of these payments that exist on this shard."""

    def find_reviews(self, payment_ids: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """(payment id, state) of the reviews of these payments that exist on this shard."""

    def applied_events(self, event_ids: Sequence[str]) -> set[str]:
        """Which of these event ids were applied here before."""

    def open_payments_of(self, user_id: str) -> int:
        """How many PENDING or HELD payments this user has as sender on this shard."""

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert tuples in the order of ``INSERT_COLUMNS[table]``. DuplicateKey when one exists."""

    def update(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> int:
        """Set ``columns`` where ``key`` columns match; returns how many rows changed.

        Each row is (*key values, *new values); no two may have the same key. Column names come from
        the ledger's code, never from users.
        """

    def complete_sources(self, payment_ids: Sequence[bytes], updated_at: int) -> int:
        """Make the source rows among these that are still PENDING COMPLETED. Rows changed."""

    def defer(self) -> None:
        """Nothing more will be read: writes from here on may be kept back and sent together with
        the commit. Then ``commit`` raises their errors, and a number of rows is the number asked
        for. ``rollback`` drops them.
        """

    def commit(self) -> None:
        """Durable when it returns. CommitOutcomeLost: it may or may not have happened."""

    def rollback(self) -> None:
        """End the transaction without effect; never raises, and is harmless after commit."""


class ShardDatabase(Protocol):
    shard_id: int

    def begin(self) -> ShardTransaction:
        """Open a transaction for one thread. ConnectionLost, ShardUnavailable: shard is away."""

    def read(self) -> AbstractContextManager[Connection]:
        """A read-only SQLAlchemy connection; one snapshot until it is closed. Blocks no writer."""

    def read_outbox(self, rows_max: int) -> list[OutboxRow]:
        """The oldest committed outbox rows in id order; takes no lock."""

    def delete_outbox(self, row_ids: Sequence[int]) -> None:
        """Delete these rows, durably; ids that are gone already are no error."""

    def outbox_rows(self) -> int:
        """How many outbox rows wait; maybe a few rows off, but never zero when rows wait."""

    def stored_bytes(self) -> int:
        """What tables and indexes take, in bytes of whole pages; logs are not counted."""

    def ping(self) -> float:
        """Milliseconds of one round trip; ShardUnavailable when the shard does not answer."""

    def close(self) -> None:
        """Release connections and files. Harmless when called twice."""
