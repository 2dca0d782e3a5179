"""The model of the lab's own writers: group commit, payments in one leg or two.

A shard's writer takes all that wait, works (so much a batch and so much an operation), commits, and
answers; meanwhile the next batch gathers. A payment to another shard is a debit here, then a credit
there, which answers the caller; its third leg rides along with a later batch of the source. The
queue is that of bulk service (Bailey 1954) with a service that grows with the batch; the rules of
gathering are those of ``ledger.shard_writer``.

Embedded shards share one interpreter: their work, and the client's, goes on a processor that all of
them share evenly (``cores``), while commits wait for the disk side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import BadInput
from paytm_lab.core.extras import need
from paytm_lab.simulation.queueing.lindley import F64
from paytm_lab.simulation.queueing.theory import count_of, not_negative, positive

I64 = npt.NDArray[np.int64]
SHARDS_MAX = 1024
PAYMENTS_MAX = 20_000_000


@dataclass(frozen=True, slots=True)
class WriterModel:
    """What one batch costs, in seconds. ``commits_s``: commit times that were seen; each batch
    draws one. ``cores``: processors that all writers and the client share (0: each shard has its
    own, as on hosts of their own, and the client costs nothing). ``submit_s``: the client's work
    for a payment. ``disks``: how many commits go on at once without slowing each other down (0:
    each shard has a disk of its own).
    """

    fixed_s: float
    per_operation_s: float
    commits_s: tuple[float, ...]
    submit_s: float = 0.0
    cores: float = 0.0
    disks: float = 0.0
    gather_s: float = 0.002
    idle_finalise_s: float = 0.05
    batch_max: int = 1024

    def __post_init__(self) -> None:
        for name in ("fixed_s", "per_operation_s", "submit_s", "cores", "disks", "gather_s"):
            not_negative(name, getattr(self, name))
        positive("idle_finalise_s", self.idle_finalise_s)
        count_of("batch_max", self.batch_max)
        times = np.asarray(self.commits_s, dtype=np.float64)
        if not (times.ndim == 1 and len(times) and times.min() >= 0 and times.max() < np.inf):
            raise BadInput(
                f"commits_s = {self.commits_s!r:.60} are no times",
                remedy="Give the seconds that commits took, at least one.",
            )
        if self.fixed_s + self.per_operation_s + float(times.mean()) <= 0:
            raise BadInput("a batch that costs nothing is no model", remedy="Give its times.")

    @property
    def commit_s(self) -> float:
        """Mean time of a commit."""
        return float(np.mean(self.commits_s))

    def on_own_hosts(self) -> WriterModel:
        """The same writers, each with a processor and a disk of its own."""
        return replace(self, cores=0.0, disks=0.0, submit_s=0.0)

    def operations_per_s_max(self) -> float:
        """What one writer on a processor of its own can do at most: full batches."""
        batch_s = self.fixed_s + self.commit_s + self.per_operation_s * self.batch_max
        return self.batch_max / batch_s


@dataclass(frozen=True, slots=True)
class Flows:
    """What became of the payments, one place each, in order of submission. ``due_s``: when it
    should start; ``latency_s`` counts from there. ``busy_s``: by shard, working or committing.
    """

    due_s: F64
    latency_s: F64
    cross: npt.NDArray[np.bool_]
    commits: int
    operations: int
    busy_s: F64

    @property
    def seconds(self) -> float:
        """From the first payment's time to the last answer."""
        return float((self.due_s + self.latency_s).max() - self.due_s[0])

    @property
    def payments_per_s(self) -> float:
        return len(self.due_s) / self.seconds

    @property
    def operations_per_commit(self) -> float:
        return self.operations / self.commits

    def latency_ms(self, q: float, warm_up: float = 0.1) -> float:
        """Quantile of the latency; the first ``warm_up`` share of payments does not count."""
        return float(np.quantile(self.latency_s[int(warm_up * len(self.latency_s)) :], q)) * 1e3


@dataclass(frozen=True, slots=True)
class Places:
    """Where payments go: ``source`` and ``destination``, shape (n,), shards from 0."""

    source: I64
    destination: I64
    shards: int


def places(
    payments: int,
    shards: int,
    cross_share: float,
    rng: np.random.Generator,
    weights: Any = None,
) -> Places:
    """Sources by ``weights`` (None: even; any positive numbers, one a shard), a ``cross_share`` of
    the payments to another shard, even among the others.
    """
    count_of("payments", payments, PAYMENTS_MAX)
    count_of("shards", shards, SHARDS_MAX)
    if not 0 <= cross_share <= 1 or (cross_share > 0 and shards == 1):
        raise BadInput(
            f"a share of {cross_share!r:.40} cannot cross {shards} shards",
            remedy="Give a share from 0 to 1, and two shards or more for one above 0.",
        )
    even = np.ones(shards) if weights is None else np.asarray(weights, dtype=np.float64)
    if even.shape != (shards,) or not (even.min() >= 0 and 0 < even.sum() < np.inf):
        raise BadInput("weights do not fit", remedy=f"Give {shards} of them, none negative.")
    edges = np.cumsum(even)
    source = np.searchsorted(edges, rng.random(payments) * edges[-1], side="right")
    crosses = rng.random(payments) < cross_share
    shift = rng.integers(1, max(shards, 2), payments)
    destination = np.where(crosses, (source + shift) % shards, source)
    return Places(source.astype(np.int64), destination.astype(np.int64), shards)


def open_loop(
    model: WriterModel, where: Places, due_s: Any, rng: np.random.Generator, slowness: Any = None
) -> Flows:
    """Payments start when due, ascending, whatever became of those before. ``slowness``: factors,
    one a shard, on all that it does (None: 1).
    """
    due = np.ascontiguousarray(due_s, dtype=np.float64)
    n = len(where.source)
    if due.shape != (n,) or not (due.min() >= 0 and due.max() < np.inf):
        raise BadInput(f"due_s does not fit {n} payments", remedy="Give one time each, from 0.")
    if np.diff(due).min(initial=0.0) < 0:
        raise BadInput("due_s is not in order", remedy="Sort it.")
    return _run(model, where, due, 0, rng, slowness)


def poisson_times(payments: int, per_s: float, rng: np.random.Generator) -> F64:
    """Times of so many payments at a mean rate, exponential gaps between them."""
    return np.cumsum(rng.standard_exponential(payments)) / positive("per_s", per_s)


def closed_loop(
    model: WriterModel,
    where: Places,
    in_flight: int,
    rng: np.random.Generator,
    slowness: Any = None,
) -> Flows:
    """So many payments wait for their answer at a time; each answer starts the next one."""
    count_of("in_flight", in_flight)
    return _run(model, where, np.zeros(len(where.source)), in_flight, rng, slowness)


def _run(
    model: WriterModel,
    where: Places,
    due: F64,
    in_flight: int,
    rng: np.random.Generator,
    slowness: Any,
) -> Flows:
    need("numba")
    from paytm_lab.simulation.queueing import kernels_commit as kernels

    n, shards = len(due), where.shards
    if not n:
        raise BadInput("no payments", remedy="Give one or more.")
    factors = np.ones(shards) if slowness is None else np.asarray(slowness, dtype=np.float64)
    if factors.shape != (shards,) or not (factors.min() > 0 and factors.max() < np.inf):
        raise BadInput("slowness does not fit", remedy=f"Give {shards} positive factors.")
    seen = np.asarray(model.commits_s, dtype=np.float64)
    commits = seen[rng.integers(0, len(seen), 1 << 16)] if len(seen) > 1 else seen
    state = _state(kernels, shards, n)
    state.left[shards] = model.submit_s
    state.counts[kernels.DUE] = min(in_flight, n) if in_flight else n
    answered = np.full(n, np.nan)
    costs = kernels.Costs(
        float(model.submit_s), float(model.fixed_s), float(model.per_operation_s), commits,
        factors, float(model.gather_s), float(model.idle_finalise_s), model.batch_max,
        float(model.cores), float(model.disks), in_flight,
    )  # fmt: skip
    kernels.run_commits(
        state, costs, kernels.Payments(where.source, where.destination, due, answered)
    )
    return Flows(
        due, answered - due, where.source != where.destination,
        int(state.counts[kernels.COMMITS]), int(state.counts[kernels.OPERATIONS]), state.busy,
    )  # fmt: skip


def _state(kernels: Any, shards: int, n: int) -> Any:
    whole = [np.zeros(shards, np.int64) for _ in range(7)]
    return kernels.State(
        phase=np.zeros(shards, np.int8),
        until=np.zeros(shards),
        left=np.zeros(shards + 1),
        head=whole[0],
        tail=whole[1],
        queued=whole[2],
        taken=whole[3],
        taken_lazy=whole[4],
        last=whole[5],
        lazy=whole[6],
        lazy_since=np.zeros(shards),
        busy=np.zeros(shards),
        follows=np.full(2 * n, -1, np.int64),
        counts=np.zeros(7, np.int64),
    )
