"""Queues by Lindley and by the event core, against SimPy with the same arrivals and services."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from paytm_lab.core.errors import IntegrityError, MissingPart
from paytm_lab.core.extras import need
from paytm_lab.simulation.queueing import events, group_commit
from paytm_lab.simulation.queueing.lindley import waits

SEED = 7
LOAD = 0.8
CORE_LOAD = 0.5  # with retries much more would bring it down for good
ROUNDS = 3
PAYMENTS, SIMPY_PAYMENTS = 8_000_000, 20_000
SERVICE = events.Service(servers=4, timeout_s=4.0, retries_max=2, backoff_s=2.0)
_DIFFERENCE_MAX = 1e-6


def rows(data_dir: Path, quick: bool) -> list[dict[str, Any]]:
    """``lindley``: payments_per_s of the recursion on arrays that are there, and ``drawn_per_s``
    with their drawing; ``event_core``: events_per_s, a queue of four workers with time-outs and
    retries; both with ``simpy_per_s`` and ``ratio``. ``group_commit``: payments_per_s through four
    shards. Ours and SimPy take turns, the best of three turns of each counts, and both must come to
    the same latencies: IntegrityError if not.
    """
    need("numba", "scipy")
    if find_spec("simpy") is None:
        raise MissingPart(
            "simpy, which the simulations are compared with, is not installed",
            remedy="`pip install simpy`; `make env` installs everything.",
        )
    scale = 10 if quick else 1
    return [
        _lindley(PAYMENTS // scale, SIMPY_PAYMENTS // scale),
        _event_core(PAYMENTS // 8 // scale, SIMPY_PAYMENTS // scale),
        _group_commit(PAYMENTS // 16 // scale),
    ]


def _lindley(n: int, simpy_n: int) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    gaps, services = rng.standard_exponential(n) / LOAD, rng.standard_exponential(n)
    few = (gaps[:simpy_n], services[:simpy_n])
    _require_equal("lindley", waits(*few), _simpy_waits(*few))
    ours_s, drawn_s, simpy_s = _turns(
        lambda: waits(gaps, services),
        lambda: waits(rng.standard_exponential(n) / LOAD, rng.standard_exponential(n)),
        lambda: _simpy_waits(*few),
    )
    return {
        "what": "lindley",
        "payments_per_s": round(n / ours_s),
        "drawn_per_s": round(n / drawn_s),
        "simpy_per_s": round(simpy_n / simpy_s),
        "ratio": round(n / ours_s / (simpy_n / simpy_s), 1),
    }


def _event_core(n: int, simpy_n: int) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    arrive = np.cumsum(rng.standard_exponential(n)) / (CORE_LOAD * SERVICE.servers)
    services, jitter = rng.standard_exponential(n), rng.random(n)

    def ours(count: int) -> events.Happened:
        return events.run(SERVICE, arrive[:count], services[:count], jitter=jitter[:count])

    def simpys() -> Any:
        return _simpy_service(SERVICE, arrive[:simpy_n], services[:simpy_n], jitter[:simpy_n])

    few, handled = ours(simpy_n), ours(n).events
    _require_equal("event_core", few.latency_s, simpys())
    ours_s, simpy_s = _turns(lambda: ours(n), simpys)
    ours_per_s, simpy_per_s = handled / ours_s, few.events / simpy_s
    return {
        "what": "event_core",
        "events_per_s": round(ours_per_s),
        "payments_per_s": round(n / ours_s),
        "simpy_per_s": round(simpy_per_s),
        "ratio": round(ours_per_s / simpy_per_s, 1),
    }


def _group_commit(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    model = group_commit.WriterModel(0.0003, 0.00003, (0.001,), 0.00002, cores=1.0, disks=2.0)
    where = group_commit.places(n, 4, 0.75, rng)
    due = group_commit.poisson_times(n, 4_000, rng)
    group_commit.open_loop(model, group_commit.places(10, 4, 0.75, rng), due[:10], rng)  # compiles
    (ours_s,) = _turns(lambda: group_commit.open_loop(model, where, due, rng))
    return {"what": "group_commit", "payments_per_s": round(n / ours_s)}


def _turns(*calls: Callable[[], object]) -> list[float]:
    """The best time of each, in seconds, all taking turns."""
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for number, call in enumerate(calls):
            started_s = time.perf_counter()
            call()
            best[number] = min(best[number], time.perf_counter() - started_s)
    return best


def _require_equal(what: str, ours: Any, simpys: Any) -> None:
    difference = float(np.abs(np.asarray(ours) - simpys).max())
    if not difference <= _DIFFERENCE_MAX:
        raise IntegrityError(f"{what} and SimPy differ by {difference:g}: not the same model")


def _simpy_waits(gaps: Any, services: Any) -> Any:
    """M/M/1 as SimPy's users write it: a process a customer, a resource for the server."""
    import simpy

    env = simpy.Environment()
    server = simpy.Resource(env)
    found = np.empty(len(gaps))

    def customer(number: int, service: float) -> Generator[Any, Any, None]:
        came = env.now
        with server.request() as turn:
            yield turn
            found[number] = env.now - came
            yield env.timeout(service)

    def source() -> Generator[Any, Any, None]:
        for number, (gap, service) in enumerate(zip(gaps.tolist(), services.tolist(), strict=True)):
            if number:
                yield env.timeout(gap)
            env.process(customer(number, service))

    env.process(source())
    env.run()
    return found


def _simpy_service(service: events.Service, arrive: Any, works: Any, jitter: Any) -> Any:
    """Workers, time-outs that take waiting work back, and retries: latencies, shape (n,)."""
    import simpy

    env = simpy.Environment()
    timeout_s = float("inf") if service.timeout_s is None else service.timeout_s
    workers = simpy.Resource(env, service.servers)
    done_at = np.empty(len(arrive))

    def work(seconds: float, gave_up: Any, done: Any) -> Generator[Any, Any, None]:
        with workers.request() as turn:
            yield turn | gave_up
            if not turn.triggered:
                return
            yield env.timeout(seconds)
            done.succeed()

    def caller(number: int, seconds: float, draw: float) -> Generator[Any, Any, None]:
        for attempt in range(1, service.retries_max + 2):
            done, gave_up = env.event(), env.event()
            env.process(work(seconds, gave_up, done))
            yield done | env.timeout(timeout_s)
            if done.triggered:
                break
            gave_up.succeed()
            if attempt <= service.retries_max:
                share = (draw + 0.618033988749895 * attempt) % 1.0
                yield env.timeout(service.backoff_s * 2.0 ** (attempt - 1) * share)
        done_at[number] = env.now

    def source() -> Generator[Any, Any, None]:
        for number, (at, seconds, draw) in enumerate(
            zip(arrive.tolist(), works.tolist(), jitter.tolist(), strict=True)
        ):
            yield env.timeout(at - env.now)
            env.process(caller(number, seconds, draw))

    env.process(source())
    env.run()
    return done_at - arrive
