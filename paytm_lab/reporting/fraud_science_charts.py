"""Charts of fraud models: results, costs, calibration, drift, leakage, reasons, a shadow's scores.

They take rows as ``fraud.science`` gives them (anything with the named attributes), or frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import bars, count, figure, line, log_axis, rupees, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, ORANGE, RED, SERIES

SIMULATION = "simulation"
_METRICS = {
    "auc": "AUC ROC",
    "average_precision": "average precision",
    "card_precision": "card precision at 100",
}


def _drawn(values: Iterable[float]) -> list[float]:
    """To eight digits. Libraries add in another order on another processor, so that the last digits
    of a trained model's numbers differ; a figure shows none of them.
    """
    return [float(f"{value:.8g}") for value in values]


def against_published(rows: Sequence[Any], *, ceiling: float | None = None) -> go.Figure:
    """Means over seeds with 95 % intervals beside the published numbers (rows of
    ``published.compared``); ``ceiling``: of the card precision.
    """
    title = "The published results, made again"
    if not rows:
        return sentence("No model was trained.", title=title, profile=SIMULATION)
    names = [f"{_words(row.model)}<br>{_METRICS[row.metric]}" for row in rows]
    near = sum(row.within for row in rows)
    made = go.Scatter(
        x=_drawn(row.mean for row in rows),
        y=names,
        name="here, with 95 % interval",
        mode="markers",
        marker={"color": BLUE, "size": 9},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": _drawn(row.high - row.mean for row in rows),
            "arrayminus": _drawn(row.mean - row.low for row in rows),
            "color": BLUE,
        },
    )
    said = go.Scatter(
        x=[row.published for row in rows],
        y=names,
        name="published",
        mode="markers",
        marker={"color": ORANGE, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
    )
    note = (
        "" if ceiling is None else f"perfect scores would reach a card precision of {ceiling:.3f}"
    )
    fig = figure(
        [made, said],
        title=f"{title}: {near} of {len(rows)} within their tolerance",
        profile=SIMULATION,
        x="metric (0 to 1)",
        y="model and metric",
        note=note,
        height=42 * len(rows) + 40,
    )
    fig.update_yaxes(autorange="reversed")
    return fig


def model_results(results: Sequence[tuple[str, Any]], *, ceiling: float | None = None) -> go.Figure:
    """``results``: (model, ``Metrics``) each; one group of bars a metric."""
    title = "Models on the same test week"
    if not results:
        return sentence("No model was judged.", title=title, profile=SIMULATION)
    traces = [
        bars(
            list(_METRICS.values()),
            _drawn(getattr(metrics, name) for name in _METRICS),
            name=_words(model),
            color=SERIES[place % len(SERIES)],
            text=[f"{getattr(metrics, name):.3f}" for name in _METRICS],
            textposition="outside",
        )
        for place, (model, metrics) in enumerate(results)
    ]
    best = max(results, key=lambda each: float(each[1].average_precision))
    note = "" if ceiling is None else f"card precision can reach {ceiling:.3f} at most"
    fig = figure(
        traces,
        title=f"{title}: the best average precision has {_words(best[0])}",
        profile=SIMULATION,
        x="metric",
        y="value (0 to 1)",
        note=note,
        layout={"barmode": "group"},
    )
    fig.update_yaxes(range=[0, 1.1])
    return fig


def cost_by_threshold(curve: pd.DataFrame, choice: Any) -> go.Figure:
    """``curve``: columns threshold, cost_rupees (every payment from the threshold on is reviewed);
    ``choice``: what ``thresholds.choose`` found.
    """
    title = "What a threshold costs"
    if curve.empty:
        return sentence("There are no scores.", title=title, profile=SIMULATION)
    least = curve.loc[curve["cost_rupees"].idxmin()]
    fig = figure(
        [
            line(
                _drawn(curve["threshold"]), _drawn(curve["cost_rupees"]),
                name="review from this score on",
                hovertemplate="from %{x:.3f} on: ₹%{y:,.0f}<extra></extra>",
            )
        ],
        title=f"{title}: least at {least['threshold']:.3f};"
        f" with a block as well {rupees(100 * choice.cost_rupees)}",
        profile=SIMULATION,
        x="score from which a payment is reviewed (0 to 1)",
        y="cost of the test week (rupees)",
        note="dashed: everything passes; dotted: the cheapest pair of thresholds",
    )  # fmt: skip
    for cost, dash in ((choice.allow_all_rupees, "dash"), (choice.cost_rupees, "dot")):
        fig.add_hline(y=cost, line={"color": GREY, "dash": dash, "width": 1.5})
    # Looking at nearly everything costs so much that nothing else could be seen beside it.
    fig.update_yaxes(range=[0, 1.5 * max(choice.allow_all_rupees, 1.0)])
    return fig


def calibration(curves: Sequence[tuple[str, Any]]) -> go.Figure:
    """``curves``: (model, ``Calibration``) each, against the diagonal of true probabilities."""
    title = "Does a score of one half mean one fraud in two?"
    if not curves:
        return sentence("No model was judged.", title=title, profile=SIMULATION)
    traces = [line([0, 1], [0, 1], name="as it should be", color=GREY, dash="dash")]
    for place, (model, curve) in enumerate(curves):
        traces.append(
            line(
                _drawn(curve.score),
                _drawn(curve.fraud_share),
                name=_words(model),
                color=SERIES[place % len(SERIES)],
                mode="lines+markers",
                customdata=curve.payments,
                hovertemplate="score %{x:.3f}: %{y:.3f} are fraud, of %{customdata} payments",
            )
        )
    worst = max(curves, key=lambda each: float(each[1].error))
    fig = figure(
        traces,
        title=f"{title} Furthest off: {_words(worst[0])}, by {100 * worst[1].error:.2f} points",
        profile=SIMULATION,
        x="mean score of a group of payments (0 to 1)",
        y="share of frauds in it (0 to 1)",
    )
    fig.update_xaxes(range=[0, 1.02])
    fig.update_yaxes(range=[0, 1.02])
    return fig


def over_time(rows: pd.DataFrame, metric: str = "average_precision") -> go.Figure:
    """``rows``: columns day (of the test's first), model, and the metric; a line a model."""
    title = "Week after week"
    if rows.empty:
        return sentence("No week was tested.", title=title, profile=SIMULATION)
    traces = [
        line(
            part["day"], part[metric], name=_words(str(model)),
            color=SERIES[place % len(SERIES)], mode="lines+markers",
        )
        for place, (model, part) in enumerate(rows.groupby("model", sort=False))
    ]  # fmt: skip
    low, high = rows[metric].min(), rows[metric].max()
    fig = figure(
        traces,
        title=f"{title}: {_METRICS[metric]} from {low:.2f} to {high:.2f}",
        profile=SIMULATION,
        x="first day of the test week",
        y=f"{_METRICS[metric]} (0 to 1)",
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def drift(rows: Sequence[Any]) -> go.Figure:
    """``rows``: of ``drift.drift``, the most shifted first."""
    title = "Do payments still look like those of the training?"
    if not rows:
        return sentence("Nothing was compared.", title=title, profile=SIMULATION)
    colors = {"stable": GREEN, "watch": ORANGE, "shifted": RED}
    shown = list(rows[:12])[::-1]
    psi = _drawn(row.psi for row in shown)
    shifted = sum(row.said == "shifted" for row in rows)
    fig = figure(
        [
            bars(
                psi,
                [row.feature for row in shown],
                color=[colors[row.said] for row in shown],
                orientation="h",
                text=[f"{row.psi:.3f}" for row in shown],
                textposition="outside",
            )
        ],
        title=f"{title} {shifted} of {len(rows)} features shifted",
        profile=SIMULATION,
        x="population stability index",
        y="feature",
        note="below 0.1 stable, from 0.25 on shifted",
        height=26 * len(shown) + 60,
    )
    for limit in (0.1, 0.25):
        fig.add_vline(x=limit, line={"color": GREY, "dash": "dash", "width": 1.2})
    fig.update_xaxes(range=[0, 1.2 * max(0.3, *psi)])
    return fig


def leakage(found: Any) -> go.Figure:
    """Takes a ``Leakage``: the model with the columns that tell, and without."""
    title = "With the balances, and without"
    names = ["AUC ROC", "average precision"]
    with_them = _drawn((found.auc_with, found.precision_with))
    without = _drawn((found.auc_without, found.precision_without))
    fig = figure(
        [
            bars(names, values, name=name, color=color, textposition="outside",
                 text=[f"{value:.3f}" for value in values])
            for values, name, color in (
                (with_them, "all columns", ORANGE), (without, "balances dropped", BLUE),
            )
        ],
        title=f"{title}: the AUC falls by {found.fall:.2f}",
        profile=SIMULATION,
        x="metric",
        y="value (0 to 1)",
        layout={"barmode": "group"},
    )  # fmt: skip
    fig.update_yaxes(range=[0, 1.12])
    return fig


def effects(rows: Sequence[Any], *, title: str, unit: str, most: int = 10) -> go.Figure:
    """``rows``: with feature and effect, the largest first (``explain.importance``, ``reasons``);
    ``unit``: of the effect.
    """
    if not rows:
        return sentence("Nothing had an effect.", title=title, profile=SIMULATION)
    shown = list(rows[:most])[::-1]
    values = _drawn(row.effect for row in shown)
    labels = [
        f"{row.feature} = {row.value:.4g}" if hasattr(row, "value") else row.feature
        for row in shown
    ]
    fig = figure(
        [
            bars(
                values, labels, orientation="h",
                color=[ORANGE if value > 0 else BLUE for value in values],
                text=[f"{value:+.3g}" for value in values], textposition="outside",
            )
        ],
        title=title,
        profile=SIMULATION,
        x=f"effect on the score ({unit})",
        y="feature",
        height=26 * len(shown) + 60,
    )  # fmt: skip
    reach = 1.25 * max(map(abs, values))
    fig.update_xaxes(range=[-reach if min(values) < 0 else 0, reach if max(values) > 0 else 0])
    return fig


def shadow_scores(scores: pd.DataFrame, thresholds: Any, *, profile: str) -> go.Figure:
    """What a model in shadow would have said (``run.model_scores``), by what was decided."""
    title = "A model in shadow"
    watched = scores[scores["shadow_score"].notna()]
    if watched.empty:
        return sentence("No model was in shadow.", title=title, profile=profile)
    edges = np.linspace(0, 1, 41)
    middles = (edges[1:] + edges[:-1]) / 2
    colors = {"allow": GREEN, "review": ORANGE, "block": RED}
    traces = [
        bars(
            middles,
            np.histogram(watched["shadow_score"][watched["decision"] == decision], edges)[0],
            name=f"{decision}, as decided",
            color=color,
            width=0.025,
        )
        for decision, color in colors.items()
    ]
    would = int((watched["shadow_score"] >= thresholds.block_score).sum())
    fig = figure(
        traces,
        title=f"{title}: of {count(len(watched))} payments it would have blocked {count(would)}",
        profile=profile,
        x="score of the model in shadow (0 to 1)",
        y="payments (logarithmic)",
        note="dashed: its thresholds for review and block",
        layout={"barmode": "overlay"},
    )
    log_axis(fig, "y", 0.5, 2.0 * len(watched))
    for limit in (thresholds.review_score, thresholds.block_score):
        if limit is not None and limit <= 1:
            fig.add_vline(x=limit, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.update_xaxes(range=[0, 1])
    return fig


def _words(name: str) -> str:
    return name.replace("_", " ")
