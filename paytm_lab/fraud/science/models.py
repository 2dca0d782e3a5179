"""Training by scikit-learn, and the export to plain numbers (``fraud.model_file``).

What comes out is scored without scikit-learn, by ``fraud.array_models``; ``train`` compares the two
on the training rows and refuses a model that would score otherwise than it was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paytm_lab.core.errors import BadInput, IntegrityError
from paytm_lab.core.extras import need
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.model_file import Arrays, ModelFile
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.payments import Floats

LOGISTIC, TREE, FOREST, BOOSTING = (
    "logistic_regression", "decision_tree", "random_forest", "gradient_boosting",
)  # fmt: skip
METHODS = (LOGISTIC, TREE, FOREST, BOOSTING)
NEVER_BLOCKS = Thresholds(1.1, None)  # a score may be 1
_SAME = 1e-6
_ROWS_COMPARED = 2_000
Made = tuple[str, Arrays]


def train(
    method: str,
    table: FeatureTable,
    fraud: ArrayLike,
    *,
    name: str = "",
    version: int = 1,
    seed: int = 0,
    jobs: int = 1,
    **options: Any,
) -> ModelFile:
    """A model of one of ``METHODS`` with the published settings (scikit-learn's own defaults; the
    tree of depth two; boosting, which was not published, with small careful trees), or with
    ``options`` of scikit-learn instead. Its thresholds never block until others are given.

    BadInput where the table holds no payments of both kinds, or anything but finite numbers.
    """
    need("sklearn")
    labels = np.asarray(fraud).astype(np.bool_)
    rows = table.values
    if method not in METHODS:
        raise BadInput(f"there is no method {method!r}", remedy=f"Choose of {', '.join(METHODS)}.")
    if labels.shape != (len(rows),):
        raise BadInput(f"{len(labels)} labels do not belong to {len(rows)} rows", place="train")
    if not labels.any() or labels.all():
        raise BadInput(
            "a model needs frauds and genuine payments to learn from",
            place="train",
            remedy="Take a longer time to train on.",
        )
    if not np.isfinite(rows).all():
        raise BadInput("a feature is NaN or infinite", place="train")
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401 - only threads of what is loaded can be limited
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    # Several threads add in an order of their own, so that the last digits differ between runs; and
    # on a busy machine they cost more, by waiting for each other, than they bring.
    with threadpool_limits(limits=jobs):
        scores, (kind, arrays) = _FITS[method](rows, labels, seed, jobs, options)
    file = ModelFile(
        name or method[:24],
        version,
        kind,
        table.names,
        NEVER_BLOCKS,
        arrays,
        {
            "method": method,
            "features_made": table.made_by,
            "seed": seed,
            "train_rows": len(rows),
            "train_frauds": int(labels.sum()),
            **{f"option_{key}": value for key, value in sorted(options.items())},
        },
    )
    some = rows[:: max(1, len(rows) // _ROWS_COMPARED)]
    worst = float(np.abs(ArrayModel(file).scores(some) - scores(some)).max())
    if worst > _SAME:
        raise IntegrityError(
            f"the exported {method} scores {worst:.2g} away from the trained one", place="train"
        )
    return file


_Scores = Callable[[Floats], Floats]
_Fit = Callable[[Floats, NDArray[np.bool_], int, int, dict[str, Any]], tuple[_Scores, Made]]


def _logistic(
    rows: Floats, fraud: NDArray[np.bool_], seed: int, jobs: int, options: dict[str, Any]
) -> tuple[_Scores, Made]:
    from sklearn.linear_model import LogisticRegression

    mean, scale = rows.mean(0), rows.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(random_state=seed, **{"max_iter": 1_000, **options})
    model.fit((rows - mean) / scale, fraud)
    weights = model.coef_[0] / scale
    bias = float(model.intercept_[0]) - float(mean @ weights)

    def scores(some: Floats) -> Floats:
        return np.asarray(model.predict_proba((some - mean) / scale)[:, 1])

    made: Arrays = {"weights": weights, "mean": mean, "bias": np.array([bias])}
    return scores, ("linear", made)


def _tree(
    rows: Floats, fraud: NDArray[np.bool_], seed: int, jobs: int, options: dict[str, Any]
) -> tuple[_Scores, Made]:
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(random_state=seed, **{"max_depth": 2, **options})
    model.fit(rows, fraud)
    return _probability(model), ("forest", _nodes([model.tree_], _share_of_frauds))


def _forest(
    rows: Floats, fraud: NDArray[np.bool_], seed: int, jobs: int, options: dict[str, Any]
) -> tuple[_Scores, Made]:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(random_state=seed, n_jobs=jobs, **options)
    model.fit(rows, fraud)
    trees = [each.tree_ for each in model.estimators_]
    return _probability(model), ("forest", _nodes(trees, _share_of_frauds))


def _boosting(
    rows: Floats, fraud: NDArray[np.bool_], seed: int, jobs: int, options: dict[str, Any]
) -> tuple[_Scores, Made]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings = {
        "max_leaf_nodes": 8, "learning_rate": 0.05, "max_iter": 150, "l2_regularization": 5.0,
        "min_samples_leaf": 60, "early_stopping": False, **options,
    }  # fmt: skip
    model = HistGradientBoostingClassifier(random_state=seed, **settings)
    model.fit(rows, fraud)
    trees = [each[0].nodes for each in model._predictors]
    base = np.asarray(model._baseline_prediction, np.float64).ravel()[:1]
    parts = [_histogram_tree(nodes) for nodes in trees]
    return _probability(model), ("boosting", _joined(parts, base))


_FITS: dict[str, _Fit] = {
    LOGISTIC: _logistic, TREE: _tree, FOREST: _forest, BOOSTING: _boosting,
}  # fmt: skip


def _probability(model: Any) -> _Scores:
    return lambda rows: np.asarray(model.predict_proba(rows)[:, 1])


def _share_of_frauds(tree: Any) -> Floats:
    value = tree.value[:, 0, :]
    return np.asarray(value[:, 1] / value.sum(1), np.float64)


def _nodes(trees: list[Any], value_of: Callable[[Any], Floats]) -> Arrays:
    parts = []
    for tree in trees:
        feature = np.where(tree.children_left < 0, -1, tree.feature).astype(np.int16)
        parts.append(
            {
                "feature": feature,
                "threshold": _threshold(tree.threshold),
                "left": np.maximum(tree.children_left, 0).astype(np.int32),
                "right": np.maximum(tree.children_right, 0).astype(np.int32),
                "value": value_of(tree),
            }
        )
    return _joined(parts, np.zeros(1))


def _threshold(thresholds: Any) -> Floats:
    """Trees of scikit-learn compare in single precision: float32(x) <= t. For doubles that is
    x <= T, with T half way from the largest single of at most t to the next one.
    """
    double = np.asarray(thresholds, np.float64)
    single = double.astype(np.float32)
    low = np.where(single > double, np.nextafter(single, np.float32(-np.inf)), single)
    high = np.nextafter(low, np.float32(np.inf))
    return np.asarray((low.astype(np.float64) + high.astype(np.float64)) / 2, np.float64)


def _histogram_tree(nodes: Any) -> Arrays:
    leaf = nodes["is_leaf"].astype(np.bool_)
    return {
        "feature": np.where(leaf, -1, nodes["feature_idx"]).astype(np.int16),
        "threshold": np.where(leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        "left": np.where(leaf, 0, nodes["left"]).astype(np.int32),
        "right": np.where(leaf, 0, nodes["right"]).astype(np.int32),
        "value": _means(nodes, leaf),
    }


def _means(nodes: Any, leaf: Any) -> Floats:
    """Of an inner node the mean of its leaves, by training rows: what scikit-learn leaves there is
    on another scale than the leaves (before the learning rate), and explanations need one scale.
    """
    value = np.array(nodes["value"], np.float64)
    rows = nodes["count"].astype(np.float64)
    for place in np.flatnonzero(~leaf)[::-1].tolist():  # children stand behind their parents
        sides = [int(nodes["left"][place]), int(nodes["right"][place])]
        value[place] = float(value[sides] @ rows[sides] / rows[sides].sum())
    return value


def _joined(parts: list[Arrays], base: Floats) -> Arrays:
    """One list of nodes, children counted from its beginning."""
    sizes = np.array([len(each["feature"]) for each in parts])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    for part, root in zip(parts, roots, strict=True):
        inner = part["feature"] >= 0
        for side in ("left", "right"):
            part[side] = np.where(inner, part[side] + root, 0).astype(np.int32)
    names = ("feature", "threshold", "left", "right", "value")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return {**joined, "roots": roots, "base": base}
