from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.fraud.lists import FROZEN, MULE, FraudLists
from paytm_lab.fraud.registry import ModelInput, ModelRegistry
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.scorer import Scorer, velocity_key

SETTINGS = RuleSettings(velocity_limit=5, velocity_window_s=60.0)
SECOND_US = 1_000_000


def candidate(
    number: int, sender: str = "asha", to: str = "shop", amount_paise: int = 100, at_us: int = 0
) -> Candidate:
    return Candidate(f"payment-{number}", sender, to, amount_paise, at_us)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def cache(clock: SimulatedClock) -> Iterator[EmbeddedCache]:
    cache = EmbeddedCache(clock)
    yield cache
    cache.close()


@pytest.fixture
def scorer(cache: EmbeddedCache) -> Scorer:
    return Scorer(SETTINGS, cache)


class NoCache:
    """A cache that does not answer."""

    def __getattr__(self, name: str) -> object:
        def call(*_arguments: object) -> object:
            raise Unavailable("no cache", place=name)

        return call


def decisions(verdicts: list[Verdict]) -> list[str]:
    return [str(v.decision) for v in verdicts]


def test_fifty_parallel_payments_against_a_limit_of_five(scorer: Scorer) -> None:
    start = threading.Barrier(50)
    verdicts: list[Verdict] = []

    def ask(number: int) -> None:
        start.wait()
        verdicts.extend(scorer.decide([candidate(number)]))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decisions(verdicts)) == ["allow"] * 5 + ["block"] * 45
    assert {v.rule for v in verdicts if v.decision is Decision.BLOCK} == {"velocity"}


def test_fifty_in_one_call_against_a_limit_of_five(scorer: Scorer) -> None:
    verdicts = scorer.decide([candidate(n) for n in range(50)])
    assert decisions(verdicts) == ["allow"] * 5 + ["block"] * 45


def test_other_senders_and_other_times_are_other_windows(scorer: Scorer) -> None:
    scorer.decide([candidate(n, "asha") for n in range(5)])
    assert decisions(scorer.decide([candidate(5, "ravi")])) == ["allow"]
    assert decisions(scorer.decide([candidate(6, "asha", at_us=59 * SECOND_US)])) == ["block"]
    assert decisions(scorer.decide([candidate(7, "asha", at_us=60 * SECOND_US)])) == ["allow"]


def test_the_same_payment_always_gets_the_same_verdict(scorer: Scorer) -> None:
    first = scorer.decide([candidate(n) for n in range(7)])
    assert scorer.decide([candidate(n) for n in reversed(range(7))]) == first[::-1]
    assert scorer.decide([candidate(3), candidate(3)]) == [first[3], first[3]]
    scorer.cancel(candidate(0))  # now there is room, and still the blocked one stays blocked
    assert scorer.decide([candidate(6)]) == [first[6]]
    assert decisions(scorer.decide([candidate(8)])) == ["allow"]
    assert decisions(scorer.decide([candidate(9)])) == ["block"]


def test_a_cancelled_payment_gives_its_place_back_once(scorer: Scorer) -> None:
    scorer.decide([candidate(n) for n in range(5)])
    scorer.cancel(candidate(2))
    scorer.cancel(candidate(2))
    assert decisions(scorer.decide([candidate(10), candidate(11)])) == ["allow", "block"]


def test_listed_users_are_blocked_and_take_no_place(cache: EmbeddedCache) -> None:
    lists = FraudLists()
    lists.add(FROZEN, ["cold"])
    lists.add(MULE, ["mule"])
    scorer = Scorer(SETTINGS, cache, lists=lists)
    to_mule = [candidate(n, "asha", to="mule") for n in range(10)]
    assert {(v.decision, v.rule) for v in scorer.decide(to_mule)} == {
        (Decision.BLOCK, "known_mule")
    }
    assert scorer.decide([candidate(20, "mule")])[0].rule == "known_mule"
    assert scorer.decide([candidate(21, "cold")])[0].rule == "frozen_user"
    assert decisions(scorer.decide([candidate(n) for n in range(30, 36)])) == [
        *["allow"] * 5,
        "block",
    ]
    lists.remove(FROZEN, ["cold"])
    assert decisions(scorer.decide([candidate(22, "cold")])) == ["allow"]
    with pytest.raises(BadInput, match="'friends' is not a fraud list"):
        lists.add("friends", ["asha"])


def test_what_a_model_blocks_takes_no_place(cache: EmbeddedCache) -> None:
    registry = ModelRegistry()
    registry.register(
        "large:1",
        lambda inputs: [min(1.0, i.candidate.amount_paise / 1000) for i in inputs],
        block_score=0.9,
    )
    scorer = Scorer(SETTINGS, cache, registry)
    assert decisions(scorer.decide([candidate(0, amount_paise=950)])) == ["allow"]
    registry.activate("large:1")
    blocked = scorer.decide([candidate(n, amount_paise=950) for n in range(1, 20)])
    # Those past the limit are named by the rule that comes first.
    assert {v.decision for v in blocked} == {Decision.BLOCK}
    assert blocked[0] == Verdict(0.95, Decision.BLOCK, "model", "large:1")
    small = scorer.decide([candidate(n, amount_paise=100) for n in range(30, 36)])
    assert decisions(small) == ["allow"] * 4 + ["block"] * 2
    assert small[0].model == "large:1"


def test_without_a_cache_or_with_a_broken_model_there_is_no_answer(cache: EmbeddedCache) -> None:
    scorer = Scorer(SETTINGS, NoCache())  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        scorer.decide([candidate(1)])
    with pytest.raises(Unavailable):
        scorer.cancel(candidate(1))
    with pytest.raises(Unavailable):
        scorer.score([candidate(1)])
    registry = ModelRegistry()
    registry.register("broken:1", lambda inputs: [], block_score=0.9)
    registry.activate("broken:1")
    with pytest.raises(Unavailable, match="broken:1"):
        Scorer(SETTINGS, cache, registry).decide([candidate(1)])


def test_blind_scores_know_amount_and_lists_and_keep_the_floor() -> None:
    lists = FraudLists()
    lists.add(MULE, ["mule"])
    scorer = Scorer(SETTINGS, NoCache(), lists=lists)  # type: ignore[arg-type]
    asked = [candidate(1), candidate(2, amount_paise=900_000), candidate(3, to="mule")]
    by_review = [s.verdict for s in scorer.score_blind(asked, Decision.REVIEW)]
    assert [(v.decision, v.rule) for v in by_review] == [
        (Decision.REVIEW, "scorer_down"),
        (Decision.REVIEW, "amount"),
        (Decision.BLOCK, "known_mule"),
    ]
    by_allow = [s.verdict.decision for s in scorer.score_blind(asked, Decision.ALLOW)]
    assert by_allow == [Decision.ALLOW, Decision.REVIEW, Decision.BLOCK]


def test_after_posting_counts_follow_business_time_whatever_the_order(scorer: Scorer) -> None:
    posted = [candidate(n, at_us=n * SECOND_US) for n in range(8)]
    expected = {f"payment-{n}": n + 1 for n in range(8)}
    mixed = [posted[n] for n in (5, 0, 7, 2, 6, 1, 4, 3)]
    for _ in range(2):  # asking again counts nothing twice
        scored = scorer.score(mixed)
        counts = {c.payment_id: s.velocity_count for c, s in zip(mixed, scored, strict=True)}
        assert counts == expected
        blocked = [
            c.payment_id for c, s in zip(mixed, scored, strict=True) if s.verdict.rule == "velocity"
        ]
        assert sorted(blocked) == ["payment-5", "payment-6", "payment-7"]


def test_a_preview_counts_nothing_and_says_what_would_be(
    scorer: Scorer, clock: SimulatedClock
) -> None:
    for number in range(5):
        now_us = number * SECOND_US
        (preview,) = scorer.preview([candidate(100, at_us=now_us)])
        assert (preview.verdict.decision, preview.facts.velocity_count) == ("allow", number + 1)
        assert decisions(scorer.decide([candidate(number, at_us=now_us)])) == ["allow"]
    previews = scorer.preview([candidate(n, at_us=5 * SECOND_US) for n in range(200, 240)])
    assert {(p.verdict.rule, p.facts.velocity_count) for p in previews} == {("velocity", 6)}
    # What it would be at another time, and for another sender.
    later, other = scorer.preview(
        [candidate(300, at_us=63 * SECOND_US), candidate(301, sender="other", at_us=SECOND_US)]
    )
    assert (later.facts.velocity_count, other.facts.velocity_count) == (2, 1)
    assert scorer.preview([]) == []


class ChangesRules:
    """A cache that has the rules changed whenever it is asked."""

    def __init__(self, inner: EmbeddedCache) -> None:
        self._inner = inner
        self.scorer: Scorer | None = None
        self.limits = itertools.cycle([1, 1_000])

    def __getattr__(self, name: str) -> object:
        if self.scorer is not None:
            limit = next(self.limits)
            self.scorer.use(RuleSettings(velocity_limit=limit, version=limit))
        return getattr(self._inner, name)


def test_one_call_judges_by_one_version_of_the_rules(cache: EmbeddedCache) -> None:
    changing = ChangesRules(cache)
    first = RuleSettings(velocity_limit=5, version=5)
    scorer = changing.scorer = Scorer(first, changing)  # type: ignore[arg-type]
    for number in range(0, 200, 10):
        batch = [candidate(number + n, sender=f"s-{number}", at_us=n) for n in range(10)]
        scored = scorer.score(batch)
        assert len({each.rules_version for each in scored}) == 1
        passed = sum(each.verdict.decision == "allow" for each in scored)
        assert passed == min(10, scored[0].rules_version)
        batch = [candidate(number + n, sender=f"d-{number}", at_us=n) for n in range(10)]
        passed = decisions(scorer.decide(batch)).count("allow")
        assert passed == len(cache.arrivals(f"fraud:velocity:d-{number}", -1))
        assert passed in (1, 10)


MODEL_BLOCKS_PAISE = 900
ASKED = st.lists(
    st.tuples(st.sampled_from(["asha", "ravi"]), st.sampled_from([100, 850, 950])), max_size=24
)


@settings(deadline=None)
@given(ASKED)
def test_many_are_told_what_each_would_be_told_after_the_others(
    asked: list[tuple[str, int]],
) -> None:
    """Also where the model blocks some, which then are not counted, and looks at the count."""

    def predict(inputs: Sequence[ModelInput]) -> list[float]:
        return [min(1.0, (i.candidate.amount_paise + 20 * i.velocity_count) / 1000) for i in inputs]

    candidates = [candidate(n, who, amount_paise=p) for n, (who, p) in enumerate(asked)]
    told, counted = [], []
    for together in (True, False):
        cache, registry = EmbeddedCache(SimulatedClock()), ModelRegistry()
        registry.register("m", predict, block_score=MODEL_BLOCKS_PAISE / 1000, review_score=0.86)
        registry.activate("m")
        scorer = Scorer(SETTINGS, cache, registry)
        told.append(
            scorer.decide(candidates)
            if together
            else [verdict for each in candidates for verdict in scorer.decide([each])]
        )
        counted.append([cache.arrivals(velocity_key(who), -1) for who in ("asha", "ravi")])
    assert told[0] == told[1]
    assert counted[0] == counted[1]
