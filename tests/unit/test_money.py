"""Money is whole paise: the grammar of amounts, its limits, and exact text."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.core.errors import InvalidAmount, InvalidCurrency
from paytm_lab.core.money import (
    AMOUNT_PAISE_MAX,
    format_rupees,
    in_lakhs,
    in_words,
    parse_rupees,
    require_amount,
    require_currency,
    require_payable,
)

GRAMMAR = re.compile(r"^[0-9]{1,14}(\.[0-9]{1,2})?\Z", re.ASCII)


@pytest.mark.parametrize(
    ("text", "paise"),
    [
        ("0", 0),
        ("0.01", 1),
        ("0.1", 10),
        ("1", 100),
        ("1250.75", 125_075),
        ("007", 700),
        ("00000000000000", 0),
        ("90071992547409.91", 2**53 - 1),
    ],
)
def test_amounts(text: str, paise: int) -> None:
    assert parse_rupees(text) == paise


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        " 1",
        "1\n",
        "+1",
        "-1",
        "-0",
        "1.",
        ".5",
        "1.234",
        "1,000",
        "1_000",
        "1e3",
        "1E3",
        "NaN",
        "nan",
        "Infinity",
        "inf",
        "0x10",
        "१२",
        "١",
        "１",
        "²",
        "₹1",
        "1.2.3",
        "1..2",
        "100000000000000",  # 15 digits
        "90071992547409.92",  # 2^53 paise
        "99999999999999.99",
        "1\x00",
        "9" * 10_000,
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InvalidAmount) as caught:
        parse_rupees(text)
    assert caught.value.exit_code == 2
    assert re.search(r"at most (90071992547409\.91|2\^53-1)", str(caught.value)), "the limit"
    assert len(str(caught.value)) < 300, "the error does not repeat a long input"


@pytest.mark.parametrize("value", [None, 1, 1.5, b"1", ["1"], Decimal(1)])
def test_only_text_is_parsed(value: object) -> None:
    with pytest.raises(InvalidAmount):
        parse_rupees(value)


@given(
    st.one_of(
        st.from_regex(r"[0-9]{1,15}(\.[0-9]{0,3})?", fullmatch=True),
        st.text(st.sampled_from("0123456789.+-eE_, ١१\n"), max_size=20),
        st.text(max_size=20),
    )
)
def test_text_is_an_amount_exactly_when_the_grammar_and_the_limit_say_so(text: str) -> None:
    valid = GRAMMAR.match(text) is not None and Decimal(text) * 100 <= AMOUNT_PAISE_MAX
    if valid:
        assert parse_rupees(text) == Decimal(text) * 100
    else:
        with pytest.raises(InvalidAmount):
            parse_rupees(text)


@given(st.integers(0, AMOUNT_PAISE_MAX))
def test_text_and_back(paise: int) -> None:
    text = format_rupees(paise)
    assert parse_rupees(text) == paise
    assert Decimal(text) * 100 == paise


@given(st.integers(-(2**70), 2**70))
def test_text_of_any_balance_is_exact(paise: int) -> None:
    assert Decimal(format_rupees(paise)) * 100 == paise
    assert re.fullmatch(r"-?[0-9]+\.[0-9]{2}", format_rupees(paise))


def test_text_of_small_debts() -> None:
    assert [format_rupees(p) for p in (-5, -100, -101, 0, 9)] == [
        "-0.05",
        "-1.00",
        "-1.01",
        "0.00",
        "0.09",
    ]


@pytest.mark.parametrize("value", [-1, 2**53, 1.0, float("nan"), True, "1", None, Decimal(1)])
def test_what_is_no_number_of_paise(value: object) -> None:
    for require in (require_amount, require_payable):
        with pytest.raises(InvalidAmount):
            require(value)


def test_numbers_of_paise() -> None:
    assert [require_amount(p) for p in (0, 1, 2**53 - 1)] == [0, 1, 2**53 - 1]
    assert [require_payable(p) for p in (1, 2**53 - 1)] == [1, 2**53 - 1]
    with pytest.raises(InvalidAmount):
        require_payable(0)


@pytest.mark.parametrize("currency", ["", "inr", "USD", "INR ", "ＩＮＲ"])
def test_other_currencies_are_refused(currency: str) -> None:
    assert require_currency("INR") == "INR"
    with pytest.raises(InvalidCurrency):
        require_currency(currency)


def test_in_words_is_exact_at_every_size() -> None:
    assert in_words(314_812_900) == "3,148,129.00 rupees"
    assert in_words(0) == "0.00 rupees" and in_words(-5) == "-0.05 rupees"
    assert in_words(-123_456_07) == "-123,456.07 rupees"
    assert in_words(1100 * (2**53 - 1)) == "99,079,191,802,150,901.00 rupees"


@pytest.mark.parametrize("text", ["90071992547409.92", "99999999999999"])
def test_too_many_rupees_are_told_in_rupees(text: str) -> None:
    with pytest.raises(InvalidAmount) as error:
        parse_rupees(text)
    assert text in error.value.message
    assert "90071992547409.91" in error.value.remedy
    assert "paise" not in str(error.value)


@pytest.mark.parametrize(
    ("amount_paise", "text"),
    [
        (0, "₹0.00"),
        (5, "₹0.05"),
        (99_999, "₹999.99"),
        (100_000, "₹1,000.00"),
        (9_999_999, "₹99,999.99"),
        (12_345_670, "₹1,23,456.70"),
        (1_234_567_890, "₹1,23,45,678.90"),
        (2**53 - 1, "₹9,00,71,99,25,47,409.91"),
        (-12_345_670, "-₹1,23,456.70"),
        (-1, "-₹0.01"),
    ],
)
def test_rupees_in_indian_groups(amount_paise: int, text: str) -> None:
    assert in_lakhs(amount_paise) == text


@given(st.integers(0, 2**53 - 1))
def test_rupees_are_exact(amount_paise: int) -> None:
    assert parse_rupees(in_lakhs(amount_paise).replace(",", "").removeprefix("₹")) == amount_paise
