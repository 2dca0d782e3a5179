"""A key that comes again while its first payment is in flight, in whatever round: it waits for the
first one's answer, and is not asked about.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paytm_lab import Lab
from paytm_lab.core.errors import BadInput, PaytmLabError, ShardUnavailable, Unavailable
from paytm_lab.core.fraud import Candidate, Verdict
from paytm_lab.fraud.scorer import velocity_key
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from paytm_lab.ports.fraud_gate import FraudGate
from tests.path.conftest import OPENING_PAISE, MakeLab
from tests.path.test_gate_rounds import PAYMENT, Asked, GateWorld, by_key
from tests.path.ways import step_until

PICKY_PAISE = 13
KEYED = PaymentRequest("1", "2", 100, "INR", "k")


class Gate(Asked):
    """Cannot judge ``PICKY_PAISE``. ``meanwhile``: called once each while it is being asked."""

    def __init__(self, gate: FraudGate) -> None:
        super().__init__(gate)
        self.judged: list[Candidate] = []
        self.meanwhile: list[Callable[[], object]] = []

    def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        while self.meanwhile:
            self.meanwhile.pop(0)()
        if any(c.amount_paise == PICKY_PAISE for c in candidates):
            raise BadInput("thirteen is no amount")
        verdicts = super().decide(candidates)
        self.judged += candidates
        return verdicts


class KeyWorld(GateWorld):
    def __init__(self, folder: Path, opening_paise: int = 10**10) -> None:
        super().__init__(folder, opening_paise)
        assert self.engine.gate is not None
        self.engine.gate = self.gate = Gate(self.engine.gate)
        self.said: dict[tuple[int, int], list[Result]] = {}

    def put(self, number: int, requests: Sequence[PaymentRequest]) -> None:
        """Submitted in one call; nothing moves."""
        answers = [self.said.setdefault((number, n), []) for n in range(len(requests))]
        begun = self.engine.submit_many(requests, [each.append for each in answers])
        for n, said in enumerate(begun):
            if isinstance(said, PaytmLabError):
                answers[n].append(said)
            else:
                self.named[said] = (number, n)

    def all_said(self) -> dict[tuple[int, int], Result]:
        """One answer each, when all has settled and nothing is left over."""
        self.settle()
        assert all(len(answers) == 1 for answers in self.said.values())
        assert self.engine.admission.in_flight == 0
        assert self.engine.gate_rounds.keys_in_flight == 0
        return {place: answers[0] for place, answers in self.said.items()}

    def velocity(self) -> dict[str, int]:
        return {user: len(at) for user, at in self.counts().items()}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(PAYMENT, min_size=1, max_size=6), min_size=2, max_size=4))
def test_rounds_in_flight_hear_what_one_round_of_all_would(
    rounds: list[list[PaymentRequest]],
) -> None:
    """No round has moved when the next one comes. Senders are missing, frozen, poor, too quick."""
    with TemporaryDirectory() as folder:
        alone, apart = (KeyWorld(Path(folder, name), 6_000_00) for name in ("alone", "apart"))
        places = [(number, n) for number, each in enumerate(rounds) for n in range(len(each))]
        requests = [request for each in rounds for request in each]
        firsts, repeats = by_key(requests)
        said = alone.begin(requests, False, 0, firsts)
        if repeats:
            said |= alone.begin(requests, False, 0, repeats)
        for number, each in enumerate(rounds):
            apart.put(number, each)
        flat = {(0, at): place for at, place in enumerate(places)}
        named = {flat[0, at]: words(one, flat) for at, one in said.items()}
        assert {place: apart._words(one) for place, one in apart.all_said().items()} == named
        assert apart.balances() == alone.balances()
        assert apart.velocity() == alone.velocity()
        assert len(apart.gate.judged) == len(alone.gate.judged)
        for world in (alone, apart):
            world.relay()
            world.audit().require_clean()
            world.close()


def words(said: tuple[Any, ...], flat: dict[tuple[int, int], tuple[int, int]]) -> tuple[Any, ...]:
    """With the names that payments have in rounds; errors name them in their text."""
    if len(said) == 2:
        text = said[1]
        for old, new in flat.items():
            text = text.replace(str(old), str(new))
        return said[0], text
    return (*said[:3], flat[said[3]], *said[4:])


SOME = st.builds(
    PaymentRequest,
    st.sampled_from(["0", "1"]),
    st.sampled_from(["2", "3"]),
    st.sampled_from([100, 200, PICKY_PAISE]),
    st.just("INR"),
    st.sampled_from(["", "k", "k", "l"]),
)
ROUND = st.lists(SOME, min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ROUND, st.sampled_from(["nested", "later"]), st.integers(0, 6)),
                min_size=1, max_size=5))  # fmt: skip
def test_whenever_it_comes_a_key_is_judged_once(
    script: list[tuple[list[PaymentRequest], str, int]],
) -> None:
    """Each round comes while the gate is asked about the one before it (nested), or after so many
    steps of writers. Some payments cannot be judged, and whoever waited for them takes over.
    """
    with TemporaryDirectory() as folder:
        world = KeyWorld(Path(folder, "world"))
        asked: dict[tuple[int, int], PaymentRequest] = {}
        shards = sorted(world.databases)
        for number, (requests, when, steps) in enumerate(script):
            asked |= {(number, n): request for n, request in enumerate(requests)}
            if when == "nested" and number + 1 < len(script):
                world.gate.meanwhile.append(partial(world.put, number, requests))
                continue
            world.put(number, requests)
            for n in range(steps):
                world.step(shards[n % len(shards)])
        while world.gate.meanwhile:  # the gate was not asked any more
            world.gate.meanwhile.pop(0)()
        said = world.all_said()
        assert said.keys() == asked.keys()
        of_key: dict[tuple[str, str], set[str]] = {}
        payer: dict[str, str] = {}
        standing: Counter[str] = Counter()
        for place, request in asked.items():
            result = said[place]
            if isinstance(result, BadInput):
                assert request.amount_paise == PICKY_PAISE
            elif isinstance(result, Outcome):
                payer[result.payment] = request.from_user_id
                if not result.repeated and result.status != "FAILED":
                    standing[request.from_user_id] += 1
                if request.idempotency_key:
                    key = (request.from_user_id, request.idempotency_key)
                    of_key.setdefault(key, set()).add(result.payment)
        assert all(len(payments) == 1 for payments in of_key.values())
        assert Counter(c.payment_id for c in world.gate.judged) == Counter(payer.keys()), (
            "each once"
        )
        assert Counter(world.velocity()) == standing, "what stands counts, and nothing else"
        world.relay()
        world.audit().require_clean()
        world.close()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(fraud_gate="before", velocity_limit=2)


def gate_of(lab: Lab) -> Gate:
    assert lab.system.engine.gate is not None
    lab.system.engine.gate = gate = Gate(lab.system.engine.gate)
    return gate


def again(lab: Lab, count: int, into: list[Result]) -> None:
    for _ in range(count):
        lab.system.engine.submit(KEYED, into.append)


def test_of_a_key_that_comes_again_and_again_one_count_is_taken(lab: Lab) -> None:
    """With a limit of two the second payment of another key passes, whatever else is in flight."""
    gate = gate_of(lab)
    said: list[Result] = []
    again(lab, 5, said)
    other: list[Result] = []
    lab.system.engine.submit(PaymentRequest("1", "5", 7, "INR", "other"), other.append)
    step_until(lab, lambda: len(said) == 5 and len(other) == 1, "all are answered")
    assert [r.repeated for r in said if isinstance(r, Outcome)] == [False] + [True] * 4
    assert isinstance(other[0], Outcome) and other[0].status == "COMPLETED"
    assert gate.rounds == [1, 1] and gate.cancelled == []
    assert len(lab.system.cache.arrivals(velocity_key("1"), 0)) == 2
    assert lab.balances()["1"] == OPENING_PAISE - 107


def test_another_payment_under_a_key_in_flight_is_refused_when_that_is_answered(lab: Lab) -> None:
    gate = gate_of(lab)
    said: list[Result] = []
    again(lab, 1, said)
    lab.system.engine.submit(PaymentRequest("1", "2", 101, "INR", "k"), said.append)
    step_until(lab, lambda: len(said) == 2, "both are answered")
    assert isinstance(said[0], Outcome) and said[0].status == "COMPLETED"
    assert getattr(said[1], "code", "") == "idempotency_conflict"
    assert gate.rounds == [1] and lab.balances()["1"] == OPENING_PAISE - 100


def test_whoever_waits_hears_the_error_that_the_first_one_hears(make_lab: MakeLab) -> None:
    lab = make_lab(fraud_gate="before")
    said: list[Result] = []
    request = PaymentRequest("1", "5", 100, "INR", "k")
    for _ in range(3):
        lab.system.engine.submit(request, said.append)
    with lab.fault("shard-1", "down"):
        step_until(lab, lambda: len(said) == 3, "all are answered")
    assert len({type(r) for r in said}) == 1 and isinstance(said[0], PaytmLabError)
    assert lab.system.engine.admission.in_flight == 0
    assert lab.system.engine.gate_rounds.keys_in_flight == 0
    assert lab.balances()["1"] == OPENING_PAISE


class Broken(Exception):
    pass


def test_a_round_that_breaks_leaves_none_of_another_one_waiting(lab: Lab) -> None:
    """The second round repeats a key of the first while the gate is asked about that, and a key
    that the first one repeats is in flight already.
    """
    gate = gate_of(lab)
    engine = lab.system.engine
    earlier: list[Result] = []
    engine.submit(PaymentRequest("1", "2", 5, "INR", "early"), earlier.append)
    waits: list[Result] = []

    def come_and_break() -> None:
        engine.submit(KEYED, waits.append)
        raise Broken

    gate.meanwhile.append(come_and_break)
    own: list[Result] = []
    with pytest.raises(Broken):
        engine.submit_many(
            [KEYED, PaymentRequest("1", "2", 5, "INR", "early"), KEYED], [own.append] * 3
        )
    assert [type(r) for r in waits] == [Unavailable]
    assert "not begun" in str(waits[0])
    step_until(lab, lambda: len(earlier) == 1, "the earlier one is answered")
    assert own == [], "who heard the exception hears nothing else"
    assert engine.admission.in_flight == 0 and engine.gate_rounds.keys_in_flight == 0
    assert lab.balances()["1"] == OPENING_PAISE - 5
    assert lab.transfer("1", "2", "1.00").status == "COMPLETED"


def test_a_shard_that_cannot_be_asked_for_keys_keeps_nobody_waiting(lab: Lab) -> None:
    engine = lab.system.engine
    said: list[Result] = []
    with lab.fault("shard-1", "down"):
        for _ in range(3):
            with suppress(ShardUnavailable):
                engine.submit(PaymentRequest("1", "6", 100, "INR", "k"), said.append)
    assert said == [] and engine.gate_rounds.keys_in_flight == 0
    assert engine.admission.in_flight == 0


@pytest.mark.parametrize("threads", [8])
def test_many_threads_with_one_key(tmp_path: Path, threads: int) -> None:
    """Against real writers' threads: each key is judged once, and all hear of one payment."""
    with Lab(data=tmp_path / "lab", seed=7, fraud_gate="before", velocity_limit=1_000) as lab:
        for user in ("asha", "ravi"):
            lab.create_account(user, "1000")
        gate = gate_of(lab)
        together = threading.Barrier(threads)

        def pay(_: int) -> list[str]:
            payments = []
            for n in range(25):
                together.wait()
                request = PaymentRequest("asha", "ravi", 100, "INR", f"k{n}")
                payments.append(lab.system.engine.transfer(request).payment)
            return payments

        with ThreadPoolExecutor(threads) as pool:
            heard = set(map(tuple, pool.map(pay, range(threads))))
        assert len(heard) == 1 and len(set(next(iter(heard)))) == 25
        assert Counter(c.payment_id for c in gate.judged) == Counter(next(iter(heard)))
        assert lab.system.engine.gate_rounds.keys_in_flight == 0
        assert lab.balances()["asha"] == 100_000 - 2_500
        lab.drain()
        lab.audit().require_clean()
