"""Intervals cover the truth as often as they say, and the warm-up is found where it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing import theory
from paytm_lab.simulation.queueing.estimates import (
    interval,
    mean_by_batches,
    replicate,
    settled,
    warm_up,
)
from paytm_lab.simulation.queueing.lindley import waits


def test_an_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.value, found.n) == (3.0, 5)
    assert found.half_width == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert found.holds(3.9) and not found.holds(5)
    assert str(found) == "3 [1.037, 4.963]"


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    level, rounds = 0.9, 2_000
    covered = sum(interval(rng.standard_exponential(40), level).holds(1.0) for _ in range(rounds))
    # Exponential values are skewed: a little under the level is what theory lets one expect.
    assert 0.86 < covered / rounds < 0.92


def test_a_run_of_the_planned_length_has_the_planned_interval() -> None:
    """By the variance formula: means of runs of that length are within 5 % in 95 of 100."""
    n = theory.customers_needed(0.5)
    rng = np.random.default_rng(3)
    runs = 200
    off = [
        waits(rng.standard_exponential(n) / 0.5, rng.standard_exponential(n)).mean() - 1
        for _ in range(runs)
    ]
    within = np.mean(np.abs(off) < 0.05)
    assert 0.90 < within <= 0.99


def test_replications_repeat_with_their_seed() -> None:
    def run(rng: np.random.Generator) -> float:
        return float(rng.standard_exponential(100).mean())

    assert replicate(run, 1) == replicate(run, 1) != replicate(run, 2)
    assert replicate(run, 1, replications=50).half_width < replicate(run, 1, 5).half_width * 2


def test_the_warm_up_is_cut_where_it_ends() -> None:
    rng = np.random.default_rng(9)
    series = rng.normal(10, 1, 4_000)
    series[:500] -= np.linspace(8, 0, 500)
    assert 300 <= warm_up(series) <= 700
    assert abs(settled(series).mean() - 10) < abs(series.mean() - 10) / 3
    assert warm_up(rng.normal(10, 1, 4_000)) < 1_000, "little where there is none"


def test_batches_of_one_long_run_know_that_waits_hang_together() -> None:
    rng = np.random.default_rng(11)
    n = 400_000
    found = waits(rng.standard_exponential(n) / 0.8, rng.standard_exponential(n))
    estimate = mean_by_batches(found)
    assert estimate.holds(4.0)
    naive = 1.96 * found.std() / math.sqrt(n)
    assert estimate.half_width > 4 * naive, "as if each wait were a news of its own"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: interval([1.0, 2.0]), "give no interval"),
        (lambda: interval([1.0, math.nan, 2.0]), "give no interval"),
        (lambda: interval([1.0, 2.0, 3.0], 1.5), "level"),
        (lambda: replicate(lambda rng: 1.0, 1, 0), "replications"),
        (lambda: warm_up([1.0] * 10), "do not show a warm-up"),
        (lambda: warm_up([math.inf] * 100), "do not show a warm-up"),
        (lambda: mean_by_batches([1.0] * 10), "do not make 30 batches"),
    ],
)
def test_too_little_to_say_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call()
