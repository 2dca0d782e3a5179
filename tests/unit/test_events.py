"""Event records and their envelope: CloudEvents that any reader understands, and that can grow."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.core.events import (
    TERMINAL_TYPES,
    TOPIC_OF,
    BalanceUpdatedData,
    EventType,
    FraudData,
    HealthData,
    NotificationData,
    PaymentData,
    Topic,
    UserCreatedData,
    decode_fraud,
    encode,
    read_fraud_event,
    read_payment_event,
    rfc3339,
    unwrap,
    wrap,
)

decode_payment = msgspec.json.Decoder(PaymentData).decode
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
START = datetime(1970, 1, 1, tzinfo=UTC)
PAISE = st.integers(0, 2**53 - 1)
PAYMENTS = st.builds(
    PaymentData,
    payment_id=TEXTS,
    from_user_id=TEXTS,
    to_user_id=TEXTS,
    amount_paise=PAISE,
    from_shard=st.integers(0, 255),
    to_shard=st.integers(0, 255),
    stamp_us=PAISE,
    at_us=PAISE,
    reason=TEXTS,
    from_balance_paise=st.none() | PAISE,
    to_balance_paise=st.none() | PAISE,
    refund_of=TEXTS,
    receivable_paise=PAISE,
    fraud_score=st.none() | st.floats(0, 1),
    fraud_rule=TEXTS,
)
PAYMENT = PaymentData("p", "a", "b", 100, 0, 1, 5, 6)
FRAUD = FraudData("p", "a", 100, 0.25, "allow", "amount")


def test_the_thirteen_types_and_their_topics() -> None:
    given_topics = {
        "payment_events": [
            "PaymentInitiated",
            "PaymentCompleted",
            "PaymentFailed",
            "PaymentCancelled",
        ],
        "fraud_events": ["FraudScoreCalculated", "TransactionBlocked", "ManualReviewRequired"],
        "notification_events": ["EmailSent", "SMSSent", "PushNotificationSent"],
        "analytics_events": ["UserCreated", "BalanceUpdated", "SystemHealthCheck"],
    }
    assert {str(t): str(TOPIC_OF[t]) for t in EventType} == {
        event_type: topic for topic, types in given_topics.items() for event_type in types
    }
    assert set(TOPIC_OF) == set(EventType)
    assert {str(t) for t in Topic} == set(given_topics)
    assert {str(t) for t in TERMINAL_TYPES} == set(given_topics["payment_events"][1:])


@given(PAYMENTS)
def test_payment_data_and_back(data: PaymentData) -> None:
    assert decode_payment(encode(data)) == data
    assert {"payment_id", "amount_paise", "at_us", "stamp_us"} <= set(json.loads(encode(data)))


def test_records_hold_whole_paise_only() -> None:
    body = json.loads(encode(PAYMENT))
    for wrong in (1.5, "100", None, True):
        with pytest.raises(msgspec.ValidationError):
            decode_payment(json.dumps(body | {"amount_paise": wrong}).encode())


def test_unknown_fields_are_ignored_and_missing_ones_named() -> None:
    body = json.loads(encode(PAYMENT))
    assert decode_payment(json.dumps(body | {"colour": "red"}).encode()) == PAYMENT
    del body["stamp_us"]
    with pytest.raises(msgspec.ValidationError, match="stamp_us"):
        decode_payment(json.dumps(body).encode())
    assert decode_fraud(encode(FRAUD)) == FRAUD


@pytest.mark.parametrize(
    "data",
    [
        PAYMENT,
        FRAUD,
        UserCreatedData("a", 0, 100),
        BalanceUpdatedData("a", 5, "p", 7),
        NotificationData("n", "a", "email", "receipt", "p"),
        HealthData("cache", "up", 0.5),
    ],
    ids=lambda data: type(data).__name__,
)
def test_records_cannot_be_changed(data: msgspec.Struct) -> None:
    field = data.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(data, field, "other")
    assert msgspec.json.decode(encode(data), type=type(data)) == data


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 2**52), PAYMENTS, st.sampled_from(["", "00-ab-cd-01"]))
def test_an_envelope_is_a_cloud_event(
    event_id: str, subject: str, source: str, time_us: int, data: PaymentData, traceparent: str
) -> None:
    body = wrap(
        event_id=event_id,
        event_type="PaymentCompleted",
        subject=subject,
        source=source,
        time_us=time_us,
        data=encode(data),
        traceparent=traceparent,
    )
    plain = json.loads(body)
    assert plain.pop("traceparent", "") == traceparent
    assert plain == {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": "PaymentCompleted",
        "subject": subject,
        "time": rfc3339(time_us),
        "datacontenttype": "application/json",
        "data": json.loads(encode(data)),
    }
    envelope = unwrap(body)
    assert (envelope.id, envelope.type, envelope.subject) == (event_id, "PaymentCompleted", subject)
    assert envelope.traceparent == traceparent
    assert decode_payment(envelope.data) == data
    in_one_pass = read_payment_event(body)
    assert in_one_pass.data == data
    assert (in_one_pass.type, in_one_pass.time, in_one_pass.traceparent) == (
        envelope.type,
        envelope.time,
        traceparent,
    )


def test_a_fraud_event_in_one_pass() -> None:
    body = wrap(
        event_id="e",
        event_type="FraudScoreCalculated",
        subject="p",
        source="fraud",
        time_us=0,
        data=encode(FRAUD),
    )
    event = read_fraud_event(body)
    assert (event.type, event.time, event.data) == (
        "FraudScoreCalculated",
        "1970-01-01T00:00:00.000000Z",
        FRAUD,
    )


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"id":"1"}', b"\xff", b"null"])
def test_poison_is_refused(body: bytes) -> None:
    for read in (unwrap, read_payment_event, read_fraud_event):
        with pytest.raises(msgspec.DecodeError):
            read(body)


@given(st.integers(0, 253_402_300_799_999_999))
def test_times_are_rfc_3339_in_utc(time_us: int) -> None:
    text = rfc3339(time_us)
    assert len(text) == 27
    assert datetime.fromisoformat(text) == START + timedelta(microseconds=time_us)


def test_threads_that_wrap_at_once_keep_their_own_times() -> None:
    """The formatted second is remembered between calls; two threads in two seconds must not mix."""
    wrong: list[bytes] = []

    def wrap_many(second: int) -> None:
        for micros in range(3000):
            time_us = second * 1_000_000 + micros
            body = wrap(
                event_id="e", event_type="t", subject="s", source="x", time_us=time_us, data=b"{}"
            )
            if datetime.fromisoformat(unwrap(body).time) != START + timedelta(microseconds=time_us):
                wrong.append(body)

    threads = [threading.Thread(target=wrap_many, args=(second,)) for second in (1, 100, 10_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_event_of_before_a_field_came_has_its_default() -> None:
    data_then = b'{"payment_id":"p","from_user_id":"a","to_user_id":"b","amount_paise":1,'
    data_then += b'"from_shard":0,"to_shard":1,"stamp_us":5,"at_us":6,"fraud_decision":"block"}'
    data = read_payment_event(b'{"type":"PaymentCompleted","time":"","data":%s}' % data_then).data
    assert (data.fraud_decision, data.fraud_score, data.fraud_rule) == ("block", None, "")
