"""A sweep as one page: what varied, small multiples, a table; the same rows as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from paytm_lab.core.words import plural
from paytm_lab.reporting.grid import varying
from paytm_lab.reporting.page import chart, page
from paytm_lab.reporting.recording import shown
from paytm_lab.reporting.sweep_charts import axes_of, numeric_figures, small_multiples
from paytm_lab.reporting.sweeps import Outcome, replace_file

ERROR_CHARS_MAX = 4_000


class SweepFiles(NamedTuple):
    """What ``write_sweep`` wrote."""

    page: Path
    json: Path
    csv: Path


def write_sweep(
    out: Path, name: str, title: str, outcomes: Sequence[Outcome], *, profile: str, command: str
) -> SweepFiles:
    """``index.html``, ``results.json`` and ``results.csv`` in ``out``. The same outcomes give the
    same bytes. ``profile``: what the figures were measured on; ``command`` repeats the sweep.
    """
    files = SweepFiles(out / "index.html", out / "results.json", out / "results.csv")
    found = rows(outcomes)
    replace_file(files.json, json.dumps({"sweep": name, "rows": found}, indent=1, default=repr))
    replace_file(files.csv, _csv(found))
    body = _body(name, title, outcomes, profile, command)
    replace_file(files.page, page(title=f"Sweep: {title}", body=body, footer=_FOOTER))
    return files


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One a point: its parameters, its figures, ``state`` (done | failed) and ``error``. A figure
    with the name of a parameter gets an underscore behind it.
    """
    found = []
    for outcome in outcomes:
        row = dict(outcome.point.parameters)
        for figure in outcome.worked.figures:
            row[figure.name + "_" * (figure.name in row)] = figure.value
        found.append(row | {"state": outcome.state, "error": outcome.worked.error})
    return found


_FOOTER = "paytm_lab is a laboratory. It has no connection with Paytm and moves no real money."


def _body(name: str, title: str, outcomes: Sequence[Outcome], profile: str, command: str) -> str:
    changed = varying([outcome.point for outcome in outcomes])
    failed = [outcome for outcome in outcomes if outcome.worked.error]
    over = " and ".join(changed).replace("_", " ") if changed else "one point"
    return "\n".join(
        (
            f'<p class="eyebrow">paytm_lab sweep · {escape(name)} · profile {escape(profile)}</p>',
            f"<h1>{escape(title)}</h1>",
            f"<p>{len(outcomes):,} {plural(len(outcomes), 'point')} over {escape(over)}.</p>",
            _failures(failed, changed, len(outcomes)),
            _facts(outcomes, changed),
            _panels(outcomes, profile),
            f"<h2>Every point</h2>{_table(outcomes, changed)}",
            f"<h2>Repeat it</h2><p>Points that are finished are kept, so repeating costs only what"
            f" is new.</p><pre><code>{escape(command)}</code></pre>",
        )
    )


def _failures(failed: Sequence[Outcome], changed: Sequence[str], total: int) -> str:
    if not failed:
        return ""
    each = "".join(
        f"<details open><summary>{escape(_label(outcome, changed))}</summary>"
        f'<pre class="error">{escape(outcome.worked.error[:ERROR_CHARS_MAX])}</pre></details>'
        for outcome in failed
    )
    return (
        f'<section class="verdict failed" aria-label="Failed points"><strong>{len(failed):,} of'
        f" {total:,} failed</strong><p>They leave gaps below. The next run of the same sweep tries"
        f" them again.</p>{each}</section>"
    )


def _label(outcome: Outcome, changed: Sequence[str]) -> str:
    names = changed or list(outcome.point.parameters)
    return ", ".join(f"{name} = {outcome.point.parameters[name]}" for name in names)


def _facts(outcomes: Sequence[Outcome], changed: Sequence[str]) -> str:
    fixed = {k: v for k, v in outcomes[0].point.parameters.items() if k not in changed and v != ""}
    inner = "".join(
        f"<div><dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(shown(value))}</dd></div>"
        for key, value in fixed.items()
    )
    return f'<h2>The same for all</h2><dl class="facts">{inner}</dl>' if inner else ""


def _panels(outcomes: Sequence[Outcome], profile: str) -> str:
    drawn = small_multiples(outcomes, profile)
    changing, constant = numeric_figures(outcomes)
    parts = [chart(json.loads(fig.to_json()), n) for n, fig in enumerate(drawn, start=1)]
    said = []
    if not changing and not constant:
        said.append("Nothing was recorded that could be drawn.")
    if constant and len(outcomes) > 1:
        said.append(f"The same at every point: {', '.join(constant).replace('_', ' ')}.")
    axes = axes_of(outcomes)
    if drawn and axes and axes.panel:
        said.append("Panels of one figure have one scale.")
        kinds = {tuple(o.point.parameters[name] for name in axes.panel) for o in outcomes}
        if len(drawn) < len(changing) * len(kinds):
            said.append(f"Only {len(drawn)} panels are drawn; the table has all points.")
    words = f"<p>{escape(' '.join(said))}</p>" if said else ""
    return f'<h2>Side by side</h2>{words}<div class="grid small">{"".join(parts)}</div>'


def _table(outcomes: Sequence[Outcome], changed: Sequence[str]) -> str:
    units: dict[str, str] = {}
    for outcome in outcomes:
        for figure in outcome.worked.figures:
            units.setdefault(figure.name, figure.unit)
    names = list(changed) or list(outcomes[0].point.parameters)
    heads = "".join(f"<th>{escape(n.replace('_', ' '))}</th>" for n in names)
    heads += "".join(
        f"<th>{escape(n.replace('_', ' '))}{f' ({escape(u)})' if u else ''}</th>"
        for n, u in units.items()
    )
    lines = []
    for outcome in outcomes:
        values = {figure.name: shown(figure.value) for figure in outcome.worked.figures}
        cells = "".join(f"<td>{escape(shown(outcome.point.parameters[n]))}</td>" for n in names)
        cells += "".join(f"<td>{escape(values.get(n, ''))}</td>" for n in units)
        state = "passed" if outcome.state == "done" else "failed"
        lines.append(f'<tr>{cells}<td class="state {state}">{outcome.state}</td></tr>')
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Every point">'
        f'<table class="dataframe"><thead><tr>{heads}<th>state</th></tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _csv(found: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in found for name in row))
    names = [n for n in names if n not in ("state", "error")] + ["state", "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
