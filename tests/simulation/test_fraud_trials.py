"""Trials, the review curve, files of labelled payments, and the charts of all that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.live_features import LIVE
from paytm_lab.fraud.rules import Thresholds
from paytm_lab.fraud.science import published
from paytm_lab.fraud.science.drift import drift
from paytm_lab.fraud.science.evaluation import Metrics, calibration
from paytm_lab.fraud.science.explain import importance, reasons
from paytm_lab.fraud.science.features import OURS
from paytm_lab.fraud.science.leakage import Leakage
from paytm_lab.fraud.science.live import with_labels
from paytm_lab.fraud.science.payments import Payments
from paytm_lab.fraud.science.protocol import split
from paytm_lab.fraud.science.thresholds import Costs, choose, cost_of, review_curve
from paytm_lab.fraud.science.trials import Trial, trial, week_by_week
from paytm_lab.reporting import fraud_science_charts as charts
from paytm_lab.simulation.handbook import day_file, handbook, write_csv
from paytm_lab.simulation.transfers_file import open_transfers

LOGISTIC, BOOSTING = "logistic_regression", "gradient_boosting"


@pytest.fixture(scope="module")
def data() -> Payments:
    return handbook(2, customers=600, terminals=1_200, days=80, radius=9).payments()


@pytest.fixture(scope="module")
def first(data: Payments) -> int:
    return int(data.day[0]) + 45


@pytest.fixture(scope="module")
def made(data: Payments, first: int) -> Trial:
    return trial(data, split(data, first), BOOSTING, OURS, max_iter=60)


def test_our_features_find_more_than_the_amount(data: Payments, first: int, made: Trial) -> None:
    amount = trial(data, split(data, first), LOGISTIC, ("amount",))
    assert made.metrics.average_precision > amount.metrics.average_precision + 0.1
    assert made.metrics.card_precision <= made.metrics.ceiling
    assert len(made.scores) == len(made.tested) == len(made.test.values)
    live = trial(data, split(data, first), BOOSTING, LIVE, max_iter=60, name="live")
    assert live.model.features == LIVE
    assert live.metrics.average_precision > amount.metrics.average_precision


def test_each_week_is_trained_anew(data: Payments, first: int) -> None:
    rows = pd.DataFrame(week_by_week(data, first - 7, 2, (LOGISTIC,)))
    assert list(rows["day"]) == [str(np.datetime64(first + n, "D")) for n in (7, 14)]
    assert rows["auc"].between(0.6, 1).all() and rows["auc"].nunique() == 2
    figure = charts.over_time(rows)
    assert list(figure.data[0].y) == list(rows["average_precision"])


def test_the_review_curve_is_what_each_threshold_costs(made: Trial) -> None:
    costs = Costs(review_rupees=12)
    judged = (made.tested.fraud, made.scores, made.tested.amount)
    curve = review_curve(*judged, costs, points=40)
    for each in curve[:: len(curve) // 7]:
        wanted = cost_of(Thresholds(2.0, each["threshold"]), *judged, costs)
        assert (each["cost_rupees"], each["reviews"]) == pytest.approx((wanted[1], wanted[3]))
    assert curve[-1]["reviews"] == 0 and [c["threshold"] for c in curve] == sorted(
        c["threshold"] for c in curve
    )
    assert min(c["cost_rupees"] for c in curve) >= choose(*judged, costs).cost_rupees


def test_a_file_of_labelled_payments_is_read_as_it_was(data: Payments, tmp_path: Path) -> None:
    some = data.rows(slice(100, 160))
    with open_transfers(write_csv(some, tmp_path / "some.csv"), opening_paise=10**8) as file:
        rows = [row for batch in file.rows() for row in batch]
    assert [row.at_us for row in rows] == (some.time_s * 1_000_000).tolist()
    assert [row.amount_paise for row in rows] == np.rint(some.amount * 100).astype(int).tolist()
    assert [row.from_user_id for row in rows] == some.payer.astype(str).tolist()
    scored = pd.DataFrame(
        {
            "user_id": [row.from_user_id for row in rows],
            "at_us": [row.at_us for row in rows],
            "amount_paise": [row.amount_paise for row in rows],
        }
    )
    assert list(with_labels(scored, data)["fraud"]) == some.fraud.tolist()
    day = int(data.day[0]) + 3
    text = day_file(data, day, tmp_path, rows_max=5).read_text().splitlines()
    assert len(text) == 6 and text[1].split(",")[1].startswith("2018-04-04 ")
    with pytest.raises(BadInput, match="no payments on day"):
        day_file(data, 5, tmp_path)


def test_charts_show_what_they_are_given(made: Trial) -> None:
    judged = (made.tested.fraud, made.scores, made.tested.amount)
    metrics = Metrics(0.9, 0.6, 0.3, 0.4)
    row = published.Row("random_forest", "auc", 0.867, 0.87, 0.01, 0.86, 0.88, True)
    far = row._replace(metric="average_precision", within=False)
    leak = Leakage(0.99, 0.8, 0.9, 0.1, ("a",), (("a", 0.99),))
    shadow = pd.DataFrame(
        {"shadow_score": [0.1, 0.95, None], "decision": ["allow", "allow", "block"]}
    )
    halves = drift(made.test, made.test)
    drawn = [
        charts.against_published([row, far], ceiling=0.4),
        charts.model_results([("ours", metrics)], ceiling=0.4),
        charts.cost_by_threshold(pd.DataFrame(review_curve(*judged)), choose(*judged)),
        charts.calibration([("ours", calibration(made.tested.fraud, made.scores))]),
        charts.drift(halves),
        charts.leakage(leak),
        charts.effects(importance(made.model, made.test), title="Weights", unit="log odds"),
        charts.effects(reasons(made.model, made.test, 3), title="Why", unit="log odds"),
        charts.shadow_scores(shadow, Thresholds(0.9, 0.5), profile="embedded"),
    ]
    for figure in drawn:
        for axis in (figure.layout.xaxis, figure.layout.yaxis):
            assert axis.title.text
        assert figure.layout.meta["title"]
    titles = [figure.layout.meta["title"] for figure in drawn]
    assert "1 of 2 within" in titles[0] and "falls by 0.19" in titles[5]
    assert "of 2 payments it would have blocked 1" in titles[8]
    assert list(drawn[1].data[0].y) == [0.9, 0.6, 0.3]
    assert "0 of 22 features shifted" in titles[4]


def test_last_digits_do_not_show(made: Trial) -> None:
    """Another processor's last digits: the same figure, to the byte."""
    reached = calibration(made.tested.fraud, made.scores)
    moved = reached._replace(score=reached.score * (1 + 1e-13))
    assert (moved.score != reached.score).any()
    drawn = [charts.calibration([("ours", each)]).to_json() for each in (reached, moved)]
    assert drawn[0] == drawn[1]
    further = reached._replace(score=reached.score * (1 + 1e-6))
    assert charts.calibration([("ours", further)]).to_json() != drawn[0]


def test_an_empty_chart_says_why() -> None:
    nothing = pd.DataFrame({"threshold": [], "cost_rupees": [], "shadow_score": []})
    empty = [
        charts.against_published([]),
        charts.model_results([]),
        charts.cost_by_threshold(nothing, SimpleNamespace()),
        charts.calibration([]),
        charts.over_time(nothing),
        charts.drift([]),
        charts.effects([], title="Weights", unit="log odds"),
        charts.shadow_scores(nothing, Thresholds(0.9, None), profile="embedded"),
    ]
    assert all(figure.data[0].mode == "text" for figure in empty)
