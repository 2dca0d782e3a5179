"""What the fraud service reads and answers, as JSON. Amounts are rupees as text, beside them whole
paise; times are RFC 3339 UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCORES_MAX = 500
_TEXT_MAX = 256  # longer ones are no ids and no amounts; the ledger's own words say why
YEAR_S = 365 * 86_400
VERSION_MAX = 2**53

# What is described more closely than it is checked here: the ledger's own words say what is wrong.
_USER_ID = r"^(?!system:)[^\u0000-\u001f\u007f-\u009f]{1,64}$"
_AMOUNT = r"^[0-9]{1,14}(\.[0-9]{1,2})?$"
_PAYMENT_ID = (
    "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"
)
UserId = Annotated[str, Field(max_length=_TEXT_MAX, json_schema_extra={"pattern": _USER_ID})]
Amount = Annotated[str, Field(max_length=_TEXT_MAX, json_schema_extra={"pattern": _AMOUNT})]
PATTERN_OF_USER_ID = {"pattern": _USER_ID}
PATTERN_OF_PAYMENT_ID = {"pattern": _PAYMENT_ID}
Said = Literal["allow", "review", "block"]
ListName = Literal["frozen", "mule"]
Reason = Annotated[
    str,
    Field(min_length=1, max_length=500, description="Why, for those who read the history."),
]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


# -- what is sent ----------------------------------------------------------------------------------


class Payment(Strict):
    """A payment that somebody might make now."""

    from_user: UserId = Field(examples=["1001"])
    to_user: UserId = Field(examples=["1002"])
    amount: Amount = Field(
        description="Rupees as text: digits, and at most two decimals.", examples=["7000.00"]
    )


class Payments(Strict):
    payments: Annotated[list[Payment], Field(min_length=1, max_length=SCORES_MAX)]


def _left() -> Any:
    """The default of what may be left out, though null is no value for it."""
    return None


class RuleValues(Strict):
    """Those that are to change."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    certain_amount: Amount = Field(
        default_factory=_left,
        description="The amount in rupees whose score is 1; half of it scores 0.5.",
        examples=["10000.00"],
    )
    review_score: float = Field(
        default_factory=_left, ge=0, le=1, allow_inf_nan=False,
        description="Score from which a payment goes to review.",
    )  # fmt: skip
    velocity_limit: int = Field(
        default_factory=_left, ge=1, le=1_000_000,
        description="Payments of one sender within the window; the next one is blocked.",
    )  # fmt: skip
    velocity_window_s: float = Field(
        default_factory=_left, gt=0, le=YEAR_S, allow_inf_nan=False,
        description="Length of the velocity window, in seconds. What was counted before it grew is"
        " forgotten as it would have been.",
    )  # fmt: skip


class RulesBody(Strict):
    version: int = Field(
        ge=1, le=VERSION_MAX, description="Of the rules that this is a change of.", examples=[1]
    )
    rules: RuleValues
    reason: Reason = Field(examples=["festival week"])


class ListedBody(Strict):
    listed: bool = Field(description="Put on the list, or taken off.")
    reason: Reason = Field(examples=["reported by three payers"])


# -- what is answered ------------------------------------------------------------------------------


class Facts(BaseModel):
    """``velocity_count``: the sender's payments in the window, this one included."""

    amount: str
    amount_paise: int
    amount_score: float
    velocity_count: int | None
    sender_frozen: bool
    known_mule: bool = Field(description="The sender or the receiver.")
    model_score: float | None


class RuleSaid(BaseModel):
    rule: str
    said: Said | None = Field(description="Null where the rule had nothing to go by.")
    why: str
    decided: bool = Field(description="Whether the decision is this rule's.")


class Score(BaseModel):
    from_user: str
    to_user: str
    score: float
    decision: Said
    rule: str
    model: str
    facts: Facts
    explanation: list[RuleSaid]


class Scores(BaseModel):
    """In the order of the request."""

    rules_version: int
    scores: list[Score]


class DecisionFacts(BaseModel):
    velocity_count: int | None
    model_score: float | None


class Decision(BaseModel):
    """What was decided about a payment. Null is what is not known (yet), or not for who asks: a
    payer learns the decision and the score.
    """

    payment_id: str
    from_user: str
    to_user: str
    amount: str
    amount_paise: int
    decision: Said | None
    score: float | None
    gate: Literal["before", "after"] | None = Field(
        description="Whether it was decided before posting, or after."
    )
    asked_at: str
    decided_at: str | None
    rule: str | None
    model: str | None
    rules_version: int | None
    facts: DecisionFacts | None
    review: Literal["open", "approved", "rejecting", "rejected"] | None


class LastScore(BaseModel):
    score: float
    at: str


class UserDecisions(BaseModel):
    """``flagged``: the newest decisions that were not `allow`. Allowed payments are on the
    account's statement; what was decided about each, `GET /decisions/{payment_id}` says.
    """

    user_id: str
    last_score: LastScore | None = Field(description="Kept for a day.")
    last_score_known: bool = Field(description="False while the cache does not answer.")
    flagged: list[Decision]


class Rules(BaseModel):
    """All of them."""

    certain_amount: str
    review_score: float
    velocity_limit: int
    velocity_window_s: float


class ActiveModel(BaseModel):
    name: str
    block_score: float
    review_score: float | None


class RulesVersion(BaseModel):
    """A version of the rules, and who made it when and why (`system:settings`: the lab's own)."""

    version: int
    rules: Rules
    changed_by: str
    changed_at: str
    reason: str


class RulesNow(RulesVersion):
    model: ActiveModel | None = Field(description="The trained model that is asked too, if any.")
    shadow_model: ActiveModel | None = Field(
        description="The one that is only watched: its scores are stored and decide nothing."
    )


class RulesChange(RulesVersion):
    before: Rules | None = Field(description="Null for the first.")


class RulesHistory(BaseModel):
    """The newest first. ``next_before``: for the next page; null at the end."""

    changes: list[RulesChange]
    next_before: int | None


class ListPage(BaseModel):
    """In the order of their ids. ``next_after``: for the next page; null at the end."""

    list_name: ListName
    users: list[str]
    count: int = Field(description="Of all users on the list.")
    next_after: str | None


class ListChange(BaseModel):
    user_id: str
    was: bool
    listed: bool
    changed_by: str
    changed_at: str
    reason: str


class ListChanges(BaseModel):
    """The newest first; of one day (UTC)."""

    list_name: ListName
    day: str
    changes: list[ListChange]


class Listed(BaseModel):
    """``changes``: the newest first."""

    list_name: ListName
    user_id: str
    listed: bool
    changes: list[ListChange]
