"""A file's payments in its own order against opening balances, without any lab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paytm_lab.core.money import require_amount
from paytm_lab.simulation.payments import Transfer


def spend_in_order(
    batches: Iterable[list[Transfer]], opening_paise: int | Mapping[str, int]
) -> list[dict[str, Any]]:
    """A row a payment: ``line``, ``from_user``, ``amount_paise``, ``refused`` (the payer held too
    little), ``refused_so_far``. ``opening_paise``: the same for all, or by user.
    """
    if isinstance(opening_paise, int):
        require_amount(opening_paise)
    held: dict[str, int] = {}

    def balance(user: str) -> int:
        opening = opening_paise if isinstance(opening_paise, int) else opening_paise.get(user, 0)
        return held.setdefault(user, opening)

    rows: list[dict[str, Any]] = []
    refused_so_far = 0
    for batch in batches:
        for row in batch:
            refused = balance(row.from_user_id) < row.amount_paise
            if refused:
                refused_so_far += 1
            else:
                held[row.from_user_id] -= row.amount_paise
                held[row.to_user_id] = balance(row.to_user_id) + row.amount_paise
            rows.append(
                {
                    "line": row.line,
                    "from_user": row.from_user_id,
                    "amount_paise": row.amount_paise,
                    "refused": refused,
                    "refused_so_far": refused_so_far,
                }
            )
    return rows
