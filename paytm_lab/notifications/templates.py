"""The words: one template per event, reader and kind of channel.

Email has a subject and full sentences; sms and push are one short line. User ids are shown as they
are (the id grammar allows no control characters), shortened where a line must stay short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from paytm_lab.core.events import EventType, FraudData, PaymentData
from paytm_lab.core.money import in_lakhs

SHORT_ID_LENGTH_MAX = 24
_REASONS = {
    "insufficient_funds": "your balance does not cover it",
    "unknown_receiver": "there is no such account",
    "receiver_frozen": "the other account takes no money now",
    "receiver_closed": "the other account is closed",
    "balance_limit": "the other account can hold no more",
    "unknown_sender": "you have no account",
    "sender_frozen": "your account is frozen",
    "sender_closed": "your account is closed",
    "currency_mismatch": "the account holds another currency",
    "fraud_blocked": "it looked like fraud",
    "expired": "it was not confirmed in time",
    "released": "it was given up",
    "rejected": "the check did not pass",
}


class Text(NamedTuple):
    subject: str
    body: str


def short(user_id: str) -> str:
    if len(user_id) <= SHORT_ID_LENGTH_MAX:
        return user_id
    return user_id[: SHORT_ID_LENGTH_MAX - 1] + "…"


def reason_text(reason: str) -> str:
    return _REASONS.get(reason, reason.replace("_", " ") or "no reason was given")


def paid(d: PaymentData, email: bool) -> Text:
    amount = in_lakhs(d.amount_paise)
    if not email:
        return Text("", f"You paid {amount} to {short(d.to_user_id)}.")
    return Text(
        f"You paid {amount}",
        f"You paid {amount} to {d.to_user_id}.{_balance(d.from_balance_paise)}\n"
        f"Payment {d.payment_id}",
    )


def received(d: PaymentData, email: bool) -> Text:
    amount = in_lakhs(d.amount_paise)
    if not email:
        return Text("", f"You received {amount} from {short(d.from_user_id)}.")
    return Text(
        f"You received {amount}",
        f"You received {amount} from {d.from_user_id}.{_balance(d.to_balance_paise)}\n"
        f"Payment {d.payment_id}",
    )


def refund_paid(d: PaymentData, email: bool) -> Text:
    """To the one who gives the money back; ``system:receivable`` may have paid a part for them."""
    lent = d.receivable_paise
    owed = f" {in_lakhs(lent)} of it is now owed by you." if lent else ""
    if not email:
        return Text("", f"{in_lakhs(d.amount_paise)} went back to {short(d.to_user_id)}.{owed}")
    return Text(
        f"{in_lakhs(d.amount_paise)} was refunded",
        f"{in_lakhs(d.amount_paise)} went back to {d.to_user_id}.{owed}\n"
        f"Refund {d.payment_id} of payment {d.refund_of}",
    )


def refund_received(d: PaymentData, email: bool) -> Text:
    amount = in_lakhs(d.amount_paise)
    if not email:
        return Text("", f"{amount} came back from {short(d.from_user_id)}.")
    return Text(
        f"Your payment of {amount} was refunded",
        f"{amount} came back to you from {d.from_user_id}.\n"
        f"Refund {d.payment_id} of payment {d.refund_of}",
    )


def failed(d: PaymentData, email: bool) -> Text:
    amount, why = in_lakhs(d.amount_paise), reason_text(d.reason)
    if not email:
        return Text("", f"Your payment of {amount} to {short(d.to_user_id)} failed: {why}.")
    return Text(
        f"Your payment of {amount} failed",
        f"Your payment of {amount} to {d.to_user_id} was not made: {why}."
        f" Your money is untouched.\n"
        f"Payment {d.payment_id}",
    )


def cancelled(d: PaymentData, email: bool) -> Text:
    amount, why = in_lakhs(d.amount_paise), reason_text(d.reason)
    if not email:
        return Text("", f"Your payment of {amount} to {short(d.to_user_id)} was cancelled: {why}.")
    return Text(
        f"Your payment of {amount} was cancelled",
        f"Your payment of {amount} to {d.to_user_id} was cancelled: {why}."
        f" What was held is free again.\n"
        f"Payment {d.payment_id}",
    )


def under_review(d: FraudData, email: bool) -> Text:
    line = (
        f"Your payment of {in_lakhs(d.amount_paise)} to {short(d.to_user_id)} is being checked."
        " Was it you?"
    )
    if not email:
        return Text("", line)
    return Text("A payment of yours is being checked", f"{line}\nPayment {d.payment_id}")


def blocked(d: FraudData, email: bool) -> Text:
    line = (
        f"We stopped payments from your account after one of {in_lakhs(d.amount_paise)}"
        f" to {short(d.to_user_id)}. Was it you?"
    )
    if not email:
        return Text("", line)
    return Text("Payments from your account are stopped", f"{line}\nPayment {d.payment_id}")


def part_changed(part: str, state: str, detail: str, email: bool) -> Text:
    """To the operators: a shard, a server or a service went down or came back."""
    line = f"{part} is down" if state == "down" else f"{part} is up again"
    if not email:
        return Text("", f"{line}.")
    why = f"\nWhat it said: {detail}" if detail else ""
    return Text(f"paytm_lab: {line}", f"{line}.{why}")


def _balance(balance_paise: int | None) -> str:
    return "" if balance_paise is None else f" Your balance is {in_lakhs(balance_paise)}."


PaymentTemplate = Callable[[PaymentData, bool], Text]
FraudTemplate = Callable[[FraudData, bool], Text]

# (event type, payment kind) -> the sender's and the receiver's template; None: not told.
PAYMENT_TEMPLATES: dict[tuple[str, str], tuple[PaymentTemplate, PaymentTemplate | None]] = {
    (str(EventType.PAYMENT_COMPLETED), "transfer"): (paid, received),
    (str(EventType.PAYMENT_COMPLETED), "refund"): (refund_paid, refund_received),
    (str(EventType.PAYMENT_FAILED), "transfer"): (failed, None),
    (str(EventType.PAYMENT_CANCELLED), "transfer"): (cancelled, None),
}
FRAUD_TEMPLATES: dict[str, FraudTemplate] = {
    str(EventType.MANUAL_REVIEW_REQUIRED): under_review,
    str(EventType.TRANSACTION_BLOCKED): blocked,
}
