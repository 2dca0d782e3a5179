"""A figure that is drawn again while something runs, in the same place of a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import plotly.graph_objects as go
from IPython.display import display, update_display

from paytm_lab.reporting.widgets import PLOTLY_MIME


class LiveFigure:
    """Called with what was seen so far, it shows ``draw(seen, ...)``: the first time it displays,
    later it replaces. What stays is the last figure, also in a recorded notebook; it needs no
    widget and no front end of its own.
    """

    def __init__(self, draw: Callable[..., go.Figure], **options: Any) -> None:
        self._draw = draw
        self._options = options
        self._id = uuid4().hex
        self._shown = False

    def __call__(self, seen: Any) -> None:
        figure = self._draw(seen, **self._options)
        bundle = {PLOTLY_MIME: json.loads(figure.to_json()), "text/plain": "a live figure"}
        say: Any = update_display if self._shown else display
        say(bundle, raw=True, display_id=self._id)
        self._shown = True
