"""Fraud answers on their way into the ledger, once per event id, in the ledger's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from paytm_lab.core.events import EventType, decode_fraud, unwrap
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.ports.event_log import Record

_DECISION = {
    str(EventType.MANUAL_REVIEW_REQUIRED): "review",
    str(EventType.TRANSACTION_BLOCKED): "block",
}


class AppliesFraud(Protocol):
    def apply_all(self, answers: Sequence[tuple[str, bytes, str, str]]) -> None:
        """(event id, payment id, decision, rule) each. Returns when all are durable, or raises."""


class FraudAnswers:
    """A handler on fraud_events. ``on_block`` is told the senders that a block froze, so that the
    fraud side knows of them at once. ``counters``: review, block.
    """

    def __init__(
        self, ledger: AppliesFraud, on_block: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        self._ledger = ledger
        self._on_block = on_block
        self.counters: Counter[str] = Counter()

    def handle(self, records: Sequence[Record]) -> None:
        answers: list[tuple[str, bytes, str, str]] = []
        blocked: list[str] = []
        for record in records:
            envelope = unwrap(record.value)
            decision = _DECISION.get(envelope.type)
            if decision is None:
                continue
            data = decode_fraud(envelope.data)
            answers.append((envelope.id, parse_payment_id(data.payment_id), decision, data.rule))
            if decision == "block":
                blocked.append(data.user_id)
        if answers:
            self._ledger.apply_all(answers)
            self.counters.update(answer[2] for answer in answers)
        if blocked and self._on_block is not None:
            self._on_block(blocked)
