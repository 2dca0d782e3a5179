"""Charts of a generated economy: amounts, hours and days, contacts, and how near its target is.

They take the frame of ``EconomyBatch.frame`` (or a file read by pandas) and the rows of
``economy.comparison``. The drawings of rings are in ring_charts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.core.errors import BadInput
from paytm_lab.reporting.look import bars, count, figure, line, log_axis, sentence, share
from paytm_lab.web.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SERIES

_KIND_COLOR = {
    "peer": BLUE, "merchant": ORANGE, "top_up": GREEN, "cash_out": PURPLE, "salary": RED,
    "settlement": GREY,
}  # fmt: skip
_BINS_PER_DECADE = 8
_DAY_US, _HOUR_US = 86_400_000_000, 3_600_000_000
_DRAWN = ("peer", "merchant")


def amounts(payments: pd.DataFrame, *, profile: str = "simulation") -> go.Figure:
    """How large payments are, a line a kind, over a logarithmic axis of rupees."""
    title = "What is paid"
    if payments.empty:
        return sentence("There is no payment to look at.", title=title, profile=profile)
    rupees = payments["amount_paise"] / 100
    edges = np.arange(0, np.ceil(np.log10(rupees.max())) + 1e-9, 1 / _BINS_PER_DECADE)
    middle = 10 ** ((edges[:-1] + edges[1:]) / 2)
    traces, medians = [], {}
    for kind, color in _KIND_COLOR.items():
        part = rupees[payments["kind"] == kind]
        if part.empty:
            continue
        medians[kind] = float(part.median())
        made, _ = np.histogram(np.log10(part), edges)
        traces.append(
            line(
                middle,
                100 * made / len(part),
                name=f"{kind.replace('_', ' ')} ({count(len(part))})",
                color=color,
                hovertemplate="₹%{x:,.0f}: %{y:.1f} % of its kind<extra></extra>",
            )
        )
    said = ", ".join(f"{kind} ₹{count(round(medians[kind]))}" for kind in _DRAWN if kind in medians)
    fig = figure(
        traces,
        title=f"{title}: half of the payments are at most: {said}" if said else title,
        profile=profile,
        x="amount (₹, logarithmic)",
        y="share of the kind's payments (%)",
        note=f"{_BINS_PER_DECADE} steps to a factor of ten",
    )
    fig.update_yaxes(rangemode="tozero")
    log_axis(fig, "x")
    return fig


def activity_hours(
    payments: pd.DataFrame, hour_shares: Sequence[float], *, profile: str = "simulation"
) -> go.Figure:
    """Ordinary payments by hour of the day against the target's shares (24 numbers, sum 1), and
    fraud's hours as a line.
    """
    title = "Payments by hour of the day"
    drawn = payments[payments["kind"].isin(_DRAWN)]
    ordinary = drawn[drawn["pattern"] == "none"]
    if ordinary.empty:
        return sentence("There is no ordinary payment to count.", title=title, profile=profile)
    if len(hour_shares) != 24:
        raise BadInput(
            f"{len(hour_shares)} shares are no day", remedy="Give one for each of 24 hours."
        )
    hours = np.arange(24)
    made = _hours(ordinary)
    traces = [
        bars(hours, made, name="ordinary payments", color=BLUE),
        line(hours, 100 * np.asarray(hour_shares), name="target", color=INK, mode="markers+lines"),
    ]
    fraud = payments[payments["pattern"] != "none"]
    if len(fraud):
        traces.append(line(hours, _hours(fraud), name="fraud", color=RED, dash="dot"))
    peak = int(np.argmax(made))
    fig = figure(
        traces,
        title=f"{title}: {made[peak]:.1f} % fall into the hour from {peak}:00",
        profile=profile,
        x="hour of the day (h)",
        y="share of the day's payments (%)",
    )
    fig.update_xaxes(dtick=3)
    fig.update_yaxes(rangemode="tozero")
    return fig


def _hours(payments: pd.DataFrame) -> np.ndarray:
    made = np.bincount(payments["at_us"] % _DAY_US // _HOUR_US, minlength=24)
    return np.asarray(100 * made / made.sum())


def activity_days(
    payments: pd.DataFrame,
    day_weights: Sequence[float],
    *,
    festivals: Iterable[tuple[str, int]] = (),
    profile: str = "simulation",
) -> go.Figure:
    """Ordinary payments by day against what cycles let expect (relative weights, one a day).
    ``festivals``: (name, day from 0), written over their day.
    """
    title = "Payments by day"
    drawn = payments[payments["kind"].isin(_DRAWN) & (payments["pattern"] == "none")]
    if drawn.empty:
        return sentence("There is no ordinary payment to count.", title=title, profile=profile)
    weights = np.asarray(day_weights, dtype=np.float64)
    start_us = int(payments["at_us"].min()) // _DAY_US * _DAY_US
    made = np.bincount((drawn["at_us"] - start_us) // _DAY_US, minlength=len(weights))
    if len(made) != len(weights):
        raise BadInput(
            f"the payments are of {len(made)} days, and there are {len(weights)} weights",
            remedy="Give Economy.day_weights of the same economy.",
        )
    days = pd.to_datetime(start_us + np.arange(len(weights)) * _DAY_US, unit="us")
    expected = len(drawn) * weights / weights.sum()
    busiest = int(np.argmax(made))
    fig = figure(
        [
            bars(days, made, name="payments", color=BLUE),
            line(days, expected, name="expected", color=INK, mode="markers+lines"),
        ],
        title=f"{title}: most on {days[busiest]:%A %d %B}, {count(made[busiest])}",
        profile=profile,
        x="day",
        y="payments a day",
        head=18,
    )
    for name, day in festivals:
        if 0 <= day < len(weights):
            fig.add_annotation(
                x=days[day], y=1, yref="paper", yanchor="bottom", text=name, showarrow=False,
                font={"size": 11.5, "color": RED},
            )  # fmt: skip
    fig.update_yaxes(rangemode="tozero")
    return fig


def contacts_tail(
    degrees: Sequence[int], exponent: float, degree_min: int, *, profile: str = "simulation"
) -> go.Figure:
    """How many users have k contacts or more, both axes logarithmic, with the slope
    ``1 - exponent`` from ``degree_min`` on: a power law is a straight line.
    """
    title = "Contacts of a user"
    held = np.sort(np.asarray(degrees, dtype=np.int64))
    if not len(held):
        return sentence("There is no user.", title=title, profile=profile)
    k = np.unique(held)
    at_least = 1 - np.searchsorted(held, k) / len(held)
    traces = [
        go.Scatter(
            x=k, y=100 * at_least, mode="markers", name="users", marker={"color": BLUE, "size": 5},
            hovertemplate="%{x} contacts or more: %{y:.3g} %<extra></extra>",
        )
    ]  # fmt: skip
    tail = k[k >= degree_min]
    if len(tail):
        start = at_least[len(k) - len(tail)]
        fitted = 100 * start * (tail / tail[0]) ** (1.0 - exponent)
        traces.append(line(tail, fitted, name=f"slope {1 - exponent:.2f}", color=RED, dash="dash"))
    fig = figure(
        traces,
        title=f"{title}: half have at most {int(np.median(held))}, the best known {held[-1]}",
        profile=profile,
        x="contacts k (logarithmic)",
        y="users with k or more (%, logarithmic)",
        note=f"the dashed line: exponent {exponent:.2f}, fitted from {degree_min} contacts on",
    )
    log_axis(fig, "x")
    log_axis(fig, "y")
    return fig


def nearness(rows: Sequence[Mapping[str, Any]], *, profile: str = "simulation") -> go.Figure:
    """The NRMSE table: each series against its limit, and what differs most."""
    title = "Nearness to the target"
    if not rows:
        return sentence("Nothing was measured, so nothing is near.", title=title, profile=profile)
    tint = {"passed": "#dff3ea", "failed": "#fbdde4"}
    marks = {"passed": "✓", "failed": "✗ off"}
    near = sum(row["state"] == "passed" for row in rows)
    table = go.Table(
        columnwidth=[0.8, 2, 1, 1, 1.2, 3],
        header={
            "values": ["", "series", "NRMSE", "limit", "samples", "differs most"],
            "align": "left",
            "fill": {"color": "#eef0f3"},
            "font": {"size": 12, "color": INK},
        },
        cells={
            "values": [
                [marks.get(row["state"], row["state"]) for row in rows],
                [row["series"] for row in rows],
                [f"{row['nrmse']:.4f}" for row in rows],
                [f"{row['limit']:.4f}" for row in rows],
                [count(row["samples"]) for row in rows],
                [row["worst"] for row in rows],
            ],
            "align": "left",
            "height": 26,
            "fill": {"color": [[tint.get(row["state"], "#ffffff") for row in rows]] * 6},
            "font": {"size": 12, "color": INK},
            "line": {"color": "#ffffff"},
        },
    )
    return figure(
        [table],
        title=f"{title}: {near} of {len(rows)} series are within their limits",
        profile=profile,
        x="",
        y="",
        height=60 + 28 * len(rows),
        note="NRMSE: root mean square error over the target's range; amounts as log10 of ₹",
        narrow={"meta": {"height": 80 + 52 * len(rows)}},
    )


def fraud_by_pattern(payments: pd.DataFrame, *, profile: str = "simulation") -> go.Figure:
    """Rupees and payments of each pattern, bars over a logarithmic axis."""
    title = "Fraud by pattern"
    fraud = payments[payments["pattern"] != "none"]
    if fraud.empty:
        return sentence("Nobody cheats in this economy.", title=title, profile=profile)
    table = (
        fraud.assign(pattern=fraud["pattern"].astype(str))
        .groupby("pattern")
        .agg(payments=("ring", "size"), rings=("ring", "nunique"), paise=("amount_paise", "sum"))
        .sort_values("paise")
    )
    fig = figure(
        [
            bars(
                table["paise"] / 100,
                [str(name).replace("_", " ") for name in table.index],
                color=SERIES[4],
                orientation="h",
                text=[
                    f" {count(row.payments)} payments, {row.rings} rings"
                    for row in table.itertuples()
                ],
                textposition="outside",
            )
        ],
        title=f"{title}: {share(len(fraud), len(payments))} of the payments, "
        f"{share(fraud['amount_paise'].sum(), payments['amount_paise'].sum())} of the rupees",
        profile=profile,
        x="moved by its payments (₹, logarithmic)",
        y="pattern",
        height=90 + 34 * len(table),
        note="top-ups that a wallet needed for a fraud are counted with it",
    )
    low, high = table["paise"].min() / 100, table["paise"].max() / 100
    log_axis(fig, "x", low=low / 10, high=30 * high)
    return fig
