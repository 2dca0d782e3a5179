"""Each fraud pattern has the shape that defines it; nothing else is labelled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.economy import KINDS, PATTERNS, Economy, joined
from paytm_lab.simulation.economy.economy import Tuning
from tests.simulation.economies import SEED, cheated

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


def frame() -> pd.DataFrame:
    _, batch = cheated()
    columns = {
        "line": np.arange(len(batch)), "at_us": batch.at_us, "payer": batch.from_account,
        "payee": batch.to_account, "paise": batch.amount_paise, "ring": batch.ring,
        "kind": np.array(KINDS)[batch.kind], "pattern": np.array(PATTERNS)[batch.pattern],
        "payer_after": batch.from_balance_paise, "payee_after": batch.to_balance_paise,
    }  # fmt: skip
    return pd.DataFrame(columns)


def rings(pattern: str, *, funding: bool = False) -> Iterator[pd.DataFrame]:
    """The rows of each ring, without the top-ups that wallets made for them unless ``funding``."""
    economy, _ = cheated()
    rows = frame()
    rows = rows[rows.pattern == pattern]
    assert rows.ring.nunique() == 6
    for _, ring in rows.groupby("ring"):
        bank = economy.accounts.outside(0)
        yield ring if funding else ring[(ring.kind != "top_up") | (ring.payer != bank)]


def test_an_account_drain_empties_the_victim_through_mules_to_a_cash_out() -> None:
    for ring in rings("account_drain", funding=True):
        victim = ring.payer.iloc[0]
        taken = ring[ring.payer == victim]
        assert 2 <= len(taken) <= 4 and taken.payee.is_unique
        assert taken.payer_after.iloc[-1] == 0
        passed = ring[ring.payer.isin(taken.payee)]
        assert set(passed.payer) == set(taken.payee) and passed.payee.nunique() == 1
        assert passed.at_us.min() > taken.at_us.max()
        collector, last = passed.payee.iloc[0], ring.iloc[-1]
        assert (last.payer, last.kind) == (collector, "cash_out")
        assert 0.8 * taken.paise.sum() <= last.paise <= taken.paise.sum()
        assert ring.at_us.max() - ring.at_us.min() <= 2 * HOUR_US
        # Nobody had to put money in: what leaves is what was there.
        assert "top_up" not in set(ring.kind)
        assert len(ring) == 2 * len(taken) + 1


def test_a_drained_account_had_no_payment_meanwhile() -> None:
    rows = frame()
    for ring in rings("account_drain"):
        victim, first, last = ring.payer.iloc[0], ring.at_us.iloc[0], ring.at_us.iloc[-1]
        meanwhile = rows[rows.at_us.between(first, last)]
        assert set(meanwhile[(meanwhile.payer == victim)].ring) == {ring.ring.iloc[0]}
        assert not (meanwhile.payee == victim).any()


def test_drains_late_on_busy_days_take_what_is_there_then() -> None:
    """Many drains among busy people: victims have paid and received since the day began."""
    busy = Tuning(peer=15.0)
    economy = Economy(users=800, days=1, fraud={"account_drain": 25}, tuning=busy)
    batch = joined(economy.generate(SEED))
    earlier = 0
    for ring in range(1, 26):
        rows = np.flatnonzero(batch.ring == ring)
        victim = batch.from_account[rows[0]]
        taken = rows[batch.from_account[rows] == victim]
        assert batch.from_balance_paise[taken[-1]] == 0
        own = np.flatnonzero((batch.from_account == victim) | (batch.to_account == victim))
        earlier += int((own < rows[0]).sum() >= 3)
        assert set(own[(own >= rows[0]) & (own <= rows[-1])]) == set(taken)
    assert earlier >= 8


def test_card_testing_is_dozens_of_tiny_top_ups_and_then_large_purchases() -> None:
    economy, _ = cheated()
    for ring in rings("card_testing"):
        tests = ring[(ring.kind == "top_up") & (ring.paise <= 2_000)]
        assert 25 <= len(tests) <= 60 and tests.payee.nunique() == 1
        assert set(tests.payer) == {economy.accounts.outside(1)}
        assert tests.at_us.max() - tests.at_us.min() <= HOUR_US // 2
        bought = ring[ring.kind == "merchant"]
        assert 1 <= len(bought) <= 3 and set(bought.payer) == set(tests.payee)
        assert bought.at_us.min() > tests.at_us.max()
        assert bought.paise.min() >= 100 * tests.paise.median()
        assert bought.at_us.max() - tests.at_us.min() <= HOUR_US


def test_structured_parts_stay_just_below_the_threshold_and_pass_it_together() -> None:
    economy, _ = cheated()
    for ring in rings("structuring"):
        assert ring.payer.nunique() == 1 and ring.payee.nunique() <= 3
        assert ring.paise.max() < economy.threshold_paise
        assert ring.paise.min() >= 0.8 * economy.threshold_paise
        assert len(ring) >= 5 and ring.paise.sum() > 4 * economy.threshold_paise
        assert ring.at_us.max() - ring.at_us.min() <= 3 * DAY_US


@pytest.mark.parametrize("threshold", [100.0, 777.77, 9_999.99, 2e6])
def test_structuring_follows_the_threshold(threshold: float) -> None:
    economy = Economy(users=200, days=4, fraud={"structuring": 3}, threshold_rupees=threshold)
    batch = joined(economy.generate(SEED))
    parts = batch.amount_paise[(batch.pattern == 3) & (batch.kind == KINDS.index("peer"))]
    assert len(parts) >= 15 and parts.max() < economy.threshold_paise
    assert parts.min() >= 0.5 * economy.threshold_paise


def test_fan_in_gathers_and_fan_out_spreads() -> None:
    for ring in rings("fan_in"):
        paid, last = ring[ring.kind == "peer"], ring.iloc[-1]
        assert paid.payee.nunique() == 1 and paid.payer.nunique() == len(paid) >= 10
        assert paid.at_us.max() - paid.at_us.min() <= 6 * HOUR_US
        assert (last.kind, last.payer) == ("cash_out", paid.payee.iloc[0])
        assert 0.85 * paid.paise.sum() <= last.paise <= paid.paise.sum()
        assert paid.paise.max() <= 2.5 * paid.paise.min()
    for ring in rings("fan_out"):
        assert ring.payer.nunique() == 1 and ring.payee.nunique() == len(ring) >= 10
        assert ring.at_us.max() - ring.at_us.min() <= 4 * HOUR_US
        assert ring.paise.max() <= 2.5 * ring.paise.min()


def test_a_cycle_closes_and_never_grows() -> None:
    for ring in rings("cycle"):
        hops = ring.sort_values("line")
        assert 3 <= len(hops) <= 7 and hops.payer.is_unique
        assert hops.payer.iloc[1:].tolist() == hops.payee.iloc[:-1].tolist()
        assert hops.payee.iloc[-1] == hops.payer.iloc[0]
        assert hops.at_us.is_monotonic_increasing and hops.at_us.is_unique
        assert hops.paise.is_monotonic_decreasing
        assert hops.paise.iloc[-1] >= 0.85 * hops.paise.iloc[0]
        assert hops.at_us.iloc[-1] - hops.at_us.iloc[0] <= 2 * DAY_US


def test_a_colluding_merchant_gives_most_of_each_sale_back_within_the_hour() -> None:
    for ring in rings("merchant_collusion"):
        sales = ring[ring.kind == "merchant"]
        back = ring[ring.kind == "peer"]
        assert sales.payee.nunique() == 1 and set(back.payer) == set(sales.payee)
        assert 4 <= sales.payer.nunique() <= 8 and len(sales) == len(back)
        assert len(sales) >= 3 * sales.payer.nunique()
        assert (sales.paise % 50_000 == 0).all()
        for customer, bought in sales.groupby("payer"):
            returned = back[back.payee == customer]
            assert len(returned) == len(bought)
            for row in bought.itertuples():
                soon = returned[returned.at_us.between(row.at_us, row.at_us + HOUR_US)]
                assert (soon.paise / row.paise).between(0.9, 0.99).any()


def test_a_bust_out_is_new_behaves_and_then_spends_ten_times_all_before_on_cards() -> None:
    economy, _ = cheated()
    rows = frame()
    for ring in rings("bust_out"):
        account = ring[ring.kind == "merchant"].payer.iloc[0]
        cards = ring[ring.payer == economy.accounts.outside(1)]
        bought = ring[ring.kind == "merchant"]
        before = bought[bought.at_us < cards.at_us.min()]
        burst = bought[bought.at_us >= cards.at_us.min()]
        assert set(bought.payer) == {account} == set(cards.payee)
        assert len(before) >= 8 and before.paise.max() <= 40_000
        assert burst.paise.sum() >= 10 * before.paise.sum()
        assert burst.at_us.max() - burst.at_us.min() <= 3 * HOUR_US
        own = rows[rows.payer == account]
        assert own.at_us.min() == before.at_us.min() and own.at_us.max() == burst.at_us.max()
        assert set(own.pattern) == {"bust_out"}


def test_rings_are_as_many_as_asked_and_share_nobody() -> None:
    economy, batch = cheated()
    labelled = batch.pattern > 0
    assert np.array_equal(labelled, batch.ring > 0)
    pattern_of_ring = {}
    members: dict[int, int] = {}
    for ring in np.unique(batch.ring[labelled]).tolist():
        rows = batch.ring == ring
        (pattern,) = np.unique(batch.pattern[rows]).tolist()
        pattern_of_ring[ring] = pattern
        people = np.unique(np.stack([batch.from_account[rows], batch.to_account[rows]]))
        for user in people[people < economy.users].tolist():
            assert members.setdefault(user, ring) == ring
    assert sorted(pattern_of_ring.values()) == sorted(list(range(1, 9)) * 6)


def test_fraud_by_share_comes_near_it_and_none_is_none() -> None:
    economy = Economy(users=3_000, days=20, fraud_share=0.01)
    batch = joined(economy.generate(SEED))
    assert 0.006 <= np.mean(batch.pattern > 0) <= 0.014
    assert set(np.unique(batch.pattern)) == set(range(len(PATTERNS)))
    for none in (Economy(users=150, days=1, fraud={}), Economy(users=150, days=1, fraud_share=0)):
        assert not joined(none.generate(SEED)).pattern.any()


@pytest.mark.parametrize("days", [1, 2])
def test_every_pattern_fits_into_a_short_run(days: int) -> None:
    economy = Economy(users=800, days=days, fraud=dict.fromkeys(PATTERNS[1:], 2))
    batch = joined(economy.generate(SEED))
    rings_by_pattern = [len(np.unique(batch.ring[batch.pattern == p])) for p in range(1, 9)]
    assert rings_by_pattern == [2] * 8
    assert batch.at_us.max() < economy.start_us + days * DAY_US


def test_too_many_rings_for_the_people_are_refused_in_words() -> None:
    with pytest.raises(InvalidSetting, match=r"rings need .* users, and .* can take part"):
        list(Economy(users=100, days=1, fraud={"fan_in": 50}).generate(1))
