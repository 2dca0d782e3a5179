"""The real lab under load: what each batch of its writers cost, and what callers saw.

``system`` is an open lab's (``lab.system``), with threads. Nothing of the lab is changed but two
named points of its protocol, and only inside ``recording``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput, IntegrityError
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from paytm_lab.simulation.driver import LoadDriver
from paytm_lab.simulation.payments import Transfer
from paytm_lab.simulation.queueing.group_commit import Places
from paytm_lab.simulation.queueing.lindley import F64
from paytm_lab.simulation.queueing.theory import count_of, positive

ANSWERS_WITHIN_S = 60.0


@dataclass(slots=True)
class Recording:
    """One row a batch: shard, operations, then seconds: of processor time without the commit, by
    the clock without the commit, when the commit began, when it ended. ``client_s``: processor time
    a payment of the thread that submitted.
    """

    batches: list[tuple[int, int, float, float, float, float]] = field(default_factory=list)
    client_s: float = 0.0

    def columns(self) -> dict[str, Any]:
        """shard, operations, work_s, clock_s, commit_from_s, commit_to_s: arrays, one place each
        batch.
        """
        rows = np.array(self.batches, dtype=np.float64).reshape(-1, 6)
        return {
            "shard": rows[:, 0].astype(int),
            "operations": rows[:, 1].astype(int),
            "work_s": rows[:, 2],
            "clock_s": rows[:, 3],
            "commit_from_s": rows[:, 4],
            "commit_to_s": rows[:, 5],
        }


@contextmanager
def recording(system: Any) -> Iterator[Recording]:
    """Record every batch that the writers' threads run inside the block."""
    made, here = Recording(), threading.local()
    steps = {writer: writer.step for writer in system.writers.values()}

    def before() -> None:
        here.commit = (time.perf_counter(), time.thread_time())

    def after() -> None:
        from_s, processor_s = here.commit
        here.spent = (from_s, time.perf_counter(), time.thread_time() - processor_s)

    def step(shard: int, inner: Callable[[], int]) -> int:
        here.spent = None
        started_s, began_s = time.thread_time(), time.perf_counter()
        operations = inner()
        if operations and here.spent is not None:
            from_s, to_s, on_processor_s = here.spent
            work_s = time.thread_time() - started_s - on_processor_s
            clock_s = time.perf_counter() - began_s - (to_s - from_s)
            made.batches.append((shard, operations, work_s, clock_s, from_s, to_s))
        return operations

    for writer, inner in steps.items():
        writer.step = partial(step, writer.shard_id, inner)
    system.fault_points.update({"writer:before_commit": before, "writer:committed": after})
    try:
        yield made
    finally:
        for writer in steps:
            del writer.step
        for point in ("writer:before_commit", "writer:committed"):
            system.fault_points.pop(point, None)


@dataclass(frozen=True, slots=True)
class Seen:
    """What callers saw, one place a payment, in order of submission. ``due_s``: when it should have
    started; ``submitted_s``: when it did; ``answered_s``. Seconds from the start of the load.
    """

    due_s: F64
    submitted_s: F64
    answered_s: F64

    @property
    def payments_per_s(self) -> float:
        return len(self.due_s) / float(self.answered_s.max() - self.due_s.min())

    def latency_ms(self, since: str = "due") -> F64:
        """Milliseconds since a payment was ``due``, or since it was ``submitted``."""
        if since not in ("due", "submitted"):
            raise BadInput(f"latency since {since!r:.40}", remedy="Use due or submitted.")
        return (self.answered_s - (self.due_s if since == "due" else self.submitted_s)) * 1e3

    def quantile_ms(self, q: float, since: str = "due", warm_up: float = 0.1) -> float:
        """Quantile of the latency; the first ``warm_up`` share of payments does not count."""
        latency = self.latency_ms(since)
        return float(np.quantile(latency[int(warm_up * len(latency)) :], q))


def transfers(where: Places, users: int, rng: np.random.Generator) -> list[Transfer]:
    """Real payments between the shards that ``where`` names, among users 1 .. ``users`` of a lab on
    the initial slot map (user u lives on shard u modulo shards). 1 to 1,000 rupees each.
    """
    shards = where.shards
    each = count_of("users", users) // shards
    if each < 2:
        raise BadInput(
            f"{users} users on {shards} shards are too few", remedy="Give two users a shard."
        )
    n = len(where.source)
    payer = rng.integers(0, each, n)
    payee = (payer + rng.integers(1, each, n)) % each  # never the same, also on one shard
    senders = payer * shards + np.where(where.source, where.source, shards)
    receivers = payee * shards + np.where(where.destination, where.destination, shards)
    paise = rng.integers(100, 100_000, n)
    rows = zip(senders.tolist(), receivers.tolist(), paise.tolist(), strict=True)
    return [Transfer(i, str(a), str(b), amount) for i, (a, b, amount) in enumerate(rows, 1)]


def closed_load(system: Any, rows: Sequence[Transfer], in_flight: int) -> Seen:
    """Post ``rows`` with so many in flight, by the lab's own driver."""
    driver = LoadDriver(system.engine, in_flight=count_of("in_flight", in_flight))
    posted = driver.run([list(rows)])
    submitted = np.array(posted.submitted_s)
    answered = submitted + np.array(posted.latency_ms) / 1e3
    _require_all(answered)
    return Seen(submitted, submitted, answered)


def open_load(
    system: Any,
    rows: Sequence[Transfer],
    due_s: Sequence[float] | F64,
    made: Recording | None = None,
) -> Seen:
    """Submit each payment when it is due (seconds, ascending), whatever became of those before.
    ``made`` gets the client's processor time a payment.
    """
    if len(rows) != len(due_s) or not len(rows):
        raise BadInput(
            f"{len(rows)} payments and {len(due_s)} times", remedy="Give one of each, or more."
        )
    due = np.asarray(due_s, dtype=np.float64)
    submitted, answered = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    unanswered, all_in = set(range(len(rows))), threading.Event()
    started_s = time.perf_counter() + 0.02

    def done(number: int, result: Result) -> None:
        if isinstance(result, Outcome):
            answered[number] = time.perf_counter() - started_s
        unanswered.discard(number)  # one step, in whichever writer's thread
        if not unanswered:
            all_in.set()

    spent_s = 0.0
    for number, row in enumerate(rows):
        wait_s = due[number] - (time.perf_counter() - started_s)
        if wait_s > 0:
            time.sleep(wait_s)
        request = PaymentRequest(row.from_user_id, row.to_user_id, row.amount_paise)
        began_s = time.thread_time()
        submitted[number] = time.perf_counter() - started_s
        system.engine.submit(request, partial(done, number))
        spent_s += time.thread_time() - began_s
    if not all_in.wait(ANSWERS_WITHIN_S):
        raise IntegrityError("payments were never answered", remedy="Look at the lab's log.")
    _require_all(answered)
    if made is not None:
        made.client_s = spent_s / len(rows)
    return Seen(due, submitted, answered)


def poisson_load(
    system: Any, rows: Sequence[Transfer], per_s: float, rng: np.random.Generator, **more: Any
) -> Seen:
    """``open_load`` with exponential gaps at a mean rate."""
    gaps = rng.standard_exponential(len(rows)) / positive("per_s", per_s)
    return open_load(system, rows, np.cumsum(gaps), **more)


def _require_all(answered: F64) -> None:
    missing = int(np.isnan(answered).sum())
    if missing:
        raise IntegrityError(
            f"{missing} of {len(answered)} payments got an error for an answer",
            remedy="Measure a lab without faults, whose users have enough money.",
        )
