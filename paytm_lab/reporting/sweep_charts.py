"""Small multiples of a sweep: a panel for each figure, over the parameter with the most values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from paytm_lab.reporting.grid import varying
from paytm_lab.reporting.look import bars, figure, line
from paytm_lab.reporting.sweeps import Outcome
from paytm_lab.web.palette import SERIES

PANELS_MAX = 36
TICKS_MAX = 6  # so few values are each marked on the x axis
LINES_MAX = len(SERIES)
_DASHES = ("solid", "dash", "dot")


class Axes(NamedTuple):
    """Which varying parameter is what in every panel; ``line`` may be empty, ``panel`` too."""

    x: str
    line: str
    panel: tuple[str, ...]


def axes_of(outcomes: Sequence[Outcome]) -> Axes | None:
    """Along x the parameter with the most values (a number before a word), then lines, then panels.
    None where nothing varies.
    """
    points = [outcome.point for outcome in outcomes]
    names = varying(points)
    if not names:
        return None

    def sizes(name: str) -> tuple[bool, int]:
        values = {repr(p.parameters[name]): p.parameters[name] for p in points}
        return all(_is_number(v) for v in values.values()), len(values)

    ordered = sorted(names, key=sizes, reverse=True)
    rest = ordered[1:]
    few = [name for name in rest if sizes(name)[1] <= LINES_MAX]
    chosen = max(few, key=lambda name: sizes(name)[1], default="")
    return Axes(ordered[0], chosen, tuple(name for name in rest if name != chosen))


def numeric_figures(outcomes: Sequence[Outcome]) -> tuple[list[str], list[str]]:
    """Names of the figures that are numbers and differ between points; of those that are numbers
    and are always the same.
    """
    seen: dict[str, set[float]] = {}
    words = set()
    for outcome in outcomes:
        for recorded in outcome.worked.figures:
            if _is_number(recorded.value):
                seen.setdefault(recorded.name, set()).add(float(recorded.value))
            else:
                words.add(recorded.name)
    numbers = {name: values for name, values in seen.items() if name not in words}
    return (
        [name for name, values in numbers.items() if len(values) > 1],
        [name for name, values in numbers.items() if len(values) == 1],
    )


def small_multiples(outcomes: Sequence[Outcome], profile: str) -> list[go.Figure]:
    """At most PANELS_MAX panels; those of one figure share their y range.

    Points that failed leave a gap. Empty where nothing varies or nothing was recorded.
    """
    axes = axes_of(outcomes)
    if axes is None:
        return []
    panels: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        where = tuple(f"{name} {outcome.point.parameters[name]}" for name in axes.panel)
        panels.setdefault(where, []).append(outcome)
    names = numeric_figures(outcomes)[0]
    each = max(1, PANELS_MAX // max(1, len(names)))  # every figure is seen
    return [
        _panel(name, where, inside, axes, _limits(outcomes, name), profile)
        for name in names[:PANELS_MAX]
        for where, inside in list(panels.items())[:each]
    ]


def _panel(
    name: str,
    where: tuple[str, ...],
    outcomes: Sequence[Outcome],
    axes: Axes,
    limits: tuple[float, float],
    profile: str,
) -> go.Figure:
    numbers = all(_is_number(o.point.parameters[axes.x]) for o in outcomes)
    lines: dict[str, list[tuple[Any, float | None]]] = {}
    unit = ""
    for outcome in outcomes:
        label = str(outcome.point.parameters[axes.line]) if axes.line else ""
        value, its_unit = _value(outcome, name)
        unit = unit or its_unit
        x = outcome.point.parameters[axes.x]
        lines.setdefault(label, []).append((x if numbers else str(x), value))
    traces = []
    for at, (label, pairs) in enumerate(lines.items()):
        if numbers:
            pairs.sort(key=lambda pair: pair[0])
        x, y = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        color, dash = SERIES[at % len(SERIES)], _DASHES[at // len(SERIES) % len(_DASHES)]
        if numbers:
            traces.append(line(x, y, name=label, color=color, dash=dash, mode="lines+markers"))
        else:
            traces.append(bars(x, y, name=label, color=color))
    made = figure(
        traces,
        title=_words(name) + (f", {', '.join(map(_words, where))}" if where else ""),
        profile=profile,
        x=_words(axes.x) if numbers else "",
        y=unit or _words(name),
        note=f"lines: {_words(axes.line)}" if axes.line else "",
        height=230,
        layout={} if numbers else {"barmode": "group"},
    )
    if not numbers:
        made.update_xaxes(title={"text": _words(axes.x)}, type="category")
    elif len(found := sorted({pair[0] for pairs in lines.values() for pair in pairs})) <= TICKS_MAX:
        made.update_xaxes(tickvals=found)
    made.update_yaxes(range=list(_range(limits, from_zero=not numbers)))
    return made


def _value(outcome: Outcome, name: str) -> tuple[float | None, str]:
    for recorded in outcome.worked.figures:
        if recorded.name == name:
            return float(recorded.value), recorded.unit
    return None, ""


def _limits(outcomes: Sequence[Outcome], name: str) -> tuple[float, float]:
    values = [v for v in (_value(outcome, name)[0] for outcome in outcomes) if v is not None]
    return min(values), max(values)


def _range(limits: tuple[float, float], from_zero: bool) -> tuple[float, float]:
    """A little air around; bars begin at zero, and so do lines that come near it."""
    low, high = limits
    if low >= 0 and (from_zero or low < 0.5 * high):
        return 0.0, 1.08 * high or 1.0
    air = 0.08 * (high - low) or 1.0
    return (min(low - air, 0.0) if from_zero else low - air), high + air


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(name: str) -> str:
    return name.replace("_", " ")
