"""The fraud rules: numbers in, verdict out. No I/O, no clock."""

from __future__ import annotations

import msgspec

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.fraud import Decision, Verdict

DEFAULT_MODEL = "default"
_SEVERITY = {Decision.ALLOW: 0, Decision.REVIEW: 1, Decision.BLOCK: 2}


class RuleSettings(msgspec.Struct, frozen=True):
    """``certain_paise``: the amount whose score is 1 (10,000 rupees); ``review_score``: from here
    on a human looks.

    More than ``velocity_limit`` payments of one sender within ``velocity_window_s`` seconds of
    business time block. ``version``: which rules of the lab's book these are, from 1; 0 for rules
    that are in no book.
    """

    certain_paise: int = 1_000_000
    review_score: float = 0.7
    velocity_limit: int = 30
    velocity_window_s: float = 60.0
    version: int = 0

    def __post_init__(self) -> None:
        for name in ("certain_paise", "velocity_limit", "velocity_window_s"):
            if not getattr(self, name) > 0:
                raise InvalidSetting(
                    f"{name}={getattr(self, name)!r} cannot be used",
                    place="fraud rules",
                    remedy="Give more than 0.",
                )
        if not 0.0 <= self.review_score <= 1.0:
            raise InvalidSetting(
                f"review_score={self.review_score!r} cannot be used",
                place="fraud rules",
                remedy="Give 0 to 1.",
            )


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is known of one payment. ``velocity_count``: the sender's payments in the window, this
    one included, or None where they could not be counted. ``model_score`` is 0..1 or None without a
    model.
    """

    amount_paise: int
    velocity_count: int | None = None
    frozen: bool = False
    mule: bool = False
    model_score: float | None = None


class Thresholds(msgspec.Struct, frozen=True):
    """From which score on a model blocks, and from which it asks for review (None: never)."""

    block_score: float
    review_score: float | None = None


def amount_score(amount_paise: int, settings: RuleSettings) -> float:
    """``min(1.0, amount_rupees / 10000)`` by default; exact at the review threshold."""
    return min(1.0, amount_paise / settings.certain_paise)


def judge(
    facts: Facts,
    settings: RuleSettings,
    *,
    model: str = DEFAULT_MODEL,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """The verdict on one payment. The first rule that blocks names it; else the first that wants a
    review.

    The amount rule alone never blocks. ``score`` is the larger of the amount's and the model's.
    """
    by_amount = score = amount_score(facts.amount_paise, settings)
    if facts.model_score is not None:
        score = max(by_amount, facts.model_score)
    rule = blocking_rule(facts, settings, thresholds)
    if rule:
        return Verdict(score, Decision.BLOCK, rule, model)
    if by_amount >= settings.review_score:
        return Verdict(score, Decision.REVIEW, "amount", model)
    if (
        thresholds is not None
        and thresholds.review_score is not None
        and facts.model_score is not None
        and facts.model_score >= thresholds.review_score
    ):
        return Verdict(score, Decision.REVIEW, "model", model)
    return Verdict(score, Decision.ALLOW, "amount", model)


def blocking_rule(
    facts: Facts, settings: RuleSettings, thresholds: Thresholds | None = None
) -> str:
    """The name of the rule that blocks, or ''. None of them looks at the amount."""
    if facts.frozen:
        return "frozen_user"
    if facts.mule:
        return "known_mule"
    if facts.velocity_count is not None and facts.velocity_count > settings.velocity_limit:
        return "velocity"
    if (
        thresholds is not None
        and facts.model_score is not None
        and facts.model_score >= thresholds.block_score
    ):
        return "model"
    return ""


def at_least(verdict: Verdict, floor: Decision) -> Verdict:
    """The verdict, raised to ``floor`` where the scorer was down; what it decided by itself stays
    if stricter.
    """
    if _SEVERITY[verdict.decision] >= _SEVERITY[floor]:
        return verdict
    return Verdict(verdict.score, floor, "scorer_down", verdict.model)
