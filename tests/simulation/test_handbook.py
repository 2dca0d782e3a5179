"""The Handbook's generator, to its published counts; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation import handbook as hb
from paytm_lab.simulation.handbook import HandbookWorld, handbook

SEEDS = range(4)


@pytest.fixture(scope="module")
def worlds() -> list[HandbookWorld]:
    return [handbook(seed) for seed in SEEDS]


def counts(worlds: list[HandbookWorld]) -> np.ndarray:
    return np.array([[len(w), *w.scenario_counts()] for w in worlds], float)


# From worlds of many seeds: the spread of the numbers of payments and of each kind of fraud.
SPREAD = np.array([14_543.0, 75.0, 190.0, 110.0])


def test_the_published_counts_are_within_three_deviations(worlds: list[HandbookWorld]) -> None:
    published = np.array([hb.PUBLISHED_PAYMENTS, *hb.PUBLISHED_SCENARIOS], float)
    distance = np.abs(counts(worlds).mean(0) - published)
    assert (distance < 3 * SPREAD * np.sqrt(1 + 1 / len(worlds))).all(), distance / SPREAD


def test_the_expected_number_is_the_models(worlds: list[HandbookWorld]) -> None:
    mean, deviation = hb.expected_payments()
    assert (round(mean), round(deviation)) == (1_773_686, 14_543)
    each = counts(worlds)[:, 0]
    assert abs(each.mean() - mean) < 3 * deviation / len(worlds) ** 0.5
    # A wrong rate would be seen: half a payment a day more is 25 % more payments.
    assert abs(each.mean() - mean * 1.25) > 3 * deviation


def test_shares_of_frauds(worlds: list[HandbookWorld]) -> None:
    total = counts(worlds).mean(0)
    shares = 100 * total[1:] / total[0]
    assert shares[1] == pytest.approx(0.519, abs=0.03)
    assert shares[2] == pytest.approx(0.262, abs=0.02)
    assert shares.sum() == pytest.approx(0.84, abs=0.04)


def test_each_payment_follows_the_description(worlds: list[HandbookWorld]) -> None:
    world = worlds[0]
    assert (np.diff(world.time_s) >= 0).all()
    assert world.day.min() == 0 and world.day.max() == world.days - 1
    assert (world.amount >= 0).all() and world.terminal.max() < world.terminals
    assert (world.scenario[world.amount > 220] > 0).all()
    assert (world.amount[world.scenario == 1] > 220).all()
    of_day = world.time_s % hb.DAY_S
    assert abs(of_day.mean() - 43_200) < 100  # symmetric about noon
    # A terminal's payments are all frauds while it is compromised, so it has runs of them.
    second = world.scenario == 2
    key = world.terminal.astype(np.int64) * world.days + world.day
    bad, all_of = np.unique(key[second]), np.unique(key[(world.scenario != 2)])
    assert len(np.intersect1d(bad, all_of)) < 0.02 * len(bad)  # those that scenario 3 relabelled


def test_stolen_cards_pay_fivefold(worlds: list[HandbookWorld]) -> None:
    world = worlds[1]
    stolen = world.scenario == 3
    own = np.bincount(world.customer, world.amount * ~stolen) / np.maximum(
        np.bincount(world.customer, ~stolen), 1
    )
    ratio = world.amount[stolen] / own[world.customer[stolen]]
    assert 4.7 < np.median(ratio) < 5.3


def test_terminals_are_near(worlds: list[HandbookWorld]) -> None:
    world = worlds[0]
    pairs = np.unique(world.customer.astype(np.int64) * world.terminals + world.terminal)
    used = np.bincount(pairs // world.terminals, minlength=world.customers)
    inside = np.pi * 5**2  # of 10,000 terminals on 10,000 units of area
    assert used.max() < inside + 6 * inside**0.5
    busy = np.bincount(world.customer, minlength=world.customers) > 500
    assert used[busy].mean() == pytest.approx(0.95 * inside, rel=0.08)  # less at the edges


def test_same_seed_same_bytes() -> None:
    one, two, other = (handbook(seed, customers=50, days=20) for seed in (3, 3, 4))
    for name in ("time_s", "customer", "terminal", "amount", "scenario"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert one.amount.tobytes() != other.amount.tobytes()


def test_nobody_pays_where_no_terminal_is_near() -> None:
    world = handbook(1, customers=40, terminals=3, days=10, radius=0.01)
    assert len(world) == 0 and world.scenario_counts() == (0, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"customers": 0},
        {"terminals": -1},
        {"days": 0},
        {"radius": 0.0},
        {"radius": float("nan")},
        {"customers": 10**9},
        {"days": 10**6},
    ],
)
def test_what_makes_no_world_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        handbook(1, **wrong)  # type: ignore[arg-type]
