"""Strategies compared on paper, against derived numbers; the workload as a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.payments import Workload
from paytm_lab.simulation.population import Population
from paytm_lab.simulation.simulate import (
    STRATEGIES_SHOWN,
    max_over_mean,
    simulate,
    variation,
    write_csv,
)
from paytm_lab.simulation.transfers_file import open_transfers


def test_rows_are_the_cross_product_and_shares_are_as_derived() -> None:
    workload = Workload(users=10_240, payments=100_000, zipf_s=0, cross_shard_share=0.1)
    rows = simulate(workload, 3)
    assert [(r["shards"], r["strategy"]) for r in rows] == [
        (n, name) for n in (4, 5, 8) for name in STRATEGIES_SHOWN
    ]
    # The shares below hold for even shards; a ring's are not, and its users gather on the large
    # ones.
    for row in rows:
        expected = 1 - 1 / row["shards"]
        uneven = row["users_cv"] ** 2 / row["shards"]  # sum of squared shares is (1 + cv^2) / N
        tolerance = 3 * math.sqrt(expected * (1 - expected) / 100_000) + 1 / 10_240
        assert abs(row["cross_shard_share"] - (expected - uneven)) < tolerance, row
        assert row["legs_per_payment"] == pytest.approx(1 + row["cross_shard_share"])


def test_adding_a_shard_moves_what_theory_says() -> None:
    rows = {
        (r["strategy"], r["shards"]): r["moved_users_share"]
        for r in simulate(Workload(users=20_480, payments=1_000), 3, (4,))
    }
    assert rows["modulo", 4] == pytest.approx(0.8, abs=1e-3)
    three_se = 3 * math.sqrt(0.2 * 0.8 / 20_480)
    assert rows["jump", 4] == pytest.approx(0.2, abs=three_se)
    assert rows["rendezvous", 4] == pytest.approx(0.2, abs=three_se)
    assert 203.9 / 1024 < rows["slot_map", 4] < 205.1 / 1024


def test_a_hot_user_unbalances_shards_that_hold_equally_many_users() -> None:
    row = simulate(Workload(users=1_024, payments=50_000, zipf_s=1.2), 3, (4,), ("slot_map",))[0]
    assert row["users_max_over_mean"] == 1 and row["users_cv"] == 0
    assert row["sent_max_over_mean"] > 1.1
    population = Workload(users=1_024).population(3)
    assert row["hottest_user_id"] == str(population.sender_of_rank[0] + 1)
    assert row["hottest_user_share"] > 0.15


def test_mean_load_of_the_fullest_of_four_shards_under_zipf() -> None:
    """1,000,000 users, s = 0.99: the fullest shard carries 1.20 times the mean, over many seeds."""
    ratios = []
    for seed in range(24):
        weights = Population.draw(1_000_000, 0.99, seed).sender_weights
        ratios.append(weights.reshape(-1, 4).sum(axis=0).max() * 4)
    assert abs(float(np.mean(ratios)) - 1.20) < 0.01 + 3 * float(np.std(ratios)) / math.sqrt(24)


def test_balance_measures() -> None:
    assert max_over_mean(np.array([1, 2, 3])) == 1.5
    assert variation(np.array([1, 3])) == 0.5


def test_bad_settings() -> None:
    with pytest.raises(InvalidSetting, match="not a strategy"):
        simulate(Workload(payments=1), 1, (4,), ("dice",))
    with pytest.raises(InvalidSetting, match="shards = 0"):
        simulate(Workload(payments=1), 1, (0,))


def test_progress_is_told() -> None:
    seen: list[int] = []
    simulate(Workload(users=10, payments=70_000), 1, (4,), ("modulo",), seen.append)
    assert seen == [65_536, 70_000]


def test_a_workload_written_as_a_file_reads_back_the_same(tmp_path: Path) -> None:
    workload = Workload(users=300, payments=5_000, cross_shard_share=0.2)
    path = tmp_path / "workload.csv"
    assert write_csv(path, workload, 9) == 5_000
    expected = [row for batch in workload.rows(9) for row in batch]
    openings = workload.openings(9)
    with open_transfers(path) as file:
        rows = [row for batch in file.rows() for row in batch]
        assert (file.accepted, file.rejected, file.collapsed) == (5_000, 0, 0)
        assert file.openings() == {user: openings[user] for user in file.openings()}
    assert [(r.from_user_id, r.to_user_id, r.amount_paise, r.at_us) for r in rows] == [
        (r.from_user_id, r.to_user_id, r.amount_paise, r.at_us) for r in expected
    ]
    assert len({r.idempotency_key for r in rows}) == 5_000
    assert [p.name for p in tmp_path.iterdir()] == ["workload.csv"]


def test_a_workload_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot be written"):
        write_csv(tmp_path / "no" / "folder.csv", Workload(payments=1), 1)
