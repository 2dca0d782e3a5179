"""The event core: what time-outs, retries, breakers, bounds and outages do to a service.

For what arrays cannot do at once because each event depends on the ones before it. Requests arrive
at given times (an open load: nobody waits for anybody), each on one shard; a shard has so many
workers, first come first served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import BadInput
from paytm_lab.core.extras import need
from paytm_lab.simulation.queueing.lindley import F64, _times
from paytm_lab.simulation.queueing.theory import count_of, not_negative, positive

OUTCOMES = ("answered", "timed_out", "refused", "broken")
_NO_BOUND = 2**62
_REQUESTS_MAX = 50_000_000


@dataclass(frozen=True, slots=True)
class Outage:
    """From ``from_s`` to ``to_s`` a shard does no work: what it was doing goes on afterwards."""

    shard: int
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Service:
    """``timeout_s``: when a caller gives up (None: never), then tries again up to ``retries_max``
    times after a pause of up to ``backoff_s``, doubled each time (full jitter). ``cancels``: work
    that nobody waits for any more is taken out of the queue; else it is done all the same, for
    nobody. ``in_flight_max`` and ``in_flight_per_shard_max``: admission; beyond it a request is
    refused at once. ``breaker_failures``: time-outs in a row after which a shard is left alone for
    ``breaker_open_s``, then tried by one request (0: no breaker).
    """

    shards: int = 1
    servers: int = 1
    timeout_s: float | None = None
    retries_max: int = 0
    backoff_s: float = 0.1
    cancels: bool = True
    in_flight_max: int | None = None
    in_flight_per_shard_max: int | None = None
    breaker_failures: int = 0
    breaker_open_s: float = 1.0

    def __post_init__(self) -> None:
        count_of("shards", self.shards, 4096)
        count_of("servers", self.servers)
        if self.timeout_s is not None:
            positive("timeout_s", self.timeout_s)
        if self.retries_max:
            count_of("retries_max", self.retries_max, 20)
        not_negative("backoff_s", self.backoff_s)
        for name in ("in_flight_max", "in_flight_per_shard_max"):
            if getattr(self, name) is not None:
                count_of(name, getattr(self, name), 2**40)
        if self.breaker_failures:
            count_of("breaker_failures", self.breaker_failures, 2**40)
        positive("breaker_open_s", self.breaker_open_s)


@dataclass(frozen=True, slots=True)
class Happened:
    """One place a request, in order of arrival. ``outcome``: index into OUTCOMES; ``latency_s``:
    from arrival to the answer or the final failure; ``attempts``: 1 and its retries. ``events``:
    how many the core handled; ``busy_s`` and ``wasted_s``, by shard: work done, and work done for
    callers who had given up.
    """

    arrive_s: F64
    outcome: npt.NDArray[np.int8]
    latency_s: F64
    attempts: npt.NDArray[np.int32]
    events: int
    timeouts: int
    refusals: int
    breaker_opens: int
    busy_s: F64
    wasted_s: F64

    def share(self, outcome: str) -> float:
        """Share of the requests with this outcome, 0..1."""
        return float(np.mean(self.outcome == OUTCOMES.index(outcome)))


def run(
    service: Service,
    arrive_s: Any,
    work_s: Any,
    shard: Any = None,
    jitter: Any = None,
    outages: Sequence[Outage] = (),
) -> Happened:
    """Run it to the end. ``arrive_s`` ascending, ``work_s`` the time a worker needs, ``shard`` 0 ..
    shards - 1 (None: all on 0), ``jitter`` draws in [0, 1) for the pauses (None: 0.5 each); all of
    shape (n,). No randomness is in here: the same arrays give the same run.

    Raises BadInput for arrays that do not fit, MissingPart without numba.
    """
    need("numba")
    from paytm_lab.simulation.queueing import kernels

    arrive, work = _times("arrive_s", arrive_s), _times("work_s", work_s)
    n = len(arrive)
    where = np.zeros(n, dtype=np.int64) if shard is None else np.asarray(shard)
    draws = np.full(n, 0.5) if jitter is None else _times("jitter", jitter)
    _require_fits(service, arrive, work, where, draws)
    entries = n * (1 + service.retries_max)
    core = _empty_core(kernels, service, n, entries, len(outages))
    rules = kernels.Rules(
        service.servers,
        math.inf if service.timeout_s is None else float(service.timeout_s),
        service.retries_max,
        float(service.backoff_s),
        service.cancels,
        service.in_flight_max or _NO_BOUND,
        service.in_flight_per_shard_max or _NO_BOUND,
        service.breaker_failures or _NO_BOUND,
        float(service.breaker_open_s),
    )
    frozen = _frozen(service, outages)
    kernels.thaw(core, frozen)
    requests = kernels.Requests(arrive, where.astype(np.int64), work, draws)
    kernels.run_core(core, rules, requests, frozen)
    counts = core.counts
    return Happened(
        arrive, core.outcome, core.done_at - arrive, core.attempts,
        int(counts[kernels.EVENTS]), int(counts[kernels.TIMEOUTS]),
        int(counts[kernels.REFUSALS]), int(counts[kernels.OPENS]), core.busy, core.wasted,
    )  # fmt: skip


def _empty_core(kernels: Any, service: Service, n: int, entries: int, outages: int) -> Any:
    shards = service.shards
    # At once there wait at most: every request for its retry, every worker for its end.
    heap = n + min(shards * service.servers, entries) + outages + 1
    return kernels.Core(
        outcome=np.full(n, -1, np.int8),
        done_at=np.full(n, np.nan),
        attempts=np.zeros(n, np.int32),
        entry_request=np.empty(entries, np.int64),
        entry_at=np.empty(entries),
        entry_state=np.zeros(entries, np.int8),
        entry_late=np.zeros(entries, np.bool_),
        entry_next=np.full(entries, -1, np.int64),
        head=np.full(shards, -1, np.int64),
        tail=np.full(shards, -1, np.int64),
        free=np.full(shards, service.servers, np.int64),
        used=np.zeros(shards, np.int64),
        breaker=np.zeros(shards, np.int8),
        failures=np.zeros(shards, np.int64),
        open_until=np.zeros(shards),
        busy=np.zeros(shards),
        wasted=np.zeros(shards),
        heap_at=np.empty(heap),
        heap_key=np.empty(heap, np.int64),
        heap_ref=np.empty(heap, np.int64),
        counts=np.zeros(8, np.int64),
    )


def _require_fits(service: Service, arrive: F64, work: F64, where: Any, draws: F64) -> None:
    n = len(arrive)
    if not (n == len(work) == len(draws) and where.shape == (n,)):
        raise BadInput(
            f"{n} arrivals, {len(work)} works, {where.size} shards and {len(draws)} draws",
            remedy="Give one of each a request.",
        )
    if n > _REQUESTS_MAX:
        raise BadInput(f"{n} requests are too many", remedy=f"Give {_REQUESTS_MAX:,} at most.")
    if n and np.diff(arrive).min(initial=0.0) < 0:
        raise BadInput("arrive_s are not in order", remedy="Sort them, with all the rest.")
    if n and (where.dtype.kind not in "iu" or where.min() < 0 or where.max() >= service.shards):
        raise BadInput(
            f"shard holds something else than 0 .. {service.shards - 1}",
            remedy="Give whole numbers of shards that the service has.",
        )


def _frozen(service: Service, outages: Sequence[Outage]) -> F64:
    """Rows (shard, from, to), in order of time. BadInput where they overlap on one shard."""
    rows = sorted((o.shard, float(o.from_s), float(o.to_s)) for o in outages)
    for number, (shard, from_s, to_s) in enumerate(rows):
        after = rows[number + 1] if number + 1 < len(rows) else None
        inside = 0 <= shard < service.shards and 0 <= from_s < to_s < math.inf
        if not inside or (after is not None and after[0] == shard and after[1] < to_s):
            raise BadInput(
                f"an outage of shard {shard} from {from_s:g} to {to_s:g} s cannot be",
                remedy="Outages lie on existing shards, end after they begin, and do not overlap.",
            )
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
