"""Loops that no array operation can do, compiled by numba. Import it only where numba is there.

The event core: requests with a time-out go to shards of so many workers each; whoever gives up may
try again; a breaker refuses at once while a shard does not answer; a shard may be frozen for a
while. ``events.py`` says what it all means, and checks what comes in here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

_F = TypeVar("_F", bound=Callable[..., Any])


def _made(**options: Any) -> Callable[[_F], _F]:
    """numba's decorator; what it compiles is kept for the next process, where there is a place."""
    njit: Any = numba.njit  # it knows options that its types do not

    def decorate(function: _F) -> _F:
        try:
            found: _F = njit(cache=True, **options)(function)
        except RuntimeError:  # neither beside this file nor in the user's cache may it write
            found = njit(**options)(function)
        return found

    return decorate


compiled = _made()
# Counting references to each array at each access costs six times what the core itself does. What
# is made with this makes no arrays, and those that it is given outlive the call.
lean = _made(_nrt=False)

ANSWERED, TIMED_OUT, REFUSED, BROKEN = 0, 1, 2, 3
_QUEUED, _SERVED, _DONE = 0, 1, 2
_CLOSED, _OPEN, _PROBING = 0, 1, 2
# Places in ``Core.counts``.
EVENTS, TIMEOUTS, REFUSALS, OPENS, ENTRIES, USED, HEAPED, SEQUENCE = 0, 1, 2, 3, 4, 5, 6, 7
_SERVICE_END, _RETRY, _THAW = 0, 1, 2


class Requests(NamedTuple):
    """One place a request: when, where, how much work, and its draw for the retry's jitter."""

    arrive: Any
    shard: Any
    work: Any
    jitter: Any


class Rules(NamedTuple):
    servers: int
    timeout: float
    retries_max: int
    backoff: float
    cancels: bool
    in_flight_max: int
    in_flight_per_shard_max: int
    breaker_failures: int
    breaker_open: float


class Core(NamedTuple):
    """What changes: per request, per entry (one attempt that was let in), per shard, the heap."""

    outcome: Any
    done_at: Any
    attempts: Any
    entry_request: Any
    entry_at: Any
    entry_state: Any
    entry_late: Any
    entry_next: Any
    head: Any
    tail: Any
    free: Any
    used: Any
    breaker: Any
    failures: Any
    open_until: Any
    busy: Any
    wasted: Any
    heap_at: Any
    heap_key: Any
    heap_ref: Any
    counts: Any


@compiled
def parallel_waits(gaps: Any, services: Any, servers: int) -> Any:
    out = np.empty(len(gaps))
    free = np.zeros(servers)
    now = 0.0
    for n in range(len(gaps)):
        if n:
            now += gaps[n]
        first = 0
        for server in range(1, servers):
            if free[server] < free[first]:
                first = server
        start = max(now, free[first])
        out[n] = start - now
        free[first] = start + services[n]
    return out


@lean
def _push(core: Core, at: float, kind: int, ref: int) -> None:
    place = core.counts[HEAPED]
    core.counts[HEAPED] += 1
    core.counts[SEQUENCE] += 1
    key = core.counts[SEQUENCE] * 4 + kind
    while place > 0:
        above = (place - 1) >> 1
        if core.heap_at[above] <= at:
            break
        core.heap_at[place] = core.heap_at[above]
        core.heap_key[place] = core.heap_key[above]
        core.heap_ref[place] = core.heap_ref[above]
        place = above
    core.heap_at[place] = at
    core.heap_key[place] = key
    core.heap_ref[place] = ref


@lean
def _pop(core: Core) -> None:
    """Takes the root out; the caller has read it."""
    core.counts[HEAPED] -= 1
    size = core.counts[HEAPED]
    at, key, ref = core.heap_at[size], core.heap_key[size], core.heap_ref[size]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and core.heap_at[below + 1] < core.heap_at[below]:
            below += 1
        if core.heap_at[below] >= at:
            break
        core.heap_at[place] = core.heap_at[below]
        core.heap_key[place] = core.heap_key[below]
        core.heap_ref[place] = core.heap_ref[below]
        place = below
    if size:
        core.heap_at[place], core.heap_key[place], core.heap_ref[place] = at, key, ref


@lean
def _thawed(frozen: Any, shard: int, now: float) -> float:
    """When the shard works again: ``now`` unless it is frozen at that moment."""
    for row in range(len(frozen)):
        if frozen[row, 0] == shard and frozen[row, 1] <= now < frozen[row, 2]:
            now = frozen[row, 2]
    return now


@lean
def _finish(frozen: Any, shard: int, now: float, work: float) -> float:
    """When ``work`` that starts now is done: frozen time does not count. Rows are in order."""
    end = now + work
    for row in range(len(frozen)):
        if frozen[row, 0] == shard and now < frozen[row, 2] and frozen[row, 1] < end:
            end += frozen[row, 2] - max(frozen[row, 1], now)
    return end


@lean
def _start(
    core: Core, rules: Rules, requests: Requests, frozen: Any, shard: int, now: float
) -> None:
    """Let free workers of the shard take what waits."""
    while core.free[shard] > 0 and core.head[shard] >= 0:
        if _thawed(frozen, shard, now) > now:
            return
        entry = core.head[shard]
        core.head[shard] = core.entry_next[entry]
        if core.head[shard] < 0:
            core.tail[shard] = -1
        if core.entry_state[entry] == _DONE:  # it gave up, and was taken back
            continue
        work = requests.work[core.entry_request[entry]]
        core.entry_state[entry] = _SERVED
        core.free[shard] -= 1
        core.busy[shard] += work
        _push(core, _finish(frozen, shard, now, work), _SERVICE_END, entry)


@lean
def _failed(
    core: Core, rules: Rules, requests: Requests, request: int, now: float, why: int
) -> None:
    """This attempt failed: try again later, or that was the answer."""
    attempt = core.attempts[request]
    if attempt > rules.retries_max:
        core.outcome[request] = why
        core.done_at[request] = now
        return
    # Exponential with full jitter: the k-th pause is drawn from 0 .. backoff * 2^(k - 1).
    draw = (requests.jitter[request] + 0.618033988749895 * attempt) % 1.0
    _push(core, now + rules.backoff * 2.0 ** (attempt - 1) * draw, _RETRY, request)


@lean
def _attempt(
    core: Core, rules: Rules, requests: Requests, frozen: Any, request: int, now: float
) -> None:
    shard = requests.shard[request]
    core.attempts[request] += 1
    state = core.breaker[shard]
    if state == _PROBING or (state == _OPEN and now < core.open_until[shard]):
        _failed(core, rules, requests, request, now, BROKEN)
        return
    if (
        core.counts[USED] >= rules.in_flight_max
        or core.used[shard] >= rules.in_flight_per_shard_max
    ):
        core.counts[REFUSALS] += 1
        _failed(core, rules, requests, request, now, REFUSED)
        return
    if state == _OPEN:
        core.breaker[shard] = _PROBING
    entry = core.counts[ENTRIES]
    core.counts[ENTRIES] += 1
    core.counts[USED] += 1
    core.used[shard] += 1
    core.entry_request[entry] = request
    core.entry_at[entry] = now
    if core.tail[shard] >= 0:
        core.entry_next[core.tail[shard]] = entry
    else:
        core.head[shard] = entry
    core.tail[shard] = entry
    _start(core, rules, requests, frozen, shard, now)


@lean
def _release(core: Core, shard: int) -> None:
    core.counts[USED] -= 1
    core.used[shard] -= 1


@lean
def _served(
    core: Core, rules: Rules, requests: Requests, frozen: Any, entry: int, now: float
) -> None:
    request = core.entry_request[entry]
    shard = requests.shard[request]
    core.entry_state[entry] = _DONE
    core.free[shard] += 1
    if core.entry_late[entry]:
        core.wasted[shard] += requests.work[request]
        if not rules.cancels:
            _release(core, shard)
    else:
        core.outcome[request] = ANSWERED
        core.done_at[request] = now
        core.breaker[shard] = _CLOSED
        core.failures[shard] = 0
        _release(core, shard)
    _start(core, rules, requests, frozen, shard, now)


@lean
def _gave_up(core: Core, rules: Rules, requests: Requests, entry: int, now: float) -> None:
    """The caller waited long enough. Work that was not taken back goes on, for nobody."""
    request = core.entry_request[entry]
    shard = requests.shard[request]
    core.counts[TIMEOUTS] += 1
    core.entry_late[entry] = True
    core.failures[shard] += 1
    if core.breaker[shard] == _PROBING or (
        core.breaker[shard] == _CLOSED and core.failures[shard] >= rules.breaker_failures
    ):
        core.breaker[shard] = _OPEN
        core.open_until[shard] = now + rules.breaker_open
        core.failures[shard] = 0
        core.counts[OPENS] += 1
    if rules.cancels:
        if core.entry_state[entry] == _QUEUED:
            core.entry_state[entry] = _DONE
        _release(core, shard)
    _failed(core, rules, requests, request, now, TIMED_OUT)


@lean
def run_core(core: Core, rules: Rules, requests: Requests, frozen: Any) -> None:
    """Until every request has its outcome and no work is left. Time-outs are all equally long, so
    they come in the order of the entries and need no place in the heap.
    """
    arriving, waiting, n = 0, 0, len(requests.arrive)
    while True:
        while waiting < core.counts[ENTRIES] and core.entry_state[waiting] == _DONE:
            waiting += 1
        arrival = requests.arrive[arriving] if arriving < n else np.inf
        expiry = np.inf
        if waiting < core.counts[ENTRIES]:
            expiry = core.entry_at[waiting] + rules.timeout
        event = core.heap_at[0] if core.counts[HEAPED] else np.inf
        now = min(arrival, expiry, event)
        if now == np.inf:
            return
        core.counts[EVENTS] += 1
        if now == event:
            kind, ref = core.heap_key[0] % 4, core.heap_ref[0]
            _pop(core)
            if kind == _SERVICE_END:
                _served(core, rules, requests, frozen, ref, now)
            elif kind == _RETRY:
                _attempt(core, rules, requests, frozen, ref, now)
            else:
                _start(core, rules, requests, frozen, ref, now)
        elif now == expiry:
            if not core.entry_late[waiting]:
                _gave_up(core, rules, requests, waiting, now)
            waiting += 1
        else:
            _attempt(core, rules, requests, frozen, arriving, now)
            arriving += 1


@lean
def thaw(core: Core, frozen: Any) -> None:
    """Before a run: at the end of each freeze the shard must look at its queue again."""
    for row in range(len(frozen)):
        _push(core, frozen[row, 2], _THAW, int(frozen[row, 0]))
