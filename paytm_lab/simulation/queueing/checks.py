"""Theory against simulation: every closed form beside an estimate with its interval.

A check runs long enough for its interval to be about ``relative`` wide (the length comes from the
variance formula), so that a formula that is wrong by more than that falls outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing import events, theory
from paytm_lab.simulation.queueing.estimates import Estimate, interval
from paytm_lab.simulation.queueing.group_commit import (
    WriterModel,
    open_loop,
    places,
    poisson_times,
)
from paytm_lab.simulation.queueing.lindley import F64, parallel_waits, waits

LOADS = (0.5, 0.8, 0.9, 0.95)
REPLICATIONS = 10
LEVEL = 0.999  # of some thirty intervals made at once, none should miss by chance
_WARM_UP = 0.1
_CUSTOMERS_MIN = 20_000
Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Check:
    """``simulate(rng, x, n)``: one replication of about n customers, the figure that ``formula(x)``
    gives. ``needed(x)``: customers in all for an interval of +/- 5 % at 95 %.
    """

    name: str
    formula: Callable[[float], float]
    simulate: Callable[[Generator, float, int], float]
    points: tuple[float, ...] = LOADS
    needed: Callable[[float], float] = theory.customers_needed

    def estimate(self, x: float, seed: int, relative: float) -> Estimate:
        # The half width falls with the root of the length, and grows with the level asked for.
        wanted = self.needed(x) * (0.05 / relative) ** 2 * 4
        each = max(_CUSTOMERS_MIN, round(wanted / REPLICATIONS))
        children = np.random.SeedSequence([seed, round(1000 * x)]).spawn(REPLICATIONS)
        values = [self.simulate(np.random.default_rng(child), x, each) for child in children]
        return interval(values, LEVEL)

    def row(self, x: float, seed: int, relative: float) -> dict[str, Any]:
        seen, theory_says = self.estimate(x, seed, relative), self.formula(x)
        return {
            "check": self.name,
            "load": x,
            "theory": theory_says,
            "simulated": seen.value,
            "low": seen.low,
            "high": seen.high,
            "within": seen.holds(theory_says),
        }


def validate(
    checks: Iterable[Check] | None = None, seed: int = 7, relative: float = 0.03
) -> list[dict[str, Any]]:
    """A row for each check and load: check, load, theory, simulated, low, high, within."""
    chosen = CHECKS if checks is None else checks
    return [check.row(x, seed, relative) for check in chosen for x in check.points]


def named(*names: str) -> list[Check]:
    """The checks with these names, in this order. BadInput for a name that none has."""
    by_name = {check.name: check for check in CHECKS}
    if strange := [name for name in names if name not in by_name]:
        raise BadInput(
            f"no check is called {', '.join(strange)}", remedy=f"There are {', '.join(by_name)}."
        )
    return [by_name[name] for name in names]


def _settled(values: F64) -> F64:
    return values[int(_WARM_UP * len(values)) :]


def _gaps(rng: Generator, n: int, rate: float) -> F64:
    return rng.standard_exponential(n) / rate


def _mm1(rng: Generator, rho: float, n: int) -> float:
    return float(_settled(waits(_gaps(rng, n, rho), rng.standard_exponential(n))).mean())


def _mm1_p99(rng: Generator, rho: float, n: int) -> float:
    services = rng.standard_exponential(n)
    sojourns = waits(_gaps(rng, n, rho), services) + services
    return float(np.quantile(_settled(sojourns), 0.99))


def _md1(rng: Generator, rho: float, n: int) -> float:
    return float(_settled(waits(_gaps(rng, n, rho), np.ones(n))).mean())


def two_speeds(rng: Generator, n: int, cv2: float) -> F64:
    """Service times of mean 1 and this squared coefficient of variation above 1: exponential, of
    two means, balanced (hyperexponential: Morse 1958, Queues, inventories and maintenance).
    """
    p = (1 + np.sqrt((cv2 - 1) / (cv2 + 1))) / 2
    slow = rng.random(n) >= p
    means = np.where(slow, 1 / (2 * (1 - p)), 1 / (2 * p))
    return np.asarray(rng.standard_exponential(n) * means)


def _mg1(rng: Generator, rho: float, n: int) -> float:
    return float(_settled(waits(_gaps(rng, n, rho), two_speeds(rng, n, 4.0))).mean())


def _mm4(rng: Generator, rho: float, n: int) -> float:
    services = rng.standard_exponential(n)
    return float(_settled(parallel_waits(_gaps(rng, n, 4 * rho), services, 4)).mean())


def _mm4_waiting(rng: Generator, rho: float, n: int) -> float:
    services = rng.standard_exponential(n)
    return float((_settled(parallel_waits(_gaps(rng, n, 4 * rho), services, 4)) > 0).mean())


def _pooling(rng: Generator, rho: float, n: int) -> float:
    return _mm1(rng, rho, n) / _mm4(rng, rho, n)


def _erlang_c_14(rng: Generator, offered: float, n: int) -> float:
    services = rng.standard_exponential(n)
    return float((_settled(parallel_waits(_gaps(rng, n, offered), services, 14)) > 0).mean())


def _erlang_b_5(rng: Generator, offered: float, n: int) -> float:
    """By the event core: five workers and no room to wait."""
    service = events.Service(servers=5, in_flight_max=5)
    arrive = np.cumsum(_gaps(rng, n, offered))
    return events.run(service, arrive, rng.standard_exponential(n)).share("refused")


def _batch(rng: Generator, rate: float, n: int) -> float:
    """By the model of group commit: one shard, a commit of one second, nothing else."""
    model = WriterModel(0.0, 0.0, (1.0,), gather_s=0.0, batch_max=1_000_000)
    where = places(n, 1, 0.0, rng)
    seen = open_loop(model, where, poisson_times(n, rate, rng), rng)
    return float(_settled(seen.latency_s).mean()) - 1.0


def _variance(rng: Generator, rho: float, n: int) -> float:
    """n times the variance of the means of runs that are long against the queue's memory."""
    length = round(200 / (1 - rho) ** 2)
    runs = max(20, n // length)
    found = waits(_gaps(rng, length * runs, rho), rng.standard_exponential(length * runs))
    return float(length * found.reshape(runs, length).mean(axis=1).var(ddof=1))


CHECKS: tuple[Check, ...] = (
    Check("M/M/1 wait", theory.mm1_wait, _mm1),
    Check("M/M/1 p99 sojourn", lambda rho: theory.mm1_sojourn_quantile(rho, 0.99), _mm1_p99),
    Check("M/D/1 wait", theory.md1_wait, _md1),
    Check(
        "M/G/1 wait, cv2 = 4",
        lambda rho: theory.pollaczek_khinchine(rho, 4.0),
        _mg1,
        needed=lambda rho: 3 * theory.customers_needed(rho),
    ),
    Check("M/M/4 wait", lambda rho: theory.mmc_wait(4, rho), _mm4),
    Check("M/M/4 share that waits", lambda rho: theory.erlang_c(4, 4 * rho), _mm4_waiting),
    Check("four queues over one", lambda rho: theory.pooling_gain(4, rho), _pooling),
    Check(
        "Erlang C, 14 servers",
        lambda offered: theory.erlang_c(14, offered),
        _erlang_c_14,
        (10.0,),
        lambda offered: 200_000,
    ),
    Check(
        "Erlang B, 5 servers",
        lambda offered: theory.erlang_b(5, offered),
        _erlang_b_5,
        (2.0, 5.0),
        lambda offered: 100_000,
    ),
    Check("batch service wait", theory.batch_wait, _batch, (0.3, 1.0, 3.0), lambda rate: 50_000),
    Check(
        "variance of M/M/1 waits",
        theory.mm1_wait_variance,
        _variance,
        (0.5, 0.8),
        lambda rho: 2_000_000,
    ),
)
