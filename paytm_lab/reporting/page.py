"""The shell of every page: type, colours, Plotly once. A page asks nothing of other addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from paytm_lab.core.errors import BadInput

_HERE = Path(__file__).parent


# What would make a browser ask another machine for something.
_OUTSIDE = re.compile(
    r"""(?:\b(?:src|srcset|poster|data|action|xlink:href)\s*=\s*["']?|<link\b[^>]*\bhref\s*=\s*["']?"""
    r"""|\burl\(\s*["']?|@import\s+["']?)\s*((?:https?:)?//[^"'\s>)]+)""",
    re.IGNORECASE,
)
_OUTSIDE_LINK = re.compile(
    r"""<a\b[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^>]*>(.*?)</a>""", re.IGNORECASE | re.DOTALL
)


class Link(NamedTuple):
    """``href`` is relative to the page; ``about`` one sentence, may be empty."""

    href: str
    title: str
    about: str = ""


def offline(html: str, place: str) -> str:
    """The same HTML with links to other machines turned into their text. Raises BadInput, naming
    the address, when it would load anything (image, script, style, font) from one.
    """
    found = _OUTSIDE.search(html)
    if found:
        raise BadInput(
            f"the page would load {found.group(1)[:120]}",
            place=place,
            remedy="A report page stands alone: put the contents into the page itself.",
        )
    return _OUTSIDE_LINK.sub(r"\1", html)


def chart(spec: Mapping[str, Any], number: int) -> str:
    """A Plotly figure (its JSON) as an element; ``page`` adds what draws it."""
    layout = spec.get("layout", {})
    title = layout.get("title", {})
    text = title.get("text", "") if isinstance(title, Mapping) else str(title)
    label = re.sub(r"<[^>]+>", " ", text) or f"chart {number}"
    kept = {"data": spec["data"], "layout": {k: v for k, v in layout.items() if k != "width"}}
    body = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    body = body.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    height = layout.get("height", 450)
    return (
        f'<figure class="chart" role="group" aria-label="{escape(label, quote=True)}">'
        f'<div class="plot" id="chart-{number}" style="height:{int(height)}px"></div>'
        f'<script type="application/json">{body}</script></figure>'
    )


def navigation(links: Iterable[Link], current: str) -> str:
    items = (
        f'<a href="{escape(link.href)}"'
        + (' aria-current="page"' if link.href == current else "")
        + f">{escape(link.title)}</a>"
        for link in links
    )
    inner = "".join(items)
    return f'<nav aria-label="Pages of this report">{inner}</nav>' if inner else ""


def page(*, title: str, body: str, nav: str = "", prose: bool = False, footer: str = "") -> str:
    """A whole HTML document. Plotly (4.8 MB) goes in only when ``body`` holds a chart, and once."""
    draws = '<figure class="chart"' in body
    scripts = ""
    if draws:
        from plotly.offline import get_plotlyjs  # read from disk only when needed

        scripts = f"<script>{get_plotlyjs()}</script>\n<script>{_text('page.js')}</script>\n"
    no_script = "<noscript><p>The charts need JavaScript; all else does not.</p></noscript>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{_text('page.css')}</style>\n</head>\n<body>\n<header>{nav}</header>\n"
        f"<main{' class=prose' if prose else ''}>\n{no_script if draws else ''}{body}\n</main>\n"
        f"<footer>{footer}</footer>\n{scripts}</body>\n</html>\n"
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
