"""report: the main job, from payments to one linked site."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from paytm_lab import preflight, wiring
from paytm_lab.config import Settings
from paytm_lab.core.errors import InvalidSetting, NotebookFailed
from paytm_lab.lab import Lab
from paytm_lab.ledger.audit.report import AuditReport
from paytm_lab.reporting import frames
from paytm_lab.reporting.catalog import find_notebook, notebooks_in
from paytm_lab.reporting.export import export_notebook, read_notebook
from paytm_lab.reporting.first_page import run_data
from paytm_lab.reporting.grid import assignments, single_values
from paytm_lab.reporting.notebooks import execute, known_parameters
from paytm_lab.reporting.recording import recorded
from paytm_lab.reporting.results import RunResult
from paytm_lab.reporting.site import RunData, build_report, next_steps
from paytm_lab.terminal import bars, note, print_json, say
from paytm_lab.verbs.abandoned import named_by_folder, remove_abandoned
from paytm_lab.verbs.common import Common, Source, opened, run_source
from paytm_lab.verbs.folders import marked
from paytm_lab.verbs.measured import servers_measured

MAIN_NOTEBOOKS = ("00", "01", "02", "03", "04")
MARK = ".paytm-lab-report"
IN_FLIGHT, NOTEBOOKS, OUT = 256, Path("notebooks"), Path("build/report")  # where none are given


@dataclass(frozen=True, slots=True)
class What:
    """What a report is made of: a run of these payments, and which notebooks on it."""

    source: Source
    every_notebook: bool = False
    notebooks: Path = NOTEBOOKS
    in_flight: int = IN_FLIGHT


class Made(NamedTuple):
    """A report that was written. ``removed``: its lab was, from the servers."""

    page: Path
    run: RunResult
    audit: AuditReport
    removed: bool

    def to_dict(self) -> dict[str, Any]:
        audit = self.audit.to_dict()
        return {"report": str(self.page), "run": self.run.to_dict(), "audit": audit}


def report(common: Common, what: What, out: Path) -> int:
    """Run, audit, execute the notebooks on the run's data, write ``out/index.html``."""
    made = make_report(common, what, out, given=_given(what, out))
    if common.as_json:
        print_json(made.to_dict())
    else:
        say(str(made.run))
        say(f"money verdict: {made.audit.verdict}")
        say(f"report: {made.page}")
        if made.removed:
            note("its lab was removed from the servers; one given by --data stays", common.quiet)
        note("look at it: open the file in a browser", common.quiet)
        hints = " | ".join(how for _, how in next_steps(made.run.profile)[:3])
        note(f"next: {hints}", common.quiet)
    return made.audit.exit_code


def _given(what: What, out: Path) -> list[str]:
    """The options that a repetition needs besides those of every run."""
    words = ["--all"] if what.every_notebook else []
    words += [] if what.in_flight == IN_FLIGHT else ["--in-flight", str(what.in_flight)]
    words += [] if what.notebooks == NOTEBOOKS else ["--notebooks", str(what.notebooks)]
    return words + ([] if out == OUT else ["--out", str(out)])


def make_report(
    common: Common,
    what: What,
    out: Path,
    audited: Callable[[AuditReport], object] = lambda _: None,
    given: Sequence[str] = (),
) -> Made:
    """Replace the report in ``out``. ``audited`` hears the verdict before the notebooks run; one
    that fails raises NotebookFailed after the site is written. ``given``: options that a repetition
    needs.
    """
    given = [*given, *common.on_data()]
    found = notebooks_in(what.notebooks)
    chosen = [p for p in found if what.every_notebook or p.name[:2] in MAIN_NOTEBOOKS]
    passing = common.data is None
    if passing:
        common = replace(common, data=out / "data")
    settings = common.settings()
    preflight.require(settings)  # before an earlier report is removed
    what.source.check()
    with (
        marked(out, MARK, "report", anew=True),
        _half_report_is_said(out, common.quiet),
        _removed_from_servers(settings, passing) as ending,
    ):
        with opened(common) as lab:
            run = run_source(lab, what.source, common, "report", given, in_flight=what.in_flight)
            verdict = lab.audit()
            ending.removed = ending.removed and verdict.exit_code == 0
            audited(verdict)
            page = _page(lab, run, frames.verdict_frame(verdict.checks))
        with bars(common.quiet) as progress:
            written = build_report(
                lab.data, page, out, chosen, progress=progress.set,
                abandoned=partial(remove_abandoned, settings.profile),
            )  # fmt: skip
    if passing and verdict.exit_code and settings.profile == "servers":
        note(
            f"its lab stays on the servers, to be looked at; then: paytm-lab stack drop --data"
            f" {common.data}",
            common.quiet,
        )
    return Made(written.index, run, verdict, ending.removed)


def one_notebook(
    common: Common, name: str, given: Sequence[str], notebooks: Path, out: Path
) -> int:
    """One notebook with its parameters, without a run, as a page in ``out``. 1 where it failed; the
    page then shows where.
    """
    path = find_notebook(notebooks, name)
    known = known_parameters(read_notebook(path), path.name)
    parameters = with_options(path.name, known, common, assignments(given))
    if "profile" in known:
        preflight.require(common.settings())
    executed, page = out / "notebooks" / path.name, out / f"{path.stem}.html"
    failure = None
    with marked(out, MARK, "report"), bars(common.quiet) as progress:
        try:
            execute(
                path, executed, parameters, progress=progress.set,
                abandoned=partial(remove_abandoned, str(parameters.get("profile", "embedded"))),
            )  # fmt: skip
        except NotebookFailed as error:
            failure = error
        if executed.exists():
            export_notebook(executed, page)
    if failure is not None:
        raise failure
    figures = recorded(read_notebook(executed), path.name)
    if common.as_json:
        values = {figure.name: figure.value for figure in figures}
        print_json({"notebook": path.stem, "parameters": parameters, "page": str(page),
                    "figures": values})  # fmt: skip
    else:
        for figure in figures:
            say(str(figure))
        say(f"page: {page}")
    return 0


def with_options(
    name: str, known: Mapping[str, Any], common: Common, given: Mapping[str, str]
) -> dict[str, Any]:
    """The given parameters, and those that --seed, --profile and --data set."""
    parameters = single_values(name, known, given)
    for option, value in common.parameters().items():
        if option in parameters or option not in known:
            why = "is given by -p, too" if option in parameters else f"is no parameter of {name}"
            raise InvalidSetting(f"--{option} {why}", remedy=f"Leave out --{option}.")
        parameters[option] = value
    return parameters


@contextmanager
def _half_report_is_said(out: Path, quiet: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note(f"what there is of the report lies in {out}; the same command makes it anew", quiet)
        raise


@dataclass
class _Ending:
    """``removed``: whether the report's own lab leaves the servers at its end."""

    removed: bool


@contextmanager
def _removed_from_servers(settings: Settings, passing: bool) -> Iterator[_Ending]:
    """On servers nothing of a report's own lab outlives the report, however it ends: nobody would
    look for it. Only one whose audit was not clean is kept: it is what there is to look at. In
    files it stays in the report's folder.
    """
    ending = _Ending(passing and named_by_folder(settings))
    if ending.removed and wiring.stored_shards(settings) is not None:
        wiring.remove(settings)  # of a report that was killed
    try:
        yield ending
    finally:
        if ending.removed:
            wiring.remove(settings)


def _page(lab: Lab, run: RunResult, verdict: Any) -> RunData:
    return run_data(
        run,
        verdict,
        review_threshold=lab.system.scorer.settings.review_score,
        measured=servers_measured(lab),
    )
