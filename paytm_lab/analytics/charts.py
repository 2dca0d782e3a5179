"""Charts as Plotly figures in plain dicts: the browser draws them, nothing here imports Plotly.

Colours of text and lines come from the page's style sheet, so that dark and light need no redraw.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from paytm_lab.core.events import rfc3339
from paytm_lab.web.palette import BLUE, FONT, GREEN, GREY, ORANGE, PURPLE, RED, SERIES

Chart = dict[str, Any]
# To 5 at least: half a payment is no tick.
_FROM_0 = {"rangemode": "tozero", "autorangeoptions": {"include": [0, 5]}}
HEIGHT = 240  # pixels, as the style sheet has it


def _figure(traces: list[Chart], x: str, y: str, **layout: Any) -> Chart:
    axis = {"automargin": True, "tickfont": {"size": 11}, "zeroline": False, "fixedrange": True}
    named = [trace for trace in traces if trace.get("name")]
    base = {
        "font": {"family": FONT, "size": 12},
        "margin": {"l": 6, "r": 10, "t": 26 if named else 8, "b": 6},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": bool(named),
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "y": 1,
            "yanchor": "bottom",
            "xanchor": "left",
        },
        "barcornerradius": 3,
        "bargap": 0.25 if len(traces[0]["x"]) > 3 else 0.5,
        "hovermode": "closest",
        "dragmode": False,
        "height": HEIGHT,
    }
    return {
        "data": traces,
        "layout": base
        | {
            "xaxis": axis | {"title": _title(x)} | layout.pop("xaxis", {}),
            "yaxis": axis | _FROM_0 | {"title": _title(y)} | layout.pop("yaxis", {}),
        }
        | layout,
    }


def _title(text: str) -> Chart:
    return {"text": text, "font": {"size": 12}, "standoff": 6} if text else {}


def bars(
    x: Sequence[Any],
    series: Sequence[tuple[str, Sequence[float], str]],
    x_title: str,
    y_title: str,
    *,
    stacked: bool = False,
    **layout: Any,
) -> Chart:
    """``series``: name, values, colour."""
    traces = [
        {"type": "bar", "name": name, "x": list(x), "y": list(y), "marker": {"color": colour}}
        for name, y, colour in series
    ]
    return _figure(traces, x_title, y_title, barmode="stack" if stacked else "group", **layout)


def lines(
    x: Sequence[Any],
    series: Sequence[tuple[str, Sequence[float | None], str]],
    x_title: str,
    y_title: str,
    **layout: Any,
) -> Chart:
    traces = [
        {"type": "scatter", "mode": "lines+markers", "name": name, "x": list(x), "y": list(y),
         "line": {"color": colour, "width": 2}, "marker": {"size": 3},}
        for name, y, colour in series
    ]  # fmt: skip
    return _figure(traces, x_title, y_title, **layout)


def with_gaps(points: Sequence[Chart], gap_s: float) -> list[Chart]:
    """The points, which have their time in ``at``, and an empty one wherever the next is more than
    ``gap_s`` away: what nobody measured is no line.
    """
    found: list[Chart] = []
    for point in points:
        if found:
            last = datetime.fromisoformat(found[-1]["at"])
            if (datetime.fromisoformat(point["at"]) - last).total_seconds() > gap_s:
                found.append({"at": point["at"]})
        found.append(point)
    return found


def category(**more: Any) -> Chart:
    return {"type": "category", **more}


def of_shard(position: int) -> str:
    """A shard's colour, the same in every chart."""
    return (*SERIES, "#b08900", "#5b6abf")[position % (len(SERIES) + 2)]


SAME, CROSS, PLAIN, GOOD, BAD, HELD = BLUE, ORANGE, GREY, GREEN, RED, PURPLE


def last_two_minutes(at: str) -> Chart:
    """The axis of what changes every second, up to ``at``."""
    began = rfc3339(round(datetime.fromisoformat(at).timestamp() * 1e6) - 120_000_000)
    return {"type": "date", "range": [began, at], "nticks": 6, "tickformat": "%H:%M:%S"}
