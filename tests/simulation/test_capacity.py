"""Capacity plans: they hold what they promise, grow with the load, and say when it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation import capacity
from paytm_lab.simulation.capacity import plan
from paytm_lab.simulation.queueing.experiments import REFERENCE, rates
from paytm_lab.simulation.queueing.group_commit import WriterModel, open_loop, places, poisson_times

QUICK: dict[str, Any] = {"replications": 4}


def test_a_plan_holds_what_it_promises() -> None:
    found = plan(20_000, 40, REFERENCE, **QUICK)
    assert found.p99_ms.high <= 40 and found.p99_ms_one_lost is not None
    assert found.p99_ms_one_lost.high <= 40
    assert 0 < found.utilisation < found.utilisation_one_lost < 1
    assert found.headroom > 0 and found.sure == 1.0
    rows = {row["shards"]: row for row in found.tried}
    assert not rows[found.shards - 2]["within"], "with two fewer one too few is left"
    assert all(rows[n]["within"] for n in rows if n >= found.shards - 1)
    assert str(found).startswith(f"{found.shards} shards for 20,000 payments/s at p99 <= 40 ms")


def test_a_plan_against_the_model_itself() -> None:
    """The planned shards, simulated all and anew with other draws, bear the load and the headroom;
    much more they do not.
    """
    found = plan(20_000, 40, REFERENCE, hottest=1.0, **QUICK)

    def p99_ms(per_s: float) -> float:
        rng = np.random.default_rng(99)
        where = places(100_000, found.shards, 1 - 1 / found.shards, rng)
        return open_loop(REFERENCE, where, poisson_times(100_000, per_s, rng), rng).latency_ms(0.99)

    assert p99_ms(20_000) == pytest.approx(found.p99_ms.value, rel=0.1)
    assert p99_ms(20_000 * (1 + 0.9 * found.headroom)) <= 40
    assert p99_ms(20_000 * (1.15 + found.headroom)) > 40


def needed(per_s: float = 30_000, p99_ms: float = 40, **more: Any) -> int:
    setting = capacity.Setting(per_s, p99_ms, **more)
    return capacity._Search(setting, [REFERENCE], 3, 7).smallest(256)


def test_more_is_needed_for_more() -> None:
    base = needed()
    assert needed(60_000) > base
    assert needed(p99_ms=26) > base
    assert needed(hottest=2.5) > base
    assert needed(cross_shard_share=0.0) < base
    assert needed(lose_one=False) == base - 1


def test_one_shard_alone_does_more_than_two() -> None:
    """On one shard nothing crosses: two have twice the operations, the busiest more than one."""
    assert needed(18_000, lose_one=False) == 1
    search = capacity._Search(capacity.Setting(18_000, 40), [REFERENCE], 3, 7)
    assert search.utilisation(2, 18_000) > search.utilisation(1, 18_000)
    assert not search.meets(2) and search.smallest(256) > 3


def test_a_plan_repeats_with_its_seed() -> None:
    first, again = (plan(4_000, 40, REFERENCE, seed=3, **QUICK) for _ in range(2))
    assert first == again != plan(4_000, 40, REFERENCE, seed=4, **QUICK)


def test_refits_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    unsure = [
        WriterModel(0.0003 * f, 0.00004 * f, REFERENCE.commits_s) for f in rng.uniform(0.7, 1.3, 8)
    ]
    sure = plan(10_000, 60, REFERENCE, replications=5)
    wide = plan(10_000, 60, [REFERENCE, *unsure[:4]], replications=5)
    assert wide.p99_ms.half_width > 2 * sure.p99_ms.half_width
    assert wide.shards >= sure.shards


def test_two_dozen_stand_for_many() -> None:
    """All 48 shards simulated, and 24 of them: the same p99."""
    setting = capacity.Setting(150_000, 60, hottest=1.0)
    search = capacity._Search(setting, [REFERENCE], 4, 7)
    standing = float(np.mean(search.p99_ms(48, 150_000)))
    rng = np.random.default_rng(5)
    where = places(150_000, 48, 1 - 1 / 48, rng)
    everyone = open_loop(REFERENCE, where, poisson_times(150_000, 150_000, rng), rng)
    assert standing == pytest.approx(everyone.latency_ms(0.99), rel=0.08)


def test_operations_of_a_payment() -> None:
    assert capacity.legs_per_payment(0) == 1 and capacity.legs_per_payment(0.75) == 2.5
    assert capacity.Setting(1, 1).crossing(8) == 7 / 8 and capacity.Setting(1, 1).crossing(1) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: plan(1_000, 5, REFERENCE),
            r"no number of shards reaches a p99 of 5 ms: idle ones",
        ),
        (lambda: plan(1e9, 50, REFERENCE), "need more than 256 shards"),
        (lambda: plan(100_000, 40, REFERENCE, shards_max=4), "need more than 4 shards"),
        (lambda: plan(math.nan, 40, REFERENCE), "target_payments_per_s = nan"),
        (lambda: plan(0, 40, REFERENCE), "target_payments_per_s = 0"),
        (lambda: plan(1_000, -1, REFERENCE), "p99_ms = -1"),
        (lambda: plan(1_000, 40, []), "no model to plan with"),
        (lambda: plan(1_000, 40, REFERENCE, hottest=0.5), "hottest = 0.5"),
        (lambda: plan(1_000, 40, REFERENCE, hottest=math.inf), "hottest = inf"),
        (lambda: plan(1_000, 40, REFERENCE, cross_shard_share=1.5), "cross_shard_share = 1.5"),
        (lambda: plan(1_000, 40, REFERENCE, replications=0), "replications = 0"),
        (lambda: plan(1_000, 40, REFERENCE, shards_max=10**6), "shards_max = 1000000"),
        (lambda: plan(1_000, 40, REFERENCE, level=2), "level = 2"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call()


def test_a_plan_is_for_as_much_more_as_the_lab_was_short_of_the_model() -> None:
    trusting = plan(20_000, 40, REFERENCE, **QUICK)
    assert "error: unknown" in str(trusting) and "noise, not its error" in str(trusting)
    short = plan(20_000, 40, REFERENCE, compared=[1.05, 0.5, 0.8], **QUICK)
    assert "the lab did 0.50 to 1.05 of the throughput predicted" in str(short)
    assert "40,000/s are planned for, 2.00 times the target" in str(short)
    twice = plan(40_000, 40, REFERENCE, **QUICK)
    assert short.shards == twice.shards > trusting.shards
    assert short.p99_ms == twice.p99_ms and short.headroom == twice.headroom
    assert short.tried == twice.tried


def test_a_lab_faster_than_the_model_makes_no_plan_smaller() -> None:
    ahead = plan(20_000, 40, REFERENCE, compared=[1.2, 1.05], **QUICK)
    assert ahead.setting.planned_per_s == 20_000 and "never less" in str(ahead)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.inf, math.nan])
def test_a_ratio_that_cannot_be_is_refused(ratio: float) -> None:
    with pytest.raises(BadInput, match="measured over predicted"):
        plan(20_000, 40, REFERENCE, compared=[1.0, ratio], **QUICK)


def test_only_closed_loads_say_how_good_the_model_is() -> None:
    rows = [
        {"kind": kind, "measured_payments_per_s": made, "predicted_payments_per_s": 1_000.0}
        for kind, made in (("open", 1_000.0), ("closed", 660.0), ("closed", 1_050.0))
    ]
    assert rates(rows) == [0.66, 1.05]
