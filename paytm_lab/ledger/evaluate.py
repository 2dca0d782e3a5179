"""The money logic, pure: a batch of operations and the state they touch in, rows and outcomes out.

Nothing here reads a clock, a database or a random number. ``Batch`` is the state of one transaction:
the writer loads it, calls ``apply`` once per operation in arrival order, then writes what it collected.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paytm_lab.core import errors
from paytm_lab.core.events import PaymentData, UserCreatedData, encode
from paytm_lab.core.ids import payment_id_text
from paytm_lab.core.money import AMOUNT_PAISE_MAX
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
from paytm_lab.ledger.schema import FUNDING_ID, IN_TRANSIT_ID_BASE, RECEIVABLE_ID
from paytm_lab.ports.shard_database import AccountRow, HoldRow, PaymentRow, ShardMeta

# The one table of allowed state changes of a payment's source or local row ('' = no row yet).
TRANSITIONS: dict[str, frozenset[str]] = {
    "": frozenset({"HELD", "PENDING", "COMPLETED", "FAILED"}),
    "HELD": frozenset({"PENDING", "COMPLETED", "CANCELLED", "FAILED"}),
    "PENDING": frozenset({"COMPLETED", "FAILED"}),
    "COMPLETED": frozenset(),
    "FAILED": frozenset(),
    "CANCELLED": frozenset(),
}
REVIEW_TRANSITIONS: dict[str, frozenset[str]] = {
    "open": frozenset({"approved", "rejecting"}),
    "rejecting": frozenset({"rejected"}),
    "approved": frozenset(),
    "rejected": frozenset(),
}
OPEN_STATES = frozenset({"HELD", "PENDING"})
_NO_DEBIT = {"frozen": "sender_frozen", "frozen_all": "sender_frozen", "closed": "sender_closed"}


def require_transition(old: str, new: str, payment: bytes) -> None:
    """IllegalTransition unless the table allows ``old`` -> ``new``."""
    if new not in TRANSITIONS[old]:
        raise errors.IllegalTransition(
            f"payment {payment_id_text(payment)} may not go from {old or 'nothing'} to {new}"
        )


class Batch:
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
        self._owned = meta.owned_slots
        self.map_version = meta.map_version
        self.accounts = {row.user_id: row for row in accounts}
        self._payments: dict[tuple[bytes, bool], PaymentRow] = {}
        for row in payments:
            self._payments[row.transaction_id, row.role == "destination"] = row
        self._keys = {row.key_hash: row for row in keys}
        self._holds = {row.payment_id: row for row in holds}
        self._applied = set(applied)
        self._reviews = dict(reviews)
        self._open_counts = open_counts or {}
        self._freeze_state = "frozen_all" if freeze_blocks_credit else "frozen"
        self.new_accounts: list[AccountRow] = []
        self.payment_rows: list[tuple[Any, ...]] = []
        self.entry_rows: list[tuple[Any, ...]] = []
        self.outbox_rows: list[tuple[Any, ...]] = []
        self.payment_updates: dict[bytes, tuple[Any, ...]] = {}
        self.completed: list[bytes] = []
        self.hold_rows: list[tuple[Any, ...]] = []
        self.hold_updates: dict[bytes, tuple[Any, ...]] = {}
        self.review_rows: dict[bytes, tuple[Any, ...]] = {}
        self.review_updates: dict[bytes, tuple[Any, ...]] = {}
        self.debt_rows: list[tuple[Any, ...]] = []
        self.applied_rows: list[tuple[Any, ...]] = []
        self._handlers: dict[type, Any] = {
            Pay: self._pay,
            Credit: self._credit,
            Complete: self._complete,
            GiveBack: self._give_back,
            Retarget: self._retarget,
            Capture: self._capture,
            Release: self._release,
            CreateAccount: self._create_account,
            SetAccountState: self._set_account_state,
            ApplyFraud: self._apply_fraud,
            DecideReview: self._decide_review,
        }

    def apply(self, operation: Operation) -> Result:
        """The outcome of one operation given all before it. A named error means it changed nothing."""
        try:
            outcome: Result = self._handlers[type(operation)](operation)
        except errors.PaytmLabError as error:
            return error
        return outcome

    # -- leg (a), and same-shard payments ---------------------------------------------------------

    def _pay(self, op: Pay) -> Result:
        if op.key_hash is not None:
            row = self._keys.get(op.key_hash)
            if row is not None:
                return self._first_outcome(op, row, keyed=True)
        if self._payments:
            row = self._payments.get((op.payment_id, False))
            if row is not None:
                return self._first_outcome(op, row, keyed=False)
        if not self._owned[op.slot >> 3] >> (op.slot & 7) & 1:
            return MOVED
        local = op.to_shard == self.shard_id
        sender = self.accounts.get(op.from_user_id)
        receiver = self.accounts.get(op.to_user_id) if local else None
        reason = op.refusal or self._debit_refusal(op, sender)
        if not reason and local and not op.hold:
            reason = self._credit_refusal(receiver, op.amount, op.currency, op.kind)
        payment = payment_id_text(op.payment_id)
        if reason or sender is None:
            return self._refused(op, payment, reason, local)
        if op.hold:
            return self._hold(op, payment, sender, local)
        receivable = self._debit(op, sender)
        if not local:
            self._entry(
                op.payment_id, IN_TRANSIT_ID_BASE + op.to_shard, op.amount, "credit", self.stamp
            )
            self._pay_row(op, "source", "PENDING", "", self.now_us, receivable)
            self._event(
                payment, "PaymentInitiated", op, from_balance=sender.balance, receivable=receivable
            )
            status = "PENDING"
        else:
            if receiver is None:  # pragma: no cover - _credit_refusal answered 'unknown_receiver'
                raise errors.IntegrityError("a local payment lost its receiver")
            receiver.balance += op.amount
            receiver.changed = True
            self._entry(op.payment_id, receiver.id or receiver, op.amount, "credit", self.stamp)
            self._pay_row(op, "local", "COMPLETED", "", None, receivable)
            self._event(
                payment, "PaymentInitiated", op, from_balance=sender.balance, receivable=receivable
            )
            self._event(
                payment, "PaymentCompleted", op, to_balance=receiver.balance, receivable=receivable
            )
            status = "COMPLETED"
        return Outcome(
            status, "", op.payment_id, op.amount, self.stamp, sender.balance,
            self.shard_id, op.to_shard, receivable,
            occurred_at=op.occurred_at, refund_of=op.refund_of,
            from_user_id=op.from_user_id, to_user_id=op.to_user_id, kind=op.kind,
        )  # fmt: skip

    def _first_outcome(self, op: Pay, row: PaymentRow, keyed: bool) -> Result:
        same = (
            row.from_user_id == op.from_user_id
            and row.to_user_id == op.to_user_id
            and (row.amount == op.amount or self._authorised(row) == op.amount)
            and row.currency == op.currency
        )
        if same:
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

    def _authorised(self, row: PaymentRow) -> int:
        """The amount first asked for, which a part capture has since replaced in the row."""
        hold = self._holds.get(row.transaction_id)
        return hold.amount if hold is not None else row.amount

    def _debit_refusal(self, op: Pay, sender: AccountRow | None) -> str:
        if sender is None:
            return "unknown_sender"
        if op.kind == "refund":
            return ""  # takes what is available, frozen or not; the receivable pays the rest
        if sender.state != "active":
            return _NO_DEBIT[sender.state]
        if sender.currency != op.currency:
            return "currency_mismatch"
        if sender.balance - sender.held < op.amount:
            return "insufficient_funds"
        return ""

    def _credit_refusal(
        self, receiver: AccountRow | None, amount: int, currency: str, kind: str
    ) -> str:
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

    def _debit(self, op: Pay, sender: AccountRow) -> int:
        """Take the amount from the sender; what a refund could not take comes from the receivable."""
        taken = op.amount
        if op.kind == "refund":
            taken = min(op.amount, sender.balance - sender.held)
        if taken:
            sender.balance -= taken
            sender.changed = True
            self._entry(op.payment_id, sender.id or sender, taken, "debit", self.stamp)
        owed = op.amount - taken
        if owed:
            self._entry(op.payment_id, RECEIVABLE_ID, owed, "debit", self.stamp)
            self.debt_rows.append((op.payment_id, op.from_user_id, owed, "open", self.now_us))
        return owed

    def _refused(self, op: Pay, payment: str, reason: str, local: bool) -> Outcome:
        self._pay_row(op, "local" if local else "source", "FAILED", reason, None)
        self._event(payment, "PaymentInitiated", op)
        self._event(payment, "PaymentFailed", op, reason=reason)
        return Outcome(
            "FAILED", reason, op.payment_id, op.amount, self.stamp, None, self.shard_id, op.to_shard,
            from_user_id=op.from_user_id, to_user_id=op.to_user_id, kind=op.kind,
        )  # fmt: skip

    def _hold(self, op: Pay, payment: str, sender: AccountRow, local: bool) -> Outcome:
        sender.held += op.amount
        sender.changed = True
        self.hold_rows.append(
            (
                op.payment_id,
                sender.id or sender,
                op.amount,
                0,
                "active",
                op.expires_at,
                self.now_us,
                self.now_us,
            )
        )
        self._pay_row(op, "local" if local else "source", "HELD", "", self.now_us)
        self._event(payment, "PaymentInitiated", op)
        if op.fraud_decision == "review":
            self.review_rows[op.payment_id] = (
                op.payment_id, "open", "review", op.fraud_rule, "", self.now_us, self.now_us,
            )  # fmt: skip
        return Outcome(
            "HELD", "", op.payment_id, op.amount, self.stamp, sender.balance, self.shard_id, op.to_shard,
            from_user_id=op.from_user_id, to_user_id=op.to_user_id, kind=op.kind,
        )  # fmt: skip

    # -- leg (b) ----------------------------------------------------------------------------------

    def _credit(self, op: Credit) -> Result:
        if self._payments:
            row = self._payments.get((op.payment_id, True))
            if row is not None:
                return self._credited_before(op, row)
        if not self._owned[op.to_slot >> 3] >> (op.to_slot & 7) & 1:
            return MOVED
        receiver = self.accounts.get(op.to_user_id)
        reason = self._credit_refusal(receiver, op.amount, op.currency, op.kind)
        if reason or receiver is None:
            self._destination_row(op, "FAILED", reason)
            return self._credit_outcome(op, "FAILED", reason, None)
        receiver.balance += op.amount
        receiver.changed = True
        self._entry(op.payment_id, IN_TRANSIT_ID_BASE + op.from_shard, op.amount, "debit", op.stamp)
        self._entry(op.payment_id, receiver.id or receiver, op.amount, "credit", op.stamp)
        self._destination_row(op, "COMPLETED", "")
        data = PaymentData(
            payment_id_text(op.payment_id), op.from_user_id, op.to_user_id, op.amount, op.from_shard,
            self.shard_id, op.stamp, op.occurred_at, op.currency, op.kind, "", op.from_balance,
            receiver.balance, _text(op.refund_of), op.receivable, op.fraud_decision, op.fraud_score,
        )  # fmt: skip
        self._outbox(data, "PaymentCompleted", op.traceparent)
        return self._credit_outcome(op, "COMPLETED", "", receiver.balance)

    def _credited_before(self, op: Credit, row: PaymentRow) -> Result:
        if (row.from_user_id, row.to_user_id, row.amount, row.currency) != (
            op.from_user_id, op.to_user_id, op.amount, op.currency,
        ):  # fmt: skip
            return errors.FingerprintMismatch(
                f"payment {payment_id_text(op.payment_id)} was received with other contents",
                place=f"shard-{self.shard_id}",
            )
        return outcome_of(row, repeated=True)

    def _credit_outcome(self, op: Credit, status: str, reason: str, balance: int | None) -> Outcome:
        return Outcome(
            status,
            reason,
            op.payment_id,
            op.amount,
            op.stamp,
            balance,
            op.from_shard,
            self.shard_id,
        )

    def _destination_row(self, op: Credit, status: str, reason: str) -> None:
        self.payment_rows.append((
            op.payment_id, "destination", op.from_user_id, op.to_user_id, op.amount, op.currency, status,
            reason, op.kind, op.from_shard, self.shard_id, op.map_version, op.stamp, op.occurred_at, None,
            op.refund_of, op.receivable, None, op.fraud_decision, op.fraud_score, self.now_us, self.now_us,
        ))  # fmt: skip

    # -- leg (c) ----------------------------------------------------------------------------------

    def _complete(self, op: Complete) -> Outcome:
        # The statement that writes it changes only rows that are still PENDING, so it needs no read.
        self.completed.append(op.payment_id)
        return Outcome("COMPLETED", "", op.payment_id)

    def _give_back(self, op: GiveBack) -> Result:
        row = self._source_row(op.payment_id)
        if row.status == "FAILED":
            return outcome_of(row, repeated=True)
        if row.status != "PENDING":
            require_transition(row.status, "FAILED", op.payment_id)
        sender = self._sender(row)
        # Refunds are never refused (their receiver once paid), so no receivable is to be undone here.
        sender.balance += row.amount
        sender.changed = True
        self._entry(
            op.payment_id, IN_TRANSIT_ID_BASE + row.to_shard, row.amount, "debit", self.stamp
        )
        self._entry(op.payment_id, sender.id or sender, row.amount, "credit", self.stamp)
        self._move(row, "FAILED", reason=op.reason)
        self._row_event(
            row, "PaymentFailed", row.amount, reason=op.reason, from_balance=sender.balance
        )
        return Outcome(
            "FAILED", op.reason, op.payment_id, row.amount, row.stamp, sender.balance,
            row.from_shard, row.to_shard,
            from_user_id=row.from_user_id, to_user_id=row.to_user_id, kind=row.kind,
        )  # fmt: skip

    def _retarget(self, op: Retarget) -> Result:
        row = self._source_row(op.payment_id)
        if row.status != "PENDING" or row.to_shard == op.to_shard:
            return outcome_of(row, repeated=True)
        self._entry(
            op.payment_id, IN_TRANSIT_ID_BASE + row.to_shard, row.amount, "debit", self.stamp
        )
        moved = row._replace(to_shard=op.to_shard, map_version=op.map_version)
        if op.to_shard != self.shard_id:
            self._entry(
                op.payment_id, IN_TRANSIT_ID_BASE + op.to_shard, row.amount, "credit", self.stamp
            )
            self._move(moved, "PENDING")
            return outcome_of(moved)
        # The receiver's slot came to this very shard: the payment ends here as a local one.
        receiver = self.accounts.get(row.to_user_id)
        reason = self._credit_refusal(receiver, row.amount, row.currency, row.kind)
        target = self._sender(row) if reason or receiver is None else receiver
        target.balance += row.amount
        target.changed = True
        self._entry(op.payment_id, target.id or target, row.amount, "credit", self.stamp)
        if reason:
            self._move(moved, "FAILED", reason=reason, role="local")
            self._row_event(
                moved, "PaymentFailed", row.amount, reason=reason, from_balance=target.balance
            )
        else:
            self._move(moved, "COMPLETED", role="local")
            self._row_event(moved, "PaymentCompleted", row.amount, to_balance=target.balance)
        return outcome_of(self._payments[op.payment_id, False])

    # -- holds ------------------------------------------------------------------------------------

    def _capture(self, op: Capture) -> Result:
        row = self._source_row(op.payment_id)
        if row.status != "HELD":
            return outcome_of(row, repeated=True)
        hold = self._hold_row(op.payment_id)
        sender = self._sender(row)
        amount = hold.amount if op.amount is None else op.amount
        if amount > hold.amount:
            return errors.InvalidAmount(
                f"{amount} paise is more than the {hold.amount} paise held",
                remedy="Capture at most the hold.",
            )
        if self.now_us >= hold.expires_at:
            return self._end_hold(row, hold, sender, "expired")
        if sender.state != "active":
            return outcome_of(row._replace(reason=_NO_DEBIT[sender.state]))
        local = op.to_shard == self.shard_id
        receiver = self.accounts.get(row.to_user_id) if local else None
        reason = self._credit_refusal(receiver, amount, row.currency, row.kind) if local else ""
        if reason:
            self._close_hold(hold, sender, "released", 0)
            self._move(row, "FAILED", reason=reason)
            self._row_event(row, "PaymentFailed", row.amount, reason=reason)
            return outcome_of(self._payments[op.payment_id, False])
        self._close_hold(hold, sender, "captured", amount)
        sender.balance -= amount
        self._entry(op.payment_id, sender.id or sender, amount, "debit", self.stamp)
        row = row._replace(
            amount=amount, stamp=self.stamp, to_shard=op.to_shard, map_version=op.map_version
        )
        if receiver is None:
            self._entry(
                op.payment_id, IN_TRANSIT_ID_BASE + op.to_shard, amount, "credit", self.stamp
            )
            self._move(row, "PENDING", role="source")
        else:
            receiver.balance += amount
            receiver.changed = True
            self._entry(op.payment_id, receiver.id or receiver, amount, "credit", self.stamp)
            self._move(row, "COMPLETED", role="local")
            self._row_event(
                row,
                "PaymentCompleted",
                amount,
                from_balance=sender.balance,
                to_balance=receiver.balance,
            )
        outcome = outcome_of(self._payments[op.payment_id, False])
        outcome.balance = sender.balance
        return outcome

    def _release(self, op: Release) -> Result:
        row = self._source_row(op.payment_id)
        if row.status != "HELD":
            return outcome_of(row, repeated=True)
        hold = self._hold_row(op.payment_id)
        if op.reason == "expired" and self.now_us < hold.expires_at:
            return outcome_of(row)
        return self._end_hold(row, hold, self._sender(row), op.reason)

    def _end_hold(self, row: PaymentRow, hold: HoldRow, sender: AccountRow, reason: str) -> Outcome:
        self._close_hold(hold, sender, "released", 0)
        self._move(row, "CANCELLED", reason=reason)
        self._row_event(row, "PaymentCancelled", row.amount, reason=reason)
        outcome = outcome_of(self._payments[row.transaction_id, False])
        outcome.balance = sender.balance
        return outcome

    def _close_hold(self, hold: HoldRow, sender: AccountRow, state: str, captured: int) -> None:
        sender.held -= hold.amount
        sender.changed = True
        self._holds[hold.payment_id] = hold._replace(state=state, captured=captured)
        self.hold_updates[hold.payment_id] = (hold.payment_id, captured, state, self.now_us)

    # -- accounts, fraud answers, reviews ---------------------------------------------------------

    def _create_account(self, op: CreateAccount) -> Result:
        account = self.accounts.get(op.user_id)
        if account is not None:
            same = account.opening == op.opening and account.currency == op.currency
            if same and op.create_key is not None and account.create_key == op.create_key.hex():
                return Outcome(account.state, "", balance=account.balance, repeated=True)
            return errors.AccountExists(
                f"user {op.user_id!r} has an account already",
                remedy="Use another id, or the same key and balance.",
            )
        if not self._owned[op.slot >> 3] >> (op.slot & 7) & 1:
            return MOVED
        account = AccountRow(
            0, op.user_id, op.opening, 0, op.currency, "active", op.slot, op.opening,
            op.create_key.hex() if op.create_key is not None else None,
        )  # fmt: skip
        self.accounts[op.user_id] = account
        self.new_accounts.append(account)
        created = encode(UserCreatedData(op.user_id, self.shard_id, op.opening, op.currency))
        self.outbox_rows.append(
            (
                f"{payment_id_text(op.payment_id)}.UserCreated",
                "UserCreated",
                op.user_id,
                created.decode(),
                self.now_us,
                "",
            )
        )
        if op.opening:
            funding = Pay(
                op.payment_id, "system:funding", op.user_id, op.opening, op.currency, op.slot,
                self.shard_id, self.map_version, self.now_us, kind="funding",
            )  # fmt: skip
            payment = payment_id_text(op.payment_id)
            self._entry(op.payment_id, FUNDING_ID, op.opening, "debit", self.stamp)
            self._pay_row(funding, "local", "COMPLETED", "", None)
            self._entry(op.payment_id, account, op.opening, "credit", self.stamp)
            self._event(payment, "PaymentInitiated", funding)
            self._event(payment, "PaymentCompleted", funding, to_balance=op.opening)
        return Outcome(
            "active",
            "",
            op.payment_id,
            op.opening,
            self.stamp,
            op.opening,
            self.shard_id,
            self.shard_id,
        )

    def _set_account_state(self, op: SetAccountState) -> Result:
        account = self.accounts.get(op.user_id)
        if account is None:
            return errors.InvalidUserId(
                f"user {op.user_id!r} has no account", remedy="Create it first."
            )
        if op.state == account.state:
            return Outcome(account.state, "", balance=account.balance, repeated=True)
        if account.state == "closed":
            return Outcome("closed", "closed_for_good", balance=account.balance)
        if op.state == "closed":
            reason = (
                "balance_not_zero" if account.balance
                else "holds_active" if account.held
                else "payments_pending" if self._open_counts.get(op.user_id, 0)
                else ""
            )  # fmt: skip
            if reason:
                return Outcome(account.state, reason, balance=account.balance)
        account.state = op.state
        account.changed = True
        return Outcome(account.state, "", balance=account.balance)

    def _apply_fraud(self, op: ApplyFraud) -> Result:
        if op.event_id in self._applied:
            return Outcome("applied", "", op.payment_id, repeated=True)
        row = self._source_row(op.payment_id)
        self._applied.add(op.event_id)
        self.applied_rows.append((op.event_id, self.now_us))
        if op.payment_id not in self._reviews and op.payment_id not in self.review_rows:
            self.review_rows[op.payment_id] = (
                op.payment_id, "open", op.decision, op.rule, "", self.now_us, self.now_us,
            )  # fmt: skip
        if op.decision == "block":
            sender = self._sender(row)
            if sender.state == "active" or (
                sender.state == "frozen" and self._freeze_state == "frozen_all"
            ):
                sender.state = self._freeze_state
                sender.changed = True
        return Outcome("applied", "", op.payment_id)

    def _decide_review(self, op: DecideReview) -> Result:
        state = self._reviews.get(op.payment_id)
        if state is None and op.payment_id in self.review_rows:
            state = "open"
        if state is None:
            return errors.BadInput(
                f"payment {payment_id_text(op.payment_id)} has no review",
                remedy="List the open reviews.",
            )
        row = self._source_row(op.payment_id)
        if state == op.state:
            return outcome_of(row, repeated=True)
        if op.state not in REVIEW_TRANSITIONS[state]:
            return errors.Conflict(
                f"the review of payment {payment_id_text(op.payment_id)} is {state} already",
                remedy=f"It can not become {op.state}.",
            )
        self._reviews[op.payment_id] = op.state
        self.review_updates[op.payment_id] = (op.payment_id, op.state, op.decided_by, self.now_us)
        return outcome_of(row)

    # -- rows -------------------------------------------------------------------------------------

    def _source_row(self, payment_id: bytes) -> PaymentRow:
        row = self._payments.get((payment_id, False))
        if row is None:
            raise errors.BadInput(
                f"payment {payment_id_text(payment_id)} is not known here",
                place=f"shard-{self.shard_id}",
            )
        return row

    def _hold_row(self, payment_id: bytes) -> HoldRow:
        hold = self._holds.get(payment_id)
        if hold is None:
            raise errors.IntegrityError(
                f"payment {payment_id_text(payment_id)} is HELD without a hold",
                place=f"shard-{self.shard_id}",
            )
        return hold

    def _sender(self, row: PaymentRow) -> AccountRow:
        sender = self.accounts.get(row.from_user_id)
        if sender is None:
            raise errors.IntegrityError(
                f"payment {payment_id_text(row.transaction_id)} has no sender account",
                place=f"shard-{self.shard_id}",
            )
        return sender

    def _entry(
        self, payment_id: bytes, account: int | AccountRow, amount: int, direction: str, stamp: int
    ) -> None:
        # An account made in this batch has no id yet; the writer puts it in once the row is there.
        self.entry_rows.append((payment_id, account, amount, direction, self.now_us, stamp))

    def _pay_row(
        self,
        op: Pay,
        role: str,
        status: str,
        reason: str,
        open_since: int | None,
        receivable: int = 0,
    ) -> None:
        self.payment_rows.append((
            op.payment_id, role, op.from_user_id, op.to_user_id, op.amount, op.currency, status, reason,
            op.kind, self.shard_id, op.to_shard, op.map_version, self.stamp, op.occurred_at, op.key_hash,
            op.refund_of, receivable, open_since, op.fraud_decision, op.fraud_score, self.now_us, self.now_us,
        ))  # fmt: skip
        if op.key_hash is not None:
            self._keys[op.key_hash] = PaymentRow(
                op.payment_id, role, op.from_user_id, op.to_user_id, op.amount, op.currency, status, reason,
                op.kind, self.shard_id, op.to_shard, op.map_version, self.stamp, op.occurred_at,
                op.key_hash, op.refund_of, receivable,
            )  # fmt: skip

    def _move(self, row: PaymentRow, status: str, reason: str = "", role: str = "") -> None:
        """Change a stored payment's state, through the table of transitions."""
        old = self._payments[row.transaction_id, False].status
        if old != status:
            require_transition(old, status, row.transaction_id)
        row = row._replace(status=status, reason=reason, role=role or row.role)
        self._payments[row.transaction_id, False] = row
        open_since = self.now_us if status in OPEN_STATES else None
        self.payment_updates[row.transaction_id] = (
            row.transaction_id, row.role, row.amount, status, reason, row.to_shard, row.map_version,
            row.stamp, open_since, self.now_us,
        )  # fmt: skip

    def _event(
        self,
        payment: str,
        event_type: str,
        op: Pay,
        reason: str = "",
        from_balance: int | None = None,
        to_balance: int | None = None,
        receivable: int = 0,
    ) -> None:
        data = PaymentData(
            payment, op.from_user_id, op.to_user_id, op.amount, self.shard_id, op.to_shard, self.stamp,
            op.occurred_at, op.currency, op.kind, reason, from_balance, to_balance, _text(op.refund_of),
            receivable, op.fraud_decision, op.fraud_score,
        )  # fmt: skip
        self._outbox(data, event_type, op.traceparent)

    def _row_event(
        self,
        row: PaymentRow,
        event_type: str,
        amount: int,
        reason: str = "",
        from_balance: int | None = None,
        to_balance: int | None = None,
    ) -> None:
        data = PaymentData(
            payment_id_text(row.transaction_id), row.from_user_id, row.to_user_id, amount, row.from_shard,
            row.to_shard, row.stamp, row.occurred_at, row.currency, row.kind, reason, from_balance,
            to_balance, _text(row.refund_of), row.receivable, row.fraud_decision, row.fraud_score,
        )  # fmt: skip
        self._outbox(data, event_type, "")

    def _outbox(self, data: PaymentData, event_type: str, traceparent: str) -> None:
        payment = data.payment_id
        self.outbox_rows.append(
            (
                f"{payment}.{event_type}",
                event_type,
                payment,
                encode(data).decode(),
                self.now_us,
                traceparent,
            )
        )


def _text(payment_id: bytes | None) -> str:
    return "" if payment_id is None else payment_id_text(payment_id)


def outcome_of(row: PaymentRow, repeated: bool = False) -> Outcome:
    """What a stored payment row says to its caller."""
    return Outcome(
        row.status, row.reason, row.transaction_id, row.amount, row.stamp, None, row.from_shard, row.to_shard,
        receivable=row.receivable, repeated=repeated, from_user_id=row.from_user_id,
        to_user_id=row.to_user_id, kind=row.kind, occurred_at=row.occurred_at, refund_of=row.refund_of,
    )  # fmt: skip
