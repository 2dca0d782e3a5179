"""What a notebook gives back to be compared: named figures, kept in the outputs of its cells.

``record("cross_shard_share", 0.75, unit="share")`` in a notebook shows a line and leaves the figure
in the executed notebook, where ``recorded`` finds it: a sweep compares them over many runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from paytm_lab.core.errors import BadInput, InvalidSetting, MalformedFile

FIGURE_MIME = "application/vnd.paytm-lab.figure+json"
TEXT_CHARS_MAX = 200
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Recorded(NamedTuple):
    """A named figure: a finite number, a truth or a short text. ``unit`` may be empty."""

    name: str
    value: float | int | bool | str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.name} = {shown(self.value)}{' ' + self.unit if self.unit else ''}"


def record(name: str, value: Any, unit: str = "") -> None:
    """Show a figure and keep it in the notebook's output. Outside a notebook it only checks.

    ``name``: lower-case words with underscores, once in a notebook. ``value``: a finite number
    (numpy's too), a truth or a text of at most 200 characters. ``unit``: what the number counts,
    e.g. "ms", "share", "payments". InvalidSetting: another name; BadInput: another value.
    """
    figure = Recorded(_name(name), _value(name, value), str(unit))
    from IPython import get_ipython  # only notebooks have it, and only they need it

    if get_ipython() is not None:
        from IPython import display

        show: Callable[..., None] = display.display  # it carries no types
        show({FIGURE_MIME: figure._asdict(), "text/plain": str(figure)}, raw=True)


def recorded(nb: Any, name: str = "the notebook") -> list[Recorded]:
    """The figures in an executed notebook's outputs, in order. MalformedFile where one is there
    twice: it would be unknown which of them to compare.
    """
    found: dict[str, Recorded] = {}
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            kept = output.get("data", {}).get(FIGURE_MIME)
            if kept is None:
                continue
            figure = Recorded(str(kept["name"]), kept["value"], str(kept.get("unit", "")))
            if figure.name in found:
                raise MalformedFile(
                    f"{name} records {figure.name} twice", remedy="Give each figure its own name."
                )
            found[figure.name] = figure
    return list(found.values())


def shown(value: Any) -> str:
    """A figure as people read it: six significant digits at most, thousands parted."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:,.6g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:.6g}"
    return f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else text


def _name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSetting(
            f"{name!r:.80} is no name of a figure",
            remedy="Write lower-case words with underscores, for example cross_shard_share.",
        )
    return name


def _value(name: str, value: Any) -> float | int | bool | str:
    if hasattr(value, "item") and getattr(value, "size", None) == 1:
        value = value.item()  # a number of numpy's
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str) and len(value) <= TEXT_CHARS_MAX:
        return value
    raise BadInput(
        f"{name} cannot be recorded as {value!r:.80}",
        remedy="Give a finite number, a truth or a text of at most 200 characters.",
    )
