"""Charts of routing strategies, from the rows of ``simulation.simulate``."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import bars, figure, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, ORANGE

_LOADS = (
    ("users_max_over_mean", "users", BLUE),
    ("sent_max_over_mean", "payments sent", ORANGE),
    ("legs_max_over_mean", "legs of payments", GREEN),
)


def strategy_balance(rows: pd.DataFrame, *, profile: str = "simulation") -> go.Figure:
    """How far the fullest shard is over the mean, by strategy: in users, payments sent and legs."""
    title = "The fullest shard over an even share"
    if rows.empty:
        return sentence("No strategy was simulated.", title=title, profile=profile)
    shards = int(rows["shards"].iloc[0])
    names = [str(name).replace("_", " ") for name in rows["strategy"]]
    traces = [
        bars(
            names,
            100 * (rows[column] - 1),
            name=word,
            color=color,
            text=[f"{100 * (value - 1):.1f}" for value in rows[column]],
            textposition="outside",
        )
        for column, word, color in _LOADS
    ]
    best = rows.loc[rows["legs_max_over_mean"].idxmin()]
    fig = figure(
        traces,
        title=f"{title}: counted in legs the best is {str(best['strategy']).replace('_', ' ')}, "
        f"with {100 * (best['legs_max_over_mean'] - 1):.1f} %",
        profile=profile,
        x="strategy",
        y="fullest shard over the mean (%)",
        note=f"{shards} shards",
        layout={"barmode": "group"},
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def keys_moved(rows: pd.DataFrame, *, profile: str = "simulation") -> go.Figure:
    """The share of users who change shard when one is added, against the least possible."""
    title = "Users who move when a shard is added"
    if rows.empty:
        return sentence("No strategy was simulated.", title=title, profile=profile)
    shards = int(rows["shards"].iloc[0])
    least = 1 / (shards + 1)
    ordered = rows.sort_values("moved_users_share")
    share = ordered["moved_users_share"]
    fig = figure(
        [
            bars(
                [str(name).replace("_", " ") for name in ordered["strategy"]],
                100 * share,
                color=[ORANGE if value > 1.5 * least else BLUE for value in share],
                text=[f"{100 * value:.1f} %" for value in share],
                textposition="outside",
            )
        ],
        title=f"{title}: from {100 * share.min():.0f} % to {100 * share.max():.0f} %",
        profile=profile,
        x="strategy",
        y="users who move (%)",
        note=f"{shards} to {shards + 1} shards; dashed: the least possible, {100 * least:.0f} %",
    )
    fig.add_hline(y=100 * least, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.update_yaxes(range=[0, max(110 * float(share.max()), 10.0)])
    return fig
