"""A notebook with its outputs -> one HTML page that stands alone, the same bytes each time."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbconvert.filters.ansi import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from paytm_lab.core.errors import MalformedFile
from paytm_lab.reporting.page import Link, chart, navigation, offline, page

PLOTLY_MIME = "application/vnd.plotly.v1+json"
# These carry no types.
_read: Callable[..., Any] = nbformat.read
_ansi: Callable[[str], str] = ansi2html
_highlighter: Callable[..., Callable[[str], str]] = Highlight2HTML
_highlight = _highlighter(pygments_lexer="python")
_IMAGES = ("image/png", "image/jpeg", "image/gif")


class ExportedPage(NamedTuple):
    """``title`` and ``about``: the notebook's first heading and first paragraph, as plain text."""

    path: Path
    title: str
    about: str
    charts: int


def read_notebook(source: Path) -> Any:
    """The notebook of a file; MalformedFile when it is not one."""
    try:
        return _read(source, as_version=4)
    except FileNotFoundError:
        raise MalformedFile(f"there is no notebook {source}") from None
    except Exception as error:  # nbformat raises whatever its JSON and schema readers raise
        raise MalformedFile(
            f"{source} cannot be read as a notebook: {str(error).splitlines()[0]:.200}"
        ) from error


def export_notebook(
    source: Path, out: Path, *, links: Sequence[Link] = (), notebook: Any = None
) -> ExportedPage:
    """Write ``source`` (or the ``notebook`` already read from it) as a page to ``out``.

    ``links`` is the navigation shown on top. Cells tagged ``hide-input`` show only their outputs,
    ``hide-cell`` nothing; ``solution`` is folded. Raises BadInput when an output would load
    something from elsewhere.
    """
    nb = notebook if notebook is not None else read_notebook(source)
    title, about = headline(nb, source.stem)
    charts = _Counter()
    cells = "\n".join(
        part
        for number, cell in enumerate(nb.cells)
        for part in _cell(cell, charts, f"{source.name}, cell {number + 1}")
    )
    html = page(
        title=title,
        body=_to_pages(cells, {out.name, *(link.href for link in links)}),
        nav=navigation(links, out.name),
        prose=True,
        footer=f"Made from {escape(source.name)}; open it in JupyterLab to change and rerun it.",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")
    return ExportedPage(out, title, about, charts.count)


def headline(nb: Any, fallback: str) -> tuple[str, str]:
    """The notebook's first heading and the first paragraph after it, as plain text."""
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    title = re.search(r"^#\s+(.+)$", text, re.MULTILINE)
    rest = text[title.end() :] if title else text
    paragraph = next(
        (p for p in re.split(r"\n\s*\n", rest) if p.strip() and p.strip()[0] not in "#|`-*"), ""
    )
    return (_plain(title.group(1)) if title else fallback), _plain(paragraph)


class _Counter:
    count = 0

    def next(self) -> int:
        self.count += 1
        return self.count


def _plain(markdown: str) -> str:
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(markdown.split()))
    return re.sub(r"[*`]", "", words)


def _cell(cell: Any, charts: _Counter, place: str) -> Iterator[str]:
    tags = cell.metadata.get("tags", [])
    if "hide-cell" in tags or not (cell.source.strip() or cell.get("outputs")):
        return
    if cell.cell_type == "markdown":
        yield offline(markdown2html_mistune(cell.source), place)
    elif cell.cell_type == "code":
        yield _code_cell(cell, tags, charts, place)
    else:
        yield f"<pre>{escape(cell.source)}</pre>"


def _to_pages(html: str, pages: Collection[str]) -> str:
    """Links between notebooks become links between their pages; of a notebook that has none here
    only the words stay.
    """

    def linked(found: re.Match[str]) -> str:
        stem, rest, words = found.groups()
        here = f"{stem}.html" in pages
        return f'<a href="{stem}.html{rest}">{words}</a>' if here else words

    return re.sub(r'<a href="([^":/]+)\.ipynb((?:#[^"]*)?)">(.*?)</a>', linked, html)


def _code_cell(cell: Any, tags: Sequence[str], charts: _Counter, place: str) -> str:
    kind, parts = "cell", []
    if "injected-parameters" in tags:
        kind, note = "cell injected", "parameters of this report"
    elif "parameters" in tags:
        kind, note = "cell parameters", "parameters, with their defaults"
    else:
        note = ""
    if note:
        parts.append(f'<p class="tag">{note}</p>')
    if "hide-input" not in tags:
        code = _highlight(cell.source)
        # Pygments wraps in its own div and pre: keep the coloured spans, take our own pre.
        inner = re.search(r"<pre[^>]*>(.*)</pre>", code, re.DOTALL)
        body = inner.group(1) if inner else escape(cell.source)
        parts.append(f'<pre class="source"><code>{body.strip()}</code></pre>')
    for output in cell.get("outputs", []):
        shown = _output(output, charts, place)
        if shown:
            parts.append(f'<div class="out">{shown}</div>')
    whole = f'<div class="{kind}">{"".join(parts)}</div>'
    if "solution" in tags:
        return f"<details><summary>A solution</summary>{whole}</details>"
    return whole


def _output(output: Any, charts: _Counter, place: str) -> str:
    if output.output_type == "stream":
        return f"<pre>{_ansi(output.text)}</pre>" if output.text.strip() else ""
    if output.output_type == "error":
        trace = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
        return f'<pre class="error">{_ansi(trace)}</pre>'
    return _rich(output.data, charts, place)


def _rich(data: Mapping[str, Any], charts: _Counter, place: str) -> str:
    """The richest form of an output that a page can hold by itself."""
    if PLOTLY_MIME in data:
        return chart(data[PLOTLY_MIME], charts.next())
    if "text/html" in data:
        return f'<div class="scroll">{offline(_text(data["text/html"]), place)}</div>'
    if "text/markdown" in data:
        return offline(markdown2html_mistune(_text(data["text/markdown"])), place)
    if "image/svg+xml" in data:
        return offline(_text(data["image/svg+xml"]), place)
    for mime in _IMAGES:
        if mime in data:
            body = data[mime]
            text = base64.b64encode(body).decode() if isinstance(body, bytes) else _text(body)
            return f'<img alt="" src="data:{mime};base64,{"".join(text.split())}">'
    return f"<pre>{_ansi(_text(data.get('text/plain', '')))}</pre>"


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)
