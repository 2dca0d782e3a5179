"""Metrics against scikit-learn's and by hand; costs, drift and leakage against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science import drift as drifts
from paytm_lab.fraud.science import evaluation as ev
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.leakage import leakage
from paytm_lab.fraud.science.thresholds import Costs, choose, cost_of
from paytm_lab.simulation.paysim_like import BALANCES, CHANGES, paysim_like

RNG = np.random.default_rng(3)
FRAUD = RNG.random(4_000) < 0.05
SCORE = np.round(np.clip(0.3 * FRAUD + RNG.random(4_000) * 0.7, 0, 1), 2)  # with many ties
AMOUNT = np.round(RNG.lognormal(6, 1, 4_000), 2)


def test_ranking_is_scikit_learns_to_the_last_digits() -> None:
    assert ev.auc_roc(FRAUD, SCORE) == pytest.approx(roc_auc_score(FRAUD, SCORE), abs=1e-12)
    assert ev.average_precision(FRAUD, SCORE) == pytest.approx(
        average_precision_score(FRAUD, SCORE), abs=1e-12
    )
    assert ev.auc_roc(FRAUD, np.ones(4_000)) == pytest.approx(0.5)
    assert ev.auc_roc(FRAUD, FRAUD) == 1.0 and ev.average_precision(FRAUD, FRAUD) == 1.0


def test_card_precision_by_hand() -> None:
    day = [1, 1, 1, 2, 2, 2]
    payer = [0, 1, 2, 0, 1, 3]
    fraud = [True, False, True, True, True, False]
    score = [0.9, 0.8, 0.1, 0.9, 0.5, 0.4]
    # Day 1, two cards: 0 (hit), 1. Day 2 without card 0: 1 (hit), 3.
    assert ev.card_precision(day, payer, fraud, score, k=2) == 0.5
    assert ev.card_ceiling(day, payer, fraud, k=2) == pytest.approx((1.0 + 0.5) / 2)
    worse = [0.1, 0.8, 0.2, 0.1, 0.5, 0.4]
    assert ev.card_precision(day, payer, fraud, worse, k=1) == pytest.approx(0.5)


def test_calibration_of_scores_that_are_probabilities() -> None:
    chance = RNG.beta(1, 20, 200_000)
    fraud = RNG.random(200_000) < chance
    good, bad = ev.calibration(fraud, chance), ev.calibration(fraud, np.sqrt(chance))
    assert good.error < 0.003 < 0.1 < bad.error and good.brier < bad.brier
    assert good.payments.sum() == 200_000
    with pytest.raises(BadInput, match="no probabilities"):
        ev.calibration(FRAUD, SCORE + 1)


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    draws = RNG.normal(5.0, 2.0, (2_000, 10))
    held = [(each := ev.interval(row)).low <= 5.0 <= each.high for row in draws]
    assert 0.93 < np.mean(held) < 0.97
    with pytest.raises(BadInput):
        ev.interval([1.0])


@pytest.mark.parametrize(
    ("fraud", "score"),
    [([True, True], [0.1, 0.2]), ([True, False], [0.1]), ([True, False], [0.1, float("nan")])],
)
def test_what_cannot_be_judged_is_refused(fraud: list[bool], score: list[float]) -> None:
    with pytest.raises(BadInput):
        ev.auc_roc(fraud, score)


def test_thresholds_are_the_cheapest_of_all() -> None:
    costs = Costs(review_rupees=30, review_catches=0.8, wrong_block_rupees=200)
    found = choose(FRAUD, SCORE, AMOUNT, costs)
    cuts = [*np.arange(-0.005, 1.02, 0.01), 2.0]
    grid = min(
        cost_of(Thresholds(block, review), FRAUD, SCORE, AMOUNT, costs).cost_rupees
        for block in cuts
        for review in cuts
        if review <= block
    )
    assert found.cost_rupees == pytest.approx(grid)
    assert found.cost_rupees < found.allow_all_rupees
    again = cost_of(found.thresholds, FRAUD, SCORE, AMOUNT, costs)
    assert again[1:] == pytest.approx(found[1:])
    # Another price, another threshold: dear reviews are asked for less often.
    dear = choose(FRAUD, SCORE, AMOUNT, Costs(review_rupees=3_000, wrong_block_rupees=200))
    assert dear.reviews < found.reviews


def test_where_nothing_pays_everything_passes() -> None:
    found = choose(np.zeros(50, bool), RNG.random(50), np.ones(50))
    assert found.thresholds == Thresholds(1.1, None) and found.cost_rupees == 0
    assert (found.reviews, found.blocks) == (0, 0)
    everything = choose(np.ones(50, bool), RNG.random(50), np.ones(50))
    assert everything.blocks == 50 and everything.thresholds.block_score == 0.0


@pytest.mark.parametrize("wrong", [{"review_rupees": -1}, {"review_catches": 1.5}])
def test_costs_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Costs(**wrong)


def test_drift_tells_a_shift_from_chance() -> None:
    names = ("same", "wider", "shifted", "constant")
    one = RNG.normal(size=(5_000, 4))
    two = RNG.normal(size=(4_000, 4))
    one[:, 3] = two[:, 3] = 7
    two[:, 1] *= 1.5
    two[:, 2] += 1
    found = {
        each.feature: each
        for each in drifts.drift(
            FeatureTable(names, one, np.arange(5_000)), FeatureTable(names, two, np.arange(4_000))
        )
    }
    assert found["same"].said == "stable" and found["same"].ks_passes
    assert found["shifted"].said == "shifted" and not found["shifted"].ks_passes
    assert found["wider"].said in ("watch", "shifted")
    assert found["constant"].psi == 0 and found["constant"].ks == 0
    # Two normals one deviation apart are 2 Phi(1/2) - 1 from each other at most.
    assert found["shifted"].ks == pytest.approx(0.3829, abs=0.03)


def test_the_limit_is_passed_by_chance_as_often_as_it_says() -> None:
    limit = drifts.ks_limit(400, 300, alpha=0.1)
    far = [
        drifts.ks_distance(RNG.normal(size=400), RNG.normal(size=300)) > limit for _ in range(600)
    ]
    assert 0.05 < np.mean(far) < 0.13
    with pytest.raises(BadInput):
        drifts.psi([1.0, float("inf")], [1.0])
    with pytest.raises(BadInput):
        drifts.psi([], [1.0])


def test_balances_give_paysim_away_and_without_them_the_model_falls() -> None:
    data = paysim_like(1, rows=20_000)
    found = leakage(data.columns, data.fraud, BALANCES, differences=CHANGES)
    assert found.auc_with > 0.99 and found.auc_without < 0.9 and found.fall > 0.1
    assert found.precision_with > 0.9 > 0.3 > found.precision_without
    assert {"payer_change", "payee_change", *BALANCES} == set(found.dropped)
    told = leakage({**data.columns, "settled": data.fraud}, data.fraud, ("settled",))
    assert told.suspicious == ("settled",)
    with pytest.raises(BadInput, match="no column balance"):
        leakage(data.columns, data.fraud, ("balance",))
    with pytest.raises(BadInput, match="nothing left"):
        leakage(data.columns, data.fraud, tuple(data.columns))


def test_mass_that_leaves_or_joins_the_lowest_value_is_a_shift() -> None:
    few, many = np.r_[np.zeros(50), np.ones(950)], np.r_[np.zeros(500), np.ones(500)]
    assert drifts.psi(few, many) > 0.25 and drifts.psi(many, few) > 0.25
    assert drifts.psi(np.ones(100), np.zeros(100)) > 0.25
    assert drifts.psi(many, many) == 0
