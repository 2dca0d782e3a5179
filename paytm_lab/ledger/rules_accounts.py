"""Accounts, the rules: created once, frozen, closed when nothing is left. See ``evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paytm_lab.core import errors
from paytm_lab.core.events import UserCreatedData, encode
from paytm_lab.core.ids import FUNDING, payment_id_text
from paytm_lab.ledger.batch import BatchState
from paytm_lab.ledger.operations import (
    MOVED,
    CreateAccount,
    Outcome,
    Pay,
    Result,
    SetAccountState,
)
from paytm_lab.ledger.schema import FUNDING_ID
from paytm_lab.ports.shard_database import AccountRow

if TYPE_CHECKING:
    from paytm_lab.ledger.evaluate import Batch


def create_account(batch: Batch, op: CreateAccount) -> Result:
    """Unique on its shard: the same key and terms get the first answer, anything else an error."""
    create_key = None if op.create_key is None else op.create_key.hex()
    account = batch.accounts.get(op.user_id)
    if account is not None:
        same = account.opening == op.opening and account.currency == op.currency
        if same and create_key is not None and account.create_key == create_key:
            return _created(batch, op, repeated=True)
        return errors.AccountExists(
            f"user {op.user_id!r} has an account already",
            remedy="Use another id; to repeat a creation, send its key and balance again.",
        )
    if not batch.owns(op.slot):
        return MOVED
    account = AccountRow(
        0, op.user_id, 0, 0, op.currency, "active", op.slot, op.opening, create_key
    )
    batch.accounts[op.user_id] = account
    batch.new_accounts.append(account)
    created = UserCreatedData(op.user_id, batch.shard_id, op.opening, op.currency)
    if op.credential is not None:
        known = (op.user_id, op.credential.password_hash, op.credential.permissions)
        batch.credential_rows.append((*known, 1, batch.now_us, batch.now_us))
    batch.outbox("UserCreated", payment_id_text(op.payment_id), op.user_id, encode(created))
    if op.opening:
        _fund(batch, op, account)
    return _created(batch, op, repeated=False)


def _created(batch: BatchState, op: CreateAccount, repeated: bool) -> Outcome:
    """``payment_id``: of the opening balance, which a repeat does not know."""
    shard, payment_id = batch.shard_id, b"" if repeated else op.payment_id
    stamp = 0 if repeated else batch.stamp
    return Outcome(
        "active", "", payment_id, op.opening, stamp, op.opening, shard, shard, repeated=repeated
    )


def _fund(batch: BatchState, op: CreateAccount, account: AccountRow) -> None:
    """The opening balance is a payment like any other, so that no money comes from nowhere."""
    funding = Pay(
        op.payment_id,
        FUNDING,
        op.user_id,
        op.opening,
        op.currency,
        op.slot,
        batch.shard_id,
        batch.map_version,
        batch.now_us,
        kind="funding",
    )
    payment = payment_id_text(op.payment_id)
    batch.post_system(op.payment_id, FUNDING_ID, "debit", op.opening, batch.stamp)
    batch.post(op.payment_id, account, "credit", op.opening, batch.stamp)
    batch.pay_row(funding, "local", "COMPLETED")
    batch.pay_event(payment, "PaymentInitiated", funding)
    batch.pay_event(payment, "PaymentCompleted", funding, to_balance=op.opening)


def set_account_state(batch: Batch, op: SetAccountState) -> Result:
    """A refused change is an outcome: the state as it stays, and the reason."""
    account = batch.accounts.get(op.user_id)
    if account is None:
        return errors.InvalidUserId(
            f"user {op.user_id!r} has no account", remedy="Create it first."
        )
    if op.state == account.state:
        return Outcome(account.state, "", balance=account.balance, repeated=True)
    if account.state == "closed":
        return Outcome("closed", "closed_for_good", balance=account.balance)
    reason = _close_refusal(batch, account) if op.state == "closed" else ""
    if not reason:
        account.state = op.state
        account.changed = True
    return Outcome(account.state, reason, balance=account.balance)


def _close_refusal(batch: BatchState, account: AccountRow) -> str:
    if account.balance:
        return "balance_not_zero"
    if account.held:
        return "holds_active"
    return "payments_pending" if batch.has_open_payments(account.user_id) else ""
