"""Small economies that several tests look at; each is generated once a process."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import numpy as np

from paytm_lab.simulation.economy import PATTERNS, Economy, EconomyBatch, joined
from paytm_lab.simulation.economy.batch import COLUMNS

SEED = 11


@cache
def cheated() -> tuple[Economy, EconomyBatch]:
    """Two weeks with six rings of each pattern."""
    economy = Economy(users=1_500, days=14, fraud=dict.fromkeys(PATTERNS[1:], 6))
    return economy, joined(economy.generate(SEED))


@cache
def honest() -> tuple[Economy, EconomyBatch]:
    economy = Economy(users=2_000, days=14, fraud={})
    return economy, joined(economy.generate(SEED))


def fingerprint(batch: EconomyBatch) -> str:
    digest = blake2b(digest_size=16)
    for name in COLUMNS:
        column = getattr(batch, name)
        digest.update(f"{name}:{column.dtype}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
