"""Fraud rings drawn as graphs: accounts are points, payments arrows, thicker for more money."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, log10, pi, sin
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting.look import count, figure, rupees, sentence
from paytm_lab.web.palette import BLUE, GREEN, GREY, INK, ORANGE, RED

_CELL_WIDTH, _CELL_HEIGHT = 1.0, 0.62
_COLUMNS = 2
_BANK = "outside:bank"


class _Drawn(NamedTuple):
    """One ring: places of accounts in 0..1 by 0..1, edges (payer, payee, paise, payments)."""

    places: dict[str, tuple[float, float]]
    edges: list[tuple[str, str, int, int]]


def ring(payments: pd.DataFrame, number: int, *, profile: str = "simulation") -> go.Figure:
    """One ring by its number. Money flows from left to right, a cycle round."""
    title = f"Ring {number}"
    rows = _own(payments[payments["ring"] == number])
    if rows.empty:
        return sentence(f"There is no ring {number}.", title=title, profile=profile)
    pattern = str(rows["pattern"].iloc[0])
    hours = (rows["at_us"].max() - rows["at_us"].min()) / 3.6e9
    fig = figure(
        [],
        title=f"{title}, {pattern.replace('_', ' ')}: {count(len(rows))} payments of"
        f" {rupees(int(rows['amount_paise'].sum()))} in {hours:,.1f} h",
        profile=profile,
        x="money flows from left to right",
        y="accounts",
        height=380,
        note="thicker arrows carry more; look at a point for its name",
        layout={"showlegend": False},
    )
    _draw(fig, _arranged(rows, pattern), 0.0, 0.0, names=True)
    _blank_axes(fig, (-0.12, 1.12), (-0.12, 1.12))
    return fig


def ring_gallery(payments: pd.DataFrame, *, profile: str = "simulation") -> go.Figure:
    """The first ring of each pattern, side by side."""
    title = "What the rings look like"
    fraud = payments[payments["ring"] > 0]
    if fraud.empty:
        return sentence("Nobody cheats in this economy.", title=title, profile=profile)
    firsts = fraud.assign(pattern=fraud["pattern"].astype(str)).groupby("pattern")["ring"].min()
    shown = [(str(pattern), int(number)) for pattern, number in firsts.items()]
    lines = -(-len(shown) // _COLUMNS)
    fig = figure(
        [],
        title=f"{title}: one of each of {len(shown)} patterns",
        profile=profile,
        x="money flows from left to right, in a cycle round",
        y="accounts",
        height=200 * lines,
        note="orange: people, green: merchants, grey: outside; thicker arrows carry more",
        layout={"showlegend": False},
    )
    for place, (pattern, number) in enumerate(shown):
        left = (place % _COLUMNS) * 1.35 * _CELL_WIDTH
        bottom = -(place // _COLUMNS) * 1.75 * _CELL_HEIGHT
        rows = _own(fraud[fraud["ring"] == number])
        _draw(fig, _arranged(rows, pattern), left, bottom, names=False)
        fig.add_annotation(
            x=left + _CELL_WIDTH / 2, y=bottom + _CELL_HEIGHT * 1.28, showarrow=False,
            text=f"<b>{pattern.replace('_', ' ')}</b> · ring {number}, {count(len(rows))} payments",
            font={"size": 11.5, "color": INK},
        )  # fmt: skip
    low = -(lines - 1) * 1.75 * _CELL_HEIGHT - 0.12
    _blank_axes(fig, (-0.15, 1.35 + _CELL_WIDTH + 0.15), (low, 1.45 * _CELL_HEIGHT))
    return fig


def _own(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the top-ups that wallets made for it: every ring would begin at the bank."""
    return rows[(rows["kind"] != "top_up") | (rows["from_user"] != _BANK)].sort_values(
        "at_us", kind="stable"
    )


def _arranged(rows: pd.DataFrame, pattern: str) -> _Drawn:
    grouped = rows.groupby(["from_user", "to_user"], sort=False, observed=True)["amount_paise"]
    edges = [
        (str(payer), str(payee), int(part.sum()), len(part)) for (payer, payee), part in grouped
    ]
    if pattern == "cycle":
        hops = list(dict.fromkeys(rows["from_user"].astype(str)))
        turn = 2 * pi / max(1, len(hops))
        places = {
            name: (0.5 + 0.42 * cos(pi - turn * at), 0.5 + 0.45 * sin(pi - turn * at))
            for at, name in enumerate(hops)
        }
        return _Drawn(places, edges)
    layer: dict[str, int] = {}
    for payer, payee, _, _ in edges:
        first = layer.setdefault(payer, 0)
        layer.setdefault(payee, first + 1)
    for payer, payee, _, _ in edges:  # somebody who pays in later, as cards do, stands before
        if layer[payer] == layer[payee] == 0:
            layer[payer] = -1
    lowest, highest = min(layer.values()), max(layer.values())
    columns: dict[int, list[str]] = {}
    for name, at in layer.items():
        columns.setdefault(at, []).append(name)
    places = {}
    for at, names in columns.items():
        for row, name in enumerate(names):
            x = (at - lowest) / max(1, highest - lowest)
            places[name] = (x, 1 - (row + 0.5) / len(names))
    return _Drawn(places, edges)


def _draw(fig: go.Figure, drawn: _Drawn, left: float, bottom: float, *, names: bool) -> None:
    wide, high = (1.0, 1.0) if names else (_CELL_WIDTH, _CELL_HEIGHT)
    at = {name: (left + x * wide, bottom + y * high) for name, (x, y) in drawn.places.items()}
    most = max(paise for _, _, paise, _ in drawn.edges)
    for payer, payee, paise, _ in drawn.edges:
        (x0, y0), (x1, y1) = at[payer], at[payee]
        width = max(0.6, 2.6 + 1.1 * log10(paise / most))
        fig.add_annotation(
            x=x1, y=y1, ax=x0, ay=y0, xref="x", yref="y", axref="x", ayref="y", text="",
            showarrow=True, arrowhead=2, arrowsize=max(0.5, 1.6 / width), arrowwidth=width,
            arrowcolor="rgba(125,133,144,.75)", standoff=8, startstandoff=6,
        )  # fmt: skip
    _middles(fig, drawn.edges, at)
    labels = list(at)
    fig.add_trace(
        go.Scatter(
            x=[at[name][0] for name in labels],
            y=[at[name][1] for name in labels],
            mode="markers+text" if names else "markers",
            text=[name if names else "" for name in labels],
            textposition="top center",
            textfont={"size": 11},
            cliponaxis=False,
            marker={"size": 13 if names else 9, "color": [_color(name) for name in labels]},
            customdata=labels,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )


def _middles(
    fig: go.Figure,
    edges: Sequence[tuple[str, str, int, int]],
    at: dict[str, tuple[float, float]],
) -> None:
    """Points that nobody sees, halfway along each arrow: an arrow itself tells nothing on hover."""
    halfway: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    for payer, payee, paise, times in edges:
        halfway["x"].append((at[payer][0] + at[payee][0]) / 2)
        halfway["y"].append((at[payer][1] + at[payee][1]) / 2)
        halfway["text"].append(f"{payer} → {payee}: {times} payments, {rupees(paise)}")
    fig.add_trace(
        go.Scatter(
            **halfway, mode="markers", marker={"size": 14, "opacity": 0, "color": BLUE},
            hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip


def _color(account: str) -> str:
    if account.startswith("outside:"):
        return RED if account.endswith("cards") else GREY
    return GREEN if account.startswith("merchant:") else ORANGE


def _blank_axes(fig: go.Figure, x: tuple[float, float], y: tuple[float, float]) -> None:
    quiet = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    fig.update_xaxes(range=list(x), **quiet)
    fig.update_yaxes(range=list(y), **quiet)
