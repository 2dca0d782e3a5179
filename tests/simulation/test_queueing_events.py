"""The event core: equal to SimPy request by request, to Lindley, to Erlang; and its own rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paytm_lab.benchmarks import simulate_queues
from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing import events, experiments
from paytm_lab.simulation.queueing.events import Outage, Service, run
from paytm_lab.simulation.queueing.lindley import parallel_waits, waits


def drawn(n: int, load: float, servers: int = 1, seed: int = 1) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    arrive = np.cumsum(rng.standard_exponential(n)) / (load * servers)
    return arrive, rng.standard_exponential(n), rng.random(n)


def test_without_rules_it_is_lindleys_queue() -> None:
    arrive, work, _ = drawn(5_000, 0.9)
    found = run(Service(), arrive, work)
    gaps = np.diff(arrive, prepend=0.0)
    assert np.abs(found.latency_s - waits(gaps, work) - work).max() < 1e-9
    assert found.events == 10_000 and found.share("answered") == 1
    assert found.busy_s.sum() == pytest.approx(work.sum())
    four = run(Service(servers=4), arrive / 4, work)
    assert np.abs(four.latency_s - parallel_waits(gaps / 4, work, 4) - work).max() < 1e-9


def test_with_timeouts_and_retries_it_is_simpys() -> None:
    arrive, work, jitter = drawn(4_000, 0.5, servers=4)
    service = simulate_queues.SERVICE
    found = run(service, arrive, work, jitter=jitter)
    theirs = simulate_queues._simpy_service(service, arrive, work, jitter)
    assert np.abs(found.latency_s - theirs).max() < 1e-9
    assert found.timeouts > 100 and 0 < found.share("timed_out") < 0.9


def test_the_comparison_with_simpy_can_fail() -> None:
    arrive, work, jitter = drawn(2_000, 0.6, servers=4)
    other = replace(simulate_queues.SERVICE, timeout_s=2.6)
    found = run(other, arrive, work, jitter=jitter)
    theirs = simulate_queues._simpy_service(simulate_queues.SERVICE, arrive, work, jitter)
    with pytest.raises(Exception, match="not the same model"):
        simulate_queues._require_equal("it", found.latency_s, theirs)


def test_every_request_has_one_outcome_whatever_the_rules() -> None:
    rng = np.random.default_rng(4)
    arrive, work, jitter = drawn(3_000, 1.3, servers=3)
    shard = rng.integers(0, 3, 3_000)
    for cancels in (False, True):
        for breaker in (0, 5):
            service = Service(
                3, 1, 2.0, 2, 0.5, cancels, in_flight_max=20, in_flight_per_shard_max=9,
                breaker_failures=breaker,
            )  # fmt: skip
            found = run(service, arrive, work, shard, jitter, [Outage(1, 100.0, 160.0)])
            assert set(np.unique(found.outcome)) <= {0, 1, 2, 3}
            assert np.isfinite(found.latency_s).all() and found.latency_s.min() >= 0
            assert found.attempts.min() >= 1 and found.attempts.max() <= 3
            assert found.refusals > 0 and (found.breaker_opens > 0) == (breaker > 0)
            answered = found.outcome == 0
            assert found.latency_s[answered & (found.attempts == 1)].max() <= 2.0
            done_s = found.busy_s.sum() - found.wasted_s.sum()
            assert done_s == pytest.approx(work[answered].sum())
            again = run(service, arrive, work, shard, jitter, [Outage(1, 100.0, 160.0)])
            assert np.array_equal(found.latency_s, again.latency_s), "the same bytes again"


def test_a_frozen_shard_works_on_afterwards() -> None:
    found = run(
        Service(2), [0.0, 1.0, 1.0], [2.0, 1.0, 3.0], [0, 0, 1], None, [Outage(0, 1.5, 6.5)]
    )
    assert found.latency_s.tolist() == [7.0, 7.0, 3.0], "half a second was left of the first"
    twice = [Outage(0, 1.0, 2.0), Outage(0, 2.5, 3.0)]
    assert run(Service(), [0.5], [1.5], outages=twice).latency_s.tolist() == [3.0]
    assert run(Service(), [1.5], [1.0], outages=twice).latency_s.tolist() == [2.0]


def test_admission_keeps_a_frozen_shard_from_taking_all() -> None:
    arrive, work, _ = drawn(4_000, 0.5, servers=4)
    shard = np.arange(4_000) % 4
    frozen = [Outage(0, 100.0, 1_500.0)]
    shared = run(Service(4, in_flight_max=40), arrive, work, shard, None, frozen)
    apart = run(
        Service(4, in_flight_max=40, in_flight_per_shard_max=10), arrive, work, shard, None, frozen
    )
    others = shard != 0
    assert (shared.outcome[others] == 2).mean() > 0.3, "all tokens stuck on the frozen shard"
    assert (apart.outcome[others] == 2).mean() < 0.02
    assert (apart.outcome[~others] == 2).mean() > 0.3


def test_a_breaker_opens_waits_and_tries_with_one() -> None:
    service = Service(timeout_s=1.0, breaker_failures=2, breaker_open_s=10.0)
    arrive = [0.0, 0.1, 5.0, 11.5, 11.6, 13.0]
    found = run(service, arrive, [0.5] * 6, outages=[Outage(0, 0.0, 11.0)])
    # Two time-outs open it at 1.1; 5.0 is turned away; 11.5 is the probe, and 11.6 waits for it.
    assert [events.OUTCOMES[o] for o in found.outcome] == [
        "timed_out", "timed_out", "broken", "answered", "broken", "answered",
    ]  # fmt: skip
    assert found.breaker_opens == 1


def test_work_taken_back_is_not_done() -> None:
    arrive, work = [0.0, 0.1, 0.2], [3.0, 1.0, 1.0]
    done = run(Service(timeout_s=1.0, cancels=False), arrive, work)
    back = run(Service(timeout_s=1.0, cancels=True), arrive, work)
    assert done.busy_s.tolist() == [5.0] == done.wasted_s.tolist()
    assert back.busy_s.tolist() == [3.0] == back.wasted_s.tolist(), "what was begun is finished"


def test_retries_can_keep_a_service_down_for_good() -> None:
    assert not experiments.recovers("retries", 0.7)
    assert experiments.recovers("no retries", 0.7)
    assert experiments.recovers("retries behind a breaker", 0.7)
    assert experiments.recovers("retries", 0.2), "four tries of a fifth are less than all"
    with pytest.raises(BadInput, match="no policy 'hope'"):
        experiments.recovers("hope", 0.5)


def test_nobody_comes() -> None:
    found = run(Service(), [], [])
    assert len(found.outcome) == 0 == found.events


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: run(Service(), [1.0], [1.0, 2.0]), "1 arrivals, 2 works"),
        (lambda: run(Service(), [2.0, 1.0], [1.0, 1.0]), "not in order"),
        (lambda: run(Service(), [np.nan], [1.0]), "arrive_s hold nan"),
        (lambda: run(Service(), [1.0], [-1.0]), "work_s hold nan"),
        (lambda: run(Service(2), [1.0], [1.0], [2]), "something else than 0 .. 1"),
        (lambda: run(Service(2), [1.0], [1.0], [0.5]), "something else than 0 .. 1"),
        (lambda: run(Service(), [1.0], [1.0], outages=[Outage(1, 0, 1)]), "outage of shard 1"),
        (lambda: run(Service(), [1.0], [1.0], outages=[Outage(0, 2, 1)]), "outage of shard 0"),
        (
            lambda: run(Service(), [1.0], [1.0], outages=[Outage(0, 0, 5), Outage(0, 4, 6)]),
            "outage of shard 0",
        ),
        (lambda: Service(servers=0), "servers = 0"),
        (lambda: Service(timeout_s=0), "timeout_s = 0"),
        (lambda: Service(timeout_s=float("nan")), "timeout_s = nan"),
        (lambda: Service(retries_max=-1), "retries_max = -1"),
        (lambda: Service(retries_max=1_000), "retries_max = 1000"),
        (lambda: Service(in_flight_max=0), "in_flight_max = 0"),
        (lambda: Service(breaker_open_s=-1), "breaker_open_s"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call()
