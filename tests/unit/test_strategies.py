"""Strategies: scalar and array forms agree; balance and movement are what theory and papers say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paytm_lab.benchmarks.routing import run
from paytm_lab.core.errors import InvalidSetting
from paytm_lab.routing.hashing import U64, user_hash, user_numbers
from paytm_lab.routing.shard_map import ShardMap
from paytm_lab.routing.strategies import (
    STRATEGIES,
    Maglev,
    Modulo,
    Rendezvous,
    Ring,
    SlotMap,
    Strategy,
    jump_hash,
    make,
    ring_share_cv,
    sampling_cv,
)

KEYS = 120_000  # a multiple of lcm(4, 5), lcm(4, 6) ... lcm(10, 12)
made = cache(make)


@cache
def numbered() -> U64:
    """The users '0', '1', ... as most systems number them."""
    return np.arange(KEYS, dtype=np.uint64)


@cache
def scattered() -> U64:
    return np.random.default_rng(7).integers(0, 2**64, KEYS, dtype=np.uint64)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_interface(name: str) -> None:
    strategy = made(name, 4)
    assert (strategy.name, strategy.shards) == (name, 4)
    shards = strategy.shards_of(user_numbers(["alice", "12345", "पेटीएम"]))
    assert shards.dtype == np.int64
    assert shards.tolist() == [strategy.shard_of(u) for u in ("alice", "12345", "पेटीएम")]
    assert strategy.shards_of(np.array([], dtype=np.uint64)).tolist() == []
    assert strategy.moved(made(name, 5), np.array([], dtype=np.uint64)) == 0.0
    assert strategy.moved(strategy, scattered()) == 0.0
    assert make(name, 1).shards_of(scattered()[:100]).tolist() == [0] * 100


@pytest.mark.parametrize(
    ("name", "alice", "number"),
    [
        ("modulo", (1, 4), (1, 0)),
        ("ring", (1, 1), (2, 4)),
        ("jump", (1, 1), (2, 2)),
        ("rendezvous", (2, 2), (0, 4)),
        ("maglev", (0, 0), (2, 2)),
        ("slot_map", (1, 4), (1, 2)),
    ],
)
def test_fixed_vectors(name: str, alice: tuple[int, int], number: tuple[int, int]) -> None:
    """On 4 and on 5 shards: these never change, or stored data is on the wrong shard."""
    four, five = made(name, 4), made(name, 5)
    assert (four.shard_of("alice"), five.shard_of("alice")) == alice
    assert (four.shard_of("12345"), five.shard_of("12345")) == number


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=30, deadline=None)
@given(shards=st.integers(1, 40), numbers=st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_scalar_and_array_forms_agree(name: str, shards: int, numbers: list[int]) -> None:
    strategy = made(name, shards)
    array = np.array(numbers, dtype=np.uint64)
    chosen = strategy.shards_of(array).tolist()
    assert chosen == [strategy.shard_of_number(number) for number in numbers]
    assert all(0 <= shard < shards for shard in chosen)
    assert array.tolist() == numbers, "the argument is left as it was"


@pytest.mark.parametrize("name", STRATEGIES)
def test_scalar_and_array_forms_agree_on_many(name: str) -> None:
    for strategy in (made(name, 4), made(name, 13)):
        chosen = strategy.shards_of(scattered())
        picked = range(0, KEYS, 97)
        assert chosen[::97].tolist() == [
            strategy.shard_of_number(int(scattered()[i])) for i in picked
        ]


@pytest.mark.parametrize("name", ["", "md5", "Ring"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidSetting, match="modulo, ring, jump"):
        make(name, 4)


def test_settings_that_cannot_be_are_refused() -> None:
    for name in STRATEGIES:
        with pytest.raises(InvalidSetting):
            make(name, 0)
    with pytest.raises(InvalidSetting):
        Ring(4, 0)
    with pytest.raises(InvalidSetting):
        Maglev(4, 65_536)
    with pytest.raises(InvalidSetting):
        Maglev(4, 3)


def test_jump_vectors() -> None:
    """As other implementations of the paper publish them."""
    published = {
        (1, 1): 0,
        (42, 57): 43,
        (0xDEAD_10CC, 1): 0,
        (0xDEAD_10CC, 666): 361,
        (256, 1024): 520,
        (0, 60): 0,
        (1, 60): 55,
        (2, 60): 46,
    }
    assert {k: jump_hash(*k) for k in published} == published


# Movement


def moved(name: str, before: int, after: int, numbers: U64) -> float:
    return made(name, before).moved(made(name, before).resized(after), numbers)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [(4, 5, 4 / 5), (4, 6, 2 / 3), (4, 8, 1 / 2), (4, 3, 3 / 4), (10, 12, 5 / 6)],
)
def test_modulo_moves_most_users(before: int, after: int, share: float) -> None:
    assert moved("modulo", before, after, numbered()) == share


@pytest.mark.parametrize("name", ["jump", "rendezvous"])
@pytest.mark.parametrize(
    ("before", "after", "share"),
    [(4, 5, 1 / 5), (4, 6, 1 / 3), (4, 8, 1 / 2), (4, 3, 1 / 4), (10, 12, 1 / 6)],
)
@pytest.mark.parametrize("keys", [numbered, scattered])
def test_jump_and_rendezvous_move_the_least(
    name: str, before: int, after: int, share: float, keys: type
) -> None:
    standard_error = (share * (1 - share) / KEYS) ** 0.5
    assert abs(moved(name, before, after, keys()) - share) < 3 * standard_error


@pytest.mark.parametrize("name", ["jump", "rendezvous", "ring", "slot_map"])
@given(before=st.integers(1, 12), more=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_only_new_shards_gain_users(name: str, before: int, more: int) -> None:
    numbers = scattered()[:5000]
    small = made(name, before)
    old, new = small.shards_of(numbers), small.resized(before + more).shards_of(numbers)
    assert (new[old != new] >= before).all()


@pytest.mark.parametrize("name", ["jump", "rendezvous", "ring", "slot_map"])
def test_only_a_leaving_shards_users_move(name: str) -> None:
    large = made(name, 6)
    old, new = large.shards_of(scattered()), large.resized(4).shards_of(scattered())
    assert (old[old != new] >= 4).all()
    assert new.max() == 3


def test_the_ring_moves_what_the_new_shard_takes() -> None:
    four, five = Ring(4), Ring(5)
    assert abs(four.moved(five, scattered()) - five.shares()[4]) < 3 * (0.2 * 0.8 / KEYS) ** 0.5


def test_the_slot_map_moves_204_or_205_slots() -> None:
    one_user_a_slot = np.arange(1024, dtype=np.uint64)
    assert moved("slot_map", 4, 5, one_user_a_slot) * 1024 in (204, 205)
    assert made("slot_map", 4).resized(4) is made("slot_map", 4)


@pytest.mark.parametrize("shards", [1, 2, 4, 8, 1024 // 8])
def test_the_first_slot_map_is_modulo(shards: int) -> None:
    assert SlotMap(shards).moved(Modulo(shards), scattered()) == 0.0


def test_a_slot_map_follows_a_given_map() -> None:
    shard_map = ShardMap.initial(4).move([user_hash("alice") % 1024], 9)
    assert SlotMap(shard_map).shard_of("alice") == 9
    assert SlotMap(shard_map).shards == 10


@pytest.mark.parametrize("shards", [2, 3, 4, 5, 7, 12])
def test_maglev_entries_are_floor_or_ceiling(shards: int) -> None:
    maglev = made("maglev", shards)
    assert isinstance(maglev, Maglev)
    assert len(maglev.owner) == 65_537
    entries = set(np.bincount(maglev.owner).tolist())
    assert entries <= {65_537 // shards, 65_537 // shards + 1}
    assert len(np.bincount(maglev.owner)) == shards


def test_maglev_moves_little_more_than_the_least() -> None:
    four, five = made("maglev", 4), made("maglev", 5)
    assert isinstance(four, Maglev)
    assert isinstance(five, Maglev)
    of_table = float((four.owner != five.owner).mean())
    assert abs(of_table - 0.201) < 0.005
    assert abs(four.moved(five, scattered()) - 0.201) < 0.005


# Balance


@pytest.mark.parametrize(
    ("points", "cv"),
    [(1, 0.7746), (16, 0.2148), (64, 0.1080), (128, 0.0765), (256, 0.0541), (1000, 0.0274)],
)
def test_ring_shares_are_dirichlet(points: int, cv: float) -> None:
    assert round(ring_share_cv(4, points), 4) == cv
    rings = 20_000 if points < 64 else 1_000_000 // points
    shares = np.array([Ring(4, points, salt=f"{i}/").shares() for i in range(rings)])
    assert np.allclose(shares.sum(axis=1), 1)
    variances = ((shares * 4 - 1) ** 2).mean(axis=1)
    measured = variances.mean() ** 0.5
    standard_error = variances.std() / rings**0.5 / (2 * measured)
    assert abs(measured - cv) < max(0.01 * cv, 3 * standard_error)


@pytest.mark.parametrize(
    ("points", "published", "rings"),
    [(1, 0.9979, 60), (10, 0.3152, 30), (100, 0.0997, 10), (1000, 0.0316, 5)],
)
def test_ring_standard_error_of_lamping_and_veach(
    points: int, published: float, rings: int
) -> None:
    """Their table 1: the standard error of bucket sizes on 1,000 buckets."""
    shares = np.array([Ring(1000, points, salt=f"{i}/").shares() for i in range(rings)])
    measured = float(((shares * 1000 - 1) ** 2).mean() ** 0.5)
    assert measured == pytest.approx(published, rel=0.02)


def test_ring_users_fall_as_its_arcs() -> None:
    ring = Ring(4)
    counts = np.bincount(ring.shards_of(scattered()), minlength=4)
    standard_errors = (ring.shares() * (1 - ring.shares()) / KEYS) ** 0.5
    assert (np.abs(counts / KEYS - ring.shares()) < 4 * standard_errors).all()
    assert Ring(1, 1).shares().tolist() == [1.0]
    assert Ring(1, 7).shares().tolist() == [pytest.approx(1.0)]


def test_numbered_users_spread_over_a_ring() -> None:
    """Without mixing, ids 0..119,999 would all lie in one arc."""
    counts = np.bincount(Ring(4).shards_of(numbered()), minlength=4)
    assert counts.min() > KEYS / 4 * 0.7


@pytest.mark.parametrize("name", ["modulo", "jump", "rendezvous", "maglev", "slot_map"])
@pytest.mark.parametrize("shards", [4, 5, 16])
def test_even_strategies_are_as_uneven_as_chance(name: str, shards: int) -> None:
    """Chi-square against equal shares; the slot map's and Maglev's shares differ by one entry."""
    counts = np.bincount(made(name, shards).shards_of(scattered()), minlength=shards)
    chi_square = ((counts - KEYS / shards) ** 2).sum() / (KEYS / shards)
    assert chi_square < (shards - 1) + 5 * (2 * (shards - 1)) ** 0.5


def test_a_spread_of_chance_is_no_imbalance() -> None:
    assert sampling_cv(4, 100_000) == pytest.approx((3 / 100_000) ** 0.5)
    assert round(sampling_cv(4, 100_000) * 100, 1) == 0.5
    keys, rounds = 10_000, 400
    rng = np.random.default_rng(11)
    jump = made("jump", 4)
    variances = []
    for _ in range(rounds):
        numbers = rng.integers(0, 2**64, keys, dtype=np.uint64)
        counts = np.bincount(jump.shards_of(numbers), minlength=4)
        variances.append((counts / counts.mean() - 1).var())
    measured = np.mean(variances) ** 0.5
    standard_error = np.std(variances) / rounds**0.5 / (2 * measured)
    assert abs(measured - sampling_cv(4, keys)) < 3 * standard_error


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("shards", "expected"), [(4, 0.75), (5, 0.8), (8, 0.875)])
def test_uniform_pairs_cross_shards(name: str, shards: int, expected: float) -> None:
    """1 - 1/N; on a ring 1 - the sum of its squared shares."""
    strategy = made(name, shards)
    if isinstance(strategy, Ring):
        expected = 1 - float((strategy.shares() ** 2).sum())
    pairs = np.random.default_rng(3).integers(0, 2**64, (2, KEYS), dtype=np.uint64)
    crossing = float((strategy.shards_of(pairs[0]) != strategy.shards_of(pairs[1])).mean())
    assert abs(crossing - expected) < 3 * (expected * (1 - expected) / KEYS) ** 0.5


def test_no_hash_evens_out_a_hot_user() -> None:
    """Zipf s = 0.99 over 1,000,000 users: even by users; by load the fullest shard has 1.20 times
    the mean.
    """
    activity = np.arange(1, 1_000_001) ** -0.99
    activity /= activity.sum()
    assert round(float(activity[0]), 7) == 0.0649694
    users = np.arange(1_000_000, dtype=np.uint64)
    by_load, by_users = [], []
    for round_number in range(20):
        shards = Rendezvous(4, salt=f"{round_number}/").shards_of(users)
        by_load.append(float(np.bincount(shards, weights=activity).max()) * 4)
        by_users.append(float(np.bincount(shards).max()) / 250_000)
    standard_error = float(np.std(by_load)) / 20**0.5
    assert abs(np.mean(by_load) - 1.20) < 3 * standard_error + 0.005
    assert np.mean(by_users) < 1.004


# Speed


def test_array_forms_are_fast_enough(tmp_path: Path) -> None:
    """The figures asked for; measured ones are ten and more times higher."""
    keys_per_s = {row["strategy"]: row["keys_per_s"] for row in run(tmp_path, quick=True)}
    assert set(STRATEGIES) <= set(keys_per_s)
    assert keys_per_s["modulo"] >= 10_000_000
    assert keys_per_s["slot_map"] >= 10_000_000
    assert keys_per_s["jump"] >= 5_000_000
    assert keys_per_s["router"] >= 1_000_000


def test_memory_is_bounded_by_chunks() -> None:
    """Temporary arrays are as long as a chunk, not as the input: the answer is the same for any
    number of keys around a chunk's length."""
    strategy: Strategy = made("jump", 4)
    whole = strategy.shards_of(scattered())
    for keys in (16_383, 16_384, 16_385, 32_769):
        assert strategy.shards_of(scattered()[:keys]).tolist() == whole[:keys].tolist()
