"""Charts of queues: axes with units, something to look at, never an empty panel; values to try."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import util
from types import SimpleNamespace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from paytm_lab.core.errors import BadInput
from paytm_lab.reporting import look, queueing_charts, widgets
from paytm_lab.simulation.queueing.measured import Seen


def validated() -> list[dict[str, Any]]:
    return [
        {
            "check": name, "load": load, "theory": 1.0, "simulated": 1.1, "low": 0.9, "high": 1.3,
            "within": name == "one",
        }
        for name in ("one", "two") for load in (0.5, 0.9)
    ]  # fmt: skip


def percentiles() -> list[dict[str, Any]]:
    return [
        {"series": s, "q": q, "latency_ms": 10 * q * n}
        for n, s in enumerate(("open", "closed"), 1)
        for q in (0.0, 0.5, 0.9, 0.99, 0.999)
    ]


def timeline() -> list[dict[str, Any]]:
    return [
        {"series": s, "due_s": n / 100, "latency_ms": 200.0 if n == 5 else 2.0}
        for s in ("open loop", "closed loop")
        for n in range(100)
    ]


def batches() -> list[dict[str, Any]]:
    return [
        {"shard": 0, "operations": n, "work_ms": 0.1 * n, "fitted_ms": 0.1 * n} for n in range(1, 9)
    ]


def compared() -> list[dict[str, Any]]:
    return [
        {
            "kind": kind, "load": load, "measured_payments_per_s": load, "measured_p99_ms": 9.0,
            "predicted_payments_per_s": 1.5 * load, "predicted_p99_ms": 8.0,
        }
        for kind, load in (("open", 400), ("closed", 64), ("closed", 256))
    ]  # fmt: skip


def storms() -> list[dict[str, Any]]:
    return [
        {"policy": p, "at_s": n + 0.5, "answered_per_s": level, "offered_per_s": 700.0}
        for p, level in (("no retries", 700), ("retries", 0))
        for n in range(20)
    ]


def planned(rows: int = 4) -> Any:
    tried = [
        {
            "shards": n, "utilisation": 0.5, "p99_ms": 100 / n, "p99_ms_low": 90 / n,
            "p99_ms_high": 110 / n, "within": n > 2,
        }
        for n in range(1, rows + 1)
    ]  # fmt: skip
    setting = SimpleNamespace(lose_one=True, target_payments_per_s=20_000, p99_ms=40)
    return SimpleNamespace(
        tried=tried, setting=setting, shards=4, sure=0.9, error="its error: unknown"
    )


CASES: dict[str, tuple[Callable[..., go.Figure], Callable[[], Any], Any]] = {
    "waits": (queueing_charts.waits_by_load, validated, []),
    "latency": (queueing_charts.latency_curves, percentiles, []),
    "queues": (queueing_charts.queue_curves, percentiles, []),
    "stall": (queueing_charts.stall_timeline, timeline, []),
    "batches": (queueing_charts.batch_costs, batches, []),
    "prediction": (queueing_charts.prediction, compared, []),
    "capacity": (queueing_charts.capacity, planned, planned(0)),
    "storm": (queueing_charts.storm, storms, []),
}


@pytest.mark.parametrize("name", CASES)
def test_every_chart_names_axes_profile_and_what_to_look_at(name: str) -> None:
    make, rows, _ = CASES[name]
    fig = make(rows(), profile="lab x")
    layout = json.loads(fig.to_json())["layout"]
    assert "lab x" in layout["title"]["subtitle"]["text"]
    assert max(map(len, layout["title"]["text"].split("<br>"))) <= look.TITLE_CHARS
    for axis in ("xaxis", "yaxis"):
        assert layout[axis]["title"]["text"], axis
    assert all(len(trace.x) for trace in fig.data)
    assert fig.to_json() == make(rows(), profile="lab x").to_json(), "the same again"


@pytest.mark.parametrize("name", CASES)
def test_no_chart_is_ever_an_empty_panel(name: str) -> None:
    make, _, nothing = CASES[name]
    fig = make(nothing)
    assert fig.data[0].mode == "text" and len(fig.data[0].text[0]) > 15


def titled(fig: go.Figure) -> str:
    return str(fig.layout.title.text).replace("<br>", " ").replace("\u00a0", " ")


def test_titles_say_what_is_there() -> None:
    assert "2 of 4 formulas" in titled(queueing_charts.waits_by_load(validated()))
    assert "open 9.9 ms, closed 19.8 ms" in titled(queueing_charts.latency_curves(percentiles()))
    assert "1 in the open loop" in titled(queueing_charts.stall_timeline(timeline()))
    assert "8 batches, from 1 to 8" in titled(queueing_charts.batch_costs(batches()))
    assert "0.67 to 0.67 times" in titled(queueing_charts.prediction(compared()))
    assert "4 bear 20,000 payments/s and" in titled(queueing_charts.capacity(planned()))
    assert "retries never recovered" in titled(queueing_charts.storm(storms()))
    assert "all policies" in titled(queueing_charts.storm(storms()[:20]))


def test_prediction_has_two_panels_each_with_its_diagonal() -> None:
    fig = queueing_charts.prediction(compared())
    layout = json.loads(fig.to_json())["layout"]
    assert "p99 (ms)" in layout["xaxis2"]["title"]["text"]
    assert layout["yaxis2"]["title"]["text"] == "measured p99 (ms)"
    diagonals = [trace for trace in fig.data if trace.name == "equal"]
    assert [trace.xaxis for trace in diagonals] == ["x", "x2"]
    assert all(list(trace.x) == list(trace.y) for trace in diagonals)


def test_slow_payments_are_all_drawn() -> None:
    rows = [
        {"series": "open", "due_s": n / 1e3, "latency_ms": 300.0 if 5_000 <= n < 5_400 else 1.0}
        for n in range(20_000)
    ]
    fig = queueing_charts.stall_timeline(rows)
    assert sum(value > 100 for value in fig.data[0].y) == 400
    assert len(fig.data[0].x) < 2_500
    assert Seen(np.zeros(1), np.zeros(1), np.ones(1)).latency_ms().tolist() == [1_000.0]


def drawn(height: int) -> go.Figure:
    return go.Figure(go.Scatter(x=[0, 1], y=[0, height]))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr(widgets, "display", lambda data, raw: bundles.append(data))
    return bundles


def test_values_to_try_come_with_a_figure_for_whoever_cannot_move_them(
    shown: list[dict[str, Any]],
) -> None:
    widgets.try_values(drawn, height=(3, 1, 2))
    figure = shown[0][widgets.PLOTLY_MIME]
    assert figure["data"][0]["y"] == [0, 3], "of the first value"
    assert shown[0][widgets.WIDGET_MIME]["model_id"]


def test_moving_a_slider_draws_anew() -> None:
    import ipywidgets

    box = widgets._box(drawn, drawn(3), {"height": (3, 1, 2)})
    slider, output = box.children
    assert isinstance(slider, ipywidgets.SelectionSlider) and slider.options == (1, 2, 3)
    assert output.outputs[0]["data"][widgets.PLOTLY_MIME]["data"][0]["y"] == [0, 3]
    slider.value = 2
    assert output.outputs[0]["data"][widgets.PLOTLY_MIME]["data"][0]["y"] == [0, 2]


def test_without_ipywidgets_there_is_the_figure(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = util.find_spec
    monkeypatch.setattr(
        widgets, "find_spec", lambda name: None if name == "ipywidgets" else found(name)
    )
    widgets.try_values(drawn, height=(3, 1))
    assert set(shown[0]) == {widgets.PLOTLY_MIME, "text/plain"}


def test_nothing_to_try_is_refused() -> None:
    for choices in ({}, {"height": ()}):
        with pytest.raises(BadInput, match="nothing to try"):
            widgets.try_values(drawn, **choices)
