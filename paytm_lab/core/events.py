"""Event records and their envelope (CloudEvents 1.0, JSON format, plus ``traceparent``).

An outbox row holds the ``data`` part as JSON; the relay wraps it. All records are msgspec structs:
unknown fields are ignored on reading, so that a record can grow.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec


class Topic(StrEnum):
    PAYMENT = "payment_events"
    FRAUD = "fraud_events"
    NOTIFICATION = "notification_events"
    ANALYTICS = "analytics_events"


class EventType(StrEnum):
    PAYMENT_INITIATED = "PaymentInitiated"
    PAYMENT_COMPLETED = "PaymentCompleted"
    PAYMENT_FAILED = "PaymentFailed"
    PAYMENT_CANCELLED = "PaymentCancelled"
    FRAUD_SCORE_CALCULATED = "FraudScoreCalculated"
    TRANSACTION_BLOCKED = "TransactionBlocked"
    MANUAL_REVIEW_REQUIRED = "ManualReviewRequired"
    EMAIL_SENT = "EmailSent"
    SMS_SENT = "SMSSent"
    PUSH_NOTIFICATION_SENT = "PushNotificationSent"
    USER_CREATED = "UserCreated"
    BALANCE_UPDATED = "BalanceUpdated"
    SYSTEM_HEALTH_CHECK = "SystemHealthCheck"


TERMINAL_TYPES = frozenset(
    {EventType.PAYMENT_COMPLETED, EventType.PAYMENT_FAILED, EventType.PAYMENT_CANCELLED}
)

_BY_PREFIX = {
    "Payment": Topic.PAYMENT,
    "Fraud": Topic.FRAUD,
    "Transaction": Topic.FRAUD,
    "Manual": Topic.FRAUD,
}
TOPIC_OF: dict[str, Topic] = {
    str(t): next((v for k, v in _BY_PREFIX.items() if t.startswith(k)), Topic.ANALYTICS)
    for t in EventType
} | {
    "EmailSent": Topic.NOTIFICATION,
    "SMSSent": Topic.NOTIFICATION,
    "PushNotificationSent": Topic.NOTIFICATION,
}


class PaymentData(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """``data`` of the four payment events. Amounts in paise, times in microseconds since 1970 UTC.

    ``stamp_us`` is the payment's stamp, the same in all its events; ``at_us`` is when the payer
    asked (a replayed file's own time), which velocity rules and hourly patterns use. ``kind``:
    transfer | funding | refund. A balance is the user's after this event's own posting, where it
    posted to that user. ``receivable_paise``: the part of a refund that ``system:receivable`` paid
    in place of the sender. ``fraud_...``: what a gate had decided before, '' and None without one;
    ``fraud_rule`` names the rule that did.
    """

    payment_id: str
    from_user_id: str
    to_user_id: str
    amount_paise: int
    from_shard: int
    to_shard: int
    stamp_us: int
    at_us: int
    currency: str = "INR"
    kind: str = "transfer"
    reason: str = ""
    from_balance_paise: int | None = None
    to_balance_paise: int | None = None
    refund_of: str = ""
    receivable_paise: int = 0
    fraud_decision: str = ""
    fraud_score: float | None = None
    fraud_rule: str = ""


class UserCreatedData(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    user_id: str
    shard: int
    opening_paise: int
    currency: str = "INR"


class BalanceUpdatedData(msgspec.Struct, frozen=True, gc=False):
    user_id: str
    balance_paise: int
    payment_id: str
    stamp_us: int


class FraudData(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """``data`` of the three fraud events. ``score`` is 0..1; ``rule`` names the rule that decided.

    ``at_us`` is the payment's own (business time), so that history by hour agrees with it.
    """

    payment_id: str
    user_id: str
    amount_paise: int
    score: float
    decision: str
    rule: str
    model: str = "default"
    to_user_id: str = ""
    at_us: int = 0


class NotificationData(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    notification_id: str
    user_id: str
    channel: str
    template: str
    about: str


class HealthData(msgspec.Struct, frozen=True, gc=False):
    part: str
    state: str
    latency_ms: float
    detail: str = ""


class Envelope(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """CloudEvents 1.0 structured JSON. ``subject``: payment (or user) id, also the log's key."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: msgspec.Raw
    specversion: str = msgspec.field(default="1.0")
    datacontenttype: str = "application/json"
    traceparent: str = ""


class PaymentEvent(msgspec.Struct, frozen=True, gc=False):
    """What a consumer of ``payment_events`` reads of an envelope, decoded in one pass."""

    type: str
    time: str
    data: PaymentData
    traceparent: str = ""


class FraudEvent(msgspec.Struct, frozen=True, gc=False):
    """What a consumer of ``fraud_events`` reads of an envelope, decoded in one pass."""

    type: str
    time: str
    data: FraudData
    traceparent: str = ""


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_fraud = msgspec.json.Decoder(FraudData).decode
# Both raise msgspec.DecodeError for what is not such an event (a poison message).
read_payment_event = msgspec.json.Decoder(PaymentEvent).decode
read_fraud_event = msgspec.json.Decoder(FraudEvent).decode
_decode_envelope = msgspec.json.Decoder(Envelope).decode


_second: tuple[int, str] = (-1, "")


def rfc3339(time_us: int) -> str:
    """Microseconds since 1970 UTC -> '2026-01-01T00:00:00.000000Z'."""
    # Formatting a date costs more than the rest of an envelope; consecutive events share a second.
    global _second
    second, micros = divmod(time_us, 1_000_000)
    cached = _second
    if cached[0] != second:
        cached = _second = (second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.")
    return f"{cached[1]}{micros:06d}Z"


def wrap(
    *,
    event_id: str,
    event_type: str,
    subject: str,
    source: str,
    time_us: int,
    data: bytes,
    traceparent: str = "",
) -> bytes:
    """One CloudEvents envelope as JSON bytes. ``data`` must be JSON already.

    ``specversion`` and ``datacontenttype`` are required by readers, so they are always written.
    """
    head = _encoder.encode(
        _Head(
            event_id,
            source,
            event_type,
            subject,
            rfc3339(time_us),
            "1.0",
            "application/json",
            traceparent,
        )
    )
    return b'%s,"data":%s}' % (head[:-1], data)


class _Head(msgspec.Struct, omit_defaults=True, gc=False):
    id: str
    source: str
    type: str
    subject: str
    time: str
    specversion: str
    datacontenttype: str
    traceparent: str = ""


def unwrap(body: bytes) -> Envelope:
    """JSON bytes -> Envelope. Raises msgspec.DecodeError for what is not one (a poison message)."""
    return _decode_envelope(body)
