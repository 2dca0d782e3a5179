"""The JSON of the pages, for the service's documents. Amounts are whole paise, times RFC 3339."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Found(_Model):
    shard: int | None = Field(description="null where the contradiction is between two shards")
    payment_id: str = Field(description="'' where no payment can be named")
    user_id: str
    difference_paise: int
    what: str


class Money(_Model):
    """Money in = money held: users + under way + receivable = funded."""

    state: Literal["equal", "counting", "mismatch", "unknown"]
    funded_paise: int
    users_paise: int
    on_hold_paise: int = Field(description="The part of the users' money that holds keep back.")
    under_way_paise: int
    payments_under_way: int
    receivable_paise: int = Field(description="Negative: owed back to the system.")
    difference_paise: int
    counted: float = Field(description="0..1: how much of the ledger has been gone through.")
    findings: list[Found]
    away: list[int] = Field(description="Shards that do not answer.")
    words: str


class Shard(_Model):
    """With another state than up only queue_depth and detail are known. ``reading``: it has not
    answered yet since the service has started.
    """

    shard: int
    state: Literal["up", "down", "reading"]
    detail: str
    counted: float | None = None
    accounts: int | None = None
    balance_paise: int | None = None
    held_paise: int | None = None
    payments: dict[str, int] | None = Field(
        default=None, description="Sent by its users, by state; of every kind."
    )
    payments_per_s: float | None = None
    entries: int | None = None
    queue_depth: int
    outbox_rows: int | None = None
    outbox_lag_s: float | None = None
    reviews_open: int | None = None
    read_ms: float | None = None


class Look(_Model):
    at: str
    payments_per_s: dict[str, float]
    outbox_rows: int


class Quantiles(_Model):
    p50: float | None
    p95: float | None
    p99: float | None


class Overview(_Model):
    at: str
    money: Money
    complete: bool = Field(description="Whether every shard answered.")
    accounts: int
    transfers: dict[str, int] = Field(description="Payments between users, by state.")
    kinds: dict[str, int] = Field(description="All payments, by kind.")
    payments_per_s: float
    outbox_rows: int
    reviews_open: int
    success_rate: float | None
    latency_ms: Quantiles
    down: list[str]
    series: list[Look]
    shards: list[Shard]


class Shards(_Model):
    at: str
    money: Money
    shards: list[Shard]
    series: list[Look]


class Sum(_Model):
    payments: int
    amount_paise: int


class Outcome(Sum):
    type: str
    kind: str


class Reason(Sum):
    type: str
    reason: str


class Route(Sum):
    from_shard: int
    to_shard: int


class Hour(_Model):
    hour: str
    completed: int
    failed: int
    cancelled: int
    same_shard: int
    cross_shard: int
    amount_paise: int


class Day(Sum):
    day: str
    failed: int


class LatencyBin(_Model):
    up_to_ms: float
    payments: int


class History(_Model):
    at: str
    money: Money
    history_at: str | None
    history_error: str


class Payments(History):
    outcomes: list[Outcome]
    success_rate: float | None
    reasons: list[Reason]
    same_shard: Sum
    cross_shard: Sum
    routes: list[Route]
    by_hour_of_day: list[Sum]
    hours: list[Hour]
    days: list[Day]
    latency_ms: Quantiles
    latency_ms_recent: Quantiles
    recent_s: float
    latency: list[LatencyBin]


class ScoreBin(_Model):
    from_: float = Field(alias="from")
    to: float
    payments: int


class Decision(Sum):
    decision: str
    rule: str


class Review(_Model):
    payment_id: str
    from_user: str
    to_user: str
    amount_paise: int
    rule: str
    opened_at: str


class Fraud(History):
    scored: int
    scores: list[ScoreBin]
    decisions: list[Decision]
    blocked: int
    sent_to_review: int
    reviews_open: int
    shards_unknown: list[int]
    reviews: list[Review] = Field(description="Those that have waited longest, at most 20.")


class ServiceState(_Model):
    name: str
    address: str
    registered: bool
    state: Literal["up", "not_ready", "down", "not_served"]
    latency_ms: float | None
    detail: str


class LastCheck(_Model):
    at: str
    state: str
    latency_ms: float
    detail: str


class PartState(_Model):
    name: str
    state: Literal["up", "down"]
    latency_ms: float | None
    detail: str
    last_check: LastCheck | None = Field(description="The last SystemHealthCheck event about it.")


class Consumer(_Model):
    group: str
    topics: list[str]
    events_behind: int | None
    detail: str


class Queue(_Model):
    shard: int
    state: Literal["up", "down", "reading"]
    queue_depth: int
    outbox_rows: int | None
    outbox_lag_s: float | None
    outbox_rows_max: int


class System(_Model):
    at: str
    money: Money
    asked_at: str | None
    services: list[ServiceState]
    parts: list[PartState]
    health_events_error: str
    consumers: list[Consumer]
    queues: list[Queue]


class LedgerRow(_Model):
    shard: int
    role: str
    status: str
    reason: str
    created_at: str
    updated_at: str


class Entry(_Model):
    shard: int
    account: str
    direction: Literal["debit", "credit"]
    amount_paise: int
    at: str


class OutboxRow(_Model):
    shard: int
    type: str
    since: str


class StoredEvent(_Model):
    type: str
    topic: str
    partition: int
    offset: int
    at: str


class Score(_Model):
    score: float
    decision: str
    rule: str
    model: str
    at: str


class Step(_Model):
    at: str
    actor: str
    to: str
    what: str
    notification: bool


class PaymentTrace(_Model):
    """Its own users see neither what the fraud side thought nor others' notifications."""

    payment_id: str
    status: str
    from_user: str
    to_user: str
    amount_paise: int
    kind: str
    reason: str
    refund_of: str | None
    asked_at: str
    rows: list[LedgerRow]
    entries: list[Entry]
    outbox: list[OutboxRow]
    events: list[StoredEvent]
    score: Score | None
    steps: list[Step]
    unknown: list[str]
    shown_in_full: bool
