"""The money logic, pure: a batch of operations and the state they touch in, rows, outcomes out.

Nothing here reads a clock, a database or a random number. ``Batch`` is the state of one
transaction: the writer loads it, calls ``apply`` once per operation in arrival order, then writes
what it collected. The three legs of a payment are below; ``rules_holds``, ``rules_accounts`` and
``rules_reviews`` hold the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paytm_lab.core import errors
from paytm_lab.core.events import PaymentData, encode
from paytm_lab.core.ids import payment_id_text
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.ledger import rules_accounts, rules_holds, rules_reviews
from paytm_lab.ledger.batch import NO_DEBIT, BatchState, id_text, outcome_of
from paytm_lab.ledger.operations import (
    MOVED,
    ApplyFraud,
    Capture,
    Complete,
    CreateAccount,
    Credit,
    DecideReview,
    GiveBack,
    Operation,
    Outcome,
    Pay,
    Release,
    Result,
    Retarget,
    SetAccountState,
)
from paytm_lab.ledger.schema import IN_TRANSIT_ID_BASE, RECEIVABLE_ID
from paytm_lab.ports.shard_database import AccountRow, PaymentRow
from paytm_lab.routing.hashing import slot_of

# The one table of allowed state changes of a payment's source or local row ('' = no row yet).
TRANSITIONS: dict[str, frozenset[str]] = {
    "": frozenset({"HELD", "PENDING", "COMPLETED", "FAILED"}),
    "HELD": frozenset({"PENDING", "COMPLETED", "CANCELLED", "FAILED"}),
    "PENDING": frozenset({"COMPLETED", "FAILED"}),
    "COMPLETED": frozenset(),
    "FAILED": frozenset(),
    "CANCELLED": frozenset(),
}
OPEN_STATES = frozenset({"HELD", "PENDING"})


def require_transition(old: str, new: str, payment: bytes) -> None:
    """IllegalTransition unless the table allows ``old`` -> ``new``."""
    if new not in TRANSITIONS[old]:
        raise errors.IllegalTransition(
            f"payment {payment_id_text(payment)} may not go from {old or 'nothing'} to {new}"
        )


class Batch(BatchState):
    """One transaction on one shard, operation by operation."""

    def apply(self, operation: Operation) -> Result:
        """The outcome of one operation, given all before it. An error means it changed nothing."""
        try:
            return _RULES[type(operation)](self, operation)
        except errors.PaytmLabError as error:
            return error

    def move(self, row: PaymentRow, status: str, reason: str = "", role: str = "") -> PaymentRow:
        """Change a stored payment's state, as the table of transitions allows; its new row."""
        old = self.payments[row.transaction_id, False].status
        if old != status:
            require_transition(old, status, row.transaction_id)
        row = row._replace(status=status, reason=reason, role=role or row.role)
        self.payments[row.transaction_id, False] = row
        open_since = self.now_us if status in OPEN_STATES else None
        self.payment_updates[row.transaction_id] = (
            row.transaction_id, row.role, row.amount, status, reason, row.to_shard, row.map_version,
            row.stamp, open_since, self.now_us,
        )  # fmt: skip
        return row

    # -- leg (a), and same-shard payments ---------------------------------------------------------

    def _pay(self, op: Pay) -> Result:
        if op.key_hash is not None:
            row = self.keys.get(op.key_hash)
            if row is not None:
                return self._first_outcome(op, row, keyed=True)
        if self.payments:
            row = self.payments.get((op.payment_id, False))
            if row is not None:
                return self._first_outcome(op, row, keyed=False)
        if not self.owns(op.slot):
            return MOVED
        local = op.to_shard == self.shard_id
        sender = self.accounts.get(op.from_user_id)
        receiver = self.accounts.get(op.to_user_id) if local else None
        reason = op.refusal or self._debit_refusal(op, sender)
        if local and not op.hold and not reason:
            if self.has_moved(op.to_user_id, receiver):
                return MOVED
            reason = self.credit_refusal(receiver, op.amount, op.currency, op.kind)
        if reason or sender is None:
            return self._refuse(op, reason, local)
        if op.hold:
            return self._hold(op, sender, local)
        payment = payment_id_text(op.payment_id)
        owed = self._debit(op, sender)
        if receiver is None:
            transit = IN_TRANSIT_ID_BASE + op.to_shard
            self.post_system(op.payment_id, transit, "credit", op.amount, self.stamp)
            self.pay_row(op, "source", "PENDING", "", self.now_us, owed)
            self.pay_event(payment, "PaymentInitiated", op, "", sender.balance, None, owed)
            return self._paid(op, "PENDING", "", sender.balance, owed)
        self.post(op.payment_id, receiver, "credit", op.amount, self.stamp)
        self.pay_row(op, "local", "COMPLETED", "", None, owed)
        self.pay_event(payment, "PaymentInitiated", op, "", sender.balance, None, owed)
        self.pay_event(payment, "PaymentCompleted", op, "", None, receiver.balance, owed)
        return self._paid(op, "COMPLETED", "", sender.balance, owed)

    def _paid(
        self, op: Pay, status: str, reason: str = "", balance: int | None = None, owed: int = 0
    ) -> Outcome:
        return Outcome(
            status, reason, op.payment_id, op.amount, self.stamp, balance, self.shard_id,
            op.to_shard, owed, False, False, op.from_user_id, op.to_user_id, op.kind,
            op.occurred_at, op.refund_of, op.fraud_decision, op.fraud_score, op.fraud_rule,
        )  # fmt: skip

    def _first_outcome(self, op: Pay, row: PaymentRow, keyed: bool) -> Result:
        """A payment that exists answers as it stands, if it is the one that is asked for."""
        row = self._completed_here(self.payments.get((row.transaction_id, False), row))
        # What was asked for first: a part capture has since put its own amount into the row.
        hold = self.holds.get(row.transaction_id)
        asked = row.amount if hold is None else hold.amount
        if (row.from_user_id, row.to_user_id, asked, row.currency) == (
            op.from_user_id, op.to_user_id, op.amount, op.currency,
        ):  # fmt: skip
            return outcome_of(row, repeated=True)
        if keyed:
            return errors.IdempotencyConflict(
                f"this key already stands for payment {payment_id_text(row.transaction_id)}"
                f" with another receiver, amount or currency",
                remedy="Repeat the first request unchanged, or use a new key.",
            )
        return errors.FingerprintMismatch(
            f"payment {payment_id_text(op.payment_id)} exists with other contents",
            place=f"shard-{self.shard_id}",
        )

    def _debit_refusal(self, op: Pay, sender: AccountRow | None) -> str:
        if sender is None:
            return "unknown_sender"
        if op.kind == "refund":
            return ""  # takes what is available, frozen or not; the receivable pays the rest
        if sender.state != "active":
            return NO_DEBIT[sender.state]
        if sender.currency != op.currency:
            return "currency_mismatch"
        if sender.balance - sender.held < op.amount:
            return "insufficient_funds"
        return ""

    def credit_refusal(
        self, receiver: AccountRow | None, amount: int, currency: str, kind: str
    ) -> str:
        """Why this receiver may not be credited; '' when it may. Refunds always apply."""
        if receiver is None:
            return "unknown_receiver"
        if kind == "refund":
            return ""
        if receiver.state == "frozen_all":
            return "receiver_frozen"
        if receiver.state == "closed":
            return "receiver_closed"
        if receiver.currency != currency:
            return "currency_mismatch"
        if receiver.balance + amount > AMOUNT_PAISE_MAX:
            return "balance_limit"
        return ""

    def has_moved(self, user_id: str, account: AccountRow | None) -> bool:
        """Whether a user without account here belongs to another shard: never "missing", then."""
        return account is None and not self.owns(slot_of(user_id))

    def _debit(self, op: Pay, sender: AccountRow) -> int:
        """Take the amount from the sender. What a refund could not take comes from the receivable,
        against a debt; returns that part.
        """
        taken = op.amount if op.kind != "refund" else min(op.amount, sender.balance - sender.held)
        if taken:
            self.post(op.payment_id, sender, "debit", taken, self.stamp)
        owed = op.amount - taken
        if owed:
            self.post_system(op.payment_id, RECEIVABLE_ID, "debit", owed, self.stamp)
            self.debt_rows.append((op.payment_id, op.from_user_id, owed, "open", self.now_us))
        return owed

    def _refuse(self, op: Pay, reason: str, local: bool) -> Outcome:
        payment = payment_id_text(op.payment_id)
        self.pay_row(op, "local" if local else "source", "FAILED", reason)
        self.pay_event(payment, "PaymentInitiated", op)
        self.pay_event(payment, "PaymentFailed", op, reason)
        return self._paid(op, "FAILED", reason)

    def _hold(self, op: Pay, sender: AccountRow, local: bool) -> Outcome:
        self.pay_row(op, "local" if local else "source", "HELD", "", self.now_us)
        self.pay_event(payment_id_text(op.payment_id), "PaymentInitiated", op)
        rules_holds.reserve(self, op, sender)
        if op.fraud_decision == "review":
            rules_reviews.open_review(self, op.payment_id, "review", op.fraud_rule)
        return self._paid(op, "HELD", "", sender.balance)

    # -- leg (b) ----------------------------------------------------------------------------------

    def _credit(self, op: Credit) -> Result:
        if self.payments or op.payment_id in self.received:
            row = self.received_row(op.payment_id)
            if row is not None:
                return self._credited_before(op, row)
        if not self.owns(op.to_slot):
            return MOVED
        receiver = self.accounts.get(op.to_user_id)
        reason = self.credit_refusal(receiver, op.amount, op.currency, op.kind)
        if reason or receiver is None:
            self.destination_row(op, "FAILED", reason)
            return self._credited(op, "FAILED", reason, None)
        transit = IN_TRANSIT_ID_BASE + op.from_shard
        self.post_system(op.payment_id, transit, "debit", op.amount, op.stamp)
        self.post(op.payment_id, receiver, "credit", op.amount, op.stamp)
        self.destination_row(op, "COMPLETED", "")
        payment = payment_id_text(op.payment_id)
        data = PaymentData(
            payment, op.from_user_id, op.to_user_id, op.amount, op.from_shard, self.shard_id,
            op.stamp, op.occurred_at, op.currency, op.kind, "", op.from_balance, receiver.balance,
            id_text(op.refund_of), op.receivable,
            op.fraud_decision, op.fraud_score, op.fraud_rule,
        )  # fmt: skip
        self.outbox("PaymentCompleted", payment, payment, encode(data), op.traceparent)
        return self._credited(op, "COMPLETED", "", receiver.balance)

    def _credited(self, op: Credit, status: str, reason: str, balance: int | None) -> Outcome:
        here = self.shard_id
        return Outcome(
            status, reason, op.payment_id, op.amount, op.stamp, balance, op.from_shard, here
        )

    def _credited_before(self, op: Credit, row: PaymentRow) -> Result:
        if (row.from_user_id, row.to_user_id, row.amount, row.currency) != (
            op.from_user_id, op.to_user_id, op.amount, op.currency,
        ):  # fmt: skip
            return errors.FingerprintMismatch(
                f"payment {payment_id_text(op.payment_id)} was received with other contents",
                place=f"shard-{self.shard_id}",
            )
        return outcome_of(row, repeated=True)

    # -- leg (c) ----------------------------------------------------------------------------------

    def _complete(self, op: Complete) -> Outcome:
        # The statement that writes it changes only rows that are still PENDING: it needs no read.
        self.completed.append(op.payment_id)
        return Outcome("COMPLETED", "", op.payment_id)

    def _completed_here(self, row: PaymentRow) -> PaymentRow:
        """The source row, COMPLETED already when this very batch completes it."""
        if row.status == "PENDING" and row.transaction_id in self.completed:
            return row._replace(status="COMPLETED")
        return row

    def _give_back(self, op: GiveBack) -> Result:
        row = self._completed_here(self.source_row(op.payment_id))
        if row.status == "FAILED":
            return outcome_of(row, repeated=True)
        if row.status != "PENDING":  # nothing was debited, or it is with the receiver
            raise errors.IllegalTransition(
                f"payment {payment_id_text(op.payment_id)} is {row.status}: nothing to give back"
            )
        sender = self.sender_of(row)
        # Refunds are never refused (their receiver once paid): no receivable is to be undone here.
        stamp = self._leave_transit(row)
        self.post(op.payment_id, sender, "credit", row.amount, stamp)
        row = self.move(row, "FAILED", op.reason)
        self.row_event(row, "PaymentFailed", row.amount, op.reason, sender.balance)
        outcome = outcome_of(row)
        outcome.balance = sender.balance
        return outcome

    def _retarget(self, op: Retarget) -> Result:
        row = self._completed_here(self.source_row(op.payment_id))
        if row.status != "PENDING" or row.to_shard == op.to_shard:
            return outcome_of(row, repeated=True)
        moved = row._replace(to_shard=op.to_shard, map_version=op.map_version)
        if op.to_shard == self.shard_id:
            return self._end_here(row, moved)
        stamp = self._leave_transit(row)
        transit = IN_TRANSIT_ID_BASE + op.to_shard
        self.post_system(op.payment_id, transit, "credit", row.amount, stamp)
        return outcome_of(self.move(moved, "PENDING"))

    def _end_here(self, row: PaymentRow, moved: PaymentRow) -> Outcome:
        """The receiver's slot came to this very shard: the payment ends as a local one."""
        sender, receiver = self.sender_of(row), self.accounts.get(row.to_user_id)
        if self.has_moved(row.to_user_id, receiver):
            return MOVED
        reason = self.credit_refusal(receiver, row.amount, row.currency, row.kind)
        stamp = self._leave_transit(row)
        if reason or receiver is None:
            self.post(row.transaction_id, sender, "credit", row.amount, stamp)
            moved = self.move(moved, "FAILED", reason, "local")
            self.row_event(moved, "PaymentFailed", row.amount, reason, sender.balance)
        else:
            self.post(row.transaction_id, receiver, "credit", row.amount, stamp)
            moved = self.move(moved, "COMPLETED", "", "local")
            self.row_event(moved, "PaymentCompleted", row.amount, "", None, receiver.balance)
        return outcome_of(moved)

    def _leave_transit(self, row: PaymentRow) -> int:
        """The stamp of its going: never before its coming, whatever the clock says by now. As of a
        time between the two the money would be there twice.
        """
        stamp = max(self.stamp, row.stamp)
        transit = IN_TRANSIT_ID_BASE + row.to_shard
        self.post_system(row.transaction_id, transit, "debit", row.amount, stamp)
        return stamp


_RULES: dict[type, Callable[[Batch, Any], Result]] = {
    Pay: Batch._pay,
    Credit: Batch._credit,
    Complete: Batch._complete,
    GiveBack: Batch._give_back,
    Retarget: Batch._retarget,
    Capture: rules_holds.capture,
    Release: rules_holds.release,
    CreateAccount: rules_accounts.create_account,
    SetAccountState: rules_accounts.set_account_state,
    ApplyFraud: rules_reviews.apply_fraud,
    DecideReview: rules_reviews.decide_review,
}
