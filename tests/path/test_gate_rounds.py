"""Payments that are admitted together are asked about together, and hear what each would have heard
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paytm_lab import Lab, Workload
from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import (
    BadInput,
    InvalidUserId,
    Overloaded,
    PaytmLabError,
    ShardUnavailable,
)
from paytm_lab.core.fraud import Candidate, Verdict
from paytm_lab.core.ids import payment_id_text
from paytm_lab.fraud.lists import FROZEN, FraudLists
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.scorer import Scorer, velocity_key
from paytm_lab.ledger import queries
from paytm_lab.ledger.gate_round import ROUND_MAX, GateRounds
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from paytm_lab.ledger.shard_writer import SimulatedCrash
from paytm_lab.ports.fraud_gate import FraudGate
from tests.path.conftest import OPENING_PAISE, MakeLab
from tests.path.ways import crash_at, step_until, total_paise
from tests.unit.ledger_world import LedgerWorld

LIMIT = 3


class Asked:
    """A gate that remembers the sizes of its rounds."""

    def __init__(self, gate: FraudGate) -> None:
        self._gate = gate
        self.rounds: list[int] = []
        self.cancelled: list[str] = []

    def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.rounds.append(len(candidates))
        return self._gate.decide(candidates)

    def cancel(self, candidate: Candidate) -> None:
        self.cancelled.append(candidate.payment_id)
        self._gate.cancel(candidate)


def watched(lab: Lab) -> Asked:
    gate = lab.system.engine.gate
    assert gate is not None
    lab.system.engine.gate = spy = Asked(gate)
    return spy


def pay_round(
    lab: Lab, requests: Sequence[PaymentRequest], finish: bool = True
) -> list[Result | None]:
    """Submitted in one call; the answers in the order of the requests."""
    results: list[Result | None] = [None] * len(requests)

    def answer(place: int, result: Result) -> None:
        results[place] = result

    answers = [lambda result, n=n: answer(n, result) for n in range(len(requests))]
    for place, said in enumerate(lab.system.engine.submit_many(requests, answers)):
        if isinstance(said, PaytmLabError):
            results[place] = said
    if finish:
        step_until(lab, lambda: None not in results, "all are answered")
    return results


def said_of(results: Sequence[Result | None]) -> Counter[tuple[str, str]]:
    return Counter((r.status, r.reason) for r in results if isinstance(r, Outcome))


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(fraud_gate="before", velocity_limit=5)


# -- the same as one by one ------------------------------------------------------------------------


class GateWorld(LedgerWorld):
    """Users 0 to 5, of whom the last is frozen; nobody else exists."""

    def __init__(self, folder: Path, opening_paise: int = 6_000_00) -> None:
        folder.mkdir()
        super().__init__(folder)
        lists = FraudLists()
        lists.add(FROZEN, ["5"])
        rules = RuleSettings(velocity_limit=LIMIT, review_score=0.5)
        self.cache = EmbeddedCache(self.clock)
        self.engine.gate = Scorer(rules, self.cache, lists=lists)
        self.engine.gate_rounds = GateRounds(
            "review", lambda shard, keys: queries.known_keys(self.databases[shard], keys)
        )
        self.open_accounts(6, opening_paise)
        self.named: dict[bytes, tuple[int, int]] = {}  # payment -> its round and place there

    def begin(
        self,
        requests: Sequence[PaymentRequest],
        together: bool,
        number: int,
        places: Sequence[int] | None = None,
    ) -> dict[int, Any]:
        """What is said of those at ``places`` (None: all) of round ``number`` once they have
        settled: nothing moves in between.
        """
        said: dict[int, Any] = {}
        asked = range(len(requests)) if places is None else places
        answers = [partial(said.__setitem__, n) for n in asked]
        if together:
            begun = self.engine.submit_many([requests[n] for n in asked], answers)
        else:
            begun = [self._alone(requests[n], a) for n, a in zip(asked, answers, strict=True)]
        for place, started in zip(asked, begun, strict=True):
            if isinstance(started, PaytmLabError):
                said[place] = started
            else:
                self.named[started] = (number, place)
        self.settle()
        assert sorted(said) == sorted(asked)
        return {n: self._words(result) for n, result in said.items()}

    def _words(self, r: Result) -> Any:
        if isinstance(r, PaytmLabError):
            said = r.message
            for payment_id, name in self.named.items():
                said = said.replace(payment_id_text(payment_id), str(name))
            return type(r).__name__, said
        decided = (str(r.fraud_decision), r.fraud_rule, r.fraud_score)
        return (r.status, r.reason, r.repeated, self.named[r.payment_id], *decided)

    def one_by_one(self, requests: Sequence[PaymentRequest], number: int) -> dict[int, Any]:
        """Each is asked for when the one before it has settled."""
        said: dict[int, Any] = {}
        for place in range(len(requests)):
            said |= self.begin(requests, False, number, [place])
        return said

    def counts(self) -> dict[str, list[int]]:
        """The business times of each sender's payments that count."""
        return {
            user: [hit.at_us for hit in self.cache.arrivals(velocity_key(user), 0)]
            for user in "012345"
        }

    def _alone(self, request: PaymentRequest, answer: Any) -> bytes | PaytmLabError:
        try:
            return self.engine.submit(request, answer)
        except PaytmLabError as error:
            return error

    def stored(self) -> list[Any]:
        return [
            self.query(shard, f"SELECT * FROM {table} ORDER BY 1")
            for shard in self.databases
            for table in ("accounts", "transactions", "ledger_entries", "outbox_events", "holds")
        ]

    def balances(self) -> list[Any]:
        return [
            self.query(shard, "SELECT user_id, balance, held FROM accounts ORDER BY 1")
            for shard in self.databases
        ]


PAYMENT = st.builds(
    PaymentRequest,
    st.sampled_from(["0", "1", "5", "7"]),  # nobody is named 7
    st.sampled_from(["0", "2", "3", "7", ""]),
    st.sampled_from([100, 4_000_00, 5_500_00]),  # passes; is more than is there twice; is reviewed
    st.just("INR"),
    st.sampled_from(["", "", "k", "l"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(PAYMENT, min_size=1, max_size=12), min_size=1, max_size=3))
def test_a_round_hears_what_one_by_one_would(rounds: list[list[PaymentRequest]]) -> None:
    """Keys come again within a round and after it; senders are missing, frozen, poor, too quick.
    A key's later payments are as if they were asked for when the others have settled.
    """
    with TemporaryDirectory() as folder:
        alone, together = (GateWorld(Path(folder, name)) for name in ("alone", "together"))
        same_ids = True
        for number, requests in enumerate(rounds):
            firsts, repeats = by_key(requests)
            said = alone.begin(requests, False, number, firsts)
            if repeats:
                said |= alone.begin(requests, False, number, repeats)
                same_ids = False  # they were drawn in another order
            assert together.begin(requests, True, number) == said
            assert together.engine.admission.in_flight == 0
        if same_ids:
            assert together.stored() == alone.stored()
        assert together.balances() == alone.balances()
        counted = [{user: len(at) for user, at in w.counts().items()} for w in (alone, together)]
        assert counted[0] == counted[1]
        for world in (alone, together):
            world.relay()
            world.audit().require_clean()
            world.close()


def by_key(requests: Sequence[PaymentRequest]) -> tuple[list[int], list[int]]:
    """Places of those that are the first well-formed one of their key, or have none; the others."""
    seen: set[tuple[str, str]] = set()
    firsts, repeats = [], []
    for n, each in enumerate(requests):
        key = (each.from_user_id, each.idempotency_key)
        wrong = each.to_user_id in ("", each.from_user_id)
        if each.idempotency_key and not wrong and key in seen:
            repeats.append(n)
        else:
            firsts.append(n)
            if not wrong:
                seen.add(key)
    return firsts, repeats


SOME_KEYS = st.builds(
    PaymentRequest,
    st.sampled_from(["0", "1", "5"]),
    st.sampled_from(["2", "3"]),
    st.sampled_from([100, 4_000_00, 5_500_00]),
    st.just("INR"),
    st.sampled_from(["", "k", "l"]),
    at_us=st.integers(1, 5),  # the clock moves between one and the next, business time as given
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(SOME_KEYS, min_size=1, max_size=10), min_size=1, max_size=2))
def test_a_key_that_comes_again_in_a_round_changes_nothing_for_others(
    rounds: list[list[PaymentRequest]],
) -> None:
    """As if each were asked for when the one before was done. Nobody is poor here: money that is
    found missing after the gate gives its count back, and one by one that is before the next.
    """
    with TemporaryDirectory() as folder:
        rich = 10**10
        alone, together = (GateWorld(Path(folder, name), rich) for name in ("alone", "together"))
        for number, requests in enumerate(rounds):
            said = together.begin(requests, True, number)
            assert said == alone.one_by_one(requests, number)
            assert together.counts() == alone.counts()
            assert together.balances() == alone.balances()
            assert together.engine.admission.in_flight == 0
        for world in (alone, together):
            world.relay()
            world.audit().require_clean()
            world.close()


def test_exactly_as_many_of_a_round_pass_as_may(lab: Lab) -> None:
    gate = watched(lab)
    results = pay_round(lab, [PaymentRequest("1", "25"[n % 2], 100) for n in range(50)])
    assert said_of(results) == {("COMPLETED", ""): 5, ("FAILED", "fraud_blocked"): 45}
    assert [r.status for r in results[:5] if isinstance(r, Outcome)] == ["COMPLETED"] * 5
    assert gate.rounds == [50]
    assert lab.balances()["1"] == OPENING_PAISE - 500
    lab.drain()
    lab.audit().require_clean()


def test_a_round_is_cut(make_lab: MakeLab) -> None:
    lab = make_lab(fraud_gate="before")
    gate = watched(lab)
    results = pay_round(lab, [PaymentRequest("1", "2", 1)] * (2 * ROUND_MAX + 3))
    assert said_of(results) == {("COMPLETED", ""): 2 * ROUND_MAX + 3}
    assert gate.rounds == [ROUND_MAX, ROUND_MAX, 3]


def test_of_one_key_in_a_round_one_payment_is_made_and_one_count_kept(lab: Lab) -> None:
    gate = watched(lab)
    results = pay_round(lab, [PaymentRequest("1", "2", 100, "INR", "k")] * 4)
    assert {r.payment for r in results if isinstance(r, Outcome)} == {results[0].payment}  # type: ignore[union-attr]
    assert [r.repeated for r in results if isinstance(r, Outcome)] == [False, True, True, True]
    assert gate.cancelled == [], "the later ones were not asked about"
    again = pay_round(lab, [PaymentRequest("1", "2", 100, "INR", "k")] * 9)
    assert {r.repeated for r in again if isinstance(r, Outcome)} == {True}
    assert gate.rounds == [1], "a known key is answered unasked"
    rest = pay_round(lab, [PaymentRequest("1", "2", 100)] * 6)
    assert said_of(rest) == {("COMPLETED", ""): 4, ("FAILED", "fraud_blocked"): 2}


def test_what_is_not_made_gives_its_count_back(lab: Lab) -> None:
    poor = [PaymentRequest("1", "2", OPENING_PAISE + 1), PaymentRequest("1", "nobody", 1)]
    for _ in range(3):
        assert set(said_of(pay_round(lab, poor))) == {
            ("FAILED", "insufficient_funds"), ("FAILED", "unknown_receiver"),
        }  # fmt: skip
    rest = pay_round(lab, [PaymentRequest("1", "2", 100)] * 6)
    assert said_of(rest) == {("COMPLETED", ""): 5, ("FAILED", "fraud_blocked"): 1}


# -- parts that are away ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("review", ("HELD", "")),
        ("allow", ("COMPLETED", "")),
        ("refuse", ("FAILED", "fraud_blocked")),
    ],
)
def test_a_scorer_that_is_down_in_a_round(
    make_lab: MakeLab, policy: str, said: tuple[str, str]
) -> None:
    lab = make_lab(fraud_gate="before", scorer_down=policy)
    with lab.fault("cache", "gone"):
        results = pay_round(lab, [PaymentRequest("1", "2", 100)] * 7)
    assert said_of(results) == {said: 7}
    assert lab.system.engine.gate_unavailable >= 7
    assert {r.fraud_rule for r in results if isinstance(r, Outcome)} == {"scorer_down"}
    assert said_of(pay_round(lab, [PaymentRequest("1", "2", 100)] * 2)) == {("COMPLETED", ""): 2}
    lab.audit().require_clean()


def test_an_error_about_one_is_that_ones_alone(lab: Lab) -> None:
    gate = lab.system.engine.gate
    assert gate is not None

    class Picky(Asked):
        def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
            verdicts = super().decide(candidates)
            if any(c.amount_paise == 13 for c in candidates):
                raise BadInput("thirteen is no amount")
            return verdicts

    lab.system.engine.gate = Picky(gate)
    results = pay_round(lab, [PaymentRequest("1", "2", n) for n in (12, 13, 14)])
    assert isinstance(results[1], BadInput)
    assert said_of(results) == {("COMPLETED", ""): 2}
    assert lab.system.engine.admission.in_flight == 0


def test_a_key_whose_first_payment_cannot_be_judged_is_the_next_ones(lab: Lab) -> None:
    gate = lab.system.engine.gate
    assert gate is not None

    class Picky(Asked):
        def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
            if any(c.amount_paise == 13 for c in candidates):
                raise BadInput("thirteen is no amount")
            return super().decide(candidates)

    lab.system.engine.gate = picky = Picky(gate)
    results = pay_round(lab, [PaymentRequest("1", "2", n, "INR", "k") for n in (13, 13, 12, 12)])
    assert [isinstance(r, BadInput) for r in results] == [True, True, False, False]
    assert [r.repeated for r in results if isinstance(r, Outcome)] == [False, True]
    assert picky.rounds == [1]
    assert lab.system.engine.admission.in_flight == 0
    assert lab.balances()["1"] == OPENING_PAISE - 12


def test_a_key_whose_first_payment_is_not_made_is_posted_by_none_unasked(lab: Lab) -> None:
    """Its shard goes away between the verdict and the posting: all of the key hear the same."""
    requests = [PaymentRequest("1", "5", 100, "INR", "k")] * 3
    results = pay_round(lab, requests, finish=False)
    with lab.fault("shard-1", "down"):
        step_until(lab, lambda: None not in results, "all are answered")
    assert len({type(r) for r in results}) == 1 and isinstance(results[0], PaytmLabError)
    assert lab.system.engine.admission.in_flight == 0
    assert lab.balances()["1"] == OPENING_PAISE
    assert isinstance(lab.system.clock, SimulatedClock)
    lab.system.clock.advance(1.0)
    assert said_of(pay_round(lab, [PaymentRequest("1", "5", 7)])) == {("COMPLETED", ""): 1}
    gate = watched(lab)
    again = pay_round(lab, requests)
    assert said_of(again) == {("COMPLETED", ""): 3} and gate.rounds == [1]
    assert lab.balances()["1"] == OPENING_PAISE - 107


def test_a_shard_that_is_down_refuses_its_own_of_a_round(lab: Lab) -> None:
    gate = watched(lab)
    requests = [PaymentRequest(user, "6", 100, "INR", "k") for user in ("1", "2", "5", "0")]
    with lab.fault("shard-1", "down"):
        results = pay_round(lab, requests)
    assert [type(r) for r in results] == [ShardUnavailable, Outcome, ShardUnavailable, Outcome]
    assert gate.rounds == [2], "whose keys nobody could look for were not asked about"
    assert lab.system.engine.admission.in_flight == 0
    assert said_of(pay_round(lab, requests)) == {("COMPLETED", ""): 4}


def test_a_gate_that_breaks_keeps_no_room(lab: Lab) -> None:
    class Broken(Exception):
        pass

    class Breaks:
        def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
            raise Broken

        def cancel(self, candidate: Candidate) -> None:
            raise Broken

    lab.system.engine.gate = Breaks()
    with pytest.raises(Broken):
        pay_round(lab, [PaymentRequest("1", "2", 100)] * 3)
    assert lab.system.engine.admission.in_flight == 0
    assert lab.balances()["1"] == OPENING_PAISE


# -- room, and words -------------------------------------------------------------------------------


def test_without_room_for_all_a_round_ends_early(make_lab: MakeLab) -> None:
    lab = make_lab(fraud_gate="before", in_flight_max=4)
    requests = [PaymentRequest("1", "2", n) for n in (1, 2, 3, 4, 5, 6)]
    results: list[Result] = []
    begun = lab.system.engine.submit_many(requests, [results.append] * 6)
    assert len(begun) == 4
    with pytest.raises(Overloaded):
        lab.system.engine.submit_many(requests[4:], [results.append] * 2)
    step_until(lab, lambda: len(results) == 4, "the first four are answered")
    assert len(pay_round(lab, requests[4:])) == 2
    assert lab.balances()["1"] == OPENING_PAISE - 21


def test_a_wrong_word_is_one_payments_alone(lab: Lab) -> None:
    gate = watched(lab)
    wrong = [PaymentRequest("1", "", 1), PaymentRequest("1", "1", 1), PaymentRequest("1", "2", 0)]
    results = pay_round(lab, [*wrong, PaymentRequest("1", "2", 1)])
    assert isinstance(results[0], InvalidUserId)
    assert [getattr(r, "code", "") for r in results[1:3]] == ["same_account", "invalid_amount"]
    assert said_of(results) == {("COMPLETED", ""): 1}
    assert gate.rounds == [1]
    assert lab.system.engine.submit_many([], []) == []


# -- crashes ---------------------------------------------------------------------------------------


def test_a_crash_between_the_verdicts_and_the_posting_leaves_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(fraud_gate="before")
    gate = lab.system.engine.gate
    assert gate is not None

    class Dies(Asked):
        def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
            super().decide(candidates)
            raise SimulatedCrash("after the verdicts")

    lab.system.engine.gate = Dies(gate)
    requests = [PaymentRequest("1", "2", 100, "INR", f"k{n}") for n in range(3)]
    with pytest.raises(SimulatedCrash):
        pay_round(lab, requests)
    lab.crash()
    lab.recover()
    assert lab.balances()["1"] == OPENING_PAISE
    assert said_of(pay_round(lab, requests)) == {("COMPLETED", ""): 3}
    lab.drain()
    lab.audit().require_clean()


@pytest.mark.parametrize("point", ["writer:committed", "leg_a:committed", "leg_b:committed"])
def test_a_crash_within_a_round_is_recovered_from(make_lab: MakeLab, point: str) -> None:
    lab = make_lab(fraud_gate="before")
    requests = [PaymentRequest("1", "256"[n % 3], 100, "INR", f"k{n}") for n in range(9)]
    crash_at(lab, point)
    pay_round(lab, requests, finish=False)
    step_until(lab, lambda: bool(lab.crashed_at), f"{point} is reached")
    lab.recover()
    results = pay_round(lab, requests)  # the same keys: what was made is not made again
    assert said_of(results) == {("COMPLETED", ""): 9}
    assert lab.balances()["1"] == OPENING_PAISE - 900
    assert total_paise(lab) == 12 * OPENING_PAISE
    lab.drain()
    lab.audit().require_clean()


# -- who submits in rounds -------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 32])
def test_a_run_asks_in_rounds_of_what_it_has_in_flight(make_lab: MakeLab, in_flight: int) -> None:
    lab = make_lab(users=0, fraud_gate="before")
    gate = watched(lab)
    run = lab.run(Workload(users=40, payments=120), in_flight=in_flight)
    assert sum(gate.rounds) == len(run.payments) == 120
    assert gate.rounds[0] == max(gate.rounds) == in_flight
    lab.audit().require_clean()
