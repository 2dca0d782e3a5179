"""What notebooks show of queues: rows made by simulation, or by the real lab under load.

Rows are lists of dictionaries, for frames. Functions that take ``lab`` need an open one with
threads, made by ``open_for_load``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing import events, fitting, group_commit, measured, theory
from paytm_lab.simulation.queueing.group_commit import WriterModel
from paytm_lab.simulation.queueing.lindley import F64, _times, parallel_waits, waits
from paytm_lab.simulation.queueing.measured import Recording, Seen

USERS = 4_000
OPENING_PAISE = 10**9
OPTIONS: dict[str, Any] = {
    # Writers alone: what else runs would take processor time that no model here knows of.
    "relay": False, "consumers": (), "outbox_rows_max": 10**8,
    "in_flight_max": 8_192, "in_flight_per_shard_max": 8_192,
}  # fmt: skip
_NINES = 1 - np.logspace(0, -4, 161)


def open_accounts(lab: Any, users: int = USERS) -> Any:
    """Users 1 .. ``users`` with enough money for any load here; the lab again."""
    lab.open_accounts({str(number): OPENING_PAISE for number in range(1, users + 1)})
    return lab


@dataclass(frozen=True, slots=True)
class Trial:
    """``made``: the batches of the recorded load, ``recorded``: what its callers saw; ``others``:
    (kind, load) -> what callers saw under it; a Seen for each turn.
    """

    made: Recording
    recorded: list[Seen]
    others: dict[tuple[str, float], list[Seen]]


@dataclass(frozen=True, slots=True)
class Load:
    """Payments for a lab, evenly over its shards, a ``cross_share`` of them to another one (None:
    random pairs, 1 - 1/N).
    """

    lab: Any
    seed: int = 7
    users: int = USERS
    cross_share: float | None = None

    @property
    def shards(self) -> int:
        return len(self.lab.system.writers)

    def _places(self, payments: int, rng: np.random.Generator) -> group_commit.Places:
        crossing = 1 - 1 / self.shards if self.cross_share is None else self.cross_share
        return group_commit.places(payments, self.shards, crossing, rng)

    def _rows(self, payments: int) -> tuple[Any, np.random.Generator]:
        rng = np.random.default_rng([self.seed, payments])
        return measured.transfers(self._places(payments, rng), self.users, rng), rng

    def offered(self, per_s: float, seconds: float, made: Recording | None = None) -> Seen:
        """Open: Poisson arrivals at this rate, whatever becomes of those before."""
        rows, rng = self._rows(max(1, round(per_s * seconds)))
        return measured.poisson_load(self.lab.system, rows, per_s, rng, made=made)

    def closed(self, in_flight: int, payments: int) -> Seen:
        """Closed: so many callers, each waiting for its answer before it pays again."""
        return measured.closed_load(self.lab.system, self._rows(payments)[0], in_flight)

    def closed_for(self, in_flight: int, seconds: float) -> Seen:
        """``closed`` until the time is over."""
        parts: list[Seen] = []
        began_s = time.perf_counter()
        while (now_s := time.perf_counter() - began_s) < seconds:
            part = self.closed(in_flight, max(64, 16 * in_flight))
            parts.append(
                Seen(part.due_s + now_s, part.submitted_s + now_s, part.answered_s + now_s)
            )
        return Seen(*(np.concatenate([getattr(p, n) for p in parts]) for n in Seen.__slots__))

    def record(self, per_s: float, seconds: float) -> tuple[Recording, Seen]:
        """An open load with every batch of the writers recorded, to fit a model on."""
        with measured.recording(self.lab.system) as made:
            seen = self.offered(per_s, seconds, made)
        return made, seen

    def trial(
        self,
        record_per_s: float,
        offered_per_s: Sequence[float] = (),
        in_flight: Sequence[int] = (),
        seconds: float = 1.0,
        rounds: int = 3,
    ) -> Trial:
        """Record one open load, and measure others, all in turns of ``seconds`` / ``rounds``: what
        else the machine does then meets all of them alike. The recorded load has two turns each
        round.
        """
        theory.count_of("rounds", rounds, 1_000)
        turn_s = theory.positive("seconds", seconds) / rounds
        cases = [("open", float(n)) for n in offered_per_s] + [("closed", n) for n in in_flight]
        found: dict[tuple[str, float], list[Seen]] = {case: [] for case in cases}
        recorded: list[Seen] = []
        made = Recording()
        for number in range(rounds):
            turn = replace(self, seed=self.seed + number)
            part, seen = turn.record(record_per_s, 2 * turn_s)
            made.batches += part.batches
            made.client_s += part.client_s / rounds
            recorded.append(seen)
            for kind, amount in cases:
                found[kind, amount].append(
                    turn.offered(amount, turn_s)
                    if kind == "open"
                    else turn.closed_for(int(amount), turn_s)
                )
        return Trial(made, recorded, found)

    def predicted(self, model: WriterModel, kind: str, load: float, payments: int) -> Any:
        """The model under the same load: its Flows. ``kind``: open (per second) or closed."""
        rng = np.random.default_rng([self.seed, 1])
        where = self._places(payments, rng)
        if kind == "closed":
            return group_commit.closed_loop(model, where, int(load), rng)
        return group_commit.open_loop(
            model, where, group_commit.poisson_times(payments, load, rng), rng
        )


def compare(load: Load, trial: Trial, model: WriterModel) -> list[dict[str, Any]]:
    """What was measured under the trial's other loads, and what the model says of them, a row each:
    kind, load, and of both payments_per_s, p50_ms, p99_ms (``measured_...``, ``predicted_...``).
    """
    rows = []
    for (kind, amount), seen in trial.others.items():
        flow = load.predicted(model, kind, amount, max(20_000, 20 * int(amount)))
        rows.append(
            {
                "kind": kind,
                "load": amount,
                "measured_payments_per_s": payments_per_s(seen),
                "predicted_payments_per_s": flow.payments_per_s,
                "measured_p50_ms": quantile_ms(seen, 0.5),
                "predicted_p50_ms": flow.latency_ms(0.5),
                "measured_p99_ms": quantile_ms(seen, 0.99),
                "predicted_p99_ms": flow.latency_ms(0.99),
            }
        )
    return rows


def rates(compared: Sequence[Mapping[str, Any]]) -> list[float]:
    """Measured over predicted throughput of the closed loads among ``compare``'s rows. An open load
    that the lab can bear says nothing here: as many come out as go in.
    """
    return [
        row["measured_payments_per_s"] / row["predicted_payments_per_s"]
        for row in compared
        if row["kind"] == "closed"
    ]


def payments_per_s(seen: Sequence[Seen]) -> float:
    """Over several turns of the same load."""
    seconds = sum(float(s.answered_s.max() - s.due_s.min()) for s in seen)
    return sum(len(s.due_s) for s in seen) / seconds


def quantile_ms(seen: Sequence[Seen], q: float, warm_up: float = 0.1) -> float:
    """Latency quantile over several turns; the first ``warm_up`` share of each does not count."""
    parts = [s.latency_ms() for s in seen]
    return float(np.quantile(np.concatenate([p[int(warm_up * len(p)) :] for p in parts]), q))


def batch_rows(made: Recording, model: WriterModel) -> list[dict[str, Any]]:
    """A row each batch: shard, operations, work_ms, fitted_ms."""
    columns = made.columns()
    fitted_s = model.fixed_s + model.per_operation_s * columns["operations"]
    rows = zip(columns["shard"], columns["operations"], columns["work_s"], fitted_s, strict=True)
    return [
        {"shard": int(s), "operations": int(n), "work_ms": 1e3 * w, "fitted_ms": 1e3 * f}
        for s, n, w, f in rows
    ]


@contextmanager
def stall(lab: Any, shard: int, after_s: float, for_s: float) -> Iterator[None]:
    """Inside the block, ``after_s`` from its start, a shard freezes and goes on ``for_s`` later."""
    theory.positive("for_s", for_s)
    ended = threading.Event()

    def freeze() -> None:
        if not ended.wait(theory.not_negative("after_s", after_s)):
            with lab.fault(f"shard-{shard}", "frozen"):
                ended.wait(for_s)

    thread = threading.Thread(target=freeze, name="stall", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def corrected(latency_ms: Any, every_ms: float) -> F64:
    """What an open load would have seen, from what a closed one recorded: a wait longer than the
    pause between two requests kept back the requests that were due meanwhile; they are put in, each
    a pause shorter, down to one pause (Gil Tene 2013, How not to measure latency).
    """
    seen = _times("latency_ms", latency_ms)
    theory.positive("every_ms", every_ms)
    omitted = np.maximum((seen / every_ms).astype(np.int64) - 1, 0)
    if int(omitted.sum()) > 50_000_000:
        raise BadInput(f"every_ms = {every_ms:g} is too short", remedy="Give the real pause.")
    which = np.repeat(np.arange(len(seen)), omitted)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(omitted) - omitted, omitted) + 1
    return np.concatenate((seen, seen[which] - every_ms * nth))


def percentile_rows(series: Mapping[str, Any]) -> list[dict[str, Any]]:
    """series, q (0..1), latency_ms; no quantile finer than its data."""
    rows = []
    for name, latency_ms in series.items():
        values = _times(name, latency_ms)
        for q in _NINES[len(values) * (1 - _NINES) >= 1]:
            rows.append(
                {"series": name, "q": float(q), "latency_ms": float(np.quantile(values, q))}
            )
    return rows


def timeline_rows(series: Mapping[str, Seen]) -> list[dict[str, Any]]:
    """series, due_s, latency_ms: one row a payment."""
    return [
        {"series": name, "due_s": due, "latency_ms": latency}
        for name, seen in series.items()
        for due, latency in zip(seen.due_s.tolist(), seen.latency_ms().tolist(), strict=True)
    ]


POLICIES: dict[str, dict[str, Any]] = {
    "no retries": {"retries_max": 0},
    "retries": {"retries_max": 3, "cancels": False},
    "retries that take work back": {"retries_max": 3, "cancels": True},
    "retries behind a breaker": {"retries_max": 3, "cancels": False, "breaker_failures": 20},
}


def storm(
    load: float = 0.7,
    stall_s: float = 2.0,
    seed: int = 7,
    policies: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """A service of 1,000 requests a second at ``load`` stands still for ``stall_s``, from second 5
    on, for 40 s in all; callers wait a second at most. Rows: policy, at_s, answered_per_s (in time,
    by second), for each of ``policies`` (names and fields of events.Service).
    """
    per_s, seconds = 1_000 * theory.load(load), 40.0
    rng = np.random.default_rng(seed)
    n = round(per_s * seconds)
    arrive = np.sort(rng.random(n)) * seconds
    work, jitter = rng.standard_exponential(n) / 1_000, rng.random(n)
    outages = [events.Outage(0, 5.0, 5.0 + theory.positive("stall_s", stall_s))]
    rows = []
    for name, fields in (POLICIES if policies is None else policies).items():
        service = events.Service(timeout_s=1.0, backoff_s=0.2, **fields)
        seen = events.run(service, arrive, work, jitter=jitter, outages=outages)
        done = (seen.arrive_s + seen.latency_s)[seen.outcome == 0]
        counted, _ = np.histogram(done, np.arange(0, seconds + 1))
        rows += [
            {"policy": name, "at_s": at + 0.5, "answered_per_s": int(count), "offered_per_s": per_s}
            for at, count in enumerate(counted)
        ]
    return rows


def recovers(policy: str, load: float, **more: Any) -> bool:
    """Whether this one of POLICIES answers nearly all in time again at the end of ``storm``."""
    if policy not in POLICIES:
        raise BadInput(f"no policy {policy!r:.40}", remedy=f"It is one of {', '.join(POLICIES)}.")
    last = storm(load, policies={policy: POLICIES[policy]}, **more)[-8:]
    return bool(np.mean([row["answered_per_s"] / row["offered_per_s"] for row in last]) > 0.9)


def queue_percentiles(load: float, seed: int = 7, payments: int = 200_000) -> list[dict[str, Any]]:
    """``percentile_rows`` of three queues under the same load, all with services of 1 ms on
    average: varying services, equal ones, and four servers behind one queue.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.standard_exponential(payments) / theory.load(load)
    services = rng.standard_exponential(payments)
    return percentile_rows(
        {
            "one server": waits(gaps, services) + services,
            "one server, equal services": waits(gaps, np.ones(payments)) + 1.0,
            "four servers, one queue": parallel_waits(gaps / 4, services, 4) + services,
        }
    )


# Writers on hosts of their own: what a plan is tried out with before anything was measured.
REFERENCE = WriterModel(
    fixed_s=0.0003, per_operation_s=0.00004, commits_s=(0.0008, 0.001, 0.0015, 0.002, 0.005)
)


def fits(
    made: Recording, several: int, seed: int = 7, profile: str = "embedded", **options: Any
) -> list[WriterModel]:
    """The fit of what was recorded on this profile, then ``several`` refits of it."""
    rng = np.random.default_rng(seed)
    options = {"remote": profile == "servers", **options}
    first = fitting.fit(made, **options)
    return [first, *fitting.refits(made, several, rng, **options)]
