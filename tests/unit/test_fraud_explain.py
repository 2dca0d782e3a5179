"""What each rule is said to have said agrees with what was decided, whatever the facts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.fraud.explain import explain
from paytm_lab.fraud.rules import Facts, RuleSettings, Thresholds, judge

SCORES = st.floats(0, 1)
RULES = st.builds(
    RuleSettings,
    certain_paise=st.integers(1, 2**53),
    review_score=SCORES,
    velocity_limit=st.integers(1, 100),
    velocity_window_s=st.floats(0.001, 1e6),
)
FACTS = st.builds(
    Facts,
    amount_paise=st.integers(1, 2**53),
    velocity_count=st.none() | st.integers(1, 200),
    frozen=st.booleans(),
    mule=st.booleans(),
    model_score=st.none() | SCORES,
)
THRESHOLDS = st.none() | st.builds(Thresholds, block_score=SCORES, review_score=st.none() | SCORES)


@given(FACTS, RULES, THRESHOLDS)
def test_the_rule_that_decided_is_said_to_have_said_so(
    facts: Facts, settings: RuleSettings, thresholds: Thresholds | None
) -> None:
    verdict = judge(facts, settings, thresholds=thresholds)
    said = {each.rule: each.said for each in explain(facts, settings, thresholds)}
    assert list(said) == ["frozen_user", "known_mule", "velocity", "model", "amount"]
    assert said[verdict.rule] == verdict.decision
    blocks = [rule for rule, word in said.items() if word == "block"]
    reviews = [rule for rule in ("amount", "model") if said[rule] == "review"]
    assert verdict.rule == (blocks or reviews or ["amount"])[0]
    assert said["amount"] != "block", "the amount alone never blocks"
