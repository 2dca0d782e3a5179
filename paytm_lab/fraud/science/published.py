"""The Handbook's results, and the same experiment made again on worlds of our own.

Source: Le Borgne et al. (2022), chapter 3, "Baseline fraud detection system": test AUC ROC, average
precision, card precision at 100 of models with scikit-learn's settings, on one world. Here each is
a mean over worlds of several seeds; the published world is one more draw of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.science.evaluation import Interval, Metrics, evaluate, interval
from paytm_lab.fraud.science.features import HANDBOOK, OURS, FeatureTable, make_features
from paytm_lab.fraud.science.models import BOOSTING, FOREST, LOGISTIC, TREE, train
from paytm_lab.fraud.science.payments import Floats, Payments
from paytm_lab.fraud.science.protocol import Split, split

SEEDS = tuple(range(10))
PUBLISHED: dict[str, tuple[float, float, float]] = {
    LOGISTIC: (0.871, 0.606, 0.291),
    TREE: (0.763, 0.496, 0.241),
    FOREST: (0.867, 0.658, 0.287),
}
PUBLISHED_CEILING = 0.397
TOLERANCES = (0.02, 0.03, 0.03)
METRICS = ("auc", "average_precision", "card_precision")
OUR_MODEL = "ours"
# Ours learns from five weeks instead of one: all of their labels are known by the same day.
_OURS_DAYS = 35
_OURS: dict[str, Any] = {"max_iter": 200}


class Result(NamedTuple):
    """``metrics``: one entry a seed."""

    model: str
    metrics: tuple[Metrics, ...]

    def values(self, metric: str) -> list[float]:
        return [getattr(each, metric) for each in self.metrics]


class Row(NamedTuple):
    """A metric beside the published one. ``sd``: of single seeds; ``within``: no further away than
    the tolerance, or than two ``sd``.
    """

    model: str
    metric: str
    published: float
    mean: float
    sd: float
    low: float
    high: float
    within: bool


Rows = NDArray[np.int64]
World = Callable[[int], Payments]


def reproduce(
    world: World,
    seeds: Sequence[int] = SEEDS,
    models: Sequence[str] = (*PUBLISHED, OUR_MODEL),
    *,
    jobs: int = 1,
) -> dict[str, Result]:
    """Results by model. ``world`` makes the payments of a seed (at least 137 days of them)."""
    unknown = set(models) - {*PUBLISHED, OUR_MODEL}
    if unknown or not seeds:
        raise BadInput(f"no seeds, or no model {', '.join(sorted(unknown))}", place="reproduce")
    found: dict[str, list[Metrics]] = {model: [] for model in models}
    for seed in seeds:
        data = world(seed)
        parts = split(data)
        tested = data.rows(parts.test)
        for model, scores in _scores(data, parts, models, jobs):
            found[model].append(evaluate(tested.day, tested.payer, tested.fraud, scores))
    return {model: Result(model, tuple(metrics)) for model, metrics in found.items()}


def compared(results: dict[str, Result]) -> list[Row]:
    """Every published model that was made again, metric by metric."""
    rows = []
    for model, published in PUBLISHED.items():
        if model not in results:
            continue
        for metric, number, tolerance in zip(METRICS, published, TOLERANCES, strict=True):
            values = results[model].values(metric)
            each = interval(values)
            sd = float(np.std(values, ddof=1))
            near = abs(each.mean - number) <= max(tolerance, 2 * sd)
            rows.append(Row(model, metric, number, each.mean, sd, each.low, each.high, near))
    return rows


def gain(results: dict[str, Result], metric: str, over: str = FOREST) -> Interval:
    """How much better our model is on the same worlds: a paired interval."""
    ours, theirs = results[OUR_MODEL].values(metric), results[over].values(metric)
    return interval(np.subtract(ours, theirs))


def _scores(
    data: Payments, parts: Split, models: Sequence[str], jobs: int
) -> Iterator[tuple[str, Floats]]:
    """Of the test's payments; the features of learning and testing are made in one go."""
    published = [model for model in models if model != OUR_MODEL]
    if published:
        learnt, judged = _tables(data, parts.train, parts.test, HANDBOOK)
        for model in published:
            file = train(model, learnt, data.fraud[parts.train], jobs=jobs)
            yield model, ArrayModel(file).scores(judged.values)
    if OUR_MODEL in models:
        end = parts.train_first_day + parts.train_days
        rows = np.flatnonzero((data.day >= end - _OURS_DAYS) & (data.day < end))
        learnt, judged = _tables(data, rows, parts.test, OURS)
        file = train(BOOSTING, learnt, data.fraud[rows], name=OUR_MODEL, **_OURS)
        yield OUR_MODEL, ArrayModel(file).scores(judged.values)


def _tables(
    data: Payments, train_rows: Rows, test_rows: Rows, names: tuple[str, ...]
) -> tuple[FeatureTable, FeatureTable]:
    table = make_features(data, np.concatenate([train_rows, test_rows]), names)
    count = len(train_rows)
    return (
        FeatureTable(names, table.values[:count], train_rows),
        FeatureTable(names, table.values[count:], test_rows),
    )
