"""Fraud answers and reviews, the rules. See ``evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paytm_lab.core import errors
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.batch import BatchState, outcome_of
from paytm_lab.ledger.operations import ApplyFraud, DecideReview, Outcome, Result

if TYPE_CHECKING:
    from paytm_lab.ledger.evaluate import Batch

# As long as the tables' columns.
EVENT_ID_LENGTH_MAX = 160
RULE_LENGTH_MAX = 32
DECIDED_BY_LENGTH_MAX = 64
REVIEW_TRANSITIONS: dict[str, frozenset[str]] = {
    "open": frozenset({"approved", "rejecting"}),
    "rejecting": frozenset({"rejected"}),
    "approved": frozenset(),
    "rejected": frozenset(),
}


def open_review(batch: BatchState, payment_id: bytes, decision: str, rule: str) -> None:
    now_us = batch.now_us
    batch.reviews[payment_id] = "open"
    batch.review_rows[payment_id] = (payment_id, "open", decision, rule, "", now_us, now_us)


def apply_fraud(batch: Batch, op: ApplyFraud) -> Result:
    """Once per event id: open a review; a block also freezes the sender."""
    if len(op.event_id) > EVENT_ID_LENGTH_MAX:
        return _too_long(op.event_id, "an event id", EVENT_ID_LENGTH_MAX)
    if len(op.rule) > RULE_LENGTH_MAX or not op.rule.isascii():
        return _too_long(op.rule, "a rule", RULE_LENGTH_MAX)
    if op.event_id in batch.applied:
        return Outcome("applied", "", op.payment_id, repeated=True)
    # A payment that was refused because its sender is unknown has nobody to freeze.
    sender = batch.accounts.get(batch.source_row(op.payment_id).from_user_id)
    batch.applied.add(op.event_id)
    batch.applied_rows.append((op.event_id, batch.now_us))
    if op.payment_id not in batch.reviews:
        open_review(batch, op.payment_id, op.decision, op.rule)
    # "frozen" may become the stricter "frozen_all", never the other way round.
    milder = ("active", "frozen") if batch.freeze_state == "frozen_all" else ("active",)
    if op.decision == "block" and sender is not None and sender.state in milder:
        sender.state = batch.freeze_state
        sender.changed = True
    return Outcome("applied", "", op.payment_id)


def decide_review(batch: Batch, op: DecideReview) -> Result:
    """Move the review on; the outcome is the payment's, for the caller to act upon."""
    if len(op.decided_by) > DECIDED_BY_LENGTH_MAX:
        return _too_long(op.decided_by, "a reviewer", DECIDED_BY_LENGTH_MAX)
    state = batch.reviews.get(op.payment_id)
    if state is None:
        return errors.BadInput(
            f"payment {payment_id_text(op.payment_id)} has no review",
            remedy="List the open reviews.",
        )
    row = batch.source_row(op.payment_id)
    if state == op.state:
        return outcome_of(row, repeated=True)
    if op.state not in REVIEW_TRANSITIONS[state]:
        return errors.Conflict(
            f"the review of payment {payment_id_text(op.payment_id)} is {state} already",
            remedy=f"It can not become {op.state}.",
        )
    batch.reviews[op.payment_id] = op.state
    batch.review_updates[op.payment_id] = (op.payment_id, op.state, op.decided_by, batch.now_us)
    return outcome_of(row)


def _too_long(words: str, what: str, length_max: int) -> errors.BadInput:
    return errors.BadInput(
        f"{words!r:.80} is not the name of {what}",
        remedy=f"Give at most {length_max} characters; a rule's are ASCII.",
    )
