"""Scores what was posted, once, and tells the other services: a messaging Handler on
``payment_events``.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import Unavailable
from paytm_lab.core.events import (
    TERMINAL_TYPES,
    EventType,
    FraudData,
    PaymentData,
    PaymentEvent,
    Topic,
    encode,
    read_payment_event,
    wrap,
)
from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.core.ids import event_id
from paytm_lab.fraud.scorer import Scored, Scorer
from paytm_lab.fraud.tables import FEATURES, FLAGGED
from paytm_lab.messaging.worker import Trouble
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.event_log import EventLog, Message, Record
from paytm_lab.ports.wide_store import Row, WideStore

SOURCE = "/fraud"
SCORE_TTL_S = 86_400.0
_COMPLETED = str(EventType.PAYMENT_COMPLETED)
_SCORED = str(EventType.FRAUD_SCORE_CALCULATED)
_ANSWER_TO = {
    str(Decision.REVIEW): str(EventType.MANUAL_REVIEW_REQUIRED),
    str(Decision.BLOCK): str(EventType.TRANSACTION_BLOCKED),
}


class LastScore(msgspec.Struct, frozen=True):
    """What ``fraud:score:{user_id}`` holds. ``timestamp``: the payment's business time in
    microseconds.
    """

    last_score: float
    timestamp: int


class Decided(NamedTuple):
    """About some records: the events to answer, by payment id; those of them that were new, the
    rows to store about them, and the rows that were there already.
    """

    events: dict[str, PaymentEvent]
    new: list[PaymentEvent]
    fresh: list[Row]
    known: list[Row]


class FraudConsumer:
    """Transfers that completed are scored; refusals and cancellations only where a gate had decided
    before.

    A payment is scored once: its features row is the answer for good, so whatever crashes and is
    delivered again emits the same events under the same ids. A decision that came with the event
    (gate ``before``) is stored and emitted as FraudScoreCalculated, and asks for nothing more: it
    was acted upon already.

    ``scorer_down``: the least decision where the scorer is Unavailable (``review`` or ``allow``).
    Raises what the wide store and the log raise; then nothing of the batch counts as handled.
    ``counters``: scored, gate_decided, repeated, scorer_down, cache_failed, and one per decision.
    ``on_decided`` is told the rows that were stored for the first time.
    """

    def __init__(
        self,
        scorer: Scorer,
        wide_store: WideStore,
        cache: Cache,
        log: EventLog,
        clock: Clock,
        *,
        scorer_down: Decision = Decision.REVIEW,
        score_ttl_s: float = SCORE_TTL_S,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.on_decided: Callable[[Sequence[Row]], None] = lambda rows: None
        self._scorer = scorer
        self._store = wide_store
        self._cache = cache
        self._log = log
        self._clock = clock
        self._scorer_down = scorer_down
        self._score_ttl_s = score_ttl_s
        self._trouble = Trouble("fraud scorer")
        self._lock = threading.Lock()
        self._open: set[str] = set()  # payments that were decided and are not stored yet

    def handle(self, records: Sequence[Record]) -> None:
        decided = self.decide(records)
        try:
            self.store([decided])
        finally:
            self.forget([decided])

    def decide(self, records: Sequence[Record]) -> Decided:
        """The decisions about these records. What was decided and is not stored yet is left out:
        its events are told when it is.
        """
        events = _to_score(records)
        with self._lock:
            for payment_id in self._open & events.keys():
                del events[payment_id]
        if not events:
            return Decided({}, [], [], [])
        stored = self._store.fetch(FEATURES, [(payment_id,) for payment_id in events])
        new = [e for payment_id, e in events.items() if (payment_id,) not in stored]
        made = {e.data.payment_id: int(e.type == _COMPLETED) for e in new}
        fresh = [row | {"made": made[row["payment_id"]]} for row in self._verdicts(new)]
        with self._lock:
            self._open |= events.keys()
        return Decided(events, new, fresh, list(stored.values()))

    def store(self, decided: Sequence[Decided]) -> None:
        """Store and tell decisions, all together."""
        fresh = [row for each in decided for row in each.fresh]
        known = [row for each in decided for row in each.known]
        events = {i: e for each in decided for i, e in each.events.items()}
        if fresh:
            self._store.upsert(FEATURES, fresh)
            new = [e for each in decided for e in each.new]
            self._scorer.remember([_candidate(e.data) for e in new if e.type == _COMPLETED])
        self._count(fresh, len(known))
        rows = [*known, *fresh]
        flagged = [_flagged(row) for row in rows if row["decision"] in _ANSWER_TO]
        if flagged:
            self._store.upsert(FLAGGED, flagged)
        if rows:
            self._remember_scores(rows)
            self._log.append(_messages(rows, events))

    def forget(self, decided: Sequence[Decided]) -> None:
        """What was decided is no longer open: stored, or given up until its records come again."""
        with self._lock:
            for each in decided:
                self._open -= each.events.keys()

    def _verdicts(self, events: Sequence[PaymentEvent]) -> list[Row]:
        gated = [e.data for e in events if e.data.fraud_decision]
        open_ = [e.data for e in events if not e.data.fraud_decision]
        scored = self._score(open_)
        now_us = self._clock.now_us()  # when it was decided
        told = self._scorer.decided([d.payment_id for d in gated]) if gated else []
        rows = [_gated_row(d, s, now_us) for d, s in zip(gated, told, strict=True)]
        return [*rows, *(_row(d, s, now_us) for d, s in zip(open_, scored, strict=True))]

    def _count(self, fresh: Sequence[Row], repeated: int) -> None:
        self.counters.update(str(row["decision"]) for row in fresh)
        self.counters["gate_decided"] += sum(row["gate"] == "before" for row in fresh)
        self.counters["scored"] += sum(row["gate"] == "after" for row in fresh)
        self.counters["repeated"] += repeated
        self.on_decided(fresh)

    def _score(self, payments: Sequence[PaymentData]) -> list[Scored]:
        if not payments:
            return []
        candidates = [_candidate(d) for d in payments]
        try:
            scored = self._scorer.score(candidates)
        except Unavailable as error:
            self.counters["scorer_down"] += len(candidates)
            self._trouble.failed(error)
            return self._scorer.score_blind(candidates, self._scorer_down)
        self._trouble.well()
        return scored

    def _remember_scores(self, rows: Sequence[Row]) -> None:
        """The cached last score is a convenience: a cache that is away costs only that."""
        latest: dict[str, Row] = {}
        for row in rows:
            other = latest.get(row["user_id"])
            if other is None or row["at_us"] >= other["at_us"]:
                latest[row["user_id"]] = row
        values = {
            f"fraud:score:{user_id}": encode(LastScore(row["score"], row["at_us"]))
            for user_id, row in latest.items()
        }
        try:
            self._cache.set_many(values, self._score_ttl_s)
        except Unavailable:
            self.counters["cache_failed"] += len(values)


def _to_score(records: Sequence[Record]) -> dict[str, PaymentEvent]:
    """The terminal events of transfers that want a score, one per payment id."""
    events: dict[str, PaymentEvent] = {}
    for record in records:
        if record.topic != Topic.PAYMENT:
            continue
        event = read_payment_event(record.value)
        data = event.data
        if data.kind == "transfer" and (
            event.type == _COMPLETED or (data.fraud_decision and event.type in TERMINAL_TYPES)
        ):
            events.setdefault(data.payment_id, event)
    return events


def _candidate(d: PaymentData) -> Candidate:
    return Candidate(d.payment_id, d.from_user_id, d.to_user_id, d.amount_paise, d.at_us)


def _row(data: PaymentData, scored: Scored, now_us: int) -> Row:
    verdict = scored.verdict
    return {
        "payment_id": data.payment_id,
        "user_id": data.from_user_id,
        "amount": data.amount_paise,
        "score": verdict.score,
        "decision": str(verdict.decision),
        "rule": verdict.rule,
        "model": verdict.model,
        "model_score": -1.0 if scored.model_score is None else scored.model_score,
        "velocity_count": -1 if scored.velocity_count is None else scored.velocity_count,
        "to_user_id": data.to_user_id,
        "at_us": data.at_us,
        "scored_at_us": now_us,
        "gate": "after",
        "rules_version": scored.rules_version,
        "shadow_model": scored.shadow_model,
        "shadow_score": -1.0 if scored.shadow_score is None else scored.shadow_score,
    }


def _flagged(row: Row) -> Row:
    return {
        "user_id": row["user_id"],
        "newest_first": -row["at_us"],
        "payment_id": row["payment_id"],
        "decision": row["decision"],
    }


def _gated_row(data: PaymentData, told: Scored | None, now_us: int) -> Row:
    """``told``: what the gate made its decision from, where that is still known."""
    verdict = Verdict(
        0.0 if data.fraud_score is None else data.fraud_score,
        Decision(data.fraud_decision),
        data.fraud_rule or "gate",  # an event of before the rule was told
        told.verdict.model if told is not None else _model_behind(data.fraud_rule),
    )
    row = _row(data, (told or Scored(verdict, None, None))._replace(verdict=verdict), now_us)
    return row | {"gate": "before"}


def _model_behind(rule: str) -> str:
    """Where what the gate made its decision from is not known any more."""
    return "unknown" if rule == "model" else "default"


def _messages(rows: Sequence[Row], events: dict[str, PaymentEvent]) -> list[Message]:
    """Each row's events. All of their contents come from the row, so a repeat is the same byte for
    byte.
    """
    messages = []
    topic = str(Topic.FRAUD)
    for row in rows:
        payment_id = row["payment_id"]
        data = encode(
            FraudData(
                payment_id,
                row["user_id"],
                row["amount"],
                row["score"],
                row["decision"],
                row["rule"],
                # msgspec leaves a default out by identity: stored text must become that one.
                sys.intern(row["model"]),
                row["to_user_id"],
                row["at_us"],
            )
        )
        types = [_SCORED]
        if row["gate"] == "after" and row["decision"] in _ANSWER_TO:
            types.append(_ANSWER_TO[row["decision"]])
        for event_type in types:
            body = wrap(
                event_id=event_id(payment_id, event_type),
                event_type=event_type,
                subject=payment_id,
                source=SOURCE,
                time_us=row["scored_at_us"],
                data=data,
                traceparent=events[payment_id].traceparent,
            )
            messages.append(Message(topic, payment_id, body))
    return messages
