"""Charts of what followed: fraud, events, the money verdict, replay, the naive path, backlog."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.core.errors import BadInput
from paytm_lab.reporting import frames
from paytm_lab.reporting.look import (
    bars,
    count,
    figure,
    line,
    log_axis,
    room,
    rupees,
    sentence,
    share,
)
from paytm_lab.web.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED

_DECISION_LOOK = (("allow", GREEN), ("review", ORANGE), ("block", RED))
_TOPIC_COLOR = {
    "payment_events": BLUE,
    "fraud_events": ORANGE,
    "notification_events": GREEN,
    "analytics_events": PURPLE,
}


def fraud_scores(
    features: pd.DataFrame, *, threshold: float = 0.7, profile: str = "embedded", bins: int = 50
) -> go.Figure:
    """Distribution of scores by decision, with the review threshold; counts are logarithmic."""
    title = "Fraud scores"
    if features.empty:
        return sentence("No payment has been scored yet.", title=title, profile=profile)
    edges = np.linspace(0, 1, bins + 1)
    traces = []
    for decision, color in _DECISION_LOOK:
        scores = features.loc[features["decision"] == decision, "score"]
        if scores.empty:
            continue
        made, _ = np.histogram(scores.clip(0, 1), edges)
        traces.append(
            bars(
                edges[:-1] + 0.5 / bins,
                [int(n) or None for n in made],
                name=f"{decision} {share(len(scores), len(features))}",
                color=color,
                hovertemplate="score %{x:.2f}: %{y:,} payments<extra></extra>",
            )
        )
    if not traces:
        raise BadInput(
            "no decision is allow, review or block",
            remedy="Build the frame with frames.features_frame.",
        )
    above = int((features["score"] >= threshold).sum())
    fig = figure(
        traces,
        title=f"{title}: {share(above, len(features))} of payments reach the review "
        f"threshold of {threshold:g}",
        profile=profile,
        x="fraud score (0 to 1)",
        y="payments (logarithmic)",
        note="dotted: the threshold",
        layout={"barmode": "stack", "bargap": 0.05, "barcornerradius": 0},
    )
    fig.add_vline(x=threshold, line={"color": GREY, "dash": "dot", "width": 2})
    fig.update_xaxes(range=[0, 1.001])
    log_axis(fig, "y", low=0.7)
    return fig


def decisions(features: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Which rule decided what: bars by rule, coloured by decision."""
    title = "Which rule decided"
    if features.empty:
        return sentence("No payment has been scored yet.", title=title, profile=profile)
    table = pd.crosstab(features["rule"], features["decision"])
    table = table.loc[table.sum(axis=1).sort_values().index]
    traces = [
        bars(
            [int(n) or None for n in table[decision]],
            [str(rule).replace("_", " ") for rule in table.index],
            name=decision,
            color=color,
            orientation="h",
            text=[count(n) if n else "" for n in table[decision]],
            textposition="outside",
        )
        for decision, color in _DECISION_LOOK
        if decision in table.columns
    ]
    blocked = int((features["decision"] == "block").sum())
    fig = figure(
        traces,
        title=f"{title}: {count(blocked)} of {count(len(features))} payments were blocked",
        profile=profile,
        x="payments",
        y="rule",
        height=90 + 60 * len(table),
        layout={"barmode": "group"},
    )
    room(fig, float(table.to_numpy().max()))
    return fig


def event_counts(events: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Events in the log by type, all 13 types, zeros named; coloured by topic."""
    title = "Events in the log"
    total = int(events["events"].sum()) if len(events) else 0
    if not total:
        return sentence("The log holds no event yet.", title=title, profile=profile)
    ordered = events.iloc[::-1]
    traces = []
    for topic in events["topic"].unique():
        part = ordered[ordered["topic"] == topic]
        traces.append(
            bars(
                part["events"],
                part["type"],
                name=str(topic),
                color=_TOPIC_COLOR.get(str(topic), GREY),
                orientation="h",
                text=[f" {count(n)}" for n in part["events"]],
                textposition="outside",
            )
        )
    zero = events.loc[events["events"] == 0, "type"]
    fig = figure(
        traces,
        title=f"{title}: {count(total)} of {len(events) - len(zero)} types",
        profile=profile,
        x="events",
        y="event type",
        note=f"none seen of: {', '.join(zero)}" if len(zero) else "",
        height=70 + 25 * len(events),
        layout={"barmode": "overlay"},
    )
    fig.update_yaxes(categoryorder="array", categoryarray=ordered["type"], ticks="")
    room(fig, float(events["events"].max()))
    return fig


def verdict(checks: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """The audit's checks as a table: state, check, what was seen."""
    title = "Money verdict"
    if checks.empty:
        return sentence(
            "No check was made, so the verdict is unknown.", title=title, profile=profile
        )
    state = frames.verdict_state(checks)
    marks = {"passed": "✓", "failed": "✗ failed", "unknown": "? unknown"}
    tint = {"passed": "#dff3ea", "failed": "#fbdde4", "unknown": "#fdeed6"}
    table = go.Table(
        columnwidth=[1, 2.4, 4],
        header={
            "values": ["", "check", "what was seen"],
            "align": "left",
            "fill": {"color": "#eef0f3"},
            "font": {"size": 12, "color": INK},
        },
        cells={
            "values": [
                [marks.get(str(s), str(s)) for s in checks["state"]],
                [str(c).replace("_", " ") for c in checks["check"]],
                list(checks["detail"]),
            ],
            "align": "left",
            "height": 26,
            "fill": {"color": [[tint.get(str(s), "#ffffff") for s in checks["state"]]] * 3},
            "font": {"size": 12, "color": INK},
            "line": {"color": "#ffffff"},
        },
    )
    passed = int((checks["state"] == "passed").sum())
    return figure(
        [table],
        title=f"{title}: {state}, {passed} of {len(checks)} checks passed",
        profile=profile,
        x="",
        y="",
        height=60 + 28 * len(checks),
        narrow={"meta": {"height": 60 + sum(map(_row_height, checks["check"], checks["detail"]))}},
    )


def _row_height(check: str, detail: str) -> int:
    """Pixels of a table's row whose texts wrap at about 16 and 26 characters on a phone."""
    return 16 + 16 * max(-(-len(str(check)) // 16), -(-len(str(detail)) // 26))


def balance_drift(
    drift: pd.DataFrame, *, profile: str = "embedded", points_max: int = 1200
) -> go.Figure:
    """Balances by the ledger against the replay's; those that drift are always drawn."""
    title = "Replay against ledger"
    if drift.empty:
        return sentence(
            "No user has a balance, so there is nothing to compare.", title=title, profile=profile
        )
    off = drift[drift["drift_paise"] != 0]
    same = drift[drift["drift_paise"] == 0]
    same = same.iloc[:: max(1, -(-len(same) // points_max))]
    high = max(float(drift[["ledger_paise", "replayed_paise"]].max().max()) / 100, 1.0)
    traces: list[Any] = [
        line([0, high], [0, high], name="equal", color=GREY, dash="dot", hoverinfo="skip")
    ]
    for part, name, color, symbol in ((same, "equal", BLUE, "circle"), (off, "drifting", RED, "x")):
        if len(part):
            traces.append(
                go.Scatter(
                    x=part["ledger_paise"] / 100,
                    y=part["replayed_paise"] / 100,
                    mode="markers",
                    name=f"{name} users",
                    text=part["user_id"],
                    marker={"color": color, "size": 6, "symbol": symbol, "opacity": 0.6},
                    hovertemplate="user %{text}: ledger ₹%{x:,.2f}, "
                    "replay ₹%{y:,.2f}<extra></extra>",
                )
            )
    traces[0].showlegend = False
    said = (
        f"{count(len(off))} of {count(len(drift))} balances drift,"
        f" by {rupees(off['drift_paise'].abs().sum())}"
        if len(off)
        else f"all {count(len(drift))} balances are equal, drift zero"
    )
    shown = len(same) + len(off)
    return figure(
        traces,
        title=f"{title}: {said}",
        profile=profile,
        x="balance in the ledger (₹)",
        y="balance rebuilt from the log (₹)",
        note=f"{count(shown)} of them drawn" if shown < len(drift) else "",
    )


def naive_loss(paths: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Money handed out that was not there, one bar a way of spending."""
    title = "Money lost under racing spends"
    if paths.empty:
        return sentence("No way of spending was tried.", title=title, profile=profile)
    lost = paths["lost_paise"] / 100
    worst = paths.loc[lost.idxmax()]
    fig = figure(
        [
            bars(
                paths["path"],
                lost,
                color=[RED if v > 0 else GREEN for v in lost],
                text=[
                    f"{rupees(row.lost_paise)} lost<br>{count(row.accepted)} accepted,"
                    f" {count(row.affordable)} affordable"
                    for row in paths.itertuples()
                ],
                textposition="outside",
            )
        ],
        title=f"{title}: {worst['path']} gave away {rupees(worst['lost_paise'])}",
        profile=profile,
        x="way of spending",
        y="money lost (₹)",
    )
    fig.update_yaxes(range=[0, max(float(lost.max()) * 1.25, 1.0)])
    return fig


def backlog(steps: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Rows waiting in each place over time. Columns: ``at_s``, and one column of rows a place."""
    title = "Where events wait"
    places = [name for name in steps.columns if name != "at_s"]
    if steps.empty or not places:
        return sentence("Nothing was stepped, so nothing waited.", title=title, profile=profile)
    colors = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
    traces = [
        line(
            steps["at_s"],
            steps[place],
            name=place.replace("_", " "),
            color=color,
            line={"shape": "hv"},
        )
        for place, color in zip(places, colors, strict=False)
    ]
    peak = max(places, key=lambda place: steps[place].max())
    fig = figure(
        traces,
        title=f"{title}: at most {count(steps[peak].max())} rows in {peak.replace('_', ' ')}, "
        f"{count(steps[places].iloc[-1].sum())} left in the end",
        profile=profile,
        x="time since the start (s)",
        y="rows waiting",
    )
    fig.update_yaxes(rangemode="tozero")
    return fig
