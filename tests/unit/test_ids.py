"""Ids: which texts are users, payment ids that carry their slot, ids derived from others."""

from __future__ import annotations

import random
import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.core.clock import SimulatedClock, SystemClock
from paytm_lab.core.errors import BadInput, InvalidUserId
from paytm_lab.core.ids import (
    FUNDING,
    RECEIVABLE,
    SLOTS,
    PaymentIds,
    event_id,
    in_transit,
    key_hash,
    parse_payment_id,
    payment_id_text,
    require_user_id,
    slot_of_payment,
)

SLOT = st.integers(0, SLOTS - 1)


@pytest.mark.parametrize(
    "user_id",
    [
        "a",
        "7",
        "x" * 64,
        "é" * 64,
        "पेटीएम",
        "a b",
        " ",
        "user@example.com",
        "../..",
        "system",
        "🙂",
    ],
)
def test_user_ids(user_id: str) -> None:
    assert require_user_id(user_id) == user_id


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        "x" * 65,
        "🙂" * 65,
        "a\n",
        "\x00",
        "a\x7fb",
        "é\x85",  # a control character among others
        "e\u0301",  # not NFC
        "\ud800",
        "é\udfff",
        "system:",
        "system:funding",
        "system:नमस्ते",
        "x" * 1_000_000,
    ],
)
def test_what_is_no_user_id(user_id: str) -> None:
    with pytest.raises(InvalidUserId) as caught:
        require_user_id(user_id)
    assert len(str(caught.value)) < 300
    str(caught.value).encode()  # can be written anywhere


@pytest.mark.parametrize("value", [None, 7, b"a", ["a"]])
def test_only_text_is_a_user_id(value: object) -> None:
    with pytest.raises(InvalidUserId, match=f"must be text, not {type(value).__name__}"):
        require_user_id(value)


@given(st.text(max_size=70))
def test_a_text_is_a_user_id_exactly_when_the_grammar_says_so(text: str) -> None:
    valid = (
        1 <= len(text) <= 64
        and not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)
        and unicodedata.normalize("NFC", text) == text
        and not text.startswith("system:")
    )
    if valid:
        assert require_user_id(text) == text
    else:
        with pytest.raises(InvalidUserId):
            require_user_id(text)


@pytest.mark.parametrize("account", [FUNDING, RECEIVABLE, in_transit(3)])
def test_system_accounts_are_no_users(account: str) -> None:
    with pytest.raises(InvalidUserId):
        require_user_id(account)


@given(SLOT, st.integers(0, 2**47), st.integers())
def test_payment_ids_are_version_7_and_carry_their_slot(slot: int, ms: int, seed: int) -> None:
    ids = PaymentIds(SimulatedClock(ms * 1000 + 999), random.Random(seed))
    payment_id = ids.next(slot)
    as_uuid = uuid.UUID(bytes=payment_id)
    assert (as_uuid.version, as_uuid.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(payment_id[:6], "big") == ms
    assert slot_of_payment(payment_id) == slot
    assert payment_id_text(payment_id) == str(as_uuid)
    assert parse_payment_id(str(as_uuid)) == payment_id
    assert parse_payment_id(str(as_uuid).upper()) == payment_id


def test_payment_ids_repeat_only_with_their_seed() -> None:
    def some(seed: int | None) -> list[bytes]:
        rng = None if seed is None else random.Random(seed)
        ids = PaymentIds(SimulatedClock(), rng)
        return [ids.next(5) for _ in range(100)]

    assert some(1) == some(1)
    assert not set(some(1)) & set(some(2))
    assert not set(some(None)) & set(some(None))


def test_every_random_bit_of_a_payment_id_varies() -> None:
    ids = PaymentIds(SimulatedClock(), random.Random(3))
    numbers = [int.from_bytes(ids.next(0), "big") for _ in range(2000)]
    ones = [sum(number >> bit & 1 for number in numbers) for bit in range(80)]
    fixed = {*range(52, 62), 62, 63, *range(76, 80)}  # slot, variant, version
    for bit, count in enumerate(ones):
        if bit in fixed:
            assert count in (0, 2000)
        else:
            assert abs(count - 1000) < 5 * 500**0.5
    assert sum(1 for bit in range(80) if bit not in fixed) == 64


def test_later_payments_have_greater_ids() -> None:
    clock = SimulatedClock()
    ids = PaymentIds(clock, random.Random(3))
    made = []
    for _ in range(50):
        made.append(ids.next(1023))
        clock.advance(0.001)
    assert made == sorted(made)
    assert uuid.UUID(bytes=PaymentIds(SystemClock()).next(0)).version == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "0190a6c0-0000-4000-8000-000000000000",  # version 4
        "0190a6c0-0000-7000-c000-000000000000",  # another variant
        "0190a6c0-0000-7000-8000-00000000000",
        "0190a6c0-0000-7000-8000-0000000000000",
        "0190a6c000007000-8000-000000000000",
        "0190a6c0-0000-7000-8000-00000000000 0",
        " 0190a6c0-0000-7000-8000-000000000000",
        "{0190a6c0-0000-7000-8000-000000000000}",
        "0190a6c0-0000-7000-8000-00000000000g",
        "０190a6c0-0000-7000-8000-000000000000",
        "x" * 100_000,
        None,
        7,
    ],
)
def test_what_is_no_payment_id(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_payment_id(text)
    assert len(str(caught.value)) < 300


def test_event_ids_derive_from_what_they_are_about() -> None:
    assert event_id("p", "PaymentCompleted") == event_id("p", "PaymentCompleted")
    different = {
        event_id("p", "PaymentCompleted"),
        event_id("q", "PaymentCompleted"),
        event_id("p", "PaymentFailed"),
        event_id("p", "BalanceUpdated", "debit"),
        event_id("p", "BalanceUpdated", "credit"),
    }
    assert len(different) == 5


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_an_idempotency_key_is_its_scope_and_its_text(
    a: tuple[str, str, str], b: tuple[str, str, str]
) -> None:
    assert len(key_hash(*a)) == 16
    assert (key_hash(*a) == key_hash(*b)) == (a == b)


def test_a_key_does_not_run_into_its_scope() -> None:
    parts = [
        ("a", "bc", "d"),
        ("ab", "c", "d"),
        ("a", "b", "cd"),
        ("1:a", "b", "cd"),
        ("", "a", "bcd"),
    ]
    assert len({key_hash(*p) for p in parts}) == len(parts)
