"""The fraud gate before posting: a block refuses, a review holds, a known key is not asked about;
counts are reserved so that exactly as many pass as may.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import IdempotencyConflict, OutcomeUnknown, ShardUnavailable
from paytm_lab.core.fraud import Candidate, Verdict
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.ledger.operations import Outcome, PaymentRequest
from paytm_lab.ports.fraud_gate import FraudGate
from tests.path.conftest import OPENING_PAISE, MakeLab
from tests.path.ways import rows, total_paise, wait_for


class Counted:
    """A gate that counts how often it is asked and told to forget."""

    def __init__(self, gate: FraudGate) -> None:
        self._gate = gate
        self.asked: list[str] = []
        self.cancelled: list[str] = []

    def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.asked += [candidate.payment_id for candidate in candidates]
        return self._gate.decide(candidates)

    def cancel(self, candidate: Candidate) -> None:
        self.cancelled.append(candidate.payment_id)
        self._gate.cancel(candidate)


def counted(lab: Lab) -> Counted:
    gate = lab.system.engine.gate
    assert gate is not None
    lab.system.engine.gate = spy = Counted(gate)
    return spy


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(fraud_gate="before", velocity_limit=5)


@pytest.mark.parametrize("receiver", ["5", "2"])
def test_exactly_as_many_pass_as_may(make_lab: MakeLab, receiver: str) -> None:
    """50 payments at once against a limit of 5."""
    lab = make_lab(deterministic=False, fraud_gate="before", velocity_limit=5)
    results: list[object] = []
    barrier = threading.Barrier(10)

    def pay() -> None:
        barrier.wait()
        for _ in range(5):
            lab.system.engine.submit(PaymentRequest("1", receiver, 100), results.append)

    threads = [threading.Thread(target=pay) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_for(lambda: len(results) == 50, "all are answered")
    found = Counter((r.status, r.reason) for r in results if isinstance(r, Outcome))
    assert found == {("COMPLETED", ""): 5, ("FAILED", "fraud_blocked"): 45}
    lab.drain()
    assert lab.balances()["1"] == OPENING_PAISE - 500
    lab.audit().require_clean()


def test_a_block_leaves_its_decision_and_rule_on_the_row_and_in_the_features(lab: Lab) -> None:
    outcomes = [lab.transfer("1", "2", "1") for _ in range(6)]
    assert [o.status for o in outcomes] == ["COMPLETED"] * 5 + ["FAILED"]
    row = rows(lab, outcomes[5].payment)[0]
    assert (row.status, row.reason, row.fraud_decision) == ("FAILED", "fraud_blocked", "block")
    first = rows(lab, outcomes[0].payment)[0]
    assert (first.fraud_decision, first.fraud_score) == ("allow", pytest.approx(1 / 10_000))
    assert (first.fraud_rule, row.fraud_rule) == ("amount", "velocity")
    lab.drain()
    keys = [(outcomes[n].payment,) for n in (0, 5)]
    stored = lab.system.wide.fetch(FEATURES, keys)
    assert [stored[key]["rule"] for key in keys] == ["amount", "velocity"]
    lab.audit().require_clean()


def test_a_review_is_a_hold_until_somebody_decides(make_lab: MakeLab) -> None:
    lab = make_lab(users=0, fraud_gate="before")
    lab.open_accounts({"1": 10_000_000, "2": 0})
    held, other = lab.transfer("1", "2", "7000"), lab.transfer("1", "2", "8000")
    assert lab.transfer("1", "2", "6999.99").status == "COMPLETED"
    assert (held.status, other.status) == ("HELD", "HELD")
    assert [review.rule for review in lab.reviews()] == ["amount", "amount"]
    early = lab.capture(held.payment)
    assert (early.status, early.reason) == ("HELD", "under_review")
    assert lab.approve(held.payment).status == "COMPLETED"
    assert lab.reject(other.payment).status == "CANCELLED"
    lab.drain()
    assert lab.balances() == {"1": 10_000_000 - 1_399_999, "2": 1_399_999}
    assert lab.reviews() == []  # scored once: the consumer opens no second review
    lab.audit().require_clean()


def test_a_known_key_is_answered_unasked(lab: Lab) -> None:
    gate = counted(lab)
    first = lab.transfer("1", "2", "1", key="k")
    for _ in range(9):
        again = lab.transfer("1", "2", "1", key="k")
        assert (again.payment, again.status, again.repeated) == (first.payment, "COMPLETED", True)
    with pytest.raises(IdempotencyConflict):
        lab.transfer("1", "2", "2", key="k")
    assert gate.asked == [first.payment]
    assert gate.cancelled == []
    lab.audit().require_clean()


def test_a_blocked_key_stays_blocked_unasked(lab: Lab) -> None:
    for _ in range(5):
        lab.transfer("1", "2", "1")
    blocked = lab.transfer("1", "2", "1", key="k")
    lab.system.clock.advance(1_000)  # type: ignore[attr-defined]
    gate = counted(lab)
    again = lab.transfer("1", "2", "1", key="k")
    assert (again.payment, again.reason) == (blocked.payment, "fraud_blocked")
    assert gate.asked == []
    lab.audit().require_clean()


def test_parallel_duplicates_use_one_count(make_lab: MakeLab) -> None:
    """Nobody knows the key yet when all are asked about: those that were not made give back."""
    lab = make_lab(deterministic=False, fraud_gate="before", velocity_limit=50)
    gate = counted(lab)
    results: list[Outcome] = []
    for _ in range(40):
        request = PaymentRequest("1", "2", 100, "INR", "k")
        lab.system.engine.submit(request, results.append)
    wait_for(lambda: len(results) == 40, "all are answered")
    assert len({result.payment for result in results}) == 1
    made = results[0].payment
    assert made not in gate.cancelled
    assert sorted([made, *gate.cancelled]) == sorted(gate.asked)
    lab.drain()
    assert lab.balances()["1"] == OPENING_PAISE - 100
    # 49 more fit into the limit.
    rest = [lab.transfer("1", "2", "1").status for _ in range(50)]
    assert Counter(rest) == {"COMPLETED": 49, "FAILED": 1}
    lab.audit().require_clean()


@pytest.mark.parametrize(("receiver", "rupees"), [("2", "1000.01"), ("nobody", "1")])
def test_a_refused_payment_gives_its_count_back(lab: Lab, receiver: str, rupees: str) -> None:
    for _ in range(20):
        assert lab.transfer("1", receiver, rupees).status == "FAILED"
    assert [lab.transfer("1", "2", "1").status for _ in range(6)] == ["COMPLETED"] * 5 + ["FAILED"]
    lab.audit().require_clean()


def test_a_shard_that_is_down_gives_the_count_back(lab: Lab) -> None:
    gate = counted(lab)
    with lab.fault("shard-1", "down"):
        for _ in range(9):
            with pytest.raises(ShardUnavailable):
                lab.transfer("1", "2", "1")
            lab.system.clock.advance(1)  # type: ignore[attr-defined]
    assert gate.cancelled == gate.asked
    assert [lab.transfer("1", "2", "1").status for _ in range(6)] == ["COMPLETED"] * 5 + ["FAILED"]
    lab.audit().require_clean()


def test_an_unknown_outcome_keeps_its_count(lab: Lab) -> None:
    gate = counted(lab)
    with lab.fault("shard-1", "lost-commit-down"), pytest.raises(OutcomeUnknown):
        lab.transfer("1", "2", "1", key="k")
    assert gate.cancelled == []
    lab.system.clock.advance(1)  # type: ignore[attr-defined]
    assert lab.transfer("1", "2", "1", key="k").status == "COMPLETED"
    assert [lab.transfer("1", "2", "1").status for _ in range(5)] == ["COMPLETED"] * 4 + ["FAILED"]
    lab.audit().require_clean()


@pytest.mark.parametrize(
    ("policy", "status", "reason"),
    [("review", "HELD", ""), ("allow", "COMPLETED", ""), ("refuse", "FAILED", "fraud_blocked")],
)
def test_a_scorer_that_is_down(make_lab: MakeLab, policy: str, status: str, reason: str) -> None:
    lab = make_lab(fraud_gate="before", scorer_down=policy)
    with lab.fault("cache", "gone"):
        outcomes = [lab.transfer("1", "2", "1") for _ in range(3)]
    assert {(o.status, o.reason) for o in outcomes} == {(status, reason)}
    assert lab.system.engine.gate_unavailable >= 3
    assert len(lab.reviews()) == (3 if policy == "review" else 0)
    if policy == "review":
        assert lab.reviews()[0].rule == "scorer_down"
        assert lab.approve(outcomes[0].payment).status == "COMPLETED"
    assert total_paise(lab) == 12 * OPENING_PAISE
    lab.audit().require_clean()
