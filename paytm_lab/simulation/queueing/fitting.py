"""From a recording of the real lab to the model of it, and how far the fit can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing.group_commit import WriterModel
from paytm_lab.simulation.queueing.lindley import F64
from paytm_lab.simulation.queueing.measured import Recording

BATCHES_MIN = 30
# A batch whose work took longer than all but so many met something else: the collector, a switch.
_TRIMMED = 0.98


def fit(
    made: Recording, *, cores: float = 1.0, disks: float = 2.0, remote: bool = False, **more: Any
) -> WriterModel:
    """The model of what was recorded on one load: a straight line through work against operations,
    and the commits as they were, each freed of what others on the same disk added to it.

    ``cores`` and ``disks`` as in WriterModel, ``more`` its other fields. ``remote``: the databases
    are servers, so that a batch's work is mostly waiting for their answers; then its time by the
    clock counts, and nothing is shared. BadInput when fewer than 30 batches were recorded.
    """
    if remote:
        cores = disks = 0.0
    columns = made.columns()
    if len(columns["operations"]) < BATCHES_MIN:
        raise BadInput(
            f"{len(columns['operations'])} batches say too little",
            remedy=f"Record at least {BATCHES_MIN}: a longer load.",
        )
    fixed_s, per_operation_s = line(columns["operations"], columns[_cost(remote)])
    commits = alone(columns["commit_from_s"], columns["commit_to_s"], disks)
    return WriterModel(
        fixed_s, per_operation_s, tuple(commits.tolist()), made.client_s, cores, disks, **more
    )


def refits(
    made: Recording,
    count: int,
    rng: np.random.Generator,
    *,
    remote: bool = False,
    **options: Any,
) -> list[WriterModel]:
    """The fit again on ``count`` resamples of the batches (Efron 1979, Bootstrap methods): how much
    it might have differed.
    """
    columns = made.columns()
    n, cost = len(columns["operations"]), columns[_cost(remote)]
    first = fit(made, remote=remote, **options)
    commits = np.asarray(first.commits_s)
    found = []
    for _ in range(count):
        rows = rng.integers(0, n, n)
        fixed_s, per_operation_s = line(columns["operations"][rows], cost[rows])
        seen = tuple(commits[rows].tolist())
        found.append(
            replace(first, fixed_s=fixed_s, per_operation_s=per_operation_s, commits_s=seen)
        )
    return found


def _cost(remote: bool) -> str:
    return "clock_s" if remote else "work_s"


def line(operations: Any, work_s: F64) -> tuple[float, float]:
    """(seconds a batch, seconds an operation), neither negative: least squares, then again without
    the points far above the first line. When all batches are alike, all cost is by operation.
    """
    x, y = np.asarray(operations, dtype=np.float64), work_s
    if np.ptp(x) == 0:
        return 0.0, float(y.mean() / x[0])
    slope, fixed = np.polyfit(x, y, 1)
    over = y - (fixed + slope * x)
    near = over <= np.quantile(over, _TRIMMED)
    if np.ptp(x[near]) > 0:
        slope, fixed = np.polyfit(x[near], y[near], 1)
    if fixed < 0:
        return 0.0, float((x * y).sum() / (x * x).sum())
    if slope < 0:
        return float(y.mean()), 0.0
    return float(fixed), float(slope)


def alone(from_s: F64, to_s: F64, disks: float) -> F64:
    """How long each commit would have taken by itself: its time on the disk, each moment divided by
    how many shared it then (processor sharing, Kleinrock 1967, Time-shared systems). ``disks`` 0:
    nothing was shared.
    """
    if disks <= 0:
        return to_s - from_s
    edges = np.unique(np.concatenate((from_s, to_s)))
    begun = np.searchsorted(np.sort(from_s), edges, side="right")
    ended = np.searchsorted(np.sort(to_s), edges, side="right")
    speed = np.minimum(1.0, disks / np.maximum(begun - ended, 1))
    done = np.concatenate(([0.0], np.cumsum(np.diff(edges) * speed[:-1])))
    return np.interp(to_s, edges, done) - np.interp(from_s, edges, done)


def summary(model: WriterModel) -> Mapping[str, float]:
    """The fit in milliseconds, to print: fixed, per operation, commit (mean, p99), submit."""
    commits = np.asarray(model.commits_s) * 1e3
    return {
        "fixed_ms": model.fixed_s * 1e3,
        "per_operation_ms": model.per_operation_s * 1e3,
        "commit_ms_mean": float(commits.mean()),
        "commit_ms_p99": float(np.quantile(commits, 0.99)),
        "submit_ms": model.submit_s * 1e3,
    }
