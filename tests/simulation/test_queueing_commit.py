"""The model of group commit: known limits, conservation, its fit, and the real lab's agreement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.queueing import experiments, fitting, measured, theory
from paytm_lab.simulation.queueing.group_commit import (
    WriterModel,
    closed_loop,
    open_loop,
    places,
    poisson_times,
)
from paytm_lab.simulation.queueing.measured import Recording

MODEL = WriterModel(0.0002, 0.00004, (0.001,))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_one_at_a_time_it_is_a_queue_of_equal_services() -> None:
    """No more than one a batch: M/D/1, by its formula."""
    model = WriterModel(0.0, 0.0, (1.0,), gather_s=0.0, batch_max=1)
    draws = rng()
    n = 400_000
    found = open_loop(model, places(n, 1, 0, draws), poisson_times(n, 0.7, draws), draws)
    assert found.latency_s.mean() - 1 == pytest.approx(theory.md1_wait(0.7), rel=0.03)
    assert found.commits == n


def test_a_lone_payment_costs_its_batches() -> None:
    draws = rng()
    local, across = places(50, 2, 0.0, draws), places(50, 2, 1.0, draws)
    due = np.arange(50) * 1.0
    one, two = (open_loop(MODEL, where, due, draws) for where in (local, across))
    batch_s = MODEL.fixed_s + MODEL.per_operation_s + MODEL.commit_s
    assert one.latency_s == pytest.approx(np.full(50, batch_s))
    assert two.latency_s == pytest.approx(np.full(50, 2 * batch_s))
    assert (one.operations, two.operations) == (50, 3 * 50 - 1), (
        "the last completion is not awaited"
    )


def test_shared_processor_and_disk_slow_each_other_down() -> None:
    """Two writers at the same moment on one of each: processor sharing, by hand."""
    apart = WriterModel(0.010, 0.0, (0.020,))
    where = replace(places(2, 2, 0, rng()), source=np.array([0, 1]), destination=np.array([0, 1]))
    for shared, seconds in ((apart, 0.030), (replace(apart, cores=1.0, disks=1.0), 0.060)):
        found = open_loop(shared, where, [0.0, 0.0], rng())
        assert found.latency_s == pytest.approx([seconds, seconds])
    two_disks = open_loop(replace(apart, cores=1.0, disks=2.0), where, [0.0, 0.0], rng())
    assert two_disks.latency_s == pytest.approx([0.040, 0.040])


def test_the_client_submits_one_after_the_other() -> None:
    model = replace(MODEL, submit_s=0.001, cores=4.0)
    found = open_loop(model, places(3, 1, 0, rng()), [0.0, 0.0, 0.0], rng())
    assert found.latency_s[0] == pytest.approx(0.001 + 0.00024 + 0.001)
    assert found.latency_s[1] < found.latency_s[2]


def test_larger_batches_carry_more() -> None:
    draws = rng()
    where = places(20_000, 4, 0.75, draws)
    found = [closed_loop(MODEL, where, n, rng()) for n in (1, 16, 256)]
    rates = [flow.payments_per_s for flow in found]
    assert rates[0] < rates[1] < rates[2]
    assert found[0].operations_per_commit < found[2].operations_per_commit
    for flow, in_flight in zip(found, (1, 16, 256), strict=True):
        little = flow.latency_s.sum() / flow.seconds
        assert little == pytest.approx(in_flight, rel=0.03), "Little's law"


def test_it_is_the_same_with_the_same_seed_and_never_loses_one() -> None:
    model = replace(MODEL, commits_s=(0.001, 0.003), submit_s=1e-5, cores=1.0, disks=2.0)
    where = places(5_000, 3, 0.5, rng())
    first, again = (open_loop(model, where, poisson_times(5_000, 900, rng()), rng()) for _ in "ab")
    assert np.array_equal(first.latency_s, again.latency_s)
    assert np.isfinite(first.latency_s).all() and first.latency_s.min() > 0
    crossing = int(first.cross.sum())
    # Debit and credit of each; completions follow later, the last of them are not awaited.
    assert 0 <= 5_000 + 2 * crossing - first.operations < 200


def test_a_slow_shard_is_slow_for_those_who_meet_it() -> None:
    where = places(8_000, 4, 0.0, rng())
    found = open_loop(MODEL, where, poisson_times(8_000, 800, rng()), rng(), [5, 1, 1, 1])
    slow = where.source == 0
    assert found.latency_s[slow].mean() > 3 * found.latency_s[~slow].mean()


def recorded(commit: Callable[[int], float], n: int = 400) -> Recording:
    """Batches of known cost, one after the other."""
    made, at = Recording(client_s=2e-5), 0.0
    for number in range(n):
        operations, took = 1 + number % 9, commit(number)
        work_s = 3e-4 + 5e-5 * operations
        made.batches.append((0, operations, work_s, 4 * work_s, at, at + took))
        at += took + 0.001
    return made


def test_a_fit_finds_what_was_there() -> None:
    made = recorded(lambda number: 0.001 + 0.001 * (number % 3))
    made.batches[7] = (0, 3, 0.5, 0.5, *made.batches[7][4:])  # one batch met the collector
    model = fitting.fit(made)
    assert model.fixed_s == pytest.approx(3e-4) and model.per_operation_s == pytest.approx(5e-5)
    assert model.commit_s == pytest.approx(0.002, rel=0.01) and model.submit_s == 2e-5
    assert fitting.summary(model)["fixed_ms"] == pytest.approx(0.3)
    remote = fitting.fit(made, remote=True)
    assert remote.fixed_s == pytest.approx(4 * 3e-4) and remote.cores == 0 == remote.disks
    assert fitting.refits(made, 1, rng(), remote=True)[0].fixed_s == pytest.approx(4 * 3e-4)
    several = fitting.refits(made, 5, rng())
    assert len({m.commit_s for m in several}) > 1
    assert all(m.fixed_s == pytest.approx(3e-4) for m in several)


def test_commits_are_freed_of_what_others_added() -> None:
    """Two commits of 10 ms on one disk, half over each other, as processor sharing stretches them:
    0..15 and 5..20.
    """
    from_s, to_s = np.array([0.0, 0.005]), np.array([0.015, 0.020])
    assert fitting.alone(from_s, to_s, 1) == pytest.approx([0.010, 0.010])
    assert fitting.alone(from_s, to_s, 2) == pytest.approx([0.015, 0.015])
    assert fitting.alone(from_s, to_s, 0) == pytest.approx([0.015, 0.015])


def test_a_line_is_never_negative() -> None:
    x = np.arange(1, 50)
    assert fitting.line(x, 0.1 * x - 0.05)[0] == 0
    assert fitting.line(x, 5 - 0.01 * x)[1] == 0
    assert fitting.line(np.full(9, 3), np.full(9, 0.6)) == pytest.approx((0, 0.2))


@pytest.fixture(scope="module")
def load() -> Iterator[experiments.Load]:
    with Lab(shards=2, seed=7, **experiments.OPTIONS) as lab:
        experiments.open_accounts(lab, 400)
        yield experiments.Load(lab, users=400)


def test_the_real_lab_is_recorded_batch_by_batch(load: experiments.Load) -> None:
    before = {shard: w.stats.operations for shard, w in load.lab.system.writers.items()}
    with measured.recording(load.lab.system) as made:
        seen = load.closed(32, 800)
    columns = made.columns()
    for shard, writer in load.lab.system.writers.items():
        counted = int(columns["operations"][columns["shard"] == shard].sum())
        assert abs(counted - (writer.stats.operations - before[shard])) <= 64
    assert (
        (columns["work_s"] > 0).all()
        and (columns["clock_s"] > 0).all()
        and (columns["commit_to_s"] > columns["commit_from_s"]).all()
    )
    assert len(seen.due_s) == 800 and seen.latency_ms().min() > 0
    assert "step" not in vars(writer), "nothing of the recording is left"
    assert "writer:committed" not in load.lab.system.fault_points


def test_the_model_of_the_real_lab_predicts_other_loads(load: experiments.Load) -> None:
    """Loosely: the machine has other things to do while tests run."""
    trial = load.trial(400, (200, 900), (8, 64), seconds=0.6, rounds=2)
    model = fitting.fit(trial.made)
    rows = experiments.compare(load, trial, model)
    assert [(row["kind"], row["load"]) for row in rows] == [
        ("open", 200), ("open", 900), ("closed", 8), ("closed", 64),
    ]  # fmt: skip
    ratios = [row["measured_payments_per_s"] / row["predicted_payments_per_s"] for row in rows]
    assert 0.25 < float(np.median(ratios)) < 4
    assert len(trial.recorded) == 2 == len(trial.others["closed", 8])
    drawn = experiments.batch_rows(trial.made, model)
    assert len(drawn) == len(trial.made.batches) and drawn[0]["fitted_ms"] > 0


def test_an_open_load_sees_a_stall_and_a_closed_one_does_not(load: experiments.Load) -> None:
    """The open one's p99 is what the formula says, the closed one's a small part of it."""
    seconds, stall_s = 2.0, 0.6
    with experiments.stall(load.lab, 0, 0.3, stall_s), experiments.stall(load.lab, 1, 0.3, stall_s):
        opened = load.offered(200, seconds)
    with experiments.stall(load.lab, 0, 0.3, stall_s), experiments.stall(load.lab, 1, 0.3, stall_s):
        closed = load.closed_for(1, seconds)
    told_ms = 1e3 * theory.open_loop_stall_quantile(0.99, stall_s, seconds)
    open_ms = opened.quantile_ms(0.99, warm_up=0)
    assert 0.8 < open_ms / told_ms < 2
    assert closed.quantile_ms(0.99, warm_up=0) < open_ms / 3
    assert closed.latency_ms().max() > 0.8e3 * stall_s, "one caller met it"


def test_the_correction_puts_back_what_was_omitted() -> None:
    seen = [1.0] * 99 + [100.0]
    found = experiments.corrected(seen, every_ms=10)
    assert sorted(found)[-10:] == [10.0 * n for n in range(1, 11)] and len(found) == 109
    assert experiments.corrected([1.0, 2.0], 10).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: WriterModel(-1, 0, (1.0,)), "fixed_s = -1"),
        (lambda: WriterModel(0, 0, ()), "are no times"),
        (lambda: WriterModel(0, 0, (float("nan"),)), "are no times"),
        (lambda: WriterModel(0, 0, (0.0,)), "costs nothing"),
        (lambda: WriterModel(0, 0, (1.0,), batch_max=0), "batch_max = 0"),
        (lambda: places(10, 1, 0.5, rng()), "cannot cross 1 shards"),
        (lambda: places(10, 4, 1.5, rng()), "cannot cross 4 shards"),
        (lambda: places(0, 4, 0.5, rng()), "payments = 0"),
        (lambda: places(10, 2, 0, rng(), [1]), "Give 2 of them"),
        (lambda: open_loop(MODEL, places(2, 1, 0, rng()), [1.0], rng()), "does not fit 2"),
        (lambda: open_loop(MODEL, places(2, 1, 0, rng()), [2.0, 1.0], rng()), "not in order"),
        (lambda: open_loop(MODEL, places(1, 1, 0, rng()), [np.nan], rng()), "does not fit 1"),
        (lambda: closed_loop(MODEL, places(2, 1, 0, rng()), 0, rng()), "in_flight = 0"),
        (lambda: closed_loop(MODEL, places(2, 1, 0, rng()), 1, rng(), [0]), "slowness"),
        (lambda: fitting.fit(Recording()), "0 batches say too little"),
        (lambda: experiments.corrected([1e9], 1e-3), "too short"),
        (lambda: measured.transfers(places(5, 4, 0, rng()), 7, rng()), "7 users on 4 shards"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call()
