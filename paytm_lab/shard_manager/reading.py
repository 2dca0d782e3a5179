"""Reads for the service: they block, so it makes them in its pool."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from paytm_lab.core.errors import BadInput, InvalidUserId, StoreError, Unavailable
from paytm_lab.core.events import rfc3339
from paytm_lab.core.ids import payment_id_text
from paytm_lab.core.money import format_rupees
from paytm_lab.ledger import as_of, queries
from paytm_lab.ledger.batch import outcome_of
from paytm_lab.ledger.operations import Outcome
from paytm_lab.ledger.queries import AccountView, ReviewRow
from paytm_lab.shard_manager.access import no_account, no_payment, shown_to
from paytm_lab.shard_manager.parts import Parts
from paytm_lab.web.tokens import Caller

CLOSE_WAIT_S = 2.0
_CURSOR_MAX = 2**63 - 1
Json = dict[str, object]


def transfer_json(outcome: Outcome) -> Json:
    """As ``models.Transfer``."""
    balance = outcome.balance
    return {
        "payment_id": payment_id_text(outcome.payment_id),
        "status": outcome.status,
        "reason": outcome.reason,
        "kind": outcome.kind,
        "from_user": outcome.from_user_id,
        "to_user": outcome.to_user_id,
        "amount": format_rupees(outcome.amount),
        "amount_paise": outcome.amount,
        "from_shard": outcome.from_shard,
        "to_shard": outcome.to_shard,
        "balance": None if balance is None else format_rupees(balance),
        "balance_paise": balance,
        "fraud_decision": outcome.fraud_decision,
        "fraud_score": outcome.fraud_score,
        "refund_of": None if outcome.refund_of is None else payment_id_text(outcome.refund_of),
        "repeated": outcome.repeated,
        "asked_at": rfc3339(outcome.occurred_at),
    }


def payment(parts: Parts, caller: Caller, payment_id: bytes) -> Outcome:
    """The payment as it stands and as this caller may see it; a PENDING one is looked up at its
    destination too. NotFound for one that is not, or not theirs.
    """
    source = parts.engine.source_of(payment_id)
    rows = queries.payment_rows(parts.databases[source], payment_id)
    row = next((row for row in rows if row.role != "destination"), None)
    if row is None:
        raise no_payment(payment_id_text(payment_id))
    outcome = shown_to(caller, outcome_of(row))
    peer = parts.engine.writers.get(row.to_shard)
    if outcome.status == "PENDING" and peer is not None and not peer.is_down:
        # Without the destination it is PENDING, as far as anybody knows.
        with suppress(Unavailable, StoreError):
            arrived = queries.payment_rows(parts.databases[row.to_shard], payment_id)
            if any(of.role == "destination" and of.status == "COMPLETED" for of in arrived):
                outcome.status = "COMPLETED"
    return outcome


def timeline(parts: Parts, caller: Caller, payment_id: bytes, staff: bool) -> Json:
    """As ``models.Timeline``. A payment's own users see their own notifications only, and not what
    the fraud side thought.
    """
    outcome = payment(parts, caller, payment_id)
    steps = [
        {"at": rfc3339(step.at_us), "actor": step.actor, "to": step.to, "what": step.what}
        for step in parts.steps(payment_id)
        if staff or (not step.staff_only and step.user_id in ("", caller.user_id))
    ]
    return {"payment_id": outcome.payment, "status": outcome.status, "steps": steps}


def account_view(parts: Parts, user_id: str) -> AccountView:
    """NotFound where there is none."""
    shard = parts.engine.router.locate(user_id)[1]
    view = queries.account(parts.databases[shard], user_id)
    if view is None:
        raise no_account(user_id)
    return view


def account(parts: Parts, user_id: str, stamp_us: int | None = None) -> Json:
    """As ``models.Account``; as of a time, which is closed first."""
    view = account_view(parts, user_id)
    balance: int = view.balance_paise
    held: int | None = view.held_paise
    available: int | None = view.available_paise
    if stamp_us is not None:
        close(parts, stamp_us)
        then = as_of.balance_as_of(parts.databases[view.shard], user_id, stamp_us)
        balance, held, available = then or 0, None, None
    return {
        "user_id": view.user_id,
        "shard": view.shard,
        "state": view.state,
        "currency": view.currency,
        **_rupees("balance", balance),
        **_rupees("held", held),
        **_rupees("available", available),
        "as_of": None if stamp_us is None else rfc3339(stamp_us),
        "created_at": rfc3339(view.created_at_us),
    }


def statement(parts: Parts, user_id: str, stamp_us: int | None, cursor: str, rows_max: int) -> Json:
    """As ``models.Statement``."""
    shard = parts.engine.router.locate(user_id)[1]
    if stamp_us is not None:
        account_view(parts, user_id)
        close(parts, stamp_us)
    try:
        page = as_of.statement(
            parts.databases[shard], user_id, stamp_us, after=cursor, rows_max=rows_max
        )
    except InvalidUserId:
        raise no_account(user_id) from None
    entries = [
        {
            "payment_id": payment_id_text(row.payment_id),
            "direction": row.direction,
            **_rupees("amount", row.amount_paise),
            **_rupees("balance", row.balance_paise),
            "other_user": row.other_user_id,
            "kind": row.kind,
            "at": rfc3339(row.created_at_us),
        }
        for row in page.rows
    ]
    return {
        "user_id": user_id,
        "as_of": None if stamp_us is None else rfc3339(stamp_us),
        **_rupees("opening_balance", page.opening_balance_paise),
        "entries": entries,
        "next_cursor": page.cursor or None,
    }


def close(parts: Parts, stamp_us: int) -> None:
    """From here on nothing changes what was as of then. Unavailable while payments of that time are
    still under way.
    """

    def push(_: object) -> None:
        parts.recovery.run(age_us=0)

    as_of.close_at(parts.databases, stamp_us, push, wait_s=CLOSE_WAIT_S)


def review_json(row: ReviewRow) -> Json:
    """As ``models.Review``."""
    return {
        "payment_id": row.payment,
        "state": row.state,
        "decision": row.decision,
        "rule": row.rule,
        "decided_by": row.decided_by,
        "from_user": row.from_user_id,
        "to_user": row.to_user_id,
        **_rupees("amount", row.amount_paise),
        "payment_status": row.status,
        "opened_at": rfc3339(row.created_at_us),
    }


def _rupees(name: str, paise: int | None) -> Json:
    return {name: None if paise is None else format_rupees(paise), f"{name}_paise": paise}


def parse_time(text: str, now_us: int) -> int:
    """RFC 3339 with an offset -> microseconds since 1970 UTC; BadInput otherwise, or if it is still
    to come.
    """
    remedy = "Write it as 2026-01-31T23:59:59Z; in a URL a + is %2B."
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or "T" not in text.upper() or not text.isascii():
        raise BadInput(f"{text!r:.80} is not a time with an offset", place="as_of", remedy=remedy)
    try:
        time_us = round(at.timestamp() * 1e6)
    except (OverflowError, ValueError):
        time_us = -1
    if not 0 <= time_us <= now_us:
        raise BadInput(
            f"{text!r:.80} is not between 1970 and now", place="as_of", remedy="Give a time past."
        )
    return time_us


def require_cursor(text: str) -> str:
    """The same text, if it is the cursor of a page or empty; BadInput otherwise."""
    parts = text.split("-")
    good = len(parts) == 2 and all(
        part.isascii() and part.isdigit() and len(part) < 20 and int(part) <= _CURSOR_MAX
        for part in parts
    )
    if text and not good:
        raise BadInput(
            f"{text!r:.80} is not a cursor", place="cursor",
            remedy="Give the next_cursor of the page before.",
        )  # fmt: skip
    return text
