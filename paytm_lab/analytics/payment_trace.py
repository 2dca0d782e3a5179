"""One payment through everything: both shards, outbox, log, score, stored events, notifications."""

from __future__ import annotations

from typing import Any

from paytm_lab.analytics.parts import Parts
from paytm_lab.analytics.tables import EVENTS
from paytm_lab.core.errors import BadInput, NotFound, StoreError, Unavailable
from paytm_lab.core.events import Topic, rfc3339, unwrap
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger import queries, watching
from paytm_lab.ports.shard_database import PaymentRow
from paytm_lab.web.scopes import ADMIN, ANALYTICS_READ
from paytm_lab.web.tokens import Caller

STAFF = frozenset({ANALYTICS_READ, ADMIN})
OUTBOX_ROWS_MAX = 2_000  # of a shard, that are looked through for the payment
GIVEN_BACK_US = 1_000_000  # a give-back is stamped about when its row is updated
_FRAUD = str(Topic.FRAUD)
Json = dict[str, Any]


def read(parts: Parts, caller: Caller, payment_id: bytes) -> Json:
    """As ``models.PaymentTrace``. NotFound for what is not there and for what is not the caller's;
    ``unknown`` says which parts could not be asked. Unavailable where the payer's shard is away.
    """
    source = parts.source_of(payment_id)
    rows = [(source, row) for row in queries.payment_rows(parts.databases[source], payment_id)]
    first = next((row for _, row in rows if row.role != "destination"), None)
    if first is None:
        raise _no(payment_id)
    staff = not caller.scopes.isdisjoint(STAFF)
    if not staff:
        _require_own(caller, first, payment_id)
    unknown: list[str] = []
    if first.to_shard != source and first.to_shard in parts.databases:
        try:
            there = queries.payment_rows(parts.databases[first.to_shard], payment_id)
            rows += [(first.to_shard, row) for row in there]
        except (Unavailable, StoreError) as error:
            unknown.append(f"shard {first.to_shard}: {error.message}")
    status = first.status
    if status == "PENDING" and any(
        row.role == "destination" and row.status == "COMPLETED" for _, row in rows
    ):
        status = "COMPLETED"  # its last leg is still to be written
    sees_all = staff or caller.user_id == first.from_user_id
    return {
        "payment_id": payment_id_text(payment_id),
        "status": status,
        "from_user": first.from_user_id,
        "to_user": first.to_user_id,
        "amount_paise": first.amount,
        "kind": first.kind,
        "reason": first.reason if sees_all else "",
        "refund_of": None if first.refund_of is None else payment_id_text(first.refund_of),
        "asked_at": rfc3339(first.occurred_at),
        "rows": [_row(parts, shard, row, sees_all) for shard, row in rows],
        "entries": _entries(parts, payment_id, rows),
        "outbox": _outbox(parts, payment_id, [shard for shard, _ in rows]),
        "events": _events(parts, payment_id, staff, unknown),
        "score": _score(parts, payment_id, unknown) if staff else None,
        "steps": _steps(parts, payment_id, caller, staff, unknown),
        "unknown": unknown,
        "shown_in_full": staff,
    }


def _no(payment_id: bytes) -> NotFound:
    return NotFound(
        f"there is no payment {payment_id_text(payment_id)}", remedy="Check the payment id."
    )


def _require_own(caller: Caller, payment: PaymentRow, payment_id: bytes) -> None:
    """A receiver learns nothing of a payment that never came."""
    if caller.user_id == payment.from_user_id:
        return
    if caller.user_id != payment.to_user_id or payment.status == "FAILED":
        raise _no(payment_id)


def _row(parts: Parts, shard: int, row: PaymentRow, sees_all: bool) -> Json:
    created_us, updated_us = queries.payment_times(parts.databases[shard], row.transaction_id)
    return {
        "shard": shard,
        "role": row.role,
        "status": row.status,
        "reason": row.reason if sees_all else "",
        "created_at": rfc3339(created_us),
        "updated_at": rfc3339(updated_us),
    }


def _entries(parts: Parts, payment_id: bytes, rows: list[tuple[int, PaymentRow]]) -> list[Json]:
    found = []
    for shard in dict.fromkeys(shard for shard, _ in rows):
        row = next(row for at, row in rows if at == shard)
        database = parts.databases[shard]
        until_us = queries.payment_times(database, payment_id)[1] + GIVEN_BACK_US
        with database.read() as connection:
            users = (row.from_user_id, row.to_user_id)
            found += [
                {
                    "shard": shard,
                    "account": entry.account,
                    "direction": entry.direction,
                    "amount_paise": entry.amount_paise,
                    "at": rfc3339(entry.created_at_us),
                }
                for entry in watching.payment_entries(
                    connection, payment_id, users, len(parts.databases), until_us
                )
            ]
    return found


def _outbox(parts: Parts, payment_id: bytes, shards: list[int]) -> list[Json]:
    """Its events that wait to be relayed."""
    text = payment_id_text(payment_id)
    return [
        {"shard": shard, "type": row.event_type, "since": rfc3339(row.created_at)}
        for shard in dict.fromkeys(shards)
        for row in parts.databases[shard].read_outbox(OUTBOX_ROWS_MAX)
        if row.aggregate_id == text
    ]


def _events(parts: Parts, payment_id: bytes, staff: bool, unknown: list[str]) -> list[Json]:
    """As Cassandra has them, each with its place in the log."""
    try:
        rows = parts.wide.partition(EVENTS, (payment_id_text(payment_id),))
    except (Unavailable, StoreError) as error:
        unknown.append(f"stored events: {error.message}")
        return []
    return [
        {
            "type": row["type"],
            "topic": row["log_topic"],
            "partition": row["log_partition"],
            "offset": row["log_offset"],
            "at": unwrap(row["body"].encode()).time,
        }
        for row in rows
        if staff or row["log_topic"] != _FRAUD
    ]


def _score(parts: Parts, payment_id: bytes, unknown: list[str]) -> Json | None:
    try:
        score = parts.score(payment_id_text(payment_id))
    except (Unavailable, StoreError) as error:
        unknown.append(f"fraud score: {error.message}")
        return None
    if score is None:
        return None
    return {
        "score": score.score,
        "decision": score.decision,
        "rule": score.rule,
        "model": score.model,
        "at": rfc3339(score.scored_at_us),
    }


def _steps(
    parts: Parts, payment_id: bytes, caller: Caller, staff: bool, unknown: list[str]
) -> list[Json]:
    try:
        steps = parts.steps(payment_id)
    except (Unavailable, StoreError, BadInput) as error:
        unknown.append(f"timeline: {error.message}")
        return []
    return [
        {
            "at": rfc3339(step.at_us),
            "actor": step.actor,
            "to": step.to,
            "what": step.what,
            "notification": bool(step.user_id),
        }
        for step in steps
        if staff or (not step.of_fraud and step.user_id in ("", caller.user_id))
    ]
