from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.fraud import Decision, Verdict
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.fraud.rules import Facts, RuleSettings, Thresholds, amount_score, at_least, judge

SETTINGS = RuleSettings(velocity_limit=5, velocity_window_s=60.0)


@pytest.mark.parametrize(
    ("amount_paise", "score", "decision"),
    [
        (1, 0.000001, Decision.ALLOW),
        (100, 0.0001, Decision.ALLOW),
        (699_999, 0.699999, Decision.ALLOW),
        (700_000, 0.7, Decision.REVIEW),
        (999_999, 0.999999, Decision.REVIEW),
        (1_000_000, 1.0, Decision.REVIEW),
        (AMOUNT_PAISE_MAX, 1.0, Decision.REVIEW),
    ],
)
def test_the_amount_rule(amount_paise: int, score: float, decision: Decision) -> None:
    assert judge(Facts(amount_paise), SETTINGS) == Verdict(score, decision, "amount", "default")


@given(st.integers(min_value=1, max_value=AMOUNT_PAISE_MAX))
def test_the_amount_alone_never_blocks(amount_paise: int) -> None:
    verdict = judge(Facts(amount_paise), SETTINGS)
    assert verdict.decision is not Decision.BLOCK
    # rupees / 10,000, capped, whatever way one writes it
    assert verdict.score == amount_score(amount_paise, SETTINGS)
    assert verdict.score == pytest.approx(min(1.0, amount_paise / 100 / 10_000))


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (Facts(100, velocity_count=6), "velocity"),
        (Facts(100, velocity_count=1, frozen=True), "frozen_user"),
        (Facts(100, velocity_count=1, mule=True), "known_mule"),
        (Facts(100, velocity_count=1, model_score=0.9), "model"),
        (Facts(100, velocity_count=6, frozen=True, mule=True, model_score=1.0), "frozen_user"),
        (Facts(100, velocity_count=6, mule=True, model_score=1.0), "known_mule"),
        (Facts(100, velocity_count=6, model_score=1.0), "velocity"),
    ],
)
def test_each_rule_that_blocks_is_named(facts: Facts, rule: str) -> None:
    verdict = judge(facts, SETTINGS, model="m:1", thresholds=Thresholds(0.9, 0.5))
    assert (verdict.decision, verdict.rule, verdict.model) == (Decision.BLOCK, rule, "m:1")


def test_the_limit_itself_is_allowed_and_an_uncounted_payment_is_not_blocked() -> None:
    assert judge(Facts(100, velocity_count=5), SETTINGS).decision is Decision.ALLOW
    assert judge(Facts(100, velocity_count=None), SETTINGS).decision is Decision.ALLOW


def test_a_model_may_ask_for_review_below_its_block_threshold() -> None:
    thresholds = Thresholds(0.9, 0.5)
    review = judge(Facts(100, 1, model_score=0.5), SETTINGS, model="m", thresholds=thresholds)
    assert review == Verdict(0.5, Decision.REVIEW, "model", "m")
    allow = judge(Facts(100, 1, model_score=0.49), SETTINGS, model="m", thresholds=thresholds)
    assert allow == Verdict(0.49, Decision.ALLOW, "amount", "m")
    never = judge(Facts(100, 1, model_score=0.89), SETTINGS, thresholds=Thresholds(0.9))
    assert never.decision is Decision.ALLOW
    large = judge(Facts(800_000, 1, model_score=0.1), SETTINGS, thresholds=thresholds)
    assert (large.decision, large.rule, large.score) == (Decision.REVIEW, "amount", 0.8)


def test_a_floor_raises_but_never_softens() -> None:
    allow = Verdict(0.1, Decision.ALLOW)
    block = Verdict(0.1, Decision.BLOCK, "frozen_user")
    assert at_least(allow, Decision.REVIEW) == Verdict(0.1, Decision.REVIEW, "scorer_down")
    assert at_least(allow, Decision.ALLOW) == allow
    assert at_least(block, Decision.REVIEW) == block


@pytest.mark.parametrize(
    "wrong",
    [
        {"certain_paise": 0},
        {"velocity_limit": 0},
        {"velocity_window_s": -1.0},
        {"velocity_window_s": float("nan")},
        {"review_score": 1.5},
    ],
)
def test_settings_that_cannot_be_used(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(wrong))):
        RuleSettings(**wrong)  # type: ignore[arg-type]
