"""What a page is made of: panels of figures, a chart with its table, or a sentence that says why
there is nothing to show. Templates only lay them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from paytm_lab.analytics.charts import Chart
from paytm_lab.core.money import in_lakhs


class Cell(NamedTuple):
    """``href``: of a link. ``tone``: good, warn, bad or '' . ``number``: set to the right."""

    text: str
    href: str = ""
    tone: str = ""
    number: bool = False


class Fact(NamedTuple):
    label: str
    value: str
    small: str = ""
    tone: str = ""


class Table(NamedTuple):
    """``caption`` says what a row is."""

    caption: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


class Panel(NamedTuple):
    """``why``: the sentence in place of what is not there. ``note``: what else is to be known, for
    example a shard that the figures are without. ``chart_says``: the chart in a sentence, for those
    who cannot see it. ``about``: what the figures mean, where the title does not say it.
    """

    id: str
    title: str
    facts: Sequence[Fact] = ()
    table: Table | None = None
    chart: Chart | None = None
    chart_says: str = ""
    why: str = ""
    note: str = ""
    about: str = ""
    wide: bool = False


def text(value: object, tone: str = "") -> Cell:
    return Cell(str(value), tone=tone)


def number(value: object, tone: str = "") -> Cell:
    return Cell(str(value), tone=tone, number=True)


def head(*names: str) -> list[Cell]:
    """Names that begin with '#' are of numbers."""
    return [Cell(name.removeprefix("#"), number=name.startswith("#")) for name in names]


def payment_link(payment_id: str) -> Cell:
    return Cell(payment_id, href=f"/payments/{payment_id}")


def count(value: float | None) -> str:
    """12345 -> '12,345'; '–' for what is not known."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.1f}"


def rupees(paise: int | None) -> str:
    """Paise -> '₹1,23,456.70', exact."""
    return "–" if paise is None else in_lakhs(paise)


def short_rupees(paise: int) -> str:
    """'₹1.2 Cr' and '₹3.4 L' for tiles; exact below a lakh."""
    for size, unit in ((10**14, "L Cr"), (10**9, "Cr"), (10**7, "L")):
        if abs(paise) >= size:
            return f"₹{paise / size:,.2f} {unit}"
    return rupees(paise)


def share(part: float | None) -> str:
    """0.987 -> '98.7 %'; never '100 %' for less than all."""
    if part is None:
        return "–"
    if part < 1 and part >= 0.9995:
        return "> 99.9 %"
    return f"{part:.1%}".replace("%", " %").replace("100.0", "100")


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 0.1:
        return "< 0.1 ms"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def time_of(rfc3339: str | None) -> str:
    """'2026-01-01T12:34:56.789Z' -> '2026-01-01 12:34:56 UTC'."""
    return "–" if not rfc3339 else f"{rfc3339[:10]} {rfc3339[11:19]} UTC"


def clock_of(rfc3339: str) -> str:
    return rfc3339[11:19]


def any_of(*values: Any) -> bool:
    return any(bool(value) for value in values)
