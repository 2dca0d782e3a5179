"""What the shard manager reads and answers, as JSON. Amounts are text in rupees and whole paise;
times are RFC 3339 UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from paytm_lab.web.problems import Problem

KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"
BULK_MAX = 1_000
_TEXT_MAX = 256  # longer ones are no ids and no amounts; the ledger's own words say why

Text = Annotated[str, Field(max_length=_TEXT_MAX)]
Status = Literal["HELD", "PENDING", "COMPLETED", "FAILED", "CANCELLED"]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class TransferBody(Strict):
    """A payment to be made."""

    from_user: Text = Field(examples=["1001"])
    to_user: Text = Field(examples=["1002"])
    amount: Text = Field(
        description="Rupees as text: digits, and at most two decimals.", examples=["1250.75"]
    )
    hold: bool = Field(False, description="Only reserve the amount, to be captured later.")


class BulkItem(TransferBody):
    idempotency_key: Annotated[str, Field(pattern=KEY_PATTERN)] | None = None


class BulkBody(Strict):
    transfers: Annotated[list[BulkItem], Field(min_length=1, max_length=BULK_MAX)]


class CaptureBody(Strict):
    amount: Text | None = Field(None, description="Part of the hold, in rupees; all of it if left.")


class FreezeBody(Strict):
    credits_too: bool = Field(False, description="Refuse credits as well as debits.")


class Transfer(BaseModel):
    """A payment as it stands."""

    payment_id: str
    status: Status
    reason: str = Field(description="Why it failed, was cancelled or still waits; often empty.")
    kind: Literal["transfer", "refund", "funding"]
    from_user: str
    to_user: str
    amount: str
    amount_paise: int
    from_shard: int
    to_shard: int
    balance: str | None = Field(description="The payer's after it, where this answer posted it.")
    balance_paise: int | None
    fraud_decision: str = Field(description="What a gate decided before posting; often empty.")
    fraud_score: float | None
    refund_of: str | None
    repeated: bool = Field(description="It had been made before, by a request with the same key.")
    asked_at: str


class BulkOutcome(BaseModel):
    """Of one payment of a bulk: the status that it alone would have answered with, and either."""

    status_code: int
    transfer: Transfer | None = None
    problem: Problem | None = None


class BulkAnswer(BaseModel):
    outcomes: list[BulkOutcome] = Field(description="In the order of the request.")


class Step(BaseModel):
    at: str
    actor: str
    to: str
    what: str


class Timeline(BaseModel):
    """Every step of a payment, by time, as written by the part that did it."""

    payment_id: str
    status: Status
    steps: list[Step]


class Account(BaseModel):
    """``available`` is the balance less what is held. As of an earlier time only the balance is
    known.
    """

    user_id: str
    shard: int
    state: Literal["active", "frozen", "frozen_all", "closed"]
    currency: str
    balance: str
    balance_paise: int
    held: str | None
    held_paise: int | None
    available: str | None
    available_paise: int | None
    as_of: str | None
    created_at: str


class Created(BaseModel):
    user_id: str
    balance: str
    balance_paise: int
    shard: int
    repeated: bool


class StatementEntry(BaseModel):
    payment_id: str
    direction: Literal["debit", "credit"]
    amount: str
    amount_paise: int
    balance: str = Field(description="The account's after this entry.")
    balance_paise: int
    other_user: str
    kind: str
    at: str


class Statement(BaseModel):
    user_id: str
    as_of: str | None
    opening_balance: str
    opening_balance_paise: int
    entries: list[StatementEntry]
    next_cursor: str | None = Field(description="Of the next page; null at the end.")


class Review(BaseModel):
    payment_id: str
    state: Literal["open", "approved", "rejecting", "rejected"]
    decision: str
    rule: str
    decided_by: str
    from_user: str
    to_user: str
    amount: str
    amount_paise: int
    payment_status: Status
    opened_at: str


class Reviews(BaseModel):
    reviews: list[Review]


class Decided(BaseModel):
    """``transfer``: the payment after it, or the refund that gave the money back."""

    payment_id: str
    review: Literal["approved", "rejected"]
    transfer: Transfer


class ShardFigures(BaseModel):
    """What is null could not be read: the shard is down."""

    shard: int
    state: Literal["up", "down"]
    accounts: int | None = None
    balance_paise: int | None = None
    held_paise: int | None = None
    payments: dict[str, int] | None = Field(
        None,
        description="By status, each payment once, opening balances and refunds too.",
    )
    payments_per_s: float | None = Field(None, description="New ones since the figures before.")
    entries: int | None = None
    queue_depth: int = Field(description="Operations that wait for this process's writer.")
    outbox_rows: int | None = None
    outbox_lag_s: float | None = Field(None, description="Age of the oldest event not relayed.")
    batches: int = Field(description="Commits by this process.")
    operations: int = Field(description="Operations in them.")
    retries: int
    commit_ms_mean: float | None = None


class Analytics(BaseModel):
    as_of: str
    complete: bool = Field(description="Whether every shard answered.")
    accounts: int
    balance_paise: int
    payments: dict[str, int] = Field(description="As the shards', in all.")
    in_flight: int = Field(description="Payments that this process has admitted.")
    shards: list[ShardFigures]
