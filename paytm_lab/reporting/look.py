"""How every chart looks: palette, titles that wrap on a phone, axes, the profile it is from."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from paytm_lab.web.palette import BLUE, FONT, GREY, GRID, INK, SERIES

# What a line holds at the title's and the subtitle's size in a wide font; Plotly does not wrap text
# by itself, and only a browser knows the reader's fonts (page.js measures them).
TITLE_CHARS = 74
NOTE_CHARS = 104


def figure(
    traces: Sequence[Any],
    *,
    title: str,
    profile: str,
    x: str,
    y: str,
    note: str = "",
    height: int = 300,
    head: int = 0,
    layout: Mapping[str, Any] | None = None,
    narrow: Mapping[str, Any] | None = None,
) -> go.Figure:
    """A figure in the house style. ``title`` says what to look at, ``x`` and ``y`` carry units,
    ``note`` (one short sentence) stands beside the profile under the title. ``height`` of the plot
    and ``head``, the room above it that a chart needs for itself, are pixels.

    The layout suits a wide place. For other ones ``layout.meta`` holds what page.js needs: the
    texts unwrapped, what the legend and the axis say, and ``narrow``, what to change in the layout
    where the figure is less than 620 pixels wide.
    """
    below = f"measured on: {profile}" + (f" · {note}" if note else "")
    # A number and its unit stay on one line: wrapping breaks at ordinary spaces only.
    title = re.sub(r"(?<=\d) (?=(?:%|ms\b|s\b))", "\u00a0", title)
    named = [t.name for t in traces if getattr(t, "showlegend", False) is not False and t.name]
    labels = [str(y) for t in traces if getattr(t, "orientation", "") == "h" for y in t.y]
    fig = go.Figure(data=list(traces))
    fig.update_layout(
        template="none",
        margin={"l": 12, "r": 16, "b": 12},
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        colorway=list(SERIES),
        title=_TITLE,
        showlegend=len(named) > 1,
        legend=_LEGEND,
        hoverlabel={"font": {"family": FONT}},
        barcornerradius=3,
        bargap=0.25,
        meta={
            "profile": profile,
            "title": title,
            "note": below,
            "legend": named,
            "labels": sorted(dict.fromkeys(labels), key=len)[-3:],
            "height": height,
            "head": head,
            "narrow": dict(narrow or {}),
        },
    )
    fig.update_layout(**_heading(title, below, named, labels, height, head))
    fig.update_xaxes(**_AXIS, title={"text": x, "font": {"size": 12}, "standoff": 8})
    fig.update_yaxes(**_AXIS, title={"text": y, "font": {"size": 12}, "standoff": 8})
    if layout:
        fig.update_layout(**layout)
    return fig


def _heading(
    title: str, below: str, named: Sequence[str], labels: Sequence[str], height: int, head: int
) -> dict[str, Any]:
    """Title, subtitle, and the room that they and the legend take: nothing may overlap."""
    title_lines = textwrap.wrap(title, TITLE_CHARS)
    note_lines = textwrap.wrap(below, NOTE_CHARS)
    # Plotly sets a title of several lines about half a line too high.
    pad = 14 if len(title_lines) == 1 else 24
    # The legend stands over the plot, so what the axis' labels take is lost to it.
    legend = _legend_lines(named, 730 - 7 * max(map(len, labels), default=4))
    top = 18 + pad + 21 * len(title_lines) + 16 * len(note_lines) + 21 * legend + head
    return {
        "title": {
            "text": "<br>".join(title_lines),
            "subtitle": {"text": "<br>".join(note_lines)},
            "pad": {"t": pad, "l": 14},
        },
        "margin": {"t": top},
        "height": height + top,
    }


def _legend_lines(named: Sequence[str], width: int) -> int:
    """Lines that a legend takes: each entry a 45 pixel mark and its words; if they do not fit into
    one line, columns as wide as the widest.
    """
    if len(named) < 2:
        return 0
    sizes = [45 + 7 * len(name) for name in named]
    if sum(sizes) <= width:
        return 1
    return -(-len(named) // max(1, width // max(sizes)))


_TITLE = {
    "x": 0.0,
    "xref": "container",
    "xanchor": "left",
    "y": 1.0,
    "yref": "container",
    "yanchor": "top",
    "font": {"size": 16, "weight": 600, "color": INK},
    "subtitle": {"font": {"size": 11.5, "color": GREY}},
}
_LEGEND = {
    "orientation": "h",
    "traceorder": "normal",
    "x": 0.0,
    "xanchor": "left",
    "y": 1.0,
    "yanchor": "bottom",
    "font": {"size": 12},
}
_AXIS = {
    "automargin": True,
    "gridcolor": GRID,
    "zerolinecolor": GRID,
    "linecolor": GREY,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": GRID,
    "tickfont": {"size": 11.5},
}


def sentence(text: str, *, title: str, profile: str) -> go.Figure:
    """In place of an empty panel: a small figure that says why there is nothing to draw."""
    said = go.Scatter(
        x=[0],
        y=[0],
        mode="text",
        text=["<br>".join(textwrap.wrap(text, 44))],
        textfont={"size": 14, "color": INK},
        hoverinfo="skip",
        showlegend=False,
    )
    fig = figure([said], title=title, profile=profile, x="", y="", height=110)
    fig.update_xaxes(visible=False, fixedrange=True)
    fig.update_yaxes(visible=False, fixedrange=True)
    return fig


def bars(x: Any, y: Any, *, name: str = "", color: Any = BLUE, **more: Any) -> go.Bar:
    """One set of bars; the numbers on them stay readable and inside the plot."""
    return go.Bar(
        x=list(x),
        y=list(y),
        name=name,
        marker={"color": color, **more.pop("marker", {})},
        cliponaxis=False,
        textfont={"size": 11.5},
        **more,
    )


def line(
    x: Any, y: Any, *, name: str = "", color: str = BLUE, dash: str = "solid", **more: Any
) -> go.Scatter:
    return go.Scatter(
        x=list(x),
        y=list(y),
        name=name,
        mode=more.pop("mode", "lines"),
        line={"color": color, "width": 2.2, "dash": dash, **more.pop("line", {})},
        **more,
    )


def count(number: float) -> str:
    """12345 -> '12,345'; small fractions keep two decimals."""
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:,.2f}"


def share(part: float, whole: float) -> str:
    """'12.3 %'; never '0.0 %' for something that is there, nor '100.0 %' for less than all."""
    if whole == 0:
        return "0 %"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    return f"{min(percent, 99.9) if part < whole else percent:.1f} %".replace("100.0", "100")


def rupees(paise: float) -> str:
    """Paise -> '₹1,234.50', for labels only."""
    sign = "-" if paise < 0 else ""
    return f"{sign}₹{abs(paise) / 100:,.2f}"


def log_axis(
    fig: go.Figure, axis: str, low: float | None = None, high: float | None = None
) -> None:
    """Decades only as labels: Plotly's own log ticks crowd on a small screen."""
    update = fig.update_xaxes if axis == "x" else fig.update_yaxes
    bounds: dict[str, Any] = {}
    if low is not None and high is not None:
        bounds = {"range": [log10(low), log10(high)]}
    elif low is not None:
        bounds = {"autorangeoptions": {"minallowed": log10(low)}}
    update(
        type="log", dtick=1, minor={"dtick": "D2", "showgrid": False}, exponentformat="SI", **bounds
    )


def room(fig: go.Figure, largest: float) -> None:
    """Bars from zero, so that twice the number is twice as long, and room for the labels behind
    them; a phone's plot is about four labels wide.
    """
    fig.update_xaxes(range=[0, 1.35 * largest], nticks=6)
