"""A model trained and judged in one call, once or week after week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.array_models import ArrayModel
from paytm_lab.fraud.live_features import LIVE, WITHOUT_HISTORY
from paytm_lab.fraud.model_file import ModelFile
from paytm_lab.fraud.science.evaluation import Metrics, evaluate
from paytm_lab.fraud.science.features import HANDBOOK, OURS, FeatureTable, make_features
from paytm_lab.fraud.science.live import live_features
from paytm_lab.fraud.science.models import train
from paytm_lab.fraud.science.payments import Floats, Payments
from paytm_lab.fraud.science.protocol import Split, prequential


@dataclass(frozen=True)
class Trial:
    """``train`` and ``test``: the features; ``tested``: the payments that ``scores`` are of."""

    model: ModelFile
    train: FeatureTable
    test: FeatureTable
    tested: Payments
    scores: Floats
    metrics: Metrics


def trial(
    data: Payments,
    parts: Split,
    method: str,
    names: tuple[str, ...] = HANDBOOK,
    **options: Any,
) -> Trial:
    """``names``: of ``features.OURS``, or of ``live_features.LIVE`` for a model to deploy.
    ``options``: of ``models.train``.
    """
    rows = np.concatenate([parts.train, parts.test])
    wanted = set(names)
    if wanted <= set(LIVE) and wanted <= set(OURS) and not wanted <= set(WITHOUT_HISTORY):
        raise BadInput(
            f"{', '.join(names)}: windows and decaying sums have these names",
            place="trial",
            remedy="Add one that only features.OURS or only live_features.LIVE has.",
        )
    # Every name of the live features that the others lack is of the live ones.
    table = (
        live_features(data, rows, names)
        if set(names) <= set(LIVE)
        else make_features(data, rows, names)
    )
    count = len(parts.train)
    learnt = FeatureTable(names, table.values[:count], rows[:count], table.made_by)
    judged = FeatureTable(names, table.values[count:], rows[count:], table.made_by)
    model = train(method, learnt, data.fraud[parts.train], **options)
    tested = data.rows(parts.test)
    scores = ArrayModel(model).scores(judged.values)
    metrics = evaluate(tested.day, tested.payer, tested.fraud, scores)
    return Trial(model, learnt, judged, tested, scores, metrics)


def week_by_week(
    data: Payments,
    first_day: int,
    folds: int,
    methods: Sequence[str],
    names: tuple[str, ...] = HANDBOOK,
) -> list[dict[str, Any]]:
    """Rows ``day`` (ISO, of the test's first), ``model`` and the metrics: trained anew each week,
    on what was known by then.
    """
    rows: list[dict[str, Any]] = []
    for parts in prequential(data, first_day, folds):
        day = str(np.datetime64(parts.test_first_day, "D"))
        for method in methods:
            found = trial(data, parts, method, names)
            rows.append({"day": day, "model": method, **found.metrics._asdict()})
    return rows
