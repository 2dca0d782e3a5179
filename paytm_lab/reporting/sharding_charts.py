"""Charts of simulations of sharding, from the rows of ``simulation.sharding``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import bars, figure, line, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, ORANGE, SERIES

SIMULATED = "simulation"
# column, words, how a value is written, whether less is better
_AXES = (
    ("memory_bytes", "memory", "{:,.0f} B", True),
    ("build_ms", "time to build", "{:.2g} ms", True),
    ("lookup_keys_per_s", "lookups", "{:.0f} M/s", False),
    ("users_max_over_mean", "users: fullest", "{:+.1f} %", True),
    ("load_max_over_mean", "payments: fullest", "{:+.1f} %", True),
    ("moved_share", "move at +1 shard", "{:.1f} %", True),
    ("moved_between_old_share", "… for nothing", "{:.1f} %", True),
    ("left_share", "move at -1 shard", "{:.1f} %", True),
)
_SCALE = {
    "lookup_keys_per_s": lambda v: v / 1e6,
    "users_max_over_mean": lambda v: 100 * (v - 1),
    "load_max_over_mean": lambda v: 100 * (v - 1),
    "moved_share": lambda v: 100 * v,
    "moved_between_old_share": lambda v: 100 * v,
    "left_share": lambda v: 100 * v,
}


def strategy_axes(rows: Any) -> go.Figure:
    """Every strategy on every axis; on each the best is palest, the worst darkest."""
    frame = pd.DataFrame(rows)
    title = "No strategy is best on every axis"
    if frame.empty:
        return sentence("No strategy was compared.", title=title, profile=SIMULATED)
    axes = [axis for axis in _AXES if axis[0] in frame]
    values = [frame[column].map(_SCALE.get(column, float)) for column, *_ in axes]
    texts = [
        [form.format(value) for value in column]
        for (_, _, form, _), column in zip(axes, values, strict=True)
    ]
    worse = [_worse(frame[column], less) for column, _, _, less in axes]
    names = [str(name).replace("_", " ") for name in frame["strategy"]]
    heat = go.Heatmap(
        x=names,
        y=[words for _, words, _, _ in axes],
        z=worse,
        text=texts,
        texttemplate="%{text}",
        hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
        colorscale=[[0, "#eef4fb"], [1, "#f2b27a"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    fig = figure(
        [heat],
        title=title,
        profile=SIMULATED,
        x="strategy",
        y="",
        note=f"{int(frame['shards'].iloc[0])} shards, {int(frame['users'].iloc[0]):,} users; "
        "the darker, the worse on this axis",
        height=330,
    )
    fig.update_yaxes(autorange="reversed")
    return fig


def _worse(values: Any, less_is_better: bool) -> list[float]:
    """0 for the best, 1 for the worst; by decades where they lie more than one apart."""
    numbers = values.to_numpy(dtype=float)
    if numbers.min() > 0 and numbers.max() > 10 * numbers.min():
        numbers = np.log(numbers)
    width = numbers.max() - numbers.min()
    place = (numbers - numbers.min()) / width if width else 0 * numbers
    return list(place if less_is_better else 1 - place if width else place)


def growth_moves(rows: Any) -> go.Figure:
    """The share of users who move at each step of a growth, by strategy, against the least."""
    frame = pd.DataFrame(rows)
    title = "Users who move when shards are added"
    if frame.empty:
        return sentence("No growth was simulated.", title=title, profile=SIMULATED)
    steps = list(dict.fromkeys(frame["step"]))
    traces = []
    for number, step in enumerate(steps):
        at = frame[frame["step"] == step]
        traces.append(
            bars(
                [str(name).replace("_", " ") for name in at["strategy"]],
                100 * at["moved_share"],
                name=f"{step} shards (least {100 * at['least_share'].iloc[0]:.1f} %)",
                color=SERIES[number % len(SERIES)],
                text=[f"{100 * value:.0f}" for value in at["moved_share"]],
                textposition="outside",
            )
        )
    wasted = frame.loc[frame["moved_between_old_share"].idxmax()]
    fig = figure(
        traces,
        title=f"{title}: under {wasted['strategy']} up to "
        f"{100 * wasted['moved_between_old_share']:.0f} % move between old shards, for nothing",
        profile=SIMULATED,
        x="strategy",
        y="users who move (%)",
        layout={"barmode": "group"},
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def hot_keys(rows: Any) -> go.Figure:
    """How far the busiest shard is over the mean, by Zipf's exponent; one line for each way."""
    frame = pd.DataFrame(rows)
    title = "The busiest shard over an even share of the payments"
    if frame.empty:
        return sentence("No load was simulated.", title=title, profile=SIMULATED)
    ways = frame.groupby(["shards", "split_keys", "parts"], sort=True)
    traces = []
    for number, ((shards, split_keys, parts), at) in enumerate(ways):
        whole = parts == 1 or split_keys == 0
        ordered = at.sort_values("zipf_s")
        traces.append(
            line(
                ordered["zipf_s"],
                100 * (ordered["load_max_over_mean"] - 1),
                name=f"{shards} shards" + ("" if whole else f", {split_keys} keys in {parts}"),
                color=SERIES[number % len(SERIES)],
                dash="solid" if whole else "dot",
                mode="lines+markers",
                error_y={"array": list(100 * ordered["load_max_over_mean_half_width"])},
            )
        )
    fig = figure(
        traces,
        title=f"{title}: a perfect hash does not split a key",
        profile=SIMULATED,
        x="exponent of Zipf's law (1)",
        y="busiest shard over the mean (%)",
        note=f"{int(frame['users'].iloc[0]):,} users; means with 95 % intervals",
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def locality(rows: Any) -> go.Figure:
    """What crosses shards under each placement, and how even the shards stay."""
    frame = pd.DataFrame(rows)
    title = "Payments that cross shards"
    if frame.empty:
        return sentence("No placement was simulated.", title=title, profile=SIMULATED)
    best = frame.loc[frame["cross_shard_share"].idxmin()]
    fig = figure(
        [
            bars(
                frame["placement"],
                100 * frame["cross_shard_share"],
                name="payments that cross shards",
                color=BLUE,
                text=[f"{100 * v:.0f} %" for v in frame["cross_shard_share"]],
                textposition="outside",
            ),
            bars(
                frame["placement"],
                100 * (frame["load_max_over_mean"] - 1),
                name="fullest shard over the mean, in legs",
                color=ORANGE,
                text=[f"{100 * (v - 1):.1f} %" for v in frame["load_max_over_mean"]],
                textposition="outside",
            ),
        ],
        title=f"{title}: {100 * best['cross_shard_share']:.0f} % with the placement "
        f"'{best['placement']}'",
        profile=SIMULATED,
        x="placement",
        y="share (%)",
        note=f"{int(frame['shards'].iloc[0])} shards; "
        f"{100 * frame['inside_share'].iloc[0]:.0f} % of payments stay in the payer's community",
        layout={"barmode": "group"},
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def growth_timeline(rows: Any, utilisation_max: float | None = None) -> go.Figure:
    """How busy each shard is while slots move; the new shards' lines are thick."""
    frame = pd.DataFrame(rows)
    title = "How busy each shard is while slots move"
    if frame.empty:
        return sentence("Nothing moved.", title=title, profile=SIMULATED)
    old = _old_shards(frame)
    traces = []
    for shard, at in frame.groupby("shard", sort=True):
        new = shard not in old
        traces.append(
            line(
                at["at_s"],
                100 * at["utilisation"],
                name=f"shard-{shard}" + (" (new)" if new else ""),
                color=GREEN if new else SERIES[int(shard) % len(SERIES)],
                line={"shape": "hv", "width": 3 if new else 1.3},
            )
        )
    fig = figure(
        traces,
        title=f"{title}: at most {100 * frame['utilisation'].max():.0f} %",
        profile=SIMULATED,
        x="since the first slot began to move (s)",
        y="work over what a shard can do (%)",
        note="a step up: this shard sends or takes the slot that is being copied",
    )
    if utilisation_max is not None:
        fig.add_hline(y=100 * utilisation_max, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.update_yaxes(rangemode="tozero")
    return fig


def growth_trade(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """How long a growth takes against how busy it keeps the busiest shard, by copying rate. Rows:
    ``copy_rows_per_s``, ``duration_s``, ``utilisation_max``.
    """
    frame = pd.DataFrame(rows)
    title = "Copy faster, or keep the shards free"
    if frame.empty:
        return sentence("No rate was tried.", title=title, profile=SIMULATED)
    fig = figure(
        [
            line(
                frame["duration_s"],
                100 * frame["utilisation_max"],
                color=BLUE,
                mode="lines+markers+text",
                text=[f"{rate:,.0f} rows/s" for rate in frame["copy_rows_per_s"]],
                textposition=[
                    "top left" if d > 0.7 * frame["duration_s"].max() else "top right"
                    for d in frame["duration_s"]
                ],
                cliponaxis=False,
            )
        ],
        title=title,
        profile=SIMULATED,
        x="until the new shard has its slots (s)",
        y="busiest shard (%)",
    )
    fig.update_yaxes(range=[0, float(np.ceil(12 * frame["utilisation_max"].max()) * 10)])
    return fig


def _old_shards(frame: pd.DataFrame) -> set[int]:
    first = frame[frame["at_s"] == frame["at_s"].min()]
    return set(first.loc[first["users"] > 0, "shard"])
