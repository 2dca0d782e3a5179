"""Scores of a trained model by numpy alone, and what each feature did to a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.live_features import LIVE, ONLINE, WITHOUT_HISTORY, feature_rows
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.registry import Model, ModelInput

Floats = NDArray[np.float64]
_CELLS_MAX = 400_000  # rows x trees at a time: what they need stays in the cache


class Reason(NamedTuple):
    """``effect``: what the feature's value added to the score (log odds but for forests)."""

    feature: str
    value: float
    effect: float


class ArrayModel:
    """Thread-safe: nothing in it changes."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        arrays = file.arrays
        if file.kind == "linear":
            self._weights, self._mean = arrays["weights"], arrays["mean"]
            self._bias = float(arrays["bias"][0])
        else:
            feature, own = arrays["feature"], np.arange(len(arrays["feature"]))
            leaf = feature < 0
            # A leaf leads to itself, so all rows take the same number of steps.
            self._feature = np.where(leaf, 0, feature).astype(np.int64)
            self._threshold = arrays["threshold"]
            left, right = np.where(leaf, own, arrays["left"]), np.where(leaf, own, arrays["right"])
            self._child = np.stack([right, left], axis=1).ravel().astype(np.int64)
            self._value, self._roots = arrays["value"], arrays["roots"].astype(np.int64)
            self._base = float(arrays["base"][0])
            self._depth = _depth(self._child, self._roots)

    def scores(self, rows: Floats) -> Floats:
        """One score in 0..1 for each row of features, shape (payments, features)."""
        self._check(rows)
        if self.file.kind == "linear":
            return _logistic(rows @ self._weights + self._bias)
        found = np.empty(len(rows))
        step = max(1, _CELLS_MAX // len(self._roots))
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            values = self._value[self._leaves(part)]
            found[first : first + step] = values.mean(1) if self._is_forest else values.sum(1)
        return found if self._is_forest else _logistic(found + self._base)

    def reasons(self, row: Floats, most: int = 3) -> list[Reason]:
        """The features with the largest effects on one row's score, the largest first.

        Linear: weight x (value - mean of the training data). Trees: the change of the node's value
        at each step of the row's way, given to the feature that the step asked for (Palczewska et
        al., 2013, "Interpreting random forest models using a feature contribution method"); with
        the roots' values they add up to the score.
        """
        effects = self.effects(row.reshape(1, -1))[0]
        order = np.argsort(-np.abs(effects), kind="stable")[:most]
        names = self.file.features
        return [
            Reason(names[i], float(row[i]), float(effects[i])) for i in order.tolist() if effects[i]
        ]

    def effects(self, rows: Floats) -> Floats:
        """Shape (payments, features); see ``reasons``."""
        self._check(rows)
        if self.file.kind == "linear":
            return np.asarray((rows - self._mean) * self._weights)
        found = np.zeros(rows.shape)
        which = np.arange(len(rows))[:, None]
        nodes = np.broadcast_to(self._roots, (len(rows), len(self._roots)))
        for _ in range(self._depth):
            following = self._next(rows, nodes)
            change = self._value[following] - self._value[nodes]
            np.add.at(found, (np.broadcast_to(which, nodes.shape), self._feature[nodes]), change)
            nodes = following
        return found / len(self._roots) if self._is_forest else found

    @property
    def _is_forest(self) -> bool:
        return self.file.kind == "forest"

    def _leaves(self, rows: Floats) -> NDArray[np.int64]:
        nodes = np.broadcast_to(self._roots, (len(rows), len(self._roots)))
        for _ in range(self._depth):
            nodes = self._next(rows, nodes)
        return nodes

    def _next(self, rows: Floats, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        values = (
            rows[0][self._feature[nodes]]
            if len(rows) == 1
            else np.take_along_axis(rows, self._feature[nodes], axis=1)
        )
        return self._child[2 * nodes + (values <= self._threshold[nodes])]

    def _check(self, rows: Floats) -> None:
        if rows.ndim != 2 or rows.shape[1] != len(self.file.features):
            raise BadInput(
                f"rows of shape {rows.shape} do not fit {len(self.file.features)} features",
                place=f"model {self.file.id}",
            )


def live_model(file: ModelFile) -> Model:
    """The model as the scorer asks it. BadInput where it needs what a live scorer does not know."""
    unknown = [name for name in file.features if name not in LIVE]
    if unknown:
        raise BadInput(
            f"model {file.id} needs {', '.join(unknown)}: a live scorer does not know that",
            place="deploy",
            remedy="Train it on the features of fraud.live_features.LIVE.",
        )
    made = file.facts.get("features_made") or ONLINE
    if made != ONLINE and not set(file.features) <= set(WITHOUT_HISTORY):
        raise BadInput(
            f"model {file.id} was trained on {made} features, which a live scorer makes otherwise",
            place="deploy",
            remedy="Train it on what fraud.science.live.live_features gives.",
        )
    model = ArrayModel(file)
    columns = [LIVE.index(name) for name in file.features]

    def predict(inputs: Sequence[ModelInput]) -> list[float]:
        return list(map(float, model.scores(feature_rows(inputs)[:, columns])))

    def why(each: ModelInput) -> str:
        reasons = model.reasons(feature_rows([each])[0, columns])
        return ", ".join(f"{r.feature} {r.value:.4g} ({r.effect:+.3f})" for r in reasons)

    needs_history = not set(file.features) <= set(WITHOUT_HISTORY)
    return Model(file.id, predict, file.thresholds, needs_history, why)


def _logistic(odds: Floats) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1.0, small) / (1.0 + small)


def _depth(child: NDArray[np.int64], roots: NDArray[np.int64]) -> int:
    """Steps until every way has ended."""
    level, depth = np.unique(roots), 0
    while True:
        following = np.unique(child.reshape(-1, 2)[level])
        if np.array_equal(following, level):
            return depth
        level, depth = following, depth + 1
