"""The report: notebooks run and exported, and a first page with the verdict and the charts.

``build_report(data, run, out, notebooks, ...)`` does all of it; ``build_site`` only writes pages.
"""

from __future__ import annotations

import ctypes
import gc
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from paytm_lab.reporting import frames
from paytm_lab.reporting.charts import Charts
from paytm_lab.reporting.export import ExportedPage, export_notebook
from paytm_lab.reporting.look import count, rupees, share
from paytm_lab.reporting.notebooks import (
    Abandoned,
    Failure,
    Progress,
    Task,
    execute_all,
    no_matter,
    no_progress,
)
from paytm_lab.reporting.page import Link, chart, navigation, page

_NOT_PAYTM = "paytm_lab is a laboratory. It has no connection with Paytm and moves no real money."
_SAID = {
    "passed": ("Passed", "Every paisa is accounted for"),
    "failed": ("Failed", "The money does not add up"),
    "unknown": ("Unknown", "Not everything could be checked"),
}
_NEXT_STEPS = (
    ("Change a notebook and run it again", "make lab"),
    ("Take a shard away and watch what heals", "paytm-lab fault shard-2 down"),
    ("Bring your own payments", "paytm-lab report --transfers FILE.csv"),
    ("Measure the engine", "paytm-lab bench engine --json"),
)


def next_steps(profile: str) -> list[tuple[str, str]]:
    """What to try after a report of this profile, and the command for it."""
    on_it = "" if profile == "embedded" else f" --profile {profile}"
    return [
        (what, how + on_it if how.startswith("paytm-lab") else how) for what, how in _NEXT_STEPS
    ]


@dataclass(frozen=True, slots=True)
class RunData:
    """What the first page shows. Frames as ``frames`` makes them; seconds are wall-clock.

    ``command`` repeats the run. ``drained_s`` runs from the first post to the last consumer done.
    ``facts`` are more (name, value) pairs to show beside the computed ones.
    """

    profile: str
    seed: int
    command: str
    payments: pd.DataFrame
    shards: pd.DataFrame
    features: pd.DataFrame
    verdict: pd.DataFrame
    events: pd.DataFrame
    posting_s: float
    drained_s: float
    review_threshold: float = 0.7
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """Where the site is, its notebook pages in order, and how long it took."""

    index: Path
    pages: list[ExportedPage]
    seconds: float


def build_report(
    data: Path | None,
    run: RunData,
    out: Path,
    notebooks: Sequence[Path],
    *,
    parameters: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
    abandoned: Abandoned = no_matter,
    timeout_s: float = 300.0,
    jobs: int | None = None,
) -> Report:
    """Execute ``notebooks`` on the lab in ``data`` and write the linked site to ``out``.

    Each notebook gets ``data``, ``profile`` and ``seed`` and, on top, ``parameters`` (an unknown
    name is an error). At most ``jobs`` kernels run at once: two, and on servers, which the
    notebooks share and one of them takes a shard from, one after the other.
    ``progress(name, done, total)`` is called from several threads, once a cell;
    ``abandoned(folder)`` for each lab that a failing notebook left open in a temporary folder. When
    a notebook fails, its page (with the error) and the rest of the site are written all the same,
    then NotebookFailed is raised. Executed notebooks
    lie in ``out/notebooks``.
    """
    started = time.monotonic()
    given = {"data": str(data) if data else "", "profile": run.profile, "seed": run.seed}
    tasks = [
        Task(path, out / "notebooks" / path.name, {**given, **(parameters or {})})
        for path in notebooks
    ]
    _give_back_memory()
    jobs = jobs or (1 if run.profile == "servers" else 2)
    failures = execute_all(
        tasks, timeout_s=timeout_s, jobs=jobs, progress=progress, abandoned=abandoned
    )
    pages = export_all([task.out for task in tasks if task.out.exists()], out)
    index = build_site(out, pages, run, failures)
    if failures:
        raise failures[0].error
    return Report(index, pages, time.monotonic() - started)


def _give_back_memory() -> None:
    """What the run freed goes back to the system before the kernels ask for theirs: after 50,000
    payments that is about half of this process (530 to 280 MiB). Only glibc needs to be asked.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def export_all(executed: Sequence[Path], out: Path) -> list[ExportedPage]:
    """One page a notebook, each linking to all others and to the first page."""
    links = [Link("index.html", "Report")]
    links += [Link(f"{path.stem}.html", _short(path.stem)) for path in executed]
    return [export_notebook(path, out / f"{path.stem}.html", links=links) for path in executed]


def build_site(
    out: Path, pages: Sequence[ExportedPage], run: RunData, failures: Sequence[Failure] = ()
) -> Path:
    """Write ``out/index.html`` for the pages beside it. The same input gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    links = [Link("index.html", "Report")]
    links += [Link(p.path.name, _short(p.path.stem)) for p in pages]
    figures = [chart(json.loads(fig.to_json()), n) for n, fig in enumerate(_figures(run), start=1)]
    body = "\n".join(
        (
            f'<p class="eyebrow">paytm_lab report · profile {escape(run.profile)} · '
            f"seed {run.seed}</p>",
            "<h1>Does the money add up, and what did it cost?</h1>",
            _verdict(run.verdict),
            _facts(run),
            '<h2>What happened</h2><div class="grid">',
            *figures,
            "</div>",
            _notebook_cards(pages, failures),
            _repeat(run),
        )
    )
    index = out / "index.html"
    html = page(
        title=f"paytm_lab report: {frames.verdict_state(run.verdict)}",
        body=body,
        nav=navigation(links, "index.html"),
        footer=_NOT_PAYTM,
    )
    index.write_text(html, encoding="utf-8")
    return index


def _figures(run: RunData) -> list[Any]:
    charts = Charts(run.profile, run.review_threshold)
    return [
        charts.throughput(run),
        charts.latency_percentiles(run),
        charts.cross_shard_cost(run),
        charts.outcomes(run),
        charts.shard_balance(run, by="accounts"),
        charts.shard_balance(run, by="load"),
        charts.fraud_scores(run),
        charts.decisions(run),
        charts.event_counts(run),
        charts.hourly(run),
    ]


def _verdict(checks: pd.DataFrame) -> str:
    state = frames.verdict_state(checks)
    word, meaning = _SAID[state]
    passed = int((checks["state"] == "passed").sum())
    off = [str(c).replace("_", " ") for c in checks.loc[checks["state"] != "passed", "check"]]
    detail = f"{passed} of {len(checks)} checks passed" + (
        f"; look at: {', '.join(off)}." if off else "."
    )
    rows = "".join(
        f'<tr><td class="state {escape(str(row.state))}">{escape(str(row.state))}</td>'
        f"<td>{escape(str(row.check).replace('_', ' '))}</td>"
        f"<td>{escape(str(row.detail))}</td></tr>"
        for row in checks.itertuples()
    )
    return (
        f'<section class="verdict {state}" aria-label="Money verdict"><strong>{word}</strong>'
        f"<p><b>{meaning}.</b> {escape(detail)}</p>"
        f"<details{' open' if off else ''}><summary>Every check, and what was seen</summary>"
        f'<div class="scroll"><table><thead><tr><th>state</th><th>check</th>'
        f"<th>what was seen</th></tr></thead><tbody>{rows}</tbody></table></div>"
        "</details></section>"
    )


def _facts(run: RunData) -> str:
    payments = run.payments
    done = payments[payments["status"] == "COMPLETED"]
    facts: list[tuple[str, str, str]] = [("payments", count(len(payments)), "")]
    if run.posting_s > 0:
        drained = run.drained_s / run.posting_s
        facts.append(("payments posted a second", count(len(payments) / run.posting_s), ""))
        facts.append(
            (
                "until the last consumer was done",
                f"{run.drained_s:,.1f} s",
                f"{drained:.2f} x posting",
            )
        )
    if len(done):
        crossing = int(done["cross_shard"].sum())
        p50, p99 = done["latency_ms"].quantile([0.5, 0.99])
        facts += [
            ("completed", share(len(done), len(payments)), rupees(int(done["amount_paise"].sum()))),
            (
                "latency, median",
                f"{p50:,.1f} ms",
                f"99 % within {p99:,.1f} ms; {frames.closed_loop(payments)}",
            ),
            ("across shards", share(crossing, len(done)), f"{count(crossing)} payments"),
        ]
    if len(run.features):
        held = int((run.features["decision"] != "allow").sum())
        facts.append(
            ("reviewed or blocked", share(held, len(run.features)), f"{count(held)} payments")
        )
    facts += [(name, value, "") for name, value in run.facts.items()]
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(more)}</small>" if more else "")
        + "</dd></div>"
        for name, value, more in facts
    )
    return f'<dl class="facts">{inner}</dl>'


def _notebook_cards(pages: Sequence[ExportedPage], failures: Sequence[Failure]) -> str:
    failed = {failure.task.out.stem for failure in failures}
    cards = "".join(
        f'<li><a href="{escape(p.path.name)}"><b>{escape(p.title)}'
        f"{' (failed)' if p.path.stem in failed else ''}</b><span>{escape(p.about)}</span></a></li>"
        for p in pages
    )
    return f'<h2>Read how and why</h2><ul class="cards">{cards}</ul>' if cards else ""


def _repeat(run: RunData) -> str:
    steps = "".join(
        f"<tr><td>{escape(what)}</td><td><code>{escape(how)}</code></td></tr>"
        for what, how in next_steps(run.profile)
    )
    return (
        f"<h2>Repeat this run</h2><p>The seed is {run.seed}: the same users, payments and amounts "
        f"in the same order. Times differ from machine to machine.</p>"
        f"<pre><code>{escape(run.command)}</code></pre>"
        f'<h2>What to try next</h2><div class="scroll"><table><tbody>{steps}</tbody></table></div>'
    )


def _short(stem: str) -> str:
    """'01_routing' -> '01 routing'."""
    return stem.replace("_", " ")
