"""A figure that is drawn again while something runs, in the same place of a notebook."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import plotly.graph_objects as go
from IPython.display import display, update_display

from paytm_lab.reporting.widgets import PLOTLY_MIME


class LiveFigure:
    """``show`` the first time displays, later it replaces. What stays is the last figure, also in a
    recorded notebook; no widget and no front end of our own is needed.
    """

    def __init__(self) -> None:
        self._id = uuid4().hex
        self._shown = False

    def show(self, figure: go.Figure) -> None:
        bundle = {PLOTLY_MIME: json.loads(figure.to_json()), "text/plain": "a live figure"}
        say: Any = update_display if self._shown else display
        say(bundle, raw=True, display_id=self._id)
        self._shown = True
