"""Whether columns give the answer away: the model with them, and without.

A column leaks where it is written after the fact, or by whoever knows the answer; a model looks
perfect with it and is worth nothing live (Kaufman et al., 2012, "Leakage in data mining"). In
PaySim the balances after the payment do: its frauds are undone, so theirs never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.science.evaluation import auc_roc, average_precision
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.models import BOOSTING, train

_PLACE = "leakage check"
TOO_GOOD = 0.995


class Leakage(NamedTuple):
    """AUC and average precision on the later half of the payments. ``alone``: each column's own
    AUC, whichever way it points, the best first; ``suspicious``: those that are too good alone.
    """

    auc_with: float
    auc_without: float
    precision_with: float
    precision_without: float
    dropped: tuple[str, ...]
    alone: tuple[tuple[str, float], ...]

    @property
    def fall(self) -> float:
        """Of the AUC, when the columns are dropped."""
        return self.auc_with - self.auc_without

    @property
    def suspicious(self) -> tuple[str, ...]:
        return tuple(name for name, auc in self.alone if auc >= TOO_GOOD)


def leakage(
    columns: Mapping[str, ArrayLike],
    fraud: ArrayLike,
    drop: Sequence[str],
    *,
    seed: int = 0,
    differences: Sequence[tuple[str, str, str]] = (),
) -> Leakage:
    """Train on the earlier half of the rows, judge on the later, with and without ``drop``.

    ``differences``: (name, a, b) adds the column a - b, which goes when one of its parts does.
    BadInput for a column that is not there, or where nothing would be left.
    """
    values = {name: np.asarray(column, np.float64) for name, column in columns.items()}
    missing = (set(drop) | {part for each in differences for part in each[1:]}) - values.keys()
    if missing:
        raise BadInput(f"there is no column {', '.join(sorted(missing))}", place=_PLACE)
    gone = set(drop)
    for name, left, right in differences:
        values[name] = values[left] - values[right]
        if {left, right} & gone:
            gone.add(name)
    kept = tuple(name for name in values if name not in gone)
    if not kept or not gone:
        raise BadInput("nothing would be dropped, or nothing left", place=_PLACE)
    labels = np.asarray(fraud).astype(np.bool_)
    half = len(labels) // 2
    everything = _judged(values, tuple(values), labels, half, seed)
    without = _judged(values, kept, labels, half, seed)
    alone = [(name, _either_way(labels, values[name])) for name in values]
    return Leakage(
        everything[0],
        without[0],
        everything[1],
        without[1],
        tuple(sorted(gone)),
        tuple(sorted(alone, key=lambda each: -each[1])),
    )


def _judged(
    values: Mapping[str, NDArray[np.float64]],
    names: tuple[str, ...],
    fraud: NDArray[np.bool_],
    half: int,
    seed: int,
) -> tuple[float, float]:
    rows = np.column_stack([values[name] for name in names])
    table = FeatureTable(names, rows[:half], np.arange(half))
    model = train(BOOSTING, table, fraud[:half], name="leakage", seed=seed, max_iter=60)
    scores = ArrayModel(model).scores(rows[half:])
    return auc_roc(fraud[half:], scores), average_precision(fraud[half:], scores)


def _either_way(fraud: NDArray[np.bool_], column: NDArray[np.float64]) -> float:
    auc = auc_roc(fraud, column)
    return max(auc, 1 - auc)
