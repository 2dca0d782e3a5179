"""Generated workloads: the same seed gives the same payments, and their statistics are as asked."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter

import numpy as np
import pytest

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.routing.hashing import slot_of
from paytm_lab.routing.shard_map import ShardMap
from paytm_lab.simulation.payments import BATCH_ROWS, HOUR_US, PaymentBatch, Workload
from paytm_lab.simulation.population import (
    Population,
    ReceiverSampler,
    lognormal_moment,
    zipf_weights,
)

ARRAYS = ("from_user", "to_user", "amount_paise", "at_us")


def generated(workload: Workload, seed: int = 7, shards: ShardMap | int = 4) -> PaymentBatch:
    batches = list(workload.generate(seed, shards))
    return PaymentBatch(
        1, *(np.concatenate([getattr(b, name) for b in batches]) for name in ARRAYS)
    )


def fingerprint(workload: Workload, seed: int) -> str:
    batch = generated(workload, seed)
    digest = hashlib.sha256(workload.openings_paise(seed).tobytes())
    for name in ARRAYS:
        digest.update(getattr(batch, name).tobytes())
    return digest.hexdigest()


def cross_share(batch: PaymentBatch, shard_map: ShardMap) -> float:
    owner = np.array(shard_map.owner)
    return float(np.mean(owner[batch.from_user % 1024] != owner[batch.to_user % 1024]))


def three_se(share: float, payments: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / payments)


def test_the_same_seed_repeats_every_byte_and_another_does_not() -> None:
    workload = Workload(users=500, payments=BATCH_ROWS + 1_000)
    assert fingerprint(workload, 7) == fingerprint(workload, 7)
    assert fingerprint(workload, 7) != fingerprint(workload, 8)
    assert workload.digest(7) == Workload(users=500, payments=BATCH_ROWS + 1_000).digest(7)
    assert len({workload.digest(7), workload.digest(8), Workload(users=501).digest(7)}) == 3


def test_payments_are_well_formed_and_in_order_of_time() -> None:
    workload = Workload(users=50, payments=BATCH_ROWS * 2 + 5, days=2, zipf_s=1.4)
    batches = list(workload.generate(3))
    assert [b.first_line for b in batches] == [1, BATCH_ROWS + 1, 2 * BATCH_ROWS + 1]
    assert [len(b) for b in batches] == [BATCH_ROWS, BATCH_ROWS, 5]
    batch = generated(workload, 3)
    assert not np.any(batch.from_user == batch.to_user)
    for side in (batch.from_user, batch.to_user):
        assert side.min() >= 1 and side.max() <= 50
    assert batch.amount_paise.min() >= 100 and batch.amount_paise.max() <= 10_000_000
    assert np.all(np.diff(batch.at_us) >= 0)
    start = workload.day_start_us
    assert start <= batch.at_us[0] < batch.at_us[-1] < start + 48 * HOUR_US


def test_records_say_the_same_as_the_arrays() -> None:
    workload = Workload(users=20, payments=50)
    batch = generated(workload)
    rows = [row for chunk in workload.rows(7, 4, "key") for row in chunk]
    assert [int(r.from_user_id) for r in rows] == batch.from_user.tolist()
    assert [int(r.to_user_id) for r in rows] == batch.to_user.tolist()
    assert [(r.amount_paise, r.at_us) for r in rows] == list(
        zip(batch.amount_paise.tolist(), batch.at_us.tolist(), strict=True)
    )
    assert [r.idempotency_key for r in rows] == [f"key:{i}" for i in range(1, 51)]
    assert {r.idempotency_key for chunk in workload.rows(7) for r in chunk} == {""}


def test_a_user_is_on_the_shard_that_routing_says() -> None:
    """The generator's own arithmetic on numbers against routing's on ids."""
    assert all(slot_of(str(i)) == i % 1024 for i in (1, 2, 1_023, 1_024, 1_025, 999_999))


@pytest.mark.parametrize(("shards", "expected"), [(4, 0.75), (5, 0.8), (8, 0.875)])
def test_uniform_pairs_cross_shards_as_often_as_chance_says(shards: int, expected: float) -> None:
    payments = 200_000
    workload = Workload(users=10_240, payments=payments, zipf_s=0)
    share = cross_share(generated(workload, 11), ShardMap.initial(shards))
    # A user never pays itself: of N users the N/shards - 1 others at home are left, not N/shards.
    assert abs(share - expected) < three_se(expected, payments) + 1 / 10_240


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("shards", [4, 5])
def test_a_chosen_share_is_hit(share: float, shards: int) -> None:
    payments = 100_000
    workload = Workload(users=2_000, payments=payments, cross_shard_share=share)
    shard_map = ShardMap.initial(4).grow(5) if shards == 5 else ShardMap.initial(4)
    batch = generated(workload, 5, shard_map)
    assert abs(cross_share(batch, shard_map) - share) <= three_se(share, payments)
    assert not np.any(batch.from_user == batch.to_user)


def test_a_chosen_share_keeps_activity_zipf_like() -> None:
    natural = Workload(users=1_000, payments=100_000)
    chosen = Workload(users=1_000, payments=100_000, cross_shard_share=0.3)
    population = natural.population(7)
    hottest_sender = np.bincount(generated(chosen).from_user).argmax()
    assert population.sender_of_rank[0] + 1 == hottest_sender
    top = population.receiver_of_rank[:3] + 1
    for workload, slack in ((natural, 0.02), (chosen, 0.06)):
        received = np.bincount(generated(workload).to_user, minlength=1_001) / 100_000
        assert np.allclose(received[top], population.weights[:3], atol=slack)


def test_the_top_key_of_a_million_under_zipf() -> None:
    weights = zipf_weights(1_000_000, 0.99)
    assert round(float(weights[0]), 7) == 0.0649694
    assert math.isclose(float(weights.sum()), 1.0, rel_tol=1e-12)
    assert np.all(np.diff(weights) < 0)


def test_observed_activity_follows_the_weights() -> None:
    payments = 300_000
    workload = Workload(users=100, payments=payments, zipf_s=0.99)
    batch, population = generated(workload), workload.population(7)
    sent = np.bincount(batch.from_user - 1, minlength=100)
    expected = population.sender_weights * payments
    chi_square = float(((sent - expected) ** 2 / expected).sum())
    assert chi_square < 99 + 5 * math.sqrt(2 * 99)
    # A receiver is drawn among all but the sender: the share is a sum over senders.
    s, r = population.sender_weights, population.receiver_weights
    share = (s[:, None] * r[None, :] * (1 - np.eye(100)) / (1 - r[:, None])).sum(axis=0)
    received = np.bincount(batch.to_user - 1, minlength=100)
    chi_square = float(((received - share * payments) ** 2 / (share * payments)).sum())
    assert chi_square < 99 + 5 * math.sqrt(2 * 99)


def test_the_busiest_payer_is_seldom_the_busiest_payee() -> None:
    same = sum(
        int(p.sender_of_rank[0] == p.receiver_of_rank[0])
        for p in (Population.draw(100, 0.99, seed) for seed in range(100))
    )
    assert same < 10


def test_amounts_are_log_normal_and_a_few_percent_reach_review() -> None:
    workload = Workload(users=1_000, payments=400_000)
    rupees = generated(workload).amount_paise / 100
    assert abs(np.median(rupees) / 350 - 1) < 0.02
    assert 0.02 < np.mean(rupees >= 7_000) < 0.04
    shape = (350.0, workload.amount_sigma, workload.amount_max_rupees)
    assert abs(rupees.mean() / lognormal_moment(*shape, 1) - 1) < 0.02
    assert abs((rupees**2).mean() / lognormal_moment(*shape, 2) - 1) < 0.1


def test_hours_follow_the_curve() -> None:
    workload = Workload(users=100, payments=240_000)
    batch = generated(workload)
    by_hour = np.bincount((batch.at_us - workload.day_start_us) // HOUR_US, minlength=24)
    expected = np.array(workload.hourly_weights) / sum(workload.hourly_weights) * 240_000
    assert np.allclose(by_hour, expected, rtol=0.02, atol=300)
    peaks = [h for h in range(1, 23) if by_hour[h - 1] < by_hour[h] > by_hour[h + 1]]
    assert peaks == [12, 19]


def refused_share(workload: Workload, seed: int) -> float:
    """Posts the payments one after another into plain balances."""
    balance, refused = workload.openings(seed), 0
    for rows in workload.rows(seed):
        for row in rows:
            if balance[row.from_user_id] < row.amount_paise:
                refused += 1
            else:
                balance[row.from_user_id] -= row.amount_paise
                balance[row.to_user_id] += row.amount_paise
    return refused / workload.payments


@pytest.mark.parametrize(
    ("users", "payments", "zipf_s"),
    [(10_000, 50_000, 0.99), (1_000, 50_000, 0.0), (200, 20_000, 0.99), (50_000, 50_000, 1.1)],
)
def test_about_one_percent_meets_too_little_money(users: int, payments: int, zipf_s: float) -> None:
    workload = Workload(users=users, payments=payments, zipf_s=zipf_s)
    shares = [refused_share(workload, seed) for seed in (1, 2, 3)]
    assert 0.003 < sum(shares) / 3 < 0.025, shares


def test_openings() -> None:
    flat = Workload(users=3, payments=5, opening_rupees=99.5)
    assert flat.openings(1) == {"1": 9_950, "2": 9_950, "3": 9_950}
    assert flat.opening_rule == "99.50 rupees for every user"
    assert set(Counter(Workload(users=3, payments=5).openings(1))) == {"1", "2", "3"}


@pytest.mark.parametrize("zipf_s", [0.0, 0.99, 10.0])
def test_receivers_are_never_the_sender_even_at_the_edges_of_the_draw(zipf_s: float) -> None:
    """Draws at 0, just below 1 and in between, for each sender; two shards of unequal size."""
    users = 40
    shard = np.array([0] * 2 + [1] * 38)
    sampler = ReceiverSampler(zipf_weights(users, zipf_s)[::-1].copy(), shard)
    for point in (0.0, 0.25, 0.5, 0.75, math.nextafter(1, 0)):
        senders = np.arange(users)
        uniform = np.full(users, point)
        anywhere = sampler.anywhere(senders, uniform)
        same = sampler.same_shard(senders, uniform)
        other = sampler.other_shard(senders, uniform)
        assert not np.any(anywhere == senders)
        assert not np.any(same == senders)
        assert np.array_equal(shard[same], shard)
        assert np.all(shard[other] != shard)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("users", 1),
        ("users", 2.5),
        ("users", True),
        ("users", "10"),
        ("users", 10**9),
        ("payments", 0),
        ("zipf_s", -0.1),
        ("zipf_s", math.nan),
        ("zipf_s", "steep"),
        ("cross_shard_share", 1.01),
        ("cross_shard_share", -0.01),
        ("amount_median_rupees", 0),
        ("amount_sigma", math.inf),
        ("amount_max_rupees", 10**15),
        ("opening_rupees", -1),
        ("day_start_us", -1),
        ("days", 0),
        ("hourly_weights", (1.0,) * 23),
        ("hourly_weights", (0.0,) * 24),
        ("hourly_weights", (-1.0,) * 24),
    ],
)
def test_an_impossible_setting_names_itself_and_the_remedy(setting: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=setting) as raised:
        Workload(**{setting: value})  # type: ignore[arg-type]
    assert raised.value.remedy.startswith("Give")


def test_a_share_that_the_shards_cannot_give() -> None:
    with pytest.raises(InvalidSetting, match="all users are on one shard"):
        Workload(users=10, cross_shard_share=0.5).generate(1, 1)
    with pytest.raises(InvalidSetting, match="a shard holds a single user"):
        Workload(users=4, cross_shard_share=0.5).generate(1, 4)
    assert Workload(users=4, payments=3, cross_shard_share=1).generate(1, 4)
    with pytest.raises(InvalidSetting, match="seed"):
        Workload().generate(-1)


def test_generation_keeps_ahead_of_any_ledger() -> None:
    """A million payments a second of processor time; the best of three, as others share the
    machine.
    """
    workload = Workload(payments=500_000)
    best = math.inf
    for _ in range(3):
        started = time.process_time()
        count = sum(len(batch) for batch in workload.generate(7))
        best = min(best, time.process_time() - started)
    assert count / best >= 1_000_000
