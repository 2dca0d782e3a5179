"""What every part wrote about one payment, as steps with the times that were written down.

A payment's id says when it was admitted, to the millisecond. A shard writes down when a batch of
its began; how long after that the commit came is not recorded. When the answer came only the caller
knows, so there is a step for it only where the caller's measurement is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import NamedTuple

from paytm_lab.analytics.tables import EVENTS
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.core.events import Topic, unwrap
from paytm_lab.core.ids import admitted_at_us, payment_id_text
from paytm_lab.core.money import format_rupees
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.ledger import queries
from paytm_lab.notifications.records import notification_id, notification_key
from paytm_lab.notifications.tables import NOTIFICATIONS
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import PaymentRow, ShardDatabase
from paytm_lab.ports.wide_store import WideStore

CLIENT, SOURCE, DESTINATION = "client", "source shard", "destination shard"
RELAY, LOG, CONSUMERS = "outbox relay", "log", "consumers"
ANSWERED, CREDITED = "answered after", "leg (b), credit"
_NOTIFIED = (
    "PaymentCompleted",
    "PaymentFailed",
    "PaymentCancelled",
    "ManualReviewRequired",
    "TransactionBlocked",
)


class Step(NamedTuple):
    """``at_us``: microseconds since 1970 UTC, as written by the part that did it. ``notified``: the
    user whom a notification went to, '' for other steps. ``of_fraud``: what the fraud side thought.
    """

    actor: str
    to: str
    label: str
    at_us: int
    notified: str = ""
    of_fraud: bool = False


def steps_of(
    payment_id: bytes,
    source_shard: int,
    databases: Mapping[int, ShardDatabase],
    log: EventLog,
    wide_store: WideStore,
    latency_ms: float = float("nan"),
) -> tuple[str, list[Step]]:
    """The payment's status and steps, in order of time; BadInput when no shard knows it.

    ``latency_ms``: what its caller measured, from asking to the answer; NaN where nobody did.
    """
    rows = queries.payment_on_all_sides(databases, source_shard, payment_id)
    if not rows:
        raise BadInput(
            f"payment {payment_id_text(payment_id)} is not known", remedy="Check the payment id."
        )
    text = payment_id_text(payment_id)
    steps = _ledger_steps(rows, databases)
    if isfinite(latency_ms):
        steps.append(answer(steps, payment_id, latency_ms))
    try:
        steps += _event_steps(text, wide_store, log)
        steps += _fraud_steps(text, wide_store)
        steps += _notification_steps(text, rows[0], wide_store)
    except Unavailable as error:
        steps.append(Step(CONSUMERS, CONSUMERS, f"not known: {error.message}", steps[-1].at_us))
    return rows[0].status, sorted(steps, key=lambda step: step.at_us)


def answer(steps: list[Step], payment_id: bytes, latency_ms: float) -> Step:
    """The answer that a caller measured. An id is up to a millisecond too early, so the answer is
    never put before the batch that it tells of.
    """
    there = [step for step in steps if step.to == DESTINATION]
    credited = [step for step in there if CREDITED in step.label]
    # A refused credit is answered once the money is back; what never crossed, by its only batch.
    told_of = credited or (steps[-1:] if there else steps[1:2])
    measured_us = admitted_at_us(payment_id) + round(latency_ms * 1e3)
    return Step(
        DESTINATION if credited else SOURCE,
        CLIENT,
        f"{ANSWERED} {latency_ms:.2f} ms, as its caller measured it",
        max([measured_us, *(step.at_us for step in told_of)]),
    )


def _ledger_steps(rows: list[PaymentRow], databases: Mapping[int, ShardDatabase]) -> list[Step]:
    source = rows[0]
    created, updated = queries.payment_times(databases[source.from_shard], source.transaction_id)
    rupees = f"{format_rupees(source.amount)} rupees"
    first = {
        "COMPLETED": f"debit and credit {rupees}",
        "HELD": f"hold {rupees}",
        "CANCELLED": f"hold {rupees}",
        "FAILED": f"refused: {source.reason}",
    }.get(source.status, f"debit {rupees}, PENDING")
    at_source = f"shard {source.from_shard} begins the batch:"
    steps = [
        Step(
            CLIENT,
            SOURCE,
            f"pay {rupees}: {source.from_user_id} -> {source.to_user_id}",
            admitted_at_us(source.transaction_id),
        )
    ]
    if source.role != "source" or (
        len(rows) == 1 and source.status in ("FAILED", "HELD", "CANCELLED")
    ):
        steps.append(Step(SOURCE, SOURCE, f"{at_source} {first}", created))
        if updated > created:
            ended = f"{source.status} {source.reason}".strip()
            steps.append(Step(SOURCE, SOURCE, f"{at_source} {ended}", updated))
        return steps
    steps.append(Step(SOURCE, SOURCE, f"{at_source} leg (a), debit {rupees}, PENDING", created))
    for row in rows[1:]:
        credited, _ = queries.payment_times(databases[source.to_shard], row.transaction_id)
        done = row.status == "COMPLETED"
        word = f"{CREDITED} {rupees}" if done else f"leg (b), refusal: {row.reason}"
        steps.append(
            Step(
                SOURCE,
                DESTINATION,
                f"shard {source.to_shard} begins the batch: {word}",
                credited,
            )
        )
    if source.status != "PENDING":
        ended = f"{source.status} {source.reason}".strip()
        steps.append(Step(SOURCE, SOURCE, f"{at_source} leg (c), {ended}", updated))
    return steps


def _event_steps(payment: str, wide_store: WideStore, log: EventLog) -> list[Step]:
    found_at = []
    for row in wide_store.partition(EVENTS, (payment,)):
        where = (row["log_topic"], row["log_partition"], row["log_offset"])
        found = log.read(*where, 1)
        event_us = _time_us(unwrap(row["body"].encode()).time)
        at_us = found[0].time_us if found else event_us
        topic, partition, offset = where
        label = f"{row['type']} at {topic}[{partition}] offset {offset}"
        actor = RELAY if topic == Topic.PAYMENT else CONSUMERS
        step = Step(actor, LOG, label, at_us, of_fraud=topic == Topic.FRAUD)
        found_at.append((at_us, offset, step))
    # The store has them by type; what was appended at one moment stands in the log's own order.
    return [step for _, _, step in sorted(found_at, key=lambda found: found[:2])]


def _fraud_steps(payment: str, wide_store: WideStore) -> list[Step]:
    row = wide_store.fetch(FEATURES, [(payment,)]).get((payment,))
    if row is None:
        return []
    label = f"fraud: score {row['score']:.2f}, {row['decision']} by {row['rule']}"
    return [Step(LOG, CONSUMERS, label, row["scored_at_us"], of_fraud=True)]


def _notification_steps(payment: str, row: PaymentRow, wide_store: WideStore) -> list[Step]:
    wanted = [
        notification_key(notification_id(payment, event_type, user, channel))
        for event_type in _NOTIFIED
        for user in (row.from_user_id, row.to_user_id)
        for channel in ("email", "sms", "push")
    ]
    steps = []
    for found in wide_store.fetch(NOTIFICATIONS, wanted).values():
        label = f"{found['channel']} to {found['user_id']}: {found['template']} ({found['state']})"
        at_us = found["ended_at_us"] or found["claimed_at_us"]
        steps.append(Step(CONSUMERS, CLIENT, label, at_us, found["user_id"]))
    return steps


def _time_us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
