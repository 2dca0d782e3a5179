"""What each rule said of a payment, in words."""

from __future__ import annotations

from typing import NamedTuple

from paytm_lab.core.fraud import Decision
from paytm_lab.core.money import format_rupees
from paytm_lab.fraud.rules import Facts, RuleSettings, Thresholds, amount_score


class Said(NamedTuple):
    """``said``: allow, review or block; '' where the rule had nothing to go by."""

    rule: str
    said: str
    why: str


def explain(
    facts: Facts,
    settings: RuleSettings,
    thresholds: Thresholds | None = None,
    model_why: str = "",
) -> list[Said]:
    """Every rule, in the order in which they block; the first that does decides. Where none does,
    the amount's review comes before the model's (``rules.judge``). ``model_why``: what made the
    model's score.
    """
    return [
        _listed(
            "frozen_user", facts.frozen, "the sender is on the list of frozen users",
            "the sender is not on the list of frozen users",
        ),
        _listed(
            "known_mule", facts.mule, "the sender or the receiver is on the list of mules",
            "neither the sender nor the receiver is on the list of mules",
        ),
        _velocity(facts, settings),
        _model(facts, thresholds, model_why),
        _amount(facts, settings),
    ]  # fmt: skip


def _listed(rule: str, is_listed: bool, why: str, why_not: str) -> Said:
    if is_listed:
        return Said(rule, str(Decision.BLOCK), why)
    return Said(rule, str(Decision.ALLOW), why_not)


def _velocity(facts: Facts, settings: RuleSettings) -> Said:
    if facts.velocity_count is None:
        return Said("velocity", "", "the sender's payments could not be counted")
    too_many = facts.velocity_count > settings.velocity_limit
    return Said(
        "velocity",
        str(Decision.BLOCK if too_many else Decision.ALLOW),
        f"payment {facts.velocity_count} of the sender within {settings.velocity_window_s:g} s;"
        f" {settings.velocity_limit} may be",
    )


def _amount(facts: Facts, settings: RuleSettings) -> Said:
    score = amount_score(facts.amount_paise, settings)
    large = score >= settings.review_score
    return Said(
        "amount",
        str(Decision.REVIEW if large else Decision.ALLOW),
        f"{format_rupees(facts.amount_paise)} of {format_rupees(settings.certain_paise)} rupees"
        f" scores {score:g}; a review from {settings.review_score:g} on",
    )


def _model(facts: Facts, thresholds: Thresholds | None, model_why: str) -> Said:
    if thresholds is None or facts.model_score is None:
        return Said("model", "", "no model is active")
    score, said = facts.model_score, Decision.ALLOW
    review_score = thresholds.review_score
    if score >= thresholds.block_score:
        said = Decision.BLOCK
    elif review_score is not None and score >= review_score:
        said = Decision.REVIEW
    review = "never" if review_score is None else f"from {review_score:g} on"
    return Said(
        "model",
        str(said),
        f"the model gives {score:g}; a review {review}, a block from {thresholds.block_score:g} on"
        + (f"; most of it from {model_why}" if model_why else ""),
    )
