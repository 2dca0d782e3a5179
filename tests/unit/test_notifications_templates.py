from __future__ import annotations

from paytm_lab.core.events import FraudData, PaymentData
from paytm_lab.notifications.templates import (
    FRAUD_TEMPLATES,
    PAYMENT_TEMPLATES,
    PaymentTemplate,
    blocked,
    failed,
    paid,
    received,
    refund_paid,
    refund_received,
    under_review,
)

PAYMENT = PaymentData(
    "019b-1", "asha", "ravi", 12_345_670, 0, 1, 1, 1, from_balance_paise=500, to_balance_paise=None
)


def test_the_words_of_a_payment() -> None:
    assert paid(PAYMENT, email=False) == ("", "You paid ₹1,23,456.70 to ravi.")
    assert paid(PAYMENT, email=True) == (
        "You paid ₹1,23,456.70",
        "You paid ₹1,23,456.70 to ravi. Your balance is ₹5.00.\nPayment 019b-1",
    )
    assert received(PAYMENT, email=True).body == (
        "You received ₹1,23,456.70 from asha.\nPayment 019b-1"  # the balance is not known
    )


def test_a_failure_says_why_and_an_unknown_reason_is_readable() -> None:
    data = PaymentData("1", "a", "b", 100, 0, 1, 1, 1, reason="insufficient_funds")
    assert "your balance does not cover it" in failed(data, email=False).body
    data = PaymentData("1", "a", "b", 100, 0, 1, 1, 1, reason="moon_phase")
    assert "moon phase" in failed(data, email=True).body
    data = PaymentData("1", "a", "b", 100, 0, 1, 1, 1)
    assert "no reason was given" in failed(data, email=True).body


def test_a_refund_names_the_debt() -> None:
    data = PaymentData(
        "2", "shop", "asha", 1000, 0, 1, 1, 1, kind="refund", refund_of="1", receivable_paise=400
    )
    assert (
        refund_paid(data, email=False).body
        == "₹10.00 went back to asha. ₹4.00 of it is now owed by you."
    )
    assert "Refund 2 of payment 1" in refund_paid(data, email=True).body
    assert refund_received(data, email=False).body == "₹10.00 came back from shop."


def templates() -> list[PaymentTemplate]:
    return [t for pair in PAYMENT_TEMPLATES.values() for t in pair if t is not None]


def test_short_channels_stay_one_short_line() -> None:
    longest = "х" * 64
    payment = PaymentData(
        "1" * 36, longest, longest, 2**53 - 1, 0, 1, 1, 1, reason="account_frozen"
    )
    fraud = FraudData("1" * 36, longest, 2**53 - 1, 1.0, "review", "amount", to_user_id=longest)
    texts = [
        t(payment, False) for pair in PAYMENT_TEMPLATES.values() for t in pair if t is not None
    ]
    texts += [t(fraud, False) for t in FRAUD_TEMPLATES.values()]
    assert len(texts) == 8
    for text in texts:
        assert text.subject == ""
        assert "\n" not in text.body
        assert len(text.body) <= 160


def test_emails_have_a_subject_of_one_line() -> None:
    fraud = FraudData("1", "a", 100, 1.0, "review", "amount", to_user_id="b")
    texts = [t(PAYMENT, True) for t in templates()]
    texts += [t(fraud, True) for t in (under_review, blocked)]
    assert all(text.subject and "\n" not in text.subject for text in texts)
