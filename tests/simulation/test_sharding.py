"""Simulations of sharding against published numbers, exact sums and each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.routing.shard_map import ShardMap
from paytm_lab.routing.strategies import STRATEGIES
from paytm_lab.simulation.population import zipf_weights
from paytm_lab.simulation.sharding.hot_keys import hot_keys
from paytm_lab.simulation.sharding.locality import (
    PLACEMENTS,
    Circles,
    expected_cross_share,
    learn,
    locality,
)
from paytm_lab.simulation.sharding.moving import Growth, fastest_copy_rows_per_s, grow
from paytm_lab.simulation.sharding.strategies import compare, growth, strides

SEED = 7


def by_name(rows: list[dict[str, object]], key: str = "strategy") -> dict[str, dict[str, float]]:
    return {str(row[key]): row for row in rows}  # type: ignore[misc]


class TestStrategies:
    def test_side_by_side(self) -> None:
        told: list[int] = []
        rows = compare(100_000, 4, seed=SEED, progress=told.append)
        assert [row["strategy"] for row in rows] == list(STRATEGIES)
        assert told == [1, 2, 3, 4, 5, 6]
        found = by_name(rows)
        # What a table of 65,537 entries costs, and what two numbers do.
        assert found["maglev"]["memory_bytes"] > 65_537 > found["jump"]["memory_bytes"]
        assert found["maglev"]["build_ms"] > 10 * found["jump"]["build_ms"]
        assert all(row["lookup_keys_per_s"] > 1e5 for row in rows)
        for name, row in found.items():
            assert row["users_cv"] < (0.12 if name == "ring" else 3 * row["chance_cv"] + 0.002)
            assert row["monotone"] == (name not in ("modulo", "maglev")), name
            assert row["moved_between_old_share"] < (0.61 if name == "modulo" else 0.002)
        assert found["modulo"]["moved_share"] == pytest.approx(0.8, abs=1e-4)
        assert found["modulo"]["left_share"] == pytest.approx(0.75, abs=1e-4)
        assert found["slot_map"]["moved_share"] * 1024 == pytest.approx(204.5, abs=0.6)

    def test_a_growth_in_steps(self) -> None:
        rows = growth((4, 5, 8), users=100_000, seed=SEED)
        least = {"4 to 5": 0.2, "5 to 8": 0.375}
        for row in rows:
            assert row["least_share"] == pytest.approx(least[str(row["step"])])
            if row["strategy"] in ("jump", "rendezvous", "slot_map"):
                assert abs(row["moved_share"] - row["least_share"]) < 0.005
        modulo = [row["moved_share"] for row in rows if row["strategy"] == "modulo"]
        assert modulo == [pytest.approx(0.8, abs=1e-4), pytest.approx(0.875, abs=1e-4)]

    @pytest.mark.parametrize("path", [(4,), (), (5, 4), (4, 4), (4, 2_000_000)])
    def test_no_path_of_growth(self, path: tuple[int, ...]) -> None:
        with pytest.raises(InvalidSetting):
            growth(path, users=1_000)

    @pytest.mark.parametrize(("users", "shards"), [(0, 4), (-1, 4), (10, 0), (10**9, 4), (10, -3)])
    def test_numbers_that_cannot_be(self, users: int, shards: int) -> None:
        with pytest.raises(InvalidSetting, match=str(users if shards > 0 else shards)):
            compare(users, shards)


class TestHotKeys:
    def test_published_share_of_the_busiest_of_a_million(self) -> None:
        assert zipf_weights(1_000_000, 0.99)[0] == pytest.approx(0.0649694, abs=5e-8)
        # The check can fail: another exponent is another number.
        assert zipf_weights(1_000_000, 0.98)[0] != pytest.approx(0.0649694, abs=1e-3)

    def test_published_mean_load_of_the_busiest_shard(self) -> None:
        found = hot_keys(1_000_000, 4, 0.99, SEED, replications=60)
        half = found["load_max_over_mean_half_width"]
        assert abs(found["load_max_over_mean"] - 1.20) < half + 0.005
        assert half < 0.03

    def test_only_splitting_helps(self) -> None:
        whole = hot_keys(100_000, 8, 1.1, SEED)
        split = hot_keys(100_000, 8, 1.1, SEED, split_keys=20, parts=8)
        assert whole["load_max_over_mean"] >= whole["least_possible"] > 1
        assert split["load_max_over_mean"] - 1 < (whole["load_max_over_mean"] - 1) / 4

    def test_equal_users_are_even(self) -> None:
        found = hot_keys(100_000, 4, 0.0, SEED)
        assert 1 < found["load_max_over_mean"] < 1.02

    @pytest.mark.parametrize(
        "wrong",
        [{"parts": 0}, {"parts": 5}, {"split_keys": -1}, {"replications": 1}, {"zipf_s": -1}],
    )
    def test_numbers_that_cannot_be(self, wrong: dict[str, float]) -> None:
        given = {"zipf_s": 1.0} | wrong
        with pytest.raises(InvalidSetting, match=next(iter(wrong))):
            hot_keys(1_000, 4, seed=SEED, **given)  # type: ignore[arg-type]


class TestLocality:
    circles = Circles(users=20_000, payments=200_000, communities=100)

    def test_placements_against_the_formula(self) -> None:
        found = by_name(locality(self.circles, 4, SEED), "placement")
        assert tuple(found) == PLACEMENTS
        error = 3 * (0.25 / 100_000) ** 0.5
        blind = expected_cross_share(0.8, 4, keeps_circles=False)
        kept = expected_cross_share(0.8, 4, keeps_circles=True)
        assert blind == 0.75 and kept == pytest.approx(0.15)
        assert abs(found["hash"]["cross_shard_share"] - blind) < error
        even = found["community, largest first"]
        assert abs(even["cross_shard_share"] - kept) < error
        assert even["users_max_over_mean"] < 1.02
        learned = found["learned"]
        assert kept - error < learned["cross_shard_share"] < (blind + kept) / 2
        assert learned["users_max_over_mean"] == found["hash"]["users_max_over_mean"]

    def test_nothing_is_learned_where_there_is_nothing(self) -> None:
        alike = replace(self.circles, inside_share=0.0)
        found = by_name(locality(alike, 4, SEED), "placement")
        assert abs(found["learned"]["cross_shard_share"] - 0.75) < 0.02

    def test_learning_keeps_every_shard_as_full(self) -> None:
        _, payer, payee = self.circles.draw(SEED)
        start = np.arange(20_000) % 7
        place = learn(payer, payee, start, 7)
        assert np.bincount(place).tolist() == np.bincount(start).tolist()
        assert np.mean(place[payer] != place[payee]) < np.mean(start[payer] != start[payee]) - 0.3

    def test_payments_stay_inside_as_asked_and_nobody_pays_themselves(self) -> None:
        community, payer, payee = self.circles.draw(SEED)
        inside = np.mean(community[payer] == community[payee])
        by_chance = np.sum((np.bincount(community) / 20_000) ** 2) * 0.2
        assert abs(inside - 0.8 - by_chance) < 0.005
        assert not np.any(payer == payee)
        again = self.circles.draw(SEED)
        assert all(
            np.array_equal(a, b) for a, b in zip((community, payer, payee), again, strict=True)
        )

    @pytest.mark.parametrize(
        "wrong", [{"communities": 0}, {"communities": 10_001}, {"inside_share": 1.1},
                  {"inside_share": float("nan")}, {"payments": 1}, {"size_s": -1}],
    )  # fmt: skip
    def test_numbers_that_cannot_be(self, wrong: dict[str, float]) -> None:
        with pytest.raises(InvalidSetting, match=next(iter(wrong))):
            replace(self.circles, **wrong)  # type: ignore[arg-type]


class TestMoving:
    growth = Growth(users=20_000)

    def test_what_moves_is_what_the_map_moves(self) -> None:
        done = grow(self.growth, SEED)
        before = ShardMap.initial(4)
        after = before.grow(5)
        assert done.slots_moved == len(before.moved_slots(after))
        users = np.array([after.owner[user % 1024] for user in range(1, 20_001)])
        last = [row for row in done.rows if row["at_s"] == done.duration_s]
        assert [row["users"] for row in last] == np.bincount(users).tolist()
        assert done.rows_moved == 60 * np.count_nonzero(users == 4)
        assert done.duration_s == pytest.approx(done.rows_moved / 5_000 + 0.05 * done.slots_moved)

    def test_at_every_moment_all_users_are_somewhere(self) -> None:
        rows = grow(self.growth, SEED).rows
        for first in range(0, len(rows), 5):
            moment = rows[first : first + 5]
            assert len({row["at_s"] for row in moment}) == 1
            assert sum(row["users"] for row in moment) == 20_000
            # Each payment is one leg or two.
            legs = sum(row["utilisation"] - row["of_copying"] for row in moment) * 1_500
            assert 2_000 <= legs <= 4_000

    def test_twice_as_many_payments_are_twice_the_work(self) -> None:
        one = grow(self.growth, SEED)
        two = grow(replace(self.growth, payments_per_s=4_000.0), SEED)
        assert two.refused_payments == pytest.approx(2 * one.refused_payments)
        assert two.duration_s == one.duration_s

    def test_the_fastest_copying_is_the_one_that_just_keeps_the_limit(self) -> None:
        rate = fastest_copy_rows_per_s(self.growth, SEED, 0.9)
        assert grow(replace(self.growth, copy_rows_per_s=rate), SEED).utilisation_max == (
            pytest.approx(0.9)
        )
        with pytest.raises(InvalidSetting, match="payments alone"):
            fastest_copy_rows_per_s(self.growth, SEED, 0.3)

    @pytest.mark.parametrize(
        "wrong",
        [{"shards_after": 4}, {"payments_per_s": 0}, {"copy_rows_per_s": -1}, {"users": 0},
         {"fence_s": -0.1}, {"rows_per_leg": float("nan")}, {"zipf_s": 11}],
    )  # fmt: skip
    def test_numbers_that_cannot_be(self, wrong: dict[str, float]) -> None:
        with pytest.raises(InvalidSetting, match=next(iter(wrong))):
            replace(self.growth, **wrong)  # type: ignore[arg-type]


def test_ids_of_digits_with_a_step_crowd_where_ids_are_taken_as_they_are() -> None:
    rows = by_name(strides(4_000, 4))
    assert set(rows) == set(STRATEGIES)
    for name, row in rows.items():
        as_they_are = name in ("modulo", "slot_map")
        assert row["stride"] == 4.0 if as_they_are else row["stride"] < 1.5, name
        assert row["consecutive"] < 1.5 and row["lettered"] < 1.5, name
    odd = by_name(strides(4_000, 4, step=3))
    assert odd["modulo"]["stride"] == odd["slot_map"]["stride"] == 1.0, "3 shares nothing with 4"
    with pytest.raises(InvalidSetting):
        strides(10, 4, step=0)
