"""How sure a figure is: replications, the cut of the warm-up, and an interval on every mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.core.extras import need
from paytm_lab.simulation.queueing.lindley import F64
from paytm_lab.simulation.queueing.theory import count_of, share

REPLICATIONS_MIN = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval at ``level``, from ``n`` independent values."""

    value: float
    low: float
    high: float
    level: float
    n: int

    def holds(self, truth: float) -> bool:
        """Whether the interval contains ``truth``."""
        return self.low <= truth <= self.high

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def interval(values: Any, level: float = 0.95) -> Estimate:
    """The mean of independent values and Student's interval around it (Student 1908). BadInput for
    fewer than three values, or values that are no numbers.
    """
    need("scipy")
    from scipy.special import stdtrit

    share("level", level)
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) < REPLICATIONS_MIN or not np.isfinite(found).all():
        raise BadInput(
            f"{found.size} values (or a nan among them) give no interval",
            remedy=f"Give {REPLICATIONS_MIN} finite values or more, each of its own replication.",
        )
    mean = float(found.mean())
    spread = float(found.std(ddof=1)) / math.sqrt(len(found))
    half = float(stdtrit(len(found) - 1, 0.5 + level / 2)) * spread
    return Estimate(mean, mean - half, mean + half, level, len(found))


def replicate(
    run: Callable[[np.random.Generator], float],
    seed: int,
    replications: int = 10,
    level: float = 0.95,
) -> Estimate:
    """``run`` with ``replications`` independent generators (spawned from ``seed``), and the
    interval around the mean of what it answers. The same seed gives the same figures.
    """
    count_of("replications", replications, 10_000)
    children = np.random.SeedSequence(seed).spawn(replications)
    return interval([run(np.random.default_rng(child)) for child in children], level)


def warm_up(series: Any, batch: int = 5) -> int:
    """How many of the first values to leave out, as the queue was still filling from empty.

    White's rule MSER-5 (White 1997, An effective truncation heuristic for bias reduction in
    simulation output): over means of ``batch`` values, the cut that makes the standard error of
    what remains smallest; cuts in the second half do not count, as there is too little left.
    """
    values = np.asarray(series, dtype=np.float64)
    count_of("batch", batch)
    means = values[: len(values) // batch * batch].reshape(-1, batch).mean(axis=1)
    n = len(means)
    if n < 4 or not np.isfinite(means).all():
        raise BadInput(
            f"{len(values)} values (or a nan among them) do not show a warm-up",
            remedy=f"Give at least {4 * batch} finite ones.",
        )
    left = np.arange(n, 0, -1, dtype=np.float64)
    sums, squares = (np.cumsum((means**power)[::-1])[::-1] for power in (1, 2))
    error = (squares - sums**2 / left) / left**2
    return int(np.argmin(error[: n // 2 + 1])) * batch


def settled(series: F64, batch: int = 5) -> F64:
    """``series`` without its warm-up."""
    return series[warm_up(series, batch) :]


def mean_by_batches(series: Any, batches: int = 30, level: float = 0.95) -> Estimate:
    """Mean of one long run whose values hang together: split into ``batches`` long parts, whose
    means are nearly independent (Conway 1963; Law 2015, Simulation Modeling and Analysis, 9.5).
    """
    values = np.asarray(series, dtype=np.float64)
    count_of("batches", batches, 10_000)
    length = len(values) // batches
    if length < 1:
        raise BadInput(
            f"{len(values)} values do not make {batches} batches", remedy="Run for longer."
        )
    return interval(values[: length * batches].reshape(batches, length).mean(axis=1), level)
