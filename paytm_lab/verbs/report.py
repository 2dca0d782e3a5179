"""report: the main job, from payments to one linked site."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from paytm_lab import preflight, wiring
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, MissingPart, PaytmLabError
from paytm_lab.lab import Lab
from paytm_lab.reporting import frames
from paytm_lab.reporting.results import RunResult
from paytm_lab.reporting.site import RunData, build_report, next_steps
from paytm_lab.terminal import bars, note, print_json, say
from paytm_lab.verbs.common import Common, Source, opened, run_source
from paytm_lab.verbs.measured import servers_measured

MAIN_NOTEBOOKS = ("00", "01", "02", "03", "04")
MARK = ".paytm-lab-report"
TEMPORARY = "paytm_lab-"  # how the folders of labs begin that were given none


def report(
    common: Common,
    source: Source,
    *,
    out: Path,
    every_notebook: bool,
    notebooks: Path,
    in_flight: int,
) -> int:
    """Run, audit, execute the notebooks on the run's data, write ``out/index.html``."""
    chosen = _notebooks(notebooks, every_notebook)
    passing = common.data is None
    if passing:
        common = replace(common, data=out / "data")
    settings = common.settings()
    preflight.require(settings)  # before an earlier report is removed
    try:
        _clear(out)
        _mark(out)
    except OSError as error:
        raise MissingPart(
            f"the report cannot be written into {out} ({error.strerror})",
            remedy="Give another folder with --out.",
        ) from error
    with _removed_from_servers(settings, passing) as removed:
        with opened(common) as lab:
            run = run_source(lab, source, common, "report", in_flight=in_flight)
            verdict = lab.audit()
            page = _page(lab, run, frames.verdict_frame(verdict.checks))
        with bars(common.quiet) as progress:
            written = build_report(
                lab.data, page, out, chosen, progress=progress.set,
                abandoned=partial(_abandoned, settings),
            )  # fmt: skip
    if common.as_json:
        print_json({"report": str(written.index), "run": run.to_dict(), "audit": verdict.to_dict()})
    else:
        say(str(run))
        say(f"money verdict: {verdict.verdict}")
        say(f"report: {written.index}")
        if removed:
            note("its lab was removed from the servers; one given by --data stays", common.quiet)
        note("look at it: open the file in a browser", common.quiet)
        hints = " | ".join(how for _, how in next_steps(run.profile)[:3])
        note(f"next: {hints}", common.quiet)
    return verdict.exit_code


@contextmanager
def _removed_from_servers(settings: Settings, passing: bool) -> Iterator[bool]:
    """On servers nothing of a report's own lab may outlive the report, however it ends: nobody
    would look for it. In files it stays in the report's folder. Yields whether it is removed.
    """
    removed = passing and _by_its_folder(settings)
    if removed and wiring.stored_shards(settings) is not None:
        wiring.remove(settings)  # of a report that was killed
    try:
        yield removed
    finally:
        if removed:
            wiring.remove(settings)


def _abandoned(settings: Settings, folder: Path) -> None:
    """A failing notebook's own lab, which it could not close."""
    if _by_its_folder(settings) and folder.name.startswith(TEMPORARY):
        try:
            wiring.remove(Settings(profile=settings.profile, data_dir=folder))
        except PaytmLabError as error:
            note(f"the lab of {folder} stays on the servers: {error}", settings.quiet)


def _by_its_folder(settings: Settings) -> bool:
    """Whether a folder's lab has names of its own on servers; those that somebody gave are
    theirs.
    """
    return settings.profile == "servers" and settings.source("namespace") == "default"


def _page(lab: Lab, run: RunResult, verdict: Any) -> RunData:
    return RunData(
        profile=run.profile,
        seed=run.seed,
        command=run.command,
        payments=run.payments,
        shards=run.shards,
        features=run.features,
        verdict=verdict,
        events=run.events,
        posting_s=run.posting_s,
        drained_s=run.drained_s,
        review_threshold=lab.system.scorer.settings.review_score,
        facts={name.replace("_", " "): str(value) for name, value in run.notes.items()}
        | servers_measured(lab),
    )


def _notebooks(folder: Path, every: bool) -> list[Path]:
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    chosen = found if every else [path for path in found if path.name[:2] in MAIN_NOTEBOOKS]
    if not chosen:
        raise MissingPart(
            f"there are no notebooks in {folder}",
            remedy="Run it in the project's folder, or give --notebooks.",
        )
    return chosen


def _clear(out: Path) -> None:
    """An earlier report is replaced; a folder that holds anything else is left alone."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists()):
        raise BadInput(
            f"{out} exists and is no report of this lab", remedy="Give another folder with --out."
        )
    shutil.rmtree(out)


def _mark(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text(
        "made by paytm-lab report; replaced by the next one\n", encoding="utf-8"
    )
