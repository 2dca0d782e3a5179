"""Whether payments still look like those that a model was trained on.

Population stability index: sum over bins of (p - q) ln(p / q), bins by the quantiles of the
reference (Lewis, 1994, "An Introduction to Credit Scoring"; below 0.1 stable, from 0.25 on
shifted, after Siddiqi, 2006). Two-sample Kolmogorov-Smirnov distance, with the limit that equal
distributions pass with a chance of alpha: sqrt(-ln(alpha / 2) / 2 * (n + m) / (n m)) (Smirnov,
1948).
"""

from __future__ import annotations

from math import log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.payments import Floats

STABLE_BELOW, SHIFTED_FROM = 0.1, 0.25
ALPHA = 0.001
_SHARE_MIN = 1e-4  # an empty bin would make the index infinite
_PLACE = "drift"


class Drift(NamedTuple):
    """``said``: stable, watch or shifted, by the index; ``ks_passes``: no more than chance."""

    feature: str
    psi: float
    ks: float
    ks_limit: float
    said: str

    @property
    def ks_passes(self) -> bool:
        return self.ks <= self.ks_limit


def psi(reference: ArrayLike, current: ArrayLike, bins: int = 10) -> float:
    old, new = _checked(reference), _checked(current)
    if bins < 2:
        raise BadInput(f"bins={bins!r}", place=_PLACE, remedy="Give 2 or more.")
    edges = np.unique(np.quantile(old, np.linspace(0, 1, bins + 1)[1:-1]))
    # A value that many rows share becomes a bin of its own, apart from all that is less.
    shared = [edge for edge in edges if np.mean(old == edge) > 0.5 / bins]
    edges = np.unique(np.concatenate([edges, np.nextafter(shared, -np.inf)]))
    p = np.bincount(np.searchsorted(edges, old, side="left"), minlength=len(edges) + 1) / len(old)
    q = np.bincount(np.searchsorted(edges, new, side="left"), minlength=len(edges) + 1) / len(new)
    p, q = np.maximum(p, _SHARE_MIN), np.maximum(q, _SHARE_MIN)
    return float(np.sum((p - q) * np.log(p / q)))


def ks_distance(reference: ArrayLike, current: ArrayLike) -> float:
    """The largest distance between the two shares of values up to x."""
    old, new = np.sort(_checked(reference)), np.sort(_checked(current))
    both = np.concatenate([old, new])
    share_old = np.searchsorted(old, both, side="right") / len(old)
    share_new = np.searchsorted(new, both, side="right") / len(new)
    return float(np.abs(share_old - share_new).max())


def ks_limit(reference_rows: int, current_rows: int, alpha: float = ALPHA) -> float:
    if not 0 < alpha < 1 or min(reference_rows, current_rows) < 1:
        raise BadInput(f"alpha={alpha!r}", place=_PLACE, remedy="Give 0 to 1, and some rows.")
    rows = (reference_rows + current_rows) / (reference_rows * current_rows)
    return sqrt(-log(alpha / 2) / 2 * rows)


def drift(reference: FeatureTable, current: FeatureTable, bins: int = 10) -> list[Drift]:
    """Every feature, the most shifted first. BadInput where the tables hold other features."""
    if reference.names != current.names:
        raise BadInput("the two tables hold other features", place=_PLACE)
    limit = ks_limit(len(reference.values), len(current.values))
    found = []
    for place, name in enumerate(reference.names):
        old, new = reference.values[:, place], current.values[:, place]
        index = psi(old, new, bins)
        found.append(Drift(name, index, ks_distance(old, new), limit, _said(index)))
    return sorted(found, key=lambda each: -each.psi)


def _said(index: float) -> str:
    if index >= SHIFTED_FROM:
        return "shifted"
    return "watch" if index >= STABLE_BELOW else "stable"


def _checked(values: ArrayLike) -> Floats:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise BadInput(
            "no values, or some that are NaN or infinite", place=_PLACE,
            remedy="Compare columns of finite numbers.",
        )  # fmt: skip
    return found
