"""Closed forms of queueing theory. Times are in units of the mean service time unless said.

Loads (``rho``) are the share of time a server is busy, above 0 and below 1: a queue at 1 or more
grows for ever and has no mean. Every function raises BadInput for a value it has no answer for.
"""

from __future__ import annotations

import math
from numbers import Real
from operator import index
from statistics import NormalDist
from typing import Any

from paytm_lab.core.errors import BadInput

SERVERS_MAX = 1_000_000


def mm1_wait(rho: float) -> float:
    """Mean wait in the queue of M/M/1: rho / (1 - rho) (Erlang 1909; Kleinrock 1975, Queueing
    Systems I, 3.2).
    """
    return load(rho) / (1 - rho)


def mm1_sojourn_quantile(rho: float, q: float) -> float:
    """The time that a share ``q`` of customers spend in M/M/1 (wait and service) at most: sojourns
    are exponential with rate 1 - rho (Kleinrock 1975, 5.12).
    """
    return -math.log(1 - share("q", q)) / (1 - load(rho))


def md1_wait(rho: float) -> float:
    """Mean wait of M/D/1, where each service takes the same: rho / (2 (1 - rho)) (Erlang 1909)."""
    return load(rho) / (2 * (1 - rho))


def pollaczek_khinchine(rho: float, cv2: float) -> float:
    """Mean wait of M/G/1 by the load and the squared coefficient of variation of service times:
    rho (1 + cv2) / (2 (1 - rho)) (Pollaczek 1930, Khinchine 1932).
    """
    return load(rho) * (1 + not_negative("cv2", cv2)) / (2 * (1 - rho))


def erlang_b(servers: int, offered: float) -> float:
    """Share of arrivals that find all of ``servers`` busy and leave (M/M/c/c); ``offered`` is the
    load in servers. By Erlang's recursion over the servers (Erlang 1917).
    """
    count_of("servers", servers)
    not_negative("offered", offered)
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = offered * blocked / (busy + offered * blocked)
    return blocked


def erlang_c(servers: int, offered: float) -> float:
    """Share of arrivals that must wait in M/M/c (Erlang 1917), from Erlang B:
    B / (1 - rho (1 - B)).
    """
    rho = load(offered / count_of("servers", servers))
    blocked = erlang_b(servers, offered)
    return blocked / (1 - rho * (1 - blocked))


def mmc_wait(servers: int, rho: float) -> float:
    """Mean wait of M/M/c, ``rho`` a server: C / (c (1 - rho)) (Erlang 1917)."""
    return erlang_c(servers, load(rho) * count_of("servers", servers)) / (servers * (1 - rho))


def pooling_gain(servers: int, rho: float) -> float:
    """How many times longer one waits in ``servers`` separate M/M/1 queues than in one queue before
    all of them (Kleinrock 1976, Queueing Systems II, 5.1).
    """
    return mm1_wait(rho) / mmc_wait(servers, rho)


def mm1_wait_variance(rho: float) -> float:
    """Asymptotic variance of the mean of successive M/M/1 waits: n times the variance of the mean
    of n of them, n large. rho (2 + 5 rho - 4 rho^2 + rho^3) / (1 - rho)^4 (Daley 1968, The serial
    correlation coefficients of waiting times in a stationary single server queue; Whitt 1989,
    Planning queueing simulations).
    """
    load(rho)
    return rho * (2 + 5 * rho - 4 * rho**2 + rho**3) / (1 - rho) ** 4


def customers_needed(rho: float, relative_half_width: float = 0.05, level: float = 0.95) -> int:
    """How many M/M/1 customers give a mean wait known to within +/- ``relative_half_width`` of
    itself at confidence ``level`` (Whitt 1989): (z / e)^2 times the variance over the mean squared.
    Grows with (1 - rho)^-2: a busier queue forgets more slowly.
    """
    share("relative_half_width", relative_half_width)
    z = NormalDist().inv_cdf(0.5 + share("level", level) / 2)
    return math.ceil((z / relative_half_width) ** 2 * mm1_wait_variance(rho) / mm1_wait(rho) ** 2)


def batch_wait(rate: float) -> float:
    """Mean wait before service of a server that takes all who wait at once, each batch in one unit
    of time whatever its size, arrivals Poisson at ``rate`` a unit.

    Derived: a batch that found nobody waiting (probability e^-rate) starts with the next arrival,
    who waits nothing; during it Poisson(rate) others come, each half a unit early on average. So
    waits a batch sum to rate / 2, over rate + e^-rate customers. (The queue is Bailey's of 1954, On
    queueing processes with bulk service, without a limit of the batch.)
    """
    positive("rate", rate)
    return (rate / 2) / (rate + math.exp(-rate))


def open_loop_stall_quantile(q: float, stall_s: float, run_s: float) -> float:
    """Latency quantile, in seconds, that an open load sees in ``run_s`` seconds of which one stall
    of ``stall_s`` is answered late: about stall - (1 - q) run, never below 0. Requests due in the
    stall wait for the rest of it, evenly from all of it to nothing, so a share t / run waits longer
    than stall - t (after Gil Tene 2013, How not to measure latency).
    """
    positive("stall_s", stall_s)
    if positive("run_s", run_s) < stall_s:
        raise BadInput(
            f"a stall of {stall_s:g} s does not fit into a run of {run_s:g} s",
            remedy="Give a run that is longer than its stall.",
        )
    return max(0.0, stall_s - (1 - share("q", q)) * run_s)


def load(rho: float) -> float:
    """``rho`` when a queue can bear it."""
    if not (_is_number(rho) and 0 < rho < 1):
        raise BadInput(
            f"a load of {rho!r:.40} has no steady state",
            remedy="Give a load above 0 and below 1, or more servers.",
        )
    return rho


def share(name: str, value: float) -> float:
    if not (_is_number(value) and 0 < value < 1):
        raise BadInput(f"{name} = {value!r:.40} is no share", remedy="Give a number inside (0, 1).")
    return value


def positive(name: str, value: float) -> float:
    if not (_is_number(value) and 0 < value < math.inf):
        raise BadInput(f"{name} = {value!r:.40} cannot be used", remedy="Give a positive number.")
    return value


def not_negative(name: str, value: float) -> float:
    if not (_is_number(value) and 0 <= value < math.inf):
        raise BadInput(f"{name} = {value!r:.40} cannot be used", remedy="Give 0 or more.")
    return value


def count_of(name: str, value: Any, high: int = SERVERS_MAX) -> int:
    try:
        whole = index(value)
    except TypeError:
        whole = 0
    if isinstance(value, bool) or not 1 <= whole <= high:
        raise BadInput(
            f"{name} = {value!r:.40} cannot be used",
            remedy=f"Give a whole number from 1 to {high:,}.",
        )
    return whole


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
