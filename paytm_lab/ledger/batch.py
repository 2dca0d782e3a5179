"""What one transaction on one shard knows and collects; ``evaluate`` and ``rules_*`` decide.

The writer loads the state, the rules read it and leave rows behind, the writer stores them. Rows
are plain tuples in the column order of ``schema.INSERT_COLUMNS``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paytm_lab.core import errors
from paytm_lab.core.events import PaymentData, encode
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import Credit, Outcome, Pay
from paytm_lab.ledger.schema import INSERT_COLUMNS
from paytm_lab.ports.shard_database import AccountRow, HoldRow, PaymentRow, ShardMeta

NO_DEBIT = {"frozen": "sender_frozen", "frozen_all": "sender_frozen", "closed": "sender_closed"}
Row = tuple[Any, ...]
# A row of ``transactions`` is a PaymentRow with this one more column, and the times at its end.
_OPEN_SINCE = INSERT_COLUMNS["transactions"].index("open_since")


class BatchState:
    """State and collected writes of one transaction on one shard. All times in microseconds."""

    def __init__(
        self,
        shard_id: int,
        meta: ShardMeta,
        now_us: int,
        accounts: Iterable[AccountRow] = (),
        payments: Iterable[PaymentRow] = (),
        keys: Iterable[PaymentRow] = (),
        holds: Iterable[HoldRow] = (),
        applied: Iterable[str] = (),
        reviews: Iterable[tuple[bytes, str]] = (),
        open_counts: dict[str, int] | None = None,
        freeze_blocks_credit: bool = False,
    ) -> None:
        self.shard_id = shard_id
        self.now_us = now_us
        # Later than every closed time S, so that a statement as of S never changes.
        self.stamp = max(now_us, meta.stamp + 1)
        self.map_version = meta.map_version
        self.freeze_state = "frozen_all" if freeze_blocks_credit else "frozen"
        self._owned = meta.owned_slots
        # What was read, kept up to date with what the operations so far have changed.
        self.accounts = {row.user_id: row for row in accounts}
        self.payments = {(row.transaction_id, row.role == "destination"): row for row in payments}
        self.keys = {row.key_hash: row for row in keys}
        self.holds = {row.payment_id: row for row in holds}
        self.applied = set(applied)
        self.reviews = dict(reviews)
        self.received: set[bytes] = set()  # payments whose destination row this batch writes
        self._open_counts = open_counts or {}
        # What is to be written.
        self.new_accounts: list[AccountRow] = []
        self.payment_rows: list[Row] = []
        self.entry_rows: list[Row] = []
        self.outbox_rows: list[Row] = []
        self.payment_updates: dict[bytes, Row] = {}
        self.completed: list[bytes] = []
        self.hold_rows: list[Row] = []
        self.hold_updates: dict[bytes, Row] = {}
        self.review_rows: dict[bytes, Row] = {}
        self.review_updates: dict[bytes, Row] = {}
        self.debt_rows: list[Row] = []
        self.applied_rows: list[Row] = []
        self.credential_rows: list[Row] = []

    # -- what is known ----------------------------------------------------------------------------

    def owns(self, slot: int) -> bool:
        """Whether the shard owns the slot; for a user of another one it answers "moved"."""
        return bool(self._owned[slot >> 3] >> (slot & 7) & 1)

    def source_row(self, payment_id: bytes) -> PaymentRow:
        """The source or local row; BadInput when this shard has none."""
        row = self.payments.get((payment_id, False))
        if row is None:
            raise errors.BadInput(
                f"payment {payment_id_text(payment_id)} is not known here",
                place=f"shard-{self.shard_id}",
            )
        return row

    def received_row(self, payment_id: bytes) -> PaymentRow | None:
        """The destination row, stored before or written by this very batch."""
        row = self.payments.get((payment_id, True))
        if row is None and payment_id in self.received:
            for new in self.payment_rows:
                if new[0] == payment_id and new[1] == "destination":
                    return _as_payment(new)
        return row

    def hold_row(self, payment_id: bytes) -> HoldRow:
        hold = self.holds.get(payment_id)
        if hold is None:
            raise errors.IntegrityError(
                f"payment {payment_id_text(payment_id)} is HELD without a hold",
                place=f"shard-{self.shard_id}",
            )
        return hold

    def sender_of(self, row: PaymentRow) -> AccountRow:
        sender = self.accounts.get(row.from_user_id)
        if sender is None:
            raise errors.IntegrityError(
                f"payment {payment_id_text(row.transaction_id)} has no sender account",
                place=f"shard-{self.shard_id}",
            )
        return sender

    def has_open_payments(self, user_id: str) -> bool:
        """Whether a payment of this user was open before the batch, or one became PENDING in it."""
        return self._open_counts.get(user_id, 0) > 0 or any(
            row[2] == user_id and row[6] == "PENDING" for row in self.payment_rows
        )

    # -- rows -------------------------------------------------------------------------------------

    def post(
        self, payment_id: bytes, user: AccountRow, direction: str, amount: int, stamp: int
    ) -> None:
        """Debit or credit a user: the balance and its entry."""
        user.balance += amount if direction == "credit" else -amount
        user.changed = True
        # An account made in this batch has no id yet; the writer puts it in once the row is there.
        self.entry_rows.append((payment_id, user.id or user, amount, direction, self.now_us, stamp))

    def post_system(
        self, payment_id: bytes, account_id: int, direction: str, amount: int, stamp: int
    ) -> None:
        """Debit or credit a system account, whose balance is nothing but its entries."""
        self.entry_rows.append((payment_id, account_id, amount, direction, self.now_us, stamp))

    def pay_row(
        self,
        op: Pay,
        role: str,
        status: str,
        reason: str = "",
        open_since: int | None = None,
        receivable: int = 0,
    ) -> None:
        """The source or local row. A key stands for it from here on, in this batch too."""
        now_us = self.now_us
        row: Row = (
            op.payment_id, role, op.from_user_id, op.to_user_id, op.amount, op.currency, status,
            reason, op.kind, self.shard_id, op.to_shard, op.map_version, self.stamp, op.occurred_at,
            op.key_hash, op.refund_of, receivable, open_since,
            op.fraud_decision, op.fraud_score, op.fraud_rule, now_us, now_us,
        )  # fmt: skip
        self.payment_rows.append(row)
        if op.key_hash is not None:
            self.keys[op.key_hash] = _as_payment(row)

    def destination_row(self, op: Credit, status: str, reason: str) -> None:
        now_us = self.now_us
        self.received.add(op.payment_id)
        self.payment_rows.append((
            op.payment_id, "destination", op.from_user_id, op.to_user_id, op.amount, op.currency,
            status, reason, op.kind, op.from_shard, self.shard_id, op.map_version, op.stamp,
            op.occurred_at, None, op.refund_of, op.receivable, None,
            op.fraud_decision, op.fraud_score, op.fraud_rule, now_us, now_us,
        ))  # fmt: skip

    # -- events -----------------------------------------------------------------------------------

    def pay_event(
        self,
        payment: str,
        event_type: str,
        op: Pay,
        reason: str = "",
        from_balance: int | None = None,
        to_balance: int | None = None,
        receivable: int = 0,
    ) -> None:
        """An event of a payment that this batch starts. Balances are those after it, in paise."""
        data = PaymentData(
            payment, op.from_user_id, op.to_user_id, op.amount, self.shard_id, op.to_shard,
            self.stamp, op.occurred_at, op.currency, op.kind, reason, from_balance, to_balance,
            id_text(op.refund_of), receivable,
            op.fraud_decision, op.fraud_score, op.fraud_rule,
        )  # fmt: skip
        self.outbox(event_type, payment, payment, encode(data), op.traceparent)

    def row_event(
        self,
        row: PaymentRow,
        event_type: str,
        amount: int,
        reason: str = "",
        from_balance: int | None = None,
        to_balance: int | None = None,
    ) -> None:
        """An event of a payment whose row was there before."""
        payment = payment_id_text(row.transaction_id)
        data = PaymentData(
            payment, row.from_user_id, row.to_user_id, amount, row.from_shard, row.to_shard,
            row.stamp, row.occurred_at, row.currency, row.kind, reason, from_balance, to_balance,
            id_text(row.refund_of), row.receivable,
            row.fraud_decision, row.fraud_score, row.fraud_rule,
        )  # fmt: skip
        self.outbox(event_type, payment, payment, encode(data))

    def outbox(
        self, event_type: str, payment: str, aggregate_id: str, data: bytes, traceparent: str = ""
    ) -> None:
        """The event's id derives from payment and type, so that a repeat is known as one."""
        self.outbox_rows.append(
            (
                f"{payment}.{event_type}",
                event_type,
                aggregate_id,
                data.decode(),
                self.now_us,
                traceparent,
            )
        )


def _as_payment(row: Row) -> PaymentRow:
    """A new row of ``transactions`` as it will be read back."""
    return PaymentRow(*row[:_OPEN_SINCE], *row[_OPEN_SINCE + 1 : len(PaymentRow._fields) + 1])


def id_text(payment_id: bytes | None) -> str:
    return "" if payment_id is None else payment_id_text(payment_id)


def outcome_of(row: PaymentRow, repeated: bool = False) -> Outcome:
    """What a stored payment row says to its caller."""
    return Outcome(
        row.status,
        row.reason,
        row.transaction_id,
        row.amount,
        row.stamp,
        None,
        row.from_shard,
        row.to_shard,
        row.receivable,
        repeated,
        from_user_id=row.from_user_id,
        to_user_id=row.to_user_id,
        kind=row.kind,
        occurred_at=row.occurred_at,
        refund_of=row.refund_of,
        fraud_decision=row.fraud_decision,
        fraud_score=row.fraud_score,
        fraud_rule=row.fraud_rule,
    )
