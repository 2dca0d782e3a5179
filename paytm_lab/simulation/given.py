"""Numbers that users give to simulations, judged in one place."""

from __future__ import annotations

import math
from operator import index

from paytm_lab.core.errors import InvalidSetting


def whole(name: str, value: object, low: int, high: int) -> int:
    """The whole number; InvalidSetting for anything else, or one outside the bounds."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise InvalidSetting(
            f"{name} = {value!r:.60} cannot be used",
            remedy=f"Give a whole number from {low} to {high}.",
        )
    return number


def real(name: str, value: object, low: float, high: float) -> float:
    """The number; InvalidSetting for anything else (NaN and text included), or one outside."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise InvalidSetting(
            f"{name} = {value!r:.60} cannot be used",
            remedy=f"Give a number from {low:g} to {high:g}.",
        )
    return number
