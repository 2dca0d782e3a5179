"""Charts of the economy: each draws what the frame holds, says its units, and is never empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.reporting import economy_charts, look, ring_charts
from paytm_lab.simulation.economy import PATTERNS, Measured, comparison
from tests.simulation.economies import SEED, cheated


@cache
def payments() -> pd.DataFrame:
    economy, batch = cheated()
    return batch.frame(economy.accounts)


def hours(frame: pd.DataFrame, **more: str) -> go.Figure:
    return economy_charts.activity_hours(frame, cheated()[0].target.hour_shares(), **more)


def days(frame: pd.DataFrame, **more: str) -> go.Figure:
    weights = cheated()[0].day_weights(SEED)
    return economy_charts.activity_days(frame, weights, festivals=[("Pongal", 13)], **more)


def ring(frame: pd.DataFrame, **more: str) -> go.Figure:
    return ring_charts.ring(frame, 1, **more)


CHARTS: dict[str, Callable[..., go.Figure]] = {
    "amounts": economy_charts.amounts,
    "hours": hours,
    "days": days,
    "patterns": economy_charts.fraud_by_pattern,
    "ring": ring,
    "gallery": ring_charts.ring_gallery,
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_names_its_axes_and_what_to_look_at(name: str) -> None:
    fig = CHARTS[name](payments(), profile="lab x")
    layout = json.loads(fig.to_json())["layout"]
    assert "lab x" in layout["title"]["subtitle"]["text"] and len(fig.data) > 0
    assert all(layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis"))
    assert layout["meta"]["title"] == layout["title"]["text"].replace("<br>", " ")
    assert max(map(len, layout["title"]["text"].split("<br>"))) <= look.TITLE_CHARS
    assert layout["height"] == layout["margin"]["t"] + layout["meta"]["height"]


@pytest.mark.parametrize("name", CHARTS)
def test_no_chart_is_ever_an_empty_panel(name: str) -> None:
    fig = CHARTS[name](payments().iloc[:0])
    assert fig.data[0].mode == "text" and len(fig.data[0].text[0]) > 15


@pytest.mark.parametrize("name", CHARTS)
def test_the_same_frame_gives_the_same_figure(name: str) -> None:
    assert CHARTS[name](payments()).to_json() == CHARTS[name](payments()).to_json()


def test_the_hours_drawn_are_the_payments() -> None:
    economy, _ = cheated()
    drawn, target, fraud = hours(payments()).data
    assert sum(drawn.y) == pytest.approx(100) == pytest.approx(sum(fraud.y))
    assert np.allclose(target.y, 100 * economy.target.hour_shares())
    assert len(hours(payments()[payments().pattern == "none"]).data) == 2


def test_the_days_drawn_are_all_ordinary_payments_of_people() -> None:
    drawn, expected = days(payments()).data
    kinds = payments().kind.isin(["peer", "merchant"]) & (payments().pattern == "none")
    assert sum(drawn.y) == kinds.sum() and sum(expected.y) == pytest.approx(kinds.sum())
    assert [a.text for a in days(payments()).layout.annotations] == ["Pongal"]


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_a_ring_draws_each_of_its_accounts_and_arrows_once(pattern: str) -> None:
    rows = payments()[payments().pattern == pattern]
    number = int(rows.ring.min())
    rows = rows[rows.ring == number]
    rows = rows[(rows.kind != "top_up") | (rows.from_user != "outside:bank")]
    fig = ring_charts.ring(payments(), number)
    accounts = set(rows.from_user) | set(rows.to_user)
    assert sorted(fig.data[1].customdata) == sorted(accounts)
    arrows = [a for a in fig.layout.annotations if a.showarrow]
    assert len(arrows) == len(rows.drop_duplicates(["from_user", "to_user"])) == len(fig.data[0].x)
    assert pattern.replace("_", " ") in fig.layout.title.text.replace("<br>", " ")
    places = list(zip(fig.data[1].x, fig.data[1].y, strict=True))
    assert len(set(places)) == len(places)
    if pattern != "cycle":  # else the eye could not follow the money
        assert min(fig.data[1].x) == 0 and max(fig.data[1].x) == 1


def test_the_gallery_has_one_ring_of_each_pattern() -> None:
    fig = ring_charts.ring_gallery(payments())
    titles = [a.text for a in fig.layout.annotations if not a.showarrow]
    assert len(titles) == 8
    for pattern in PATTERNS[1:]:
        assert sum(f"<b>{pattern.replace('_', ' ')}</b>" in text for text in titles) == 1


def test_a_ring_that_is_not_there_is_said() -> None:
    assert "no ring 999" in ring_charts.ring(payments(), 999).data[0].text[0]


def test_contacts_are_drawn_with_the_slope_of_their_exponent() -> None:
    economy, _ = cheated()
    fig = economy_charts.contacts_tail(economy.world(SEED).contacts.degrees, 2.5, 10)
    users, slope = fig.data
    assert users.y[0] == 100 and np.all(np.diff(users.y) < 0)
    rise = np.log(slope.y[-1] / slope.y[0]) / np.log(slope.x[-1] / slope.x[0])
    assert rise == pytest.approx(-1.5)
    assert economy_charts.contacts_tail([], 2.5, 10).data[0].mode == "text"


def test_the_nearness_table_shows_what_is_off() -> None:
    economy, batch = cheated()
    seen = Measured.of([batch], economy.start_us, economy.days, economy.users)
    rows = comparison(seen, economy.target, economy.day_weights(SEED))
    rows[1] = {**rows[1], "state": "failed"}
    fig = economy_charts.nearness(rows)
    states, series = fig.data[0].cells["values"][:2]
    assert states[1] == "✗ off" and list(series) == [row["series"] for row in rows]
    assert f"{len(rows) - 1} of {len(rows)}" in fig.layout.title.text
    assert economy_charts.nearness([]).data[0].mode == "text"


@pytest.mark.parametrize(
    "call",
    [
        partial(economy_charts.activity_hours, hour_shares=[1.0] * 23),
        partial(economy_charts.activity_days, day_weights=[1.0] * 3),
    ],
)
def test_weights_of_another_length_are_refused(call: Callable[..., go.Figure]) -> None:
    with pytest.raises(BadInput):
        call(payments())


def test_the_frame_is_what_a_file_holds() -> None:
    economy, batch = cheated()
    frame = payments()
    ids = np.array(economy.accounts.ids())
    assert (frame.from_user.to_numpy() == ids[batch.from_account]).all()
    assert frame.pattern.cat.categories.tolist() == list(PATTERNS)
    assert len(frame) == len(batch) and frame.amount_paise.dtype == np.int64
