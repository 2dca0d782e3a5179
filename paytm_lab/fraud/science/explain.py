"""Why a model gave a score, for one decision and over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.array_models import ArrayModel, Reason
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.science.features import FeatureTable

_ROWS_MAX = 5_000


class Weight(NamedTuple):
    """``effect``: mean distance that the feature moves a score; of trees that average, in score,
    else in log odds.
    """

    feature: str
    effect: float


def importance(model: ModelFile, table: FeatureTable) -> list[Weight]:
    """Mean absolute effect of each feature over (at most 5,000 of) the rows, the largest first."""
    rows = table.columns(model.features)
    if not len(rows):
        raise BadInput("there are no rows", place="explain")
    some = rows[:: max(1, -(-len(rows) // _ROWS_MAX))]
    effects = np.abs(ArrayModel(model).effects(some)).mean(0)
    order = np.argsort(-effects, kind="stable")
    return [Weight(model.features[i], float(effects[i])) for i in order]


def reasons(model: ModelFile, table: FeatureTable, row: int, most: int = 5) -> list[Reason]:
    """What made the score of one row of the table; see ``ArrayModel.reasons``."""
    if not 0 <= row < len(table.values):
        raise BadInput(f"row {row} is not in the table", place="explain")
    return ArrayModel(model).reasons(table.columns(model.features)[row], most)


def in_words(found: Sequence[Reason]) -> str:
    """Such as ``amount = 781.9 (+2.6), night = 1 (+0.2)``."""
    return ", ".join(f"{r.feature} = {r.value:.4g} ({r.effect:+.2g})" for r in found)
