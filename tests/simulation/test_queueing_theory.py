"""Closed forms against published numbers, then against simulation; and each check can fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing import checks, theory
from paytm_lab.simulation.queueing.lindley import parallel_waits, waits, waits_at

# By load: M/M/1 wait, its p99 sojourn, M/D/1, M/G/1 with cv2 = 4, M/M/4 share that waits and wait,
# four queues over one, customers for +/- 5 % in thousands.
TABLE = {
    0.5: (1.000, 9.21, 0.500, 2.50, 0.1739, 0.0870, 11.5, 45),
    0.8: (4.000, 23.03, 2.000, 10.0, 0.5964, 0.7455, 5.4, 190),
    0.9: (9.000, 46.05, 4.500, 22.5, 0.7878, 1.9694, 4.6, 681),
    0.95: (19.00, 92.10, 9.500, 47.5, 0.8914, 4.4571, 4.3, 2_586),
}


@pytest.mark.parametrize("rho", TABLE)
def test_published_figures(rho: float) -> None:
    found = (
        round(theory.mm1_wait(rho), 6),
        round(theory.mm1_sojourn_quantile(rho, 0.99), 2),
        round(theory.md1_wait(rho), 6),
        round(theory.pollaczek_khinchine(rho, 4), 6),
        round(theory.erlang_c(4, 4 * rho), 4),
        round(theory.mmc_wait(4, rho), 4),
        round(theory.pooling_gain(4, rho), 1),
        round(theory.customers_needed(rho) / 1_000),
    )
    assert found == pytest.approx(TABLE[rho], abs=1e-9)


def test_erlang_c_to_twelve_digits() -> None:
    assert theory.erlang_c(14, 10) == pytest.approx(0.17413193359505, abs=1e-12)


def test_formulas_agree_where_they_overlap() -> None:
    for rho in TABLE:
        assert theory.pollaczek_khinchine(rho, 1) == pytest.approx(theory.mm1_wait(rho))
        assert theory.pollaczek_khinchine(rho, 0) == pytest.approx(theory.md1_wait(rho))
        assert theory.mmc_wait(1, rho) == pytest.approx(theory.mm1_wait(rho))
        assert theory.mm1_sojourn_quantile(rho, 1 - 1 / math.e) == pytest.approx(1 / (1 - rho))
    assert theory.erlang_b(1, 1.0) == pytest.approx(0.5)


def test_the_open_loops_stall() -> None:
    assert theory.open_loop_stall_quantile(0.99, 1.4, 30) == pytest.approx(1.10)
    assert theory.open_loop_stall_quantile(0.999, 1.4, 30) == pytest.approx(1.37)
    assert theory.open_loop_stall_quantile(0.9, 1.4, 30) == 0, "a stall shorter than the tail"


def test_the_stalls_quantile_by_simulation() -> None:
    """Payments every millisecond, one service long as the stall: within 5 %."""
    services = np.full(30_000, 1e-6)
    services[10_000] = 1.4
    found = waits(np.full(30_000, 1e-3), services)
    for q in (0.99, 0.999):
        expected = theory.open_loop_stall_quantile(q, 1.4, 30)
        assert np.quantile(found, q) == pytest.approx(expected, rel=0.05)
    closed = np.full(10_000, 3.0)
    closed[0] = 1_400
    assert np.quantile(closed, 0.99) == 3.0


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.name)
def test_each_formula_lies_in_the_interval_of_its_simulation(check: checks.Check) -> None:
    for row in checks.validate([check], relative=0.08):
        assert row["within"], row
        assert row["low"] < row["simulated"] < row["high"]


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_a_formula_that_is_off_by_a_quarter_fails_its_check(
    check: checks.Check, factor: float
) -> None:
    def wrong(x: float) -> float:
        return factor * check.formula(x)

    first = replace(check, formula=wrong, points=check.points[:1])
    assert not checks.validate([first], relative=0.03)[0]["within"]


# The same formulas with the slip that one makes.
SLIPS: dict[str, Callable[[float], float]] = {
    "M/M/1 wait": lambda rho: 1 / (1 - rho),
    "M/M/1 p99 sojourn": lambda rho: -math.log(0.01) * rho / (1 - rho),
    "M/D/1 wait": lambda rho: rho / (1 - rho),
    "M/G/1 wait, cv2 = 4": lambda rho: rho * (1 + 2.0) / (2 * (1 - rho)),
    "M/M/4 wait": lambda rho: theory.erlang_c(4, 4 * rho) / (1 - rho),
    "M/M/4 share that waits": lambda rho: theory.erlang_b(4, 4 * rho),
    "four queues over one": lambda rho: 4.0,
    "Erlang C, 14 servers": lambda offered: theory.erlang_b(14, offered),
    "Erlang B, 5 servers": lambda offered: theory.erlang_c(6, offered),
    "batch service wait": lambda rate: 0.5,
    "variance of M/M/1 waits": lambda rho: rho * (2 + 5 * rho) / (1 - rho) ** 4,
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.name)
def test_a_formula_with_a_slip_fails_its_check(check: checks.Check) -> None:
    slipped = replace(check, formula=SLIPS[check.name], points=check.points[:1])
    assert not checks.validate([slipped], relative=0.03)[0]["within"]


def test_the_same_seed_gives_the_same_figures() -> None:
    check = checks.named("M/M/4 wait")[0]
    first, again = (check.estimate(0.5, 3, 0.2) for _ in range(2))
    assert first == again != check.estimate(0.5, 4, 0.2)
    with pytest.raises(BadInput, match="no check is called M/M/5"):
        checks.named("M/M/4 wait", "M/M/5")


def test_lindley_is_the_recursion() -> None:
    rng = np.random.default_rng(1)
    n = 20_000  # more than two parts
    gaps, services = rng.standard_exponential(n) / 0.9, rng.standard_exponential(n)
    slow = [0.5]
    for gap, service in zip(gaps[1:], services[:-1], strict=True):
        slow.append(max(0.0, slow[-1] + service - gap))
    assert np.abs(waits(gaps, services, 0.5) - slow).max() < 1e-9
    assert np.array_equal(waits_at(np.cumsum(gaps), services), waits_at(np.cumsum(gaps), services))
    assert np.abs(parallel_waits(gaps, services, 1) - waits(gaps, services)).max() == 0


def test_parallel_servers_one_by_one() -> None:
    rng = np.random.default_rng(2)
    gaps, services = rng.standard_exponential(3_000) / 2.7, rng.standard_exponential(3_000)
    gaps[0] = 0
    free, expected, now = [0.0] * 3, [], 0.0
    for gap, service in zip(gaps, services, strict=True):
        now += gap
        server = free.index(min(free))
        expected.append(max(0.0, free[server] - now))
        free[server] = now + expected[-1] + service
    assert np.abs(parallel_waits(gaps, services, 3) - expected).max() < 1e-9


def test_waits_of_nobody_and_of_one() -> None:
    assert len(waits([], [])) == 0 == len(parallel_waits([], [], 2))
    assert waits([5], [1]).tolist() == [0.0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: theory.mm1_wait(1.0), "no steady state"),
        (lambda: theory.mm1_wait(0), "no steady state"),
        (lambda: theory.mm1_wait(math.nan), "no steady state"),
        (lambda: theory.mm1_wait("0.5"), "no steady state"),  # type: ignore[arg-type]
        (lambda: theory.mm1_wait(True), "no steady state"),
        (lambda: theory.pollaczek_khinchine(0.5, -1), "cv2"),
        (lambda: theory.pollaczek_khinchine(0.5, math.inf), "cv2"),
        (lambda: theory.erlang_c(4, 4.0), "no steady state"),
        (lambda: theory.erlang_c(0, 1.0), "servers"),
        (lambda: theory.erlang_c(2.5, 1.0), "servers"),  # type: ignore[arg-type]
        (lambda: theory.erlang_b(10**9, 1.0), "servers"),
        (lambda: theory.mm1_sojourn_quantile(0.5, 1.0), "q = 1.0"),
        (lambda: theory.customers_needed(0.5, 0), "relative_half_width"),
        (lambda: theory.batch_wait(-1), "rate"),
        (lambda: theory.open_loop_stall_quantile(0.9, 5, 4), "does not fit"),
        (lambda: waits([1, 2], [1]), "are no queue"),
        (lambda: waits([1, math.nan], [1, 1]), "gaps hold nan"),
        (lambda: waits([1, 1], [1, -1]), "services hold nan"),
        (lambda: waits([[1]], [[1]]), "dimensions"),
        (lambda: waits(["a"], [1]), "no numbers"),
        (lambda: waits_at([2, 1], [1, 1]), "not in order"),
        (lambda: parallel_waits([1], [1], 0), "servers"),
        (lambda: parallel_waits([1, 1], [1], 2), "are no queue"),
    ],
)
def test_what_has_no_answer_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call()
