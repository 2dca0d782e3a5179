"""Holds, the rules: reserve, then one capture (all or a part) or a release. See ``evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paytm_lab.core import errors
from paytm_lab.ledger.batch import NO_DEBIT, BatchState, outcome_of
from paytm_lab.ledger.operations import MOVED, Capture, Outcome, Pay, Release, Result
from paytm_lab.ledger.schema import IN_TRANSIT_ID_BASE
from paytm_lab.ports.shard_database import AccountRow, HoldRow, PaymentRow

if TYPE_CHECKING:
    from paytm_lab.ledger.evaluate import Batch


def reserve(batch: BatchState, op: Pay, sender: AccountRow) -> None:
    """Part of the balance is no longer available; nothing is posted."""
    sender.held += op.amount
    sender.changed = True
    now_us = batch.now_us
    batch.hold_rows.append(
        (op.payment_id, sender.id or sender, op.amount, 0, "active", op.expires_at, now_us, now_us)
    )


def capture(batch: Batch, op: Capture) -> Result:
    """Post the hold. One past its time ends it instead; a frozen sender leaves it as it is."""
    row = batch.source_row(op.payment_id)
    if row.status != "HELD":
        return outcome_of(row, repeated=True)
    hold = batch.hold_row(op.payment_id)
    sender = batch.sender_of(row)
    amount = hold.amount if op.amount is None else op.amount
    if not 0 < amount <= hold.amount:
        return errors.InvalidAmount(
            f"{amount} paise of a hold of {hold.amount} paise",
            remedy="Capture at least one paisa and at most the hold.",
        )
    if batch.now_us >= hold.expires_at:
        return _cancel(batch, row, hold, sender, "expired")
    if batch.reviews.get(op.payment_id, "approved") != "approved":
        return outcome_of(row._replace(reason="under_review"))  # the reviewer's word comes first
    if sender.state != "active":
        return outcome_of(row._replace(reason=NO_DEBIT[sender.state]))
    local = op.to_shard == batch.shard_id
    receiver = batch.accounts.get(row.to_user_id) if local else None
    if local:
        if batch.has_moved(row.to_user_id, receiver):
            return MOVED
        reason = batch.credit_refusal(receiver, amount, row.currency, row.kind)
        if reason:
            _close(batch, hold, sender, "released", 0)
            row = batch.move(row, "FAILED", reason)
            batch.row_event(row, "PaymentFailed", row.amount, reason)
            return outcome_of(row)
    _close(batch, hold, sender, "captured", amount)
    batch.post(op.payment_id, sender, "debit", amount, batch.stamp)
    # The money moves now, so the payment's stamp is this batch's and no longer the hold's.
    row = row._replace(
        amount=amount, stamp=batch.stamp, to_shard=op.to_shard, map_version=op.map_version
    )
    if receiver is None:
        transit = IN_TRANSIT_ID_BASE + op.to_shard
        batch.post_system(op.payment_id, transit, "credit", amount, batch.stamp)
        row = batch.move(row, "PENDING", "", "source")
    else:
        batch.post(op.payment_id, receiver, "credit", amount, batch.stamp)
        row = batch.move(row, "COMPLETED", "", "local")
        batch.row_event(row, "PaymentCompleted", amount, "", sender.balance, receiver.balance)
    outcome = outcome_of(row)
    outcome.balance = sender.balance
    return outcome


def release(batch: Batch, op: Release) -> Result:
    """End the hold without posting, frozen sender or not. "expired" only from ``expires_at`` on."""
    row = batch.source_row(op.payment_id)
    if row.status != "HELD":
        return outcome_of(row, repeated=True)
    hold = batch.hold_row(op.payment_id)
    if op.reason == "expired" and batch.now_us < hold.expires_at:
        return outcome_of(row)
    return _cancel(batch, row, hold, batch.sender_of(row), op.reason)


def _cancel(
    batch: Batch, row: PaymentRow, hold: HoldRow, sender: AccountRow, reason: str
) -> Outcome:
    _close(batch, hold, sender, "released", 0)
    row = batch.move(row, "CANCELLED", reason)
    batch.row_event(row, "PaymentCancelled", row.amount, reason)
    outcome = outcome_of(row)
    outcome.balance = sender.balance
    return outcome


def _close(batch: BatchState, hold: HoldRow, sender: AccountRow, state: str, captured: int) -> None:
    sender.held -= hold.amount
    sender.changed = True
    batch.holds[hold.payment_id] = hold._replace(state=state, captured=captured)
    batch.hold_updates[hold.payment_id] = (hold.payment_id, captured, state, batch.now_us)
