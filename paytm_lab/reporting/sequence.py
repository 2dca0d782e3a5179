"""The sequence diagram of one payment: lanes left to right, steps top to bottom, and when."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import figure, sentence
from paytm_lab.web.palette import BLUE, GREY, INK, ORANGE

LANES = ("client", "source shard", "destination shard", "outbox relay", "log", "consumers")
_LABEL_CHARS = 30


def sequence(
    steps: pd.DataFrame,
    *,
    title: str = "",
    note: str = "",
    lanes: Sequence[str] = LANES,
    profile: str = "embedded",
) -> go.Figure:
    """A frame of ``frames.steps_frame`` -> figure. Rows are evenly spaced so that none is crowded
    out; each carries its real time since the first step, in ms. Lanes that no step touches are left
    out, and actors that are not among ``lanes`` come after them in order of appearance.
    """
    title = title or "One payment, step by step"
    if steps.empty:
        return sentence("This payment left no step behind.", title=title, profile=profile)
    used = _lanes_used(steps, lanes)
    place = {name: i for i, name in enumerate(used)}
    since_ms = (steps["at_us"] - steps["at_us"].iloc[0]) / 1000
    traces: list[Any] = []
    notes: list[dict[str, Any]] = []
    row = 0.0
    ticks: list[float] = []
    for step in steps.itertuples():
        here, there = place[step.actor], place[step.to or step.actor]
        lines = textwrap.wrap(str(step.label), _LABEL_CHARS) or [""]
        row -= 0.55 + 0.45 * len(lines)
        ticks.append(row)
        traces.append(_arrow(here, there, row, step.label, f"{since_ms[step.Index]:,.2f} ms"))
        notes.append(_label(here, there, row, lines, len(used)))
    bottom = row - 0.7
    fig = figure(
        traces,
        title=title,
        profile=profile,
        x="",
        y="time since the first step (ms)",
        note=note,
        height=int(20 + 36 * -bottom),
        head=34,
        narrow={"xaxis": {"ticktext": _staggered(used)}, "meta": {"head": 64}},
    )
    fig.update_layout(annotations=notes, shapes=[_lane(i, bottom) for i in place.values()])
    fig.update_xaxes(
        side="top",
        range=[-0.45, len(used) - 0.55],
        tickvals=list(place.values()),
        ticktext=[_in_lines(name) for name in used],
        tickangle=0,
        tickfont={"size": 11.5, "weight": 600},
        showgrid=False,
        zeroline=False,
        ticks="",
        fixedrange=True,
    )
    fig.update_yaxes(
        range=[bottom, 0.1],
        tickvals=ticks,
        ticktext=[f"{ms:,.2f}" for ms in since_ms],
        showgrid=False,
        zeroline=False,
        ticks="",
        fixedrange=True,
    )
    return fig


def _lane(place: int, bottom: float) -> dict[str, Any]:
    return {
        "type": "line",
        "layer": "below",
        "x0": place,
        "x1": place,
        "y0": 0,
        "y1": bottom,
        "line": {"color": GREY, "width": 1, "dash": "dot"},
    }


def _in_lines(name: str) -> str:
    return "<br>".join(escape(line) for line in textwrap.wrap(name, 11))


def _staggered(names: Sequence[str]) -> list[str]:
    """Every second name raised by two lines: on a phone, neighbours would touch."""
    return [_in_lines(name) + "<br> <br> " * (place % 2) for place, name in enumerate(names)]


def _lanes_used(steps: pd.DataFrame, lanes: Sequence[str]) -> list[str]:
    seen = list(dict.fromkeys([*steps["actor"], *(to for to in steps["to"] if to)]))
    return [lane for lane in lanes if lane in seen] + [name for name in seen if name not in lanes]


def _arrow(here: int, there: int, row: float, label: str, when: str) -> go.Scatter:
    """A line with a head; a step of one lane with itself is a diamond on it."""
    alone = here == there
    return go.Scatter(
        x=[here] if alone else [here, there],
        y=[row] if alone else [row, row],
        mode="markers" if alone else "lines+markers",
        line={"color": BLUE, "width": 2},
        marker={
            "color": ORANGE if alone else BLUE,
            "size": [10] if alone else [0, 12],
            "symbol": "diamond" if alone else "arrow",
            "angleref": "up" if alone else "previous",
            "line": {"width": 0},
            "opacity": 1,
        },
        showlegend=False,
        text=f"{when}: {escape(label)}",
        hoverinfo="text",
    )


def _label(here: int, there: int, row: float, lines: list[str], lanes: int) -> dict[str, Any]:
    """Text above its arrow, growing towards the middle so that a phone does not cut it."""
    left, right = min(here, there), max(here, there)
    to_the_right = (left + right) / 2 <= (lanes - 1) / 2
    return {
        "x": left if to_the_right else right,
        "y": row,
        "xanchor": "left" if to_the_right else "right",
        "yanchor": "bottom",
        "xshift": 6 if to_the_right else -6,
        "yshift": 5,
        "align": "left" if to_the_right else "right",
        "text": "<br>".join(escape(line) for line in lines),
        "font": {"size": 11.5, "color": INK},
        "bgcolor": "#ffffff",
        "borderpad": 1,
        "showarrow": False,
    }
