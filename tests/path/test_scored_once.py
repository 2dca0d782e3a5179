"""A payment is scored once: what the gate decided before posting goes with it, whatever happens on
its way, so that the consumer does not judge it again.
"""

from __future__ import annotations

from typing import Any

import pytest

from paytm_lab import Lab
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.ledger.operations import PaymentRequest, Result
from tests.path.conftest import MakeLab
from tests.path.ways import crash_at, events_of, rows, step_until

CROSS = ("1", "2")  # shards 1 and 2


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(fraud_gate="before", review_score=0.05)


def features(lab: Lab, payment_id: str) -> dict[str, Any]:
    lab.drain()
    return lab.system.wide.fetch(FEATURES, [(payment_id,)])[payment_id,]


def require_scored_once(lab: Lab, payment_id: str, decision: str, score: float) -> None:
    assert events_of(lab, payment_id) == ["PaymentCompleted", "PaymentInitiated"]
    stored = features(lab, payment_id)
    assert (stored["gate"], stored["decision"], stored["rule"]) == ("before", decision, "amount")
    assert stored["score"] == pytest.approx(score)
    for row in rows(lab, payment_id):
        assert (row.status, row.fraud_decision, row.fraud_rule) == ("COMPLETED", decision, "amount")
        assert row.fraud_score == pytest.approx(score)
    assert lab.system.fraud.counters["scored"] == 0
    assert lab.system.fraud_answers.counters == {}
    lab.audit().require_clean()


def test_a_payment_that_recovery_finished(lab: Lab) -> None:
    crash_at(lab, "leg_a:committed")
    ticket = lab.submit(*CROSS, "100")
    step_until(lab, lambda: bool(lab.crashed_at), "the process dies after leg (a)")
    assert lab.recover().completed == 1
    require_scored_once(lab, ticket.payment_id, "allow", 0.01)


@pytest.mark.parametrize("receiver", ["2", "5"], ids=["cross-shard", "same-shard"])
def test_a_review_that_was_approved(lab: Lab, receiver: str) -> None:
    held = lab.transfer("1", receiver, "600")
    assert held.status == "HELD"
    assert lab.approve(held.payment).status == "COMPLETED"
    require_scored_once(lab, held.payment, "review", 0.06)


def test_a_repeat_that_carries_on_the_first(lab: Lab) -> None:
    """The first one's process dies after leg (a); the repeat, which is not judged, credits."""
    crash_at(lab, "leg_a:committed")
    first = lab.submit(*CROSS, "100", key="k")
    step_until(lab, lambda: bool(lab.crashed_at), "the process dies after leg (a)")
    lab.crashed_at = ""
    lab.crash()
    answers: list[Result] = []
    system = lab.open().system
    require_scored_once(lab, first.payment_id, "allow", 0.01)
    system.engine.submit(PaymentRequest(*CROSS, 10_000, idempotency_key="k"), answers.append)
    step_until(lab, lambda: bool(answers), "the repeat is answered")
    require_scored_once(lab, first.payment_id, "allow", 0.01)


def test_duplicates_of_one_batch(lab: Lab) -> None:
    """The second finds the first in its own batch: both carry on the same payment."""
    tickets = [lab.submit(*CROSS, "100", key="k") for _ in range(3)]
    step_until(lab, lambda: all(ticket.answered for ticket in tickets), "all are answered")
    made = {t.outcome.payment for t in tickets if t.outcome is not None}
    assert len(made) == 1
    require_scored_once(lab, made.pop(), "allow", 0.01)
