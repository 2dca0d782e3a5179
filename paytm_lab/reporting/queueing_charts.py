"""Charts of queues and capacity, from rows of ``simulation.queueing`` and ``simulation.capacity``.

Each takes a frame (or rows for one) and needs no lab. What is simulated says so where other charts
name the profile they were measured on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import count, figure, line, log_axis, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, ORANGE, RED, SERIES

SIMULATED = "simulation"
_DASHES = ("solid", "dash", "dot", "dashdot")
_NINES = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10_000: "99.99"}


def waits_by_load(rows: Any, *, profile: str = SIMULATED) -> go.Figure:
    """Mean waits against load: lines are formulas, points simulations with their intervals. Takes
    rows of ``checks.validate``.
    """
    frame = pd.DataFrame(rows)
    title = "Waiting against load"
    if frame.empty:
        return sentence("Nothing was simulated.", title=title, profile=profile)
    traces = []
    for number, (name, part) in enumerate(frame.groupby("check", sort=False)):
        color = SERIES[number % len(SERIES)]
        part = part.sort_values("load")
        traces.append(line(100 * part["load"], part["theory"], name=str(name), color=color))
        traces.append(
            go.Scatter(
                x=list(100 * part["load"]),
                y=list(part["simulated"]),
                mode="markers",
                showlegend=False,
                name=str(name),
                marker={"color": color, "size": 8},
                error_y={
                    "array": list(part["high"] - part["simulated"]),
                    "arrayminus": list(part["simulated"] - part["low"]),
                    "color": color,
                    "thickness": 1.5,
                },
                hovertemplate="load %{x:.0f} %: %{y:.3g} simulated<extra></extra>",
            )
        )
    inside = int(frame["within"].sum())
    fig = figure(
        traces,
        title=f"{title}: {inside} of {len(frame)} formulas lie in the interval of the simulation",
        profile=profile,
        x="load: time the server is busy (%)",
        y="mean wait (service times)",
        note="lines: formulas; points: simulated, with intervals",
    )
    log_axis(fig, "y")
    return fig


def latency_curves(rows: Any, *, profile: str = "embedded") -> go.Figure:
    """Latency by percentile, a line each series. Takes ``experiments.percentile_rows``."""
    frame = pd.DataFrame(rows)
    title = "Latency by percentile"
    if frame.empty:
        return sentence("No latency was measured.", title=title, profile=profile)
    traces, words, most = [], [], 2.0
    for number, (name, part) in enumerate(frame.groupby("series", sort=False)):
        at_99 = float(np.interp(0.99, part["q"], part["latency_ms"]))
        words.append(f"{name} {at_99:,.1f} ms")
        most = max(most, float((1 / (1 - part["q"])).max()))
        traces.append(
            line(
                1 / (1 - part["q"]),
                part["latency_ms"],
                name=str(name),
                color=SERIES[number % len(SERIES)],
                dash=_DASHES[number % len(_DASHES)],
                customdata=100 * part["q"],
                hovertemplate="%{customdata:.3f} %: %{y:,.2f} ms<extra></extra>",
            )
        )
    shown = [tick for tick in _NINES if tick <= most]
    fig = figure(
        traces,
        title=f"{title}: 99 % within " + ", ".join(words),
        profile=profile,
        x="percentile of payments (%)",
        y="latency (ms)",
    )
    fig.update_xaxes(type="log", tickvals=shown, ticktext=[_NINES[tick] for tick in shown])
    log_axis(fig, "y")
    return fig


def queue_curves(rows: Any, *, profile: str = SIMULATED) -> go.Figure:
    """``latency_curves`` of queues whose services take 1 ms on average."""
    fig = latency_curves(rows, profile=profile)
    fig.update_yaxes(title={"text": "time in the system (ms; a service takes 1 ms)"})
    return fig


def stall_timeline(rows: Any, *, profile: str = "embedded", points_max: int = 2_500) -> go.Figure:
    """Each payment's latency at the time it was due. Takes ``experiments.timeline_rows``."""
    frame = pd.DataFrame(rows)
    title = "One stall, payment by payment"
    if frame.empty:
        return sentence("No payment was made.", title=title, profile=profile)
    traces, words = [], []
    for number, (name, part) in enumerate(frame.groupby("series", sort=False)):
        slow = int((part["latency_ms"] > 100).sum())
        words.append(f"{count(slow)} in the {name}")
        # The slow ones are few, and what it is about; the rest may be thinned out.
        keep = (part["latency_ms"] > 50) | (np.arange(len(part)) % (1 + len(part) // 600) == 0)
        shown = part[keep].iloc[:points_max]
        traces.append(
            go.Scatter(
                x=list(shown["due_s"]),
                y=list(shown["latency_ms"]),
                mode="markers",
                name=str(name),
                marker={
                    "color": SERIES[number % len(SERIES)],
                    "size": 6,
                    "symbol": ("circle", "diamond", "x")[number % 3],
                    "opacity": 0.65,
                },
                hovertemplate="due at %{x:.2f} s: %{y:,.1f} ms<extra></extra>",
            )
        )
    fig = figure(
        traces,
        title=f"{title}: above 100 ms are " + ", ".join(words),
        profile=profile,
        x="when the payment was due (s)",
        y="latency (ms)",
        note="slow payments all drawn, quick ones thinned out",
    )
    fig.update_yaxes(rangemode="tozero")
    return fig


def batch_costs(rows: Any, *, profile: str = "embedded", points_max: int = 2_000) -> go.Figure:
    """Work of each batch against its size, with the fitted line. Takes ``batch_rows``."""
    frame = pd.DataFrame(rows)
    title = "What a batch costs"
    if frame.empty:
        return sentence("No batch was recorded.", title=title, profile=profile)
    shown = frame.iloc[:: max(1, -(-len(frame) // points_max))]
    fitted = frame.sort_values("operations").drop_duplicates("operations")
    top = float(frame["work_ms"].quantile(0.995)) * 1.3
    traces = [
        go.Scatter(
            x=list(shown["operations"]),
            y=list(shown["work_ms"]),
            mode="markers",
            name="a batch",
            marker={"color": BLUE, "size": 5, "opacity": 0.4},
            hovertemplate="%{x} operations: %{y:.2f} ms<extra></extra>",
        ),
        line(fitted["operations"], fitted["fitted_ms"], name="the fit", color=ORANGE),
    ]
    fig = figure(
        traces,
        title=f"{title}: {count(len(frame))} batches, from {int(frame['operations'].min())} to "
        f"{int(frame['operations'].max())} operations",
        profile=profile,
        x="operations in the batch",
        y="processor time without the commit (ms)",
        note="a few outliers lie above the frame",
    )
    fig.update_yaxes(range=[0, top])
    return fig


def prediction(rows: Any, *, profile: str = "embedded") -> go.Figure:
    """Prediction against measurement, throughput and p99 in one chart: on the diagonal they are
    equal. Takes ``experiments.compare``.
    """
    frame = pd.DataFrame(rows)
    title = "Prediction against measurement"
    if frame.empty:
        return sentence("No load was compared.", title=title, profile=profile)
    panels = (("payments_per_s", "payments a second", "x", "y"), ("p99_ms", "p99 (ms)", "x2", "y2"))
    looks = {"open": (BLUE, "circle", "offered, per s"), "closed": (ORANGE, "diamond", "in flight")}
    traces: list[Any] = []
    for column, _, x, y in panels:
        both = frame[[f"measured_{column}", f"predicted_{column}"]].to_numpy(dtype=float)
        ends = [0.7 * both.min(), 1.4 * both.max()]
        equal = line(ends, ends, name="equal", color=GREY, dash="dash", hoverinfo="skip")
        traces.append(equal.update(xaxis=x, yaxis=y, showlegend=False))
        for kind, (color, symbol, unit) in looks.items():
            part = frame[frame["kind"] == kind]
            if part.empty:
                continue
            traces.append(
                go.Scatter(
                    x=list(part[f"predicted_{column}"]),
                    y=list(part[f"measured_{column}"]),
                    mode="markers+text",
                    text=[count(value) for value in part["load"]],
                    textposition="bottom right",
                    textfont={"size": 10.5},
                    name=f"{kind} loop ({unit})",
                    showlegend=x == "x",
                    marker={"color": color, "symbol": symbol, "size": 10},
                    xaxis=x,
                    yaxis=y,
                    hovertemplate=unit + " %{text}: predicted %{x:,.1f}, measured %{y:,.1f}"
                    "<extra></extra>",
                )
            )
    ratio = frame["measured_payments_per_s"] / frame["predicted_payments_per_s"]
    fig = figure(
        traces,
        title=f"{title}: throughput {ratio.min():.2f} to {ratio.max():.2f} times the predicted",
        profile=profile,
        x="predicted, payments a second",
        y="measured, payments a second",
        note="the model was fitted on one other load; dashed: equal",
        layout={
            "xaxis": {"domain": [0, 0.44]},
            "xaxis2": {"domain": [0.58, 1], "anchor": "y2"},
            "yaxis2": {"anchor": "x2"},
        },
    )
    shared = fig.layout.xaxis.to_plotly_json()
    for key in ("domain", "title", "anchor"):
        shared.pop(key, None)
    fig.update_layout(
        xaxis2={**shared, "title": {"text": "predicted p99 (ms)", "font": {"size": 12}}},
        yaxis2={**shared, "title": {"text": "measured p99 (ms)", "font": {"size": 12}}},
    )
    log_axis(fig, "x")
    log_axis(fig, "y")
    return fig


def capacity(plan: Any, *, profile: str = SIMULATED) -> go.Figure:
    """p99 against the number of shards, with intervals, the target, and the plan's choice. Takes a
    ``capacity.Plan``.
    """
    frame = pd.DataFrame(plan.tried)
    title = "How many shards"
    frame = frame[np.isfinite(frame["p99_ms"])] if len(frame) else frame
    if frame.empty:
        return sentence("No number of shards was simulated.", title=title, profile=profile)
    traces = []
    for within, name, color in ((True, "within the target", GREEN), (False, "too slow", RED)):
        part = frame[frame["within"] == within]
        if part.empty:
            continue
        traces.append(
            go.Scatter(
                x=list(part["shards"]),
                y=list(part["p99_ms"]),
                mode="markers",
                name=name,
                marker={"color": color, "size": 9, "symbol": "circle" if within else "x"},
                error_y={
                    "array": list(part["p99_ms_high"] - part["p99_ms"]),
                    "arrayminus": list(part["p99_ms"] - part["p99_ms_low"]),
                    "color": color,
                },
                customdata=list(100 * part["utilisation"]),
                hovertemplate="%{x} shards: p99 %{y:.1f} ms, busiest %{customdata:.0f} % busy"
                "<extra></extra>",
            )
        )
    lost = " and still do with one lost" if plan.setting.lose_one else ""
    fig = figure(
        traces,
        title=f"{title}: {plan.shards} bear {count(plan.setting.target_payments_per_s)} payments/s"
        f"{lost}",
        profile=profile,
        x="shards that carry the load",
        y="p99 of latency (ms)",
        note=f"dashed: the target; line: the plan, met in {100 * plan.sure:.0f} % of replications"
        f" of the model; {plan.error}",
    )
    fig.add_hline(y=plan.setting.p99_ms, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.add_vline(x=plan.shards, line={"color": BLUE, "width": 1.5})
    fig.update_yaxes(rangemode="tozero")
    fig.update_xaxes(dtick=max(1, int(np.ptp(frame["shards"])) // 10 or 1))
    return fig


def storm(rows: Any, *, profile: str = SIMULATED) -> go.Figure:
    """Answers in time, second by second, a line each policy. Takes ``experiments.storm``."""
    frame = pd.DataFrame(rows)
    title = "After a stall"
    if frame.empty:
        return sentence("Nothing was simulated.", title=title, profile=profile)
    offered = float(frame["offered_per_s"].iloc[0])
    last = frame.groupby("policy", sort=False).tail(8).groupby("policy", sort=False)
    level = last["answered_per_s"].mean() / offered
    stuck = [str(name) for name, share in level.items() if share < 0.5]
    said = f"{' and '.join(stuck)} never recovered" if stuck else "all policies recovered"
    traces = [
        line(
            part["at_s"],
            part["answered_per_s"],
            name=str(name),
            color=SERIES[number % len(SERIES)],
            dash=_DASHES[number % len(_DASHES)],
            hovertemplate="%{x:.0f} s: %{y:,} answered in time<extra></extra>",
        )
        for number, (name, part) in enumerate(frame.groupby("policy", sort=False))
    ]
    fig = figure(
        traces,
        title=f"{title}: {said}",
        profile=profile,
        x="time (s)",
        y="answered in time (per s)",
        note=f"dashed: {count(offered)} offered a second",
    )
    fig.add_hline(y=offered, line={"color": GREY, "dash": "dash", "width": 1.5})
    fig.update_yaxes(rangemode="tozero")
    return fig
