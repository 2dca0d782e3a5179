"""What a batch collected, written with as few statements as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paytm_lab.ledger.evaluate import Batch
from paytm_lab.ports.shard_database import ShardTransaction

_PAYMENT_SET = (
    "role",
    "amount",
    "status",
    "reason",
    "to_shard",
    "map_version",
    "stamp",
    "open_since",
    "updated_at",
)


def write(tx: ShardTransaction, batch: Batch) -> int:
    """Write what a batch collected, as few statements a table as it takes. How many rows."""
    now_us = batch.now_us
    rows = 0
    made = set(batch.new_accounts)
    if made:
        tx.insert(
            "accounts",
            [
                (a.user_id, a.balance, a.held, a.currency, a.state, a.slot, a.opening,
                 bytes.fromhex(a.create_key) if a.create_key is not None else None, now_us, now_us)
                for a in batch.new_accounts
            ],
        )  # fmt: skip
        rows += len(batch.new_accounts)
        _number_new_accounts(tx, batch)
    tx.defer()
    changed = [a for a in batch.accounts.values() if a.changed]
    if made:  # written whole just now
        changed = [a for a in changed if a not in made]
    if changed:
        rows += tx.update(
            "accounts",
            ("id",),
            ("balance", "held", "state", "updated_at"),
            [(a.id, a.balance, a.held, a.state, now_us) for a in changed],
        )
    inserts: tuple[tuple[str, Sequence[tuple[Any, ...]]], ...] = (
        ("transactions", batch.payment_rows),
        ("ledger_entries", batch.entry_rows),
        ("outbox_events", batch.outbox_rows),
        ("holds", batch.hold_rows),
        ("reviews", list(batch.review_rows.values())),
        ("debts", batch.debt_rows),
        ("credentials", batch.credential_rows),
        ("applied_events", batch.applied_rows),
    )
    for table, new in inserts:
        if new:
            tx.insert(table, new)
            rows += len(new)
    updates = (
        ("transactions", "transaction_id", _PAYMENT_SET, batch.payment_updates),
        ("holds", "payment_id", ("captured", "state", "updated_at"), batch.hold_updates),
        ("reviews", "payment_id", ("state", "decided_by", "updated_at"), batch.review_updates),
    )
    for table, key, columns, new_values in updates:
        if new_values:
            rows += tx.update(table, (key,), columns, list(new_values.values()))
    if batch.completed:
        rows += tx.complete_sources(batch.completed, now_us)
    return rows


def _number_new_accounts(tx: ShardTransaction, batch: Batch) -> None:
    """Give new accounts the ids that the database chose, and the rows that stand for them too."""
    ids = {row.user_id: row.id for row in tx.lock_accounts([a.user_id for a in batch.new_accounts])}
    for account in batch.new_accounts:
        account.id = ids[account.user_id]
    for rows in (batch.entry_rows, batch.hold_rows):
        rows[:] = [row if type(row[1]) is int else (row[0], row[1].id, *row[2:]) for row in rows]
