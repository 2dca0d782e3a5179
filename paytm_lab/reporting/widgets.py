"""Values to try in a notebook: sliders above a figure, and the figure alone where nothing is live.

A recorded notebook, an exported page and a viewer without a kernel all show the figure for the
first values: it is part of the same output as the widget, for whoever cannot draw that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import plotly.graph_objects as go
from IPython.display import display

from paytm_lab.core.errors import BadInput

PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


def try_values(draw: Callable[..., go.Figure], **choices: Sequence[Any]) -> None:
    """Show ``draw(name=value, ...)`` for the first of each of ``choices``, and sliders for the
    others. Without ipywidgets only the figure.
    """
    if not choices or not all(len(values) for values in choices.values()):
        raise BadInput("nothing to try", remedy="Give each name some values, the first shown.")
    first = draw(**{name: values[0] for name, values in choices.items()})
    bundle = {PLOTLY_MIME: json.loads(first.to_json()), "text/plain": "a figure to try values on"}
    if find_spec("ipywidgets") is not None:
        made: dict[str, Any] = _box(draw, first, choices)._repr_mimebundle_()
        bundle[WIDGET_MIME] = made[WIDGET_MIME]
    show: Any = display
    show(bundle, raw=True)


def _box(draw: Callable[..., go.Figure], first: go.Figure, choices: Any) -> Any:
    """Sliders over an output that is drawn anew when one of them moves."""
    import ipywidgets

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=sorted(values),
            value=values[0],
            description=name.replace("_", " "),
            continuous_update=False,
            style={"description_width": "initial"},
        )
        for name, values in choices.items()
    }
    shown = ipywidgets.Output(outputs=_output(first))

    def changed(_: Any) -> None:
        shown.outputs = _output(draw(**{name: each.value for name, each in sliders.items()}))

    for slider in sliders.values():
        slider.observe(changed, "value")
    return ipywidgets.VBox([*sliders.values(), shown])


def _output(figure: go.Figure) -> tuple[dict[str, Any], ...]:
    """As an Output widget keeps it. A figure told to display itself would do so outside of it."""
    data = {PLOTLY_MIME: json.loads(figure.to_json())}
    return ({"output_type": "display_data", "data": data, "metadata": {}},)
