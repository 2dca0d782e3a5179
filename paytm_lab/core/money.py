"""Money is an ``int`` of paise (1/100 rupee). No float ever holds money."""

from __future__ import annotations

import re

from paytm_lab.core.errors import InvalidAmount, InvalidCurrency

AMOUNT_PAISE_MAX = 2**53 - 1  # the largest integer that JSON readers in every language keep exact
CURRENCY = "INR"
_GRAMMAR = re.compile(r"([0-9]{1,14})(?:\.([0-9]{1,2}))?", re.ASCII)


def parse_rupees(text: str) -> int:
    """Rupees as text -> paise. Grammar: ASCII ``[0-9]{1,14}(\\.[0-9]{1,2})?``.

    Zero is allowed here (an opening balance may be zero); ``require_payable`` refuses it for
    payments. Raises InvalidAmount for anything else: signs, exponents, NaN, underscores, other
    scripts' digits.
    """
    is_text = isinstance(text, str)  # what came in as JSON may be anything
    match = _GRAMMAR.fullmatch(text) if is_text else None
    if match is None:
        raise InvalidAmount(
            f"{text!r:.80} is not an amount",
            remedy="Write rupees as digits with at most two decimals, for example 1250 or 1250.75,"
            f" and at most {format_rupees(AMOUNT_PAISE_MAX)}.",
        )
    whole, fraction = match.groups()
    amount_paise = int(whole) * 100 + int((fraction or "0").ljust(2, "0"))
    if amount_paise > AMOUNT_PAISE_MAX:
        raise InvalidAmount(
            f"{text} rupees are more than any amount may be",
            remedy=f"Give at most {format_rupees(AMOUNT_PAISE_MAX)}.",
        )
    return amount_paise


def require_amount(amount_paise: int) -> int:
    """The same number, if it is an int from 0 to AMOUNT_PAISE_MAX; InvalidAmount otherwise."""
    if type(amount_paise) is not int:
        raise InvalidAmount(
            f"{amount_paise!r:.80} is not an amount: paise are whole numbers",
            remedy="Give an int of paise, or use parse_rupees on text.",
        )
    if not 0 <= amount_paise <= AMOUNT_PAISE_MAX:
        raise InvalidAmount(
            f"{amount_paise} paise is outside 0..{AMOUNT_PAISE_MAX}",
            remedy="Amounts are not negative and at most 2^53-1 paise.",
        )
    return amount_paise


def require_payable(amount_paise: int) -> int:
    """Like ``require_amount``, and not zero."""
    if require_amount(amount_paise) == 0:
        raise InvalidAmount("0 paise cannot be paid", remedy="Give at least 0.01 rupees.")
    return amount_paise


def require_currency(currency: str) -> str:
    if currency != CURRENCY:
        raise InvalidCurrency(
            f"{currency!r:.20} is not a currency of this lab", remedy=f"Use {CURRENCY}."
        )
    return currency


def format_rupees(amount_paise: int) -> str:
    """Paise -> rupees as text with two decimals, exact: -5 -> '-0.05'."""
    sign = "-" if amount_paise < 0 else ""
    whole, fraction = divmod(abs(amount_paise), 100)
    return f"{sign}{whole}.{fraction:02d}"


def in_words(amount_paise: int) -> str:
    """Paise -> rupees for people, exact: 314812900 -> '3,148,129.00 rupees'."""
    whole, _, fraction = format_rupees(abs(amount_paise)).partition(".")
    return f"{'-' if amount_paise < 0 else ''}{int(whole):,}.{fraction} rupees"


def in_lakhs(amount_paise: int) -> str:
    """Paise -> rupees for users, exact and in India's groups: 12345670 -> '₹1,23,456.70'."""
    sign = "-" if amount_paise < 0 else ""
    text = format_rupees(abs(amount_paise))
    groups = [text[-6:]]  # three digits and the paise
    head = text[:-6]
    while head:
        groups.append(head[-2:])
        head = head[:-2]
    return f"{sign}₹{','.join(reversed(groups))}"
