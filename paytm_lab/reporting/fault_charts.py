"""Charts of faults: what payers heard over time, what was caught, what the books say meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import bars, count, figure, line, rupees, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED

BIN_S = 0.25
# The words of simulation.fault_load, by how bad they are.
HEARD_LOOK = (
    ("completed", GREEN, ""),
    ("failed", GREY, ""),
    ("pending (202)", PURPLE, "/"),
    ("outcome unknown (504)", BLUE, "\\"),
    ("refused (503)", ORANGE, "x"),
    ("no service", INK, "."),
    ("no answer", RED, "+"),
)
_SHARD_COLOR = (BLUE, GREEN, ORANGE, PURPLE, RED, GREY)
_TINT = ("rgba(216,112,26,.15)", "rgba(132,94,194,.15)", "rgba(208,66,92,.15)")


def fault_timeline(run: Any, *, profile: str = "embedded") -> go.Figure:
    """Payments per second by what their callers heard, above; below, latency of the completed ones
    by the shard they touch. Faults are shaded. Takes a ``simulation.fault_watch.FaultRun``, also
    one that is still under way.
    """
    title = "What payers heard"
    payments = run.payments
    if payments.empty:
        return sentence("No payment was asked for yet.", title=title, profile=profile)
    end_s = float(payments["submitted_s"].max())
    edges = np.arange(0.0, end_s + BIN_S, BIN_S)
    traces: list[Any] = []
    said = []
    for word, color, shape in HEARD_LOOK:
        part = payments[payments["heard"] == word]
        if word == "no answer" and not run.windows:
            continue  # these are only on their way yet
        if part.empty:
            continue
        made, _ = np.histogram(part["answered_s"].fillna(part["submitted_s"]), edges)
        marker = {"pattern": {"shape": shape, "size": 6, "fillmode": "overlay"}}
        traces.append(
            bars(edges[:-1] + BIN_S / 2, made / BIN_S, name=word, color=color, marker=marker)
        )
        traces[-1].width = BIN_S
        traces[-1].hovertemplate = "%{x:.2f} s: %{y:,.0f} a second<extra>" + word + "</extra>"
        said.append(f"{count(len(part))} {word}")
    traces += _latency_lines(payments, edges)
    fig = figure(
        traces,
        title=f"{title}: " + ", ".join(said),
        profile=profile,
        x="time since the load's start (s)",
        y="payments (per s)",
        note="shaded: a fault; lines below: the median of a shard",
        height=460,
        layout={"barmode": "stack", "bargap": 0},
    )
    fig.update_layout(
        barcornerradius=0,
        yaxis={"domain": [0.5, 1.0]},
        yaxis2={
            **fig.layout.yaxis.to_plotly_json(),
            "domain": [0.0, 0.4],
            "title": {"text": "latency (ms)", "font": {"size": 12}, "standoff": 8},
            "type": "log",
            "dtick": 1,
            "exponentformat": "SI",
        },
    )
    fig.update_xaxes(range=[0, max(end_s, 1.0)], anchor="y2")
    _shade(fig, run, end_s)
    return fig


def _latency_lines(payments: pd.DataFrame, edges: Any) -> list[Any]:
    done = payments[payments["heard"] == "completed"]
    bins = np.digitize(done["answered_s"], edges) - 1
    shards = sorted({*done["from_shard"], *done["to_shard"]})
    lines = []
    for shard, color in zip(shards, _SHARD_COLOR, strict=False):
        touches = (done["from_shard"] == shard) | (done["to_shard"] == shard)
        middle = done.loc[touches, "latency_ms"].groupby(bins[touches]).median()
        middle = middle.reindex(range(len(edges) - 1))  # a gap where nobody completed
        lines.append(
            line(
                edges[:-1] + BIN_S / 2,
                middle,
                name=f"shard {shard}",
                color=color,
                yaxis="y2",
                hovertemplate="%{x:.2f} s: %{y:,.1f} ms<extra>shard " + str(shard) + "</extra>",
            )
        )
    return lines


def _shade(fig: go.Figure, run: Any, end_s: float) -> None:
    """A band for each fault, from top to bottom, with its name at the top."""
    windows = [(window.name, window.begin_s, window.end_s) for window in run.windows]
    if run.open_since is not None:
        windows.append((*run.open_since, end_s))
    shapes, notes = [], []
    for number, (name, begin_s, stop_s) in enumerate(windows):
        shapes.append(
            {"type": "rect", "xref": "x", "yref": "paper", "x0": begin_s, "x1": stop_s, "y0": 0,
             "y1": 1, "fillcolor": _TINT[number % len(_TINT)], "line": {"width": 0},
             "layer": "below"}
        )  # fmt: skip
        notes.append(
            {"x": begin_s if begin_s < 0.7 * end_s else stop_s, "y": 1, "xref": "x",
             "yref": "paper", "xanchor": "left" if begin_s < 0.7 * end_s else "right",
             "yanchor": "top", "yshift": -16 * (number % 2), "showarrow": False,
             "text": name.replace("process ", ""),
             "font": {"size": 11.5, "color": INK}, "bgcolor": "rgba(255,255,255,.75)"}
        )  # fmt: skip
    fig.update_layout(shapes=shapes, annotations=notes)


def caught(run: Any, *, profile: str = "embedded") -> go.Figure:
    """One line a payment whose caller did not hear its end: from the asking to the end in the
    ledger. Takes a ``FaultRun``.
    """
    title = "Caught in the middle"
    rows = run.caught
    written = rows[rows["ended"] != "never written"] if len(rows) else rows
    if not len(written):
        return sentence("No fault caught a payment between its legs.", title=title, profile=profile)
    written = written.sort_values("submitted_s").reset_index(drop=True)
    traces: list[Any] = []
    for ended, color in (("COMPLETED", GREEN), ("FAILED", RED), ("PENDING", PURPLE)):
        part = written[written["ended"] == ended]
        if part.empty:
            continue
        xs, ys = [], []
        for row in part.itertuples():
            xs += [row.submitted_s, row.ended_s, None]
            ys += [row.Index + 1, row.Index + 1, None]
        traces.append(
            line(
                xs,
                ys,
                name=f"in the end {ended}",
                color=color,
                mode="lines+markers",
                marker={"size": 8},
                hovertemplate="%{x:.2f} s<extra>" + ended + "</extra>",
            )
        )
    longest = float((written["ended_s"] - written["submitted_s"]).max())
    completed = int((written["ended"] == "COMPLETED").sum())
    fig = figure(
        traces,
        title=f"{title}: {count(completed)} of {count(len(written))} completed by recovery,"
        f" the last after {longest:.1f} s",
        profile=profile,
        x="time since the load's start (s)",
        y="payment (number)",
        note="from the asking to the end in the ledger; shaded: a fault",
        height=120 + 16 * len(written),
    )
    fig.update_yaxes(range=[len(written) + 0.9, -0.5], dtick=max(1, len(written) // 8))
    _shade(fig, run, float(written["ended_s"].max()))
    return fig


def money_line(run: Any, *, profile: str = "embedded") -> go.Figure:
    """Payments under way, and how far the books are off, at every look. Takes a ``FaultRun``."""
    title = "The ledger's money line"
    money = run.money
    if money.empty:
        return sentence("Nobody has looked yet.", title=title, profile=profile)
    books = money[money["asked"] > 0]
    known = books["difference_paise"].notna()
    worst = float(books["difference_paise"].abs().max()) if known.any() else 0.0
    traces = [
        line(
            money["at_s"],
            money["pending"],
            name="payments under way (number)",
            color=PURPLE,
            line={"shape": "hv"},
        ),
        line(
            books["at_s"],
            books["difference_paise"] / 100,
            name="users + under way - funded (₹)",
            color=GREEN if worst == 0 else RED,
            mode="lines+markers",
            marker={"size": 6},
        ),
    ]
    fig = figure(
        traces,
        title=f"{title}: off by {rupees(worst)} at worst in {count(known.sum())} looks,"
        f" unknown in {count((~known).sum())}",
        profile=profile,
        x="time since the load's start (s)",
        y="payments (number), difference (₹)",
        note="a gap: a shard was away; shaded: a fault",
    )
    _shade(fig, run, float(money["at_s"].max()))
    return fig


def crash_story(steps: pd.DataFrame, *, profile: str = "embedded") -> go.Figure:
    """Where one payment's money is, step by step, before a kill and after recovery. Takes a frame
    of ``watching.crash_steps``.
    """
    title = "One payment and a kill"
    if steps.empty:
        return sentence("Nothing moved.", title=title, profile=profile)
    killed = float(steps.loc[steps["after_recovery"], "step"].min()) - 0.5
    traces = [
        bars(
            steps["step"],
            steps[column] / 100,
            name=name,
            color=color,
            marker={"pattern": {"shape": shape, "size": 6, "fillmode": "overlay"}},
            hovertext=steps["what"],
            hovertemplate="%{hovertext}: ₹%{y:,.2f}<extra>" + name + "</extra>",
        )
        for column, name, color, shape in (
            ("sender_paise", "with the sender", BLUE, ""),
            ("in_transit_paise", "under way", ORANGE, "/"),
            ("receiver_paise", "with the receiver", GREEN, ""),
        )
    ]
    fig = figure(
        traces,
        title=f"{title}: killed at {steps.attrs['point']}, in the end {steps.attrs['ended']}",
        profile=profile,
        x="step",
        y="the payment's money (₹)",
        note="dashed: the process is opened again",
        layout={"barmode": "stack"},
    )
    if np.isfinite(killed):
        fig.add_vline(x=killed, line={"color": RED, "dash": "dash", "width": 1.5})
    names = [_short(what) for what in steps["what"]]
    fig.update_xaxes(tickvals=steps["step"], ticktext=names)
    return fig


def _short(what: str) -> str:
    """'writer of shard 1 handled 1' -> two short lines."""
    return what.split(" handled")[0].replace("writer of ", "writer of<br>")
