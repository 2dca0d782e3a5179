"""The compiled loop of ``group_commit``: writers in batches, payments in two legs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paytm_lab.simulation.queueing.kernels import lean

_IDLE, _GATHER, _WORK, _COMMIT = 0, 1, 2, 3
# Places in ``State.counts``.
DUE, SUBMITTED, OPEN, ANSWERED, COMMITS, OPERATIONS, STEPS = 0, 1, 2, 3, 4, 5, 6


class Payments(NamedTuple):
    """One place a payment. ``due``: when it should start; in a closed loop it is written here."""

    source: Any
    destination: Any
    due: Any
    answered: Any


class Costs(NamedTuple):
    """Seconds. ``commits``: drawn beforehand, taken in turn. ``cores``: of all writers and the
    client together; 0: each shard has a processor of its own, and the client costs nothing.
    ``disks``: commits at once that do not slow each other down; 0: each shard has its own.
    """

    submit: float
    fixed: float
    per_operation: float
    commits: Any
    slowness: Any
    gather: float
    idle_finalise: float
    batch_max: int
    cores: float
    disks: float
    in_flight: int


class State(NamedTuple):
    """Per shard; ``left`` has one place more, the client's. ``follows`` links the queues: 2 n is
    payment n's debit, 2 n + 1 its credit.
    """

    phase: Any
    until: Any
    left: Any
    head: Any
    tail: Any
    queued: Any
    taken: Any
    taken_lazy: Any
    last: Any
    lazy: Any
    lazy_since: Any
    busy: Any
    follows: Any
    counts: Any


@lean
def _put(state: State, costs: Costs, shard: int, operation: int) -> None:
    state.follows[operation] = -1
    if state.queued[shard]:
        state.follows[state.tail[shard]] = operation
    else:
        state.head[shard] = operation
    state.tail[shard] = operation
    state.queued[shard] += 1
    if state.phase[shard] == _IDLE:
        _begin(state, costs, shard)


@lean
def _begin(state: State, costs: Costs, shard: int) -> None:
    """Take what waits and start on it."""
    taken = min(state.queued[shard], costs.batch_max)
    lazy = min(state.lazy[shard], costs.batch_max)
    state.taken[shard], state.taken_lazy[shard] = taken, lazy
    state.lazy[shard] -= lazy
    state.last[shard] = taken + lazy
    state.phase[shard] = _WORK
    work = (costs.fixed + costs.per_operation * (taken + lazy)) * costs.slowness[shard]
    state.left[shard] = work
    state.busy[shard] += work


@lean
def _next(state: State, costs: Costs, shard: int, now: float) -> None:
    """After a batch: sleep, gather, or go on. As ShardWriter does."""
    if not state.queued[shard]:
        state.phase[shard] = _IDLE
        return
    if state.last[shard] > 1 and state.queued[shard] < state.last[shard] // 2:
        state.phase[shard] = _GATHER
        state.until[shard] = now + costs.gather
        return
    _begin(state, costs, shard)


@lean
def _answer(state: State, costs: Costs, payments: Payments, payment: int, now: float) -> None:
    payments.answered[payment] = now
    state.counts[ANSWERED] += 1
    state.counts[OPEN] -= 1
    if costs.in_flight and state.counts[DUE] < len(payments.due):
        payments.due[state.counts[DUE]] = now
        state.counts[DUE] += 1


@lean
def _committed(state: State, costs: Costs, payments: Payments, shard: int, now: float) -> None:
    """Answer the batch's callers; debits of payments to elsewhere go on there."""
    taken = state.taken[shard]
    operation = state.head[shard]
    state.counts[COMMITS] += 1
    state.counts[OPERATIONS] += taken + state.taken_lazy[shard]
    for _ in range(taken):
        follower = state.follows[operation]
        state.queued[shard] -= 1
        state.head[shard] = follower
        payment = operation >> 1
        source, destination = payments.source[payment], payments.destination[payment]
        if operation & 1:
            if not state.lazy[source]:
                state.lazy_since[source] = now
            state.lazy[source] += 1
            _answer(state, costs, payments, payment, now)
        elif source == destination:
            _answer(state, costs, payments, payment, now)
        else:
            _put(state, costs, destination, operation + 1)
        operation = follower
    _next(state, costs, shard, now)


@lean
def _commit(state: State, costs: Costs, shard: int) -> None:
    state.phase[shard] = _COMMIT
    commit = costs.commits[state.counts[STEPS] % len(costs.commits)] * costs.slowness[shard]
    state.counts[STEPS] += 1
    state.busy[shard] += commit
    state.left[shard] = commit


@lean
def _submits(state: State, payments: Payments, now: float) -> bool:
    """Whether the client has a payment to submit now."""
    if state.counts[SUBMITTED] >= state.counts[DUE]:
        return False
    return bool(payments.due[state.counts[SUBMITTED]] <= now)


@lean
def _soonest(state: State, payments: Payments, costs: Costs, now: float, speeds: Any) -> Any:
    """(time, shard) of what happens next; the client is the shard after the last."""
    shards = len(state.phase)
    at, who = np.inf, -1
    if state.counts[SUBMITTED] < state.counts[DUE]:
        due = payments.due[state.counts[SUBMITTED]]
        at, who = due if due > now else now + state.left[shards] / speeds[0], shards
    for shard in range(shards):
        phase = state.phase[shard]
        if phase == _WORK:
            event = now + state.left[shard] / speeds[0]
        elif phase == _COMMIT:
            event = now + state.left[shard] / speeds[1]
        elif phase == _IDLE:
            if not state.lazy[shard]:
                continue
            event = max(now, state.lazy_since[shard] + costs.idle_finalise)
        else:
            event = state.until[shard]
        if event < at:
            at, who = event, shard
    return at, who


@lean
def _speeds(state: State, costs: Costs, payments: Payments, now: float) -> Any:
    """How fast each piece of work and each commit goes on: they share processor and disk evenly."""
    working, committing = 1 if _submits(state, payments, now) else 0, 0
    for shard in range(len(state.phase)):
        if state.phase[shard] == _WORK:
            working += 1
        elif state.phase[shard] == _COMMIT:
            committing += 1
    work = min(1.0, costs.cores / max(working, 1)) if costs.cores > 0.0 else 1.0
    commit = min(1.0, costs.disks / max(committing, 1)) if costs.disks > 0.0 else 1.0
    return work, commit


@lean
def run_commits(state: State, costs: Costs, payments: Payments) -> None:
    """Until all payments are answered."""
    shards, n, now = len(state.phase), len(payments.due), 0.0
    while state.counts[ANSWERED] < n:
        speeds = _speeds(state, costs, payments, now)
        submits = _submits(state, payments, now)
        at, who = _soonest(state, payments, costs, now, speeds)
        done = (at - now) * speeds[0]
        for shard in range(shards):
            if state.phase[shard] == _WORK:
                state.left[shard] = max(0.0, state.left[shard] - done)
            elif state.phase[shard] == _COMMIT:
                state.left[shard] = max(0.0, state.left[shard] - (at - now) * speeds[1])
        now = at
        if who == shards:
            if not submits:  # it was not due before; now it is
                state.left[shards] = costs.submit
                if costs.submit > 0.0:
                    continue
            payment = state.counts[SUBMITTED]
            state.counts[SUBMITTED] += 1
            state.counts[OPEN] += 1
            state.left[shards] = costs.submit
            _put(state, costs, payments.source[payment], 2 * payment)
            continue
        if submits:
            state.left[shards] = max(0.0, state.left[shards] - done)
        phase = state.phase[who]
        if phase == _WORK:
            _commit(state, costs, who)
        elif phase == _COMMIT:
            _committed(state, costs, payments, who, now)
        else:
            _begin(state, costs, who)
