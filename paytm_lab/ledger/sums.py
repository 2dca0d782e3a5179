"""Sums of money that cannot overflow.

Amounts go up to 2^53-1 paise, so a plain 64-bit SUM ends at about a thousand of them. Sums over
system accounts are taken in two halves and put together as a Python int.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case, func

from paytm_lab.ledger.schema import ledger_entries

_SPLIT = 2**31
_AMOUNT = ledger_entries.c.amount
_LOW = _AMOUNT % _SPLIT
# The low half is taken off first: MySQL's division is decimal and would round.
_HIGH = (_AMOUNT - _LOW) // _SPLIT


def sum_halves(when: ColumnElement[bool]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Two aggregates over ledger_entries: the halves of the sum of amounts where ``when`` holds."""
    return (
        func.coalesce(func.sum(case((when, _HIGH), else_=0)), 0),
        func.coalesce(func.sum(case((when, _LOW), else_=0)), 0),
    )


def whole(high: Any, low: Any) -> int:
    """The exact sum from its halves (MySQL gives decimals)."""
    return int(high) * _SPLIT + int(low)
