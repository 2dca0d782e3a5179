"""What the fraud service answers: these calls block, so it makes them in its pool."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from paytm_lab.core.errors import BadInput, NotFound, SameAccount, StoreError, Unavailable
from paytm_lab.core.events import rfc3339
from paytm_lab.core.fraud import Candidate
from paytm_lab.core.ids import payment_id_text, require_user_id
from paytm_lab.core.money import format_rupees, parse_rupees, require_payable
from paytm_lab.fraud.consumer import LastScore
from paytm_lab.fraud.explain import explain
from paytm_lab.fraud.lists import ListChange
from paytm_lab.fraud.parts import Parts
from paytm_lab.fraud.registry import Model
from paytm_lab.fraud.rule_book import Change
from paytm_lab.fraud.rules import RuleSettings, amount_score
from paytm_lab.fraud.scorer import Preview
from paytm_lab.fraud.tables import FEATURES, FLAGGED
from paytm_lab.ledger import queries
from paytm_lab.ports.shard_database import PaymentRow
from paytm_lab.ports.wide_store import Row
from paytm_lab.web.scopes import ADMIN, REVIEW
from paytm_lab.web.tokens import Caller

Json = dict[str, object]
STAFF = frozenset({REVIEW, ADMIN})
CHANGES_MAX = 100
_decode_last_score = msgspec.json.Decoder(LastScore).decode


def is_staff(caller: Caller) -> bool:
    return not caller.scopes.isdisjoint(STAFF)


# -- scores ----------------------------------------------------------------------------------------


def candidates(payments: Sequence[tuple[str, str, str]], now_us: int) -> list[Candidate]:
    """(sender, receiver, rupees) each, made now. BadInput for the first that is no payment."""
    made = []
    for number, (sender, receiver, amount) in enumerate(payments):
        try:
            require_user_id(sender)
            require_user_id(receiver)
            paise = require_payable(parse_rupees(amount))
            if sender == receiver:
                raise SameAccount(
                    f"{sender!r} cannot pay itself", remedy="Name two different users."
                )
        except BadInput as error:
            error.place = f"payments.{number}"
            raise
        made.append(Candidate(f"preview-{number}", sender, receiver, paise, now_us))
    return made


def scores(parts: Parts, asked: Sequence[Candidate]) -> Json:
    """As ``models.Scores``."""
    previews = parts.scorer.preview(asked)
    return {
        "rules_version": previews[0].settings.version if previews else 0,
        "scores": [_score(c, preview) for c, preview in zip(asked, previews, strict=True)],
    }


def _score(candidate: Candidate, preview: Preview) -> Json:
    verdict, facts, settings, thresholds, model_why = preview
    return {
        "from_user": candidate.from_user_id,
        "to_user": candidate.to_user_id,
        "score": verdict.score,
        "decision": str(verdict.decision),
        "rule": verdict.rule,
        "model": verdict.model,
        "facts": {
            "amount": format_rupees(facts.amount_paise),
            "amount_paise": facts.amount_paise,
            "amount_score": amount_score(facts.amount_paise, settings),
            "velocity_count": facts.velocity_count,
            "sender_frozen": facts.frozen,
            "known_mule": facts.mule,
            "model_score": facts.model_score,
        },
        "explanation": [
            {
                "rule": rule,
                "said": said or None,
                "why": why,
                "decided": rule == verdict.rule,
            }
            for rule, said, why in explain(facts, settings, thresholds, model_why)
        ],
    }


# -- decisions -------------------------------------------------------------------------------------


def decision(parts: Parts, caller: Caller, payment_id: bytes) -> Json:
    """As ``models.Decision``. NotFound for a payment that is not, or not of this caller's paying.

    It is in ``features`` once the payment is scored; before that a gate's decision is on the
    payment's own row.
    """
    payment = payment_id_text(payment_id)
    staff = is_staff(caller)
    row = parts.wide.fetch(FEATURES, [(payment,)]).get((payment,))
    if row is not None:
        if not staff and row["user_id"] != caller.user_id:
            raise _no_payment(payment)
        return _of_features(row, staff, _review(parts, payment_id) if staff else None)
    rows = queries.payment_rows(parts.databases[parts.source_of(payment_id)], payment_id)
    posted = next((each for each in rows if each.role != "destination"), None)
    if posted is None or not (staff or posted.from_user_id == caller.user_id):
        raise _no_payment(payment)
    return _of_payment(posted, payment, staff, _review(parts, payment_id) if staff else None)


def user_decisions(parts: Parts, caller: Caller, user_id: str, rows_max: int) -> Json:
    """As ``models.UserDecisions``. NotFound for another user, unless staff asks."""
    if user_id != caller.user_id and not is_staff(caller):
        raise NotFound(f"there is no user {user_id!r}", remedy="Check the user id.")
    known, last = True, None
    try:
        body = parts.cache.get(f"fraud:score:{user_id}")
        if body is not None:
            score = _decode_last_score(body)
            last = {"score": score.last_score, "at": rfc3339(score.timestamp)}
    except Unavailable:
        known = False
    flagged = parts.wide.partition(FLAGGED, (user_id,), rows_max=rows_max)
    keys = [(row["payment_id"],) for row in flagged]
    rows = parts.wide.fetch(FEATURES, keys) if keys else {}
    staff = is_staff(caller)
    return {
        "user_id": user_id,
        "last_score": last,
        "last_score_known": known,
        "flagged": [_of_features(rows[key], staff, None) for key in keys if key in rows],
    }


def _review(parts: Parts, payment_id: bytes) -> str | None:
    """Where its shard does not answer, what a person decided is not known."""
    with suppress(Unavailable, StoreError):
        return queries.review_state(parts.databases[parts.source_of(payment_id)], payment_id)
    return None


def _no_payment(payment: str) -> NotFound:
    return NotFound(f"there is no payment {payment}", remedy="Check the payment id.")


def _of_features(row: Row, staff: bool, review: str | None) -> Json:
    said = _common(
        row["payment_id"], row["user_id"], row["to_user_id"], row["amount"], row["at_us"]
    )
    said |= {
        "decision": row["decision"],
        "score": row["score"],
        "gate": row["gate"],
        "decided_at": rfc3339(row["scored_at_us"]),
    }
    if staff:
        count, model_score = row["velocity_count"], row["model_score"]
        said |= {
            "rule": row["rule"],
            "model": row["model"],
            "rules_version": row.get("rules_version") or None,
            "facts": {
                "velocity_count": None if count < 0 else count,
                "model_score": None if model_score < 0 else model_score,
            },
            "review": review,
        }
    return said


def _of_payment(row: PaymentRow, payment: str, staff: bool, review: str | None) -> Json:
    said = _common(payment, row.from_user_id, row.to_user_id, row.amount, row.occurred_at)
    if row.fraud_decision:
        said |= {"decision": row.fraud_decision, "score": row.fraud_score, "gate": "before"}
        if staff:
            said["rule"] = row.fraud_rule
    if staff:
        said["review"] = review
    return said


def _common(payment: str, sender: str, receiver: str, paise: int, asked_us: int) -> Json:
    return {
        "payment_id": payment,
        "from_user": sender,
        "to_user": receiver,
        "amount": format_rupees(paise),
        "amount_paise": paise,
        "decision": None,
        "score": None,
        "gate": None,
        "asked_at": rfc3339(asked_us),
        "decided_at": None,
        "rule": None,
        "model": None,
        "rules_version": None,
        "facts": None,
        "review": None,
    }


# -- rules -----------------------------------------------------------------------------------------


def rules_now(parts: Parts, change: Change) -> Json:
    """As ``models.RulesNow``."""
    active, shadow = parts.scorer.registry.deployed
    model, watched = _model(active), _model(shadow)
    return _version(change) | {"model": model, "shadow_model": watched}


def _model(model: Model | None) -> Json | None:
    if model is None:
        return None
    return {
        "name": model.name,
        "block_score": model.thresholds.block_score,
        "review_score": model.thresholds.review_score,
    }


def rules_history(parts: Parts, before: int | None, changes_max: int) -> Json:
    """As ``models.RulesHistory``."""
    found = parts.book.history(before, changes_max)
    oldest = found[-1].version if found else 1
    return {
        "changes": [
            _version(each) | {"before": None if each.before is None else _rules(each.before)}
            for each in found
        ],
        "next_before": oldest if oldest > 1 else None,
    }


def _version(change: Change) -> Json:
    return {
        "version": change.version,
        "rules": _rules(change.rules),
        "changed_by": change.changed_by,
        "changed_at": rfc3339(change.changed_at_us),
        "reason": change.reason,
    }


def _rules(rules: RuleSettings) -> Json:
    return {
        "certain_amount": format_rupees(rules.certain_paise),
        "review_score": rules.review_score,
        "velocity_limit": rules.velocity_limit,
        "velocity_window_s": rules.velocity_window_s,
    }


# -- lists -----------------------------------------------------------------------------------------


def list_page(parts: Parts, which: str, after: str, users_max: int) -> Json:
    """As ``models.ListPage``."""
    users = parts.lists.users(which)
    page = heapq.nsmallest(users_max + 1, (user for user in users if user > after))
    shown = page[:users_max]
    return {
        "list_name": which,
        "users": shown,
        "count": len(users),
        "next_after": shown[-1] if len(page) > users_max else None,
    }


def listed(parts: Parts, which: str, user_id: str) -> Json:
    """As ``models.Listed``; from the store, so that it is so in every process."""
    row = parts.lists.row_of(which, user_id)
    changes = parts.lists.changes_of_user(which, user_id, CHANGES_MAX)
    return {
        "list_name": which,
        "user_id": user_id,
        "listed": row is not None and bool(row["listed"]),
        "changes": [_list_change(each) for each in changes],
    }


def change_list(parts: Parts, which: str, user_id: str, on: bool, reason: str, by: str) -> Json:
    """As ``models.Listed``, after the change."""
    change = parts.lists.add if on else parts.lists.remove
    change(which, [user_id], reason, by)
    parts.news.tell()
    return listed(parts, which, user_id)


def list_changes(parts: Parts, which: str, day: str, changes_max: int) -> Json:
    """As ``models.ListChanges``."""
    changes = parts.lists.changes_of_day(which, day, changes_max)
    return {
        "list_name": which,
        "day": day,
        "changes": [_list_change(each) for each in changes],
    }


def _list_change(change: ListChange) -> Json:
    return {
        "user_id": change.user_id,
        "was": change.was,
        "listed": change.listed,
        "changed_by": change.changed_by,
        "changed_at": rfc3339(change.changed_at_us),
        "reason": change.note,
    }
