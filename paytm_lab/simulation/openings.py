"""What a file's users start with. A rule sees the accepted rows once, in order, and keeps two
numbers a user at most.
"""

from __future__ import annotations

from array import array
from typing import Protocol

from paytm_lab.core.money import AMOUNT_PAISE_MAX, format_rupees
from paytm_lab.simulation.file_rows import UNKNOWN, Row


class OpeningRule(Protocol):
    """``rule`` says in words how balances come about; to be printed."""

    rule: str

    def see(self, row: Row) -> None:
        """One accepted row."""

    def balances(self) -> dict[str, int]:
        """User id -> opening balance in paise, every user seen. Ends the seeing."""


class FromColumns:
    """The value of the first row that gives one for the user; the default where no row does."""

    def __init__(self, columns: str, default_paise: int | None) -> None:
        default = format_rupees(default_paise or 0)
        which = "columns" if " and " in columns else "column"
        self.rule = (
            f"{which} {columns} at a user's first sight, {default} rupees where it says none"
        )
        self._default_paise = default_paise or 0
        self._of: dict[str, int] = {}

    def see(self, row: Row) -> None:
        of = self._of
        if of.get(row.from_user_id, UNKNOWN) == UNKNOWN:
            of[row.from_user_id] = row.opening_paise
        if of.get(row.to_user_id, UNKNOWN) == UNKNOWN:
            of[row.to_user_id] = row.opening_to_paise

    def balances(self) -> dict[str, int]:
        for user_id, paise in self._of.items():
            if paise == UNKNOWN:
                self._of[user_id] = self._default_paise
        return self._of


class SameForAll:
    def __init__(self, paise: int) -> None:
        self.rule = f"{format_rupees(paise)} rupees for every user"
        self._paise = paise
        self._of: dict[str, int] = {}

    def see(self, row: Row) -> None:
        self._of[row.from_user_id] = self._of[row.to_user_id] = self._paise

    def balances(self) -> dict[str, int]:
        return self._of


class JustEnough:
    """The least balances with which no row of the file meets too little money.

    In the file's order that is how far each user's running balance would fall below zero. With
    ``in_any_order`` a receipt pays for nothing, as payments that are posted side by side may
    overtake.
    """

    def __init__(self, *, in_any_order: bool) -> None:
        how = "all that a user sends" if in_any_order else "posted in its order"
        self.rule = f"just enough for the file ({how})"
        self._receipts_count = not in_any_order
        self._row_of: dict[str, int] = {}
        self._balance = array("q")
        self._lowest = array("q")

    def see(self, row: Row) -> None:
        payer = self._row(row.from_user_id)
        self._balance[payer] = max(self._balance[payer] - row.amount_paise, -AMOUNT_PAISE_MAX)
        self._lowest[payer] = min(self._lowest[payer], self._balance[payer])
        payee = self._row(row.to_user_id)
        if self._receipts_count:
            self._balance[payee] = min(self._balance[payee] + row.amount_paise, AMOUNT_PAISE_MAX)

    def balances(self) -> dict[str, int]:
        of = self._row_of
        for user_id, row in of.items():
            of[user_id] = -self._lowest[row]
        return of

    def _row(self, user_id: str) -> int:
        row = self._row_of.setdefault(user_id, len(self._balance))
        if row == len(self._balance):
            self._balance.append(0)
            self._lowest.append(0)
        return row


def opening_rule(columns: str, opening_paise: int | None, *, in_any_order: bool) -> OpeningRule:
    """A mapped column before a given balance, that before just enough."""
    if columns:
        return FromColumns(columns, opening_paise)
    if opening_paise is not None:
        return SameForAll(opening_paise)
    return JustEnough(in_any_order=in_any_order)
