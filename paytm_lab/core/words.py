"""Words for numbers."""

from __future__ import annotations


def plural(number: int, one: str, ending: str = "s") -> str:
    """'point' of one, 'points' of any other number."""
    return one if number == 1 else one + ending
