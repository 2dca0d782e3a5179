"""Decision types of the fraud gate."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Decision(StrEnum):
    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """What a scorer sees of a payment. ``at_us``: microseconds since 1970 UTC, its stamp."""

    payment_id: str
    from_user_id: str
    to_user_id: str
    amount_paise: int
    at_us: int


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """``score`` is 0..1; ``rule`` names what decided, in at most 32 ASCII characters; ``model``
    is the scorer's version.
    """

    score: float
    decision: Decision
    rule: str = "amount"
    model: str = "default"
