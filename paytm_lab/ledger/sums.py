"""Sums of money that cannot overflow.

Amounts go up to 2^53-1 paise, so a plain 64-bit SUM ends at about a thousand of them. Sums over
many rows are taken in two halves and put together as a Python int.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case, func, true

from paytm_lab.ledger.schema import ledger_entries

_SPLIT = 2**31


def halves_of(
    amount: ColumnElement[int], when: ColumnElement[bool] | None = None
) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Two aggregates: the halves of the sum of ``amount``, none negative, where ``when`` holds."""
    low = amount % _SPLIT
    # The low half is taken off first: MySQL's division is decimal and would round.
    high = (amount - low) // _SPLIT
    holds = true() if when is None else when
    return (
        func.coalesce(func.sum(case((holds, high), else_=0)), 0),
        func.coalesce(func.sum(case((holds, low), else_=0)), 0),
    )


def sum_halves(when: ColumnElement[bool]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Two aggregates over ledger_entries: the halves of the sum of amounts where ``when`` holds."""
    return halves_of(ledger_entries.c.amount, when)


def whole(high: Any, low: Any) -> int:
    """The exact sum from its halves (MySQL gives decimals)."""
    return int(high) * _SPLIT + int(low)
