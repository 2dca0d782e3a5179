"""Pictures as pages: which panels a page has, and its parts as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from jinja2 import Template

from paytm_lab.analytics import figures, panels_history, panels_now
from paytm_lab.analytics.live import Fragments
from paytm_lab.analytics.observatory import Picture
from paytm_lab.analytics.panel import Panel, clock_of

Json = dict[str, Any]


class Page(NamedTuple):
    """``data``: the page as JSON; ``panels``: what shows that. ``charts``: whether a panel may ever
    have one, so that the page loads what draws them.
    """

    title: str
    data: Callable[[Picture], Json]
    panels: Callable[[Json], Sequence[Panel]]
    charts: bool = True


PAGES: dict[str, Page] = {
    "overview": Page("Overview", figures.overview, panels_now.overview),
    "shards": Page("Shards", figures.shards, panels_now.shards),
    "payments": Page("Payments", figures.payments, panels_history.payments),
    "fraud": Page("Fraud", figures.fraud, panels_history.fraud),
    "system": Page("System", figures.system, panels_now.system, charts=False),
}


class Renderer:
    """``parts``: the template whose macros write a panel's facts, words and table. Any thread."""

    def __init__(self, parts: Template) -> None:
        macros: Any = parts.module
        self._write = {"facts": macros.facts, "words": macros.words}
        self._table = macros.table

    def __call__(self, name: str, picture: Picture) -> Fragments:
        page = PAGES[name]
        data = page.data(picture)
        panels = page.panels(data)
        html = {}
        for panel in panels:
            for part, write in self._write.items():
                html[f"{panel.id}.{part}"] = str(write(panel)).strip()
            html[f"{panel.id}.table"] = str(self._table(panel.table)).strip()
        charts = {panel.id: msgspec.json.encode(panel.chart) for panel in panels if panel.chart}
        return Fragments(head(data), panels, html, charts)


def head(data: Json) -> Json:
    """What stands at every page's top."""
    line = data["money"]
    return {"state": line["state"], "words": line["words"], "at": clock_of(data["at"])}
