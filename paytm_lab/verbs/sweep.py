"""sweep: one notebook, or plain simulations, over a grid of parameters; one page that compares."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import paytm_lab
from paytm_lab import preflight
from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.words import plural
from paytm_lab.reporting import sweep_page
from paytm_lab.reporting.catalog import find_notebook
from paytm_lab.reporting.export import headline, read_notebook
from paytm_lab.reporting.grid import Point, assignments, points, value_lists, varying
from paytm_lab.reporting.notebooks import known_parameters
from paytm_lab.reporting.sweeps import Executors, Kept, Outcome, Work, run_sweep
from paytm_lab.routing.strategies import make
from paytm_lab.simulation.payments import Workload
from paytm_lab.terminal import bars, note, print_json, say, table
from paytm_lab.verbs.common import Common
from paytm_lab.verbs.executors import cores, dask, processes, require_dask
from paytm_lab.verbs.folders import marked, only_one
from paytm_lab.verbs.sweep_work import run_notebook, run_simulation

SIMULATE = "simulate"
MARK = ".paytm-lab-sweep"
DEFAULT_SEED = 7
COLUMNS_MAX = 5  # figures that a terminal's width holds beside the parameters
_SIMULATED: Mapping[str, Any] = {
    "shards": 4,
    "strategy": "slot_map",
    "users": 10_000,
    "payments": 50_000,
    "zipf_s": 0.99,
    "seed": DEFAULT_SEED,
}


@dataclass(frozen=True, slots=True)
class How:
    """Where and with what a sweep runs; ``dask`` is an address, 'local', or None: processes."""

    out: Path | None = None
    notebooks: Path = Path("notebooks")
    workers: int | None = None
    dask: str | None = None
    points_max: int = 200
    timeout_s: float = 300.0
    fresh: bool = False


class _Job(NamedTuple):
    """What is swept: its name, title, parameters with defaults, what runs one point; ``hint``: what
    to say beforehand.
    """

    name: str
    title: str
    version: str
    known: Mapping[str, Any]
    work: Work
    check: Callable[[Point], None]
    hint: str = ""


def sweep(common: Common, name: str, given: Sequence[str], how: How) -> int:
    """Run what is missing of the grid, write the page. 1 where a point failed."""
    job = _simulation() if name == SIMULATE else _notebook(common, name, how)
    grid = _grid(common, job, given, how.points_max)
    for point in grid:
        job.check(point)
    if how.dask is not None:
        require_dask(how.dask)
    out = how.out or Path("build") / "sweep" / job.name
    command = _command(common, name, given, how)
    with marked(out, MARK, "sweep"), only_one(out / ".lock", f"another sweep works in {out}"):
        if how.fresh:
            for folder in ("points", "notebooks"):
                shutil.rmtree(out / folder, ignore_errors=True)
        outcomes = _run(common, job, grid, out, how)
        named = {str(point.parameters.get("profile", "simulation")) for point in grid}
        profile = ", ".join(sorted(named))
        files = sweep_page.write_sweep(
            out, job.name, job.title, outcomes, profile=profile, command=command
        )
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    kept = sum(outcome.kept for outcome in outcomes)
    if common.as_json:
        print_json(
            {
                "sweep": job.name, "page": str(files.page), "csv": str(files.csv),
                "points": len(outcomes), "failed": failed, "kept": kept,
                "rows": sweep_page.rows(outcomes),
            }
        )  # fmt: skip
    else:
        _say(job, outcomes, files, common.quiet)
    return 1 if failed else 0


def _run(common: Common, job: _Job, grid: Sequence[Point], out: Path, how: How) -> list[Outcome]:
    scratch = out / ".work"
    shutil.rmtree(scratch, ignore_errors=True)  # of a sweep that was killed
    workers = min(how.workers or cores(), len(grid))
    executors: Executors = partial(processes, workers, scratch)
    at_once = workers
    if how.dask is not None:
        executors, at_once = partial(dask, how.dask, workers, scratch), len(grid)
    where = f"Dask at {how.dask}" if how.dask else f"{workers} {plural(workers, 'process', 'es')}"
    if job.hint:
        note(job.hint, common.quiet)
    note(f"{len(grid)} {plural(len(grid), 'point')} of {job.name} on {where}", common.quiet)
    try:
        with bars(common.quiet) as progress:
            return run_sweep(
                grid, job.work, Kept(out), executors, at_once=at_once,
                progress=lambda done, total: progress.set("points", done, total),
            )  # fmt: skip
    except KeyboardInterrupt:
        note("finished points are kept: the same command goes on", common.quiet)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _grid(common: Common, job: _Job, given: Sequence[str], points_max: int) -> list[Point]:
    """All parameters of every point, the given ones over the defaults."""
    values = value_lists(job.name, job.known, assignments(given))
    for option, value in common.parameters().items():
        if option in values or option not in job.known:
            why = "is given by -p, too" if option in values else f"is no parameter of {job.name}"
            raise InvalidSetting(f"--{option} {why}", remedy=f"Leave out --{option}.")
        values[option] = [value]
    everything = {name: values.get(name, [default]) for name, default in job.known.items()}
    return points(f"{job.name} {job.version}", everything, points_max)


def _notebook(common: Common, name: str, how: How) -> _Job:
    path = find_notebook(how.notebooks, name)
    nb = read_notebook(path)
    known = known_parameters(nb, path.name)
    sources = "\0".join(cell.source for cell in nb.cells if cell.cell_type == "code")
    version = hashlib.sha256(sources.encode()).hexdigest() + _package_version()
    if "profile" in known:
        preflight.require(common.settings())
    text = path.read_text(encoding="utf-8")
    work = partial(run_notebook, path.stem, text, str(path.resolve().parent), how.timeout_s)
    hint = (
        ""
        if "record(" in sources
        else (
            f"{path.name} records no figures to compare; add record(name, value) of"
            " paytm_lab.reporting.recording"
        )
    )
    title = headline(nb, path.stem)[0]
    return _Job(path.stem, title, version, known, work, lambda point: None, hint)


def _simulation() -> _Job:
    return _Job(
        SIMULATE, "What would a workload do to shards?", _package_version(), _SIMULATED,
        run_simulation, _check_simulation,
    )  # fmt: skip


def _package_version() -> str:
    """Of this package's sources: what an older one computed is not what this one would."""
    found = hashlib.sha256()
    root = Path(paytm_lab.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _check_simulation(point: Point) -> None:
    """A wrong value is said before anything runs."""
    p = point.parameters
    Workload(p["users"], p["payments"], p["zipf_s"])
    make(p["strategy"], p["shards"])


def _say(job: _Job, outcomes: Sequence[Outcome], files: sweep_page.SweepFiles, quiet: bool) -> None:
    changed = varying([outcome.point for outcome in outcomes])
    shown = []
    for outcome in outcomes:
        row = {name: outcome.point.parameters[name] for name in changed}
        row |= {figure.name: figure.value for figure in outcome.worked.figures}
        shown.append(row | {"state": outcome.state})
    names = list(dict.fromkeys(name for row in shown for name in row if name != "state"))
    figures = names[len(changed) :]
    differ = [n for n in figures if len(shown) == 1 or len({row.get(n) for row in shown}) > 1]
    table(shown, [*changed, *differ[:COLUMNS_MAX], "state"])
    if len(names) > len(changed) + len(differ[:COLUMNS_MAX]):
        note("more figures, and those that are the same at every point, are on the page", quiet)
    for outcome in outcomes:
        if outcome.worked.error:
            last = outcome.worked.error.strip().splitlines()[-1].strip()
            say(f"failed: {_changed(outcome, changed)}: {last}")
    kept = sum(outcome.kept for outcome in outcomes)
    if kept:
        number = len(outcomes)
        were = "point was" if number == 1 else "points were"
        note(f"{kept} of {number} {were} finished before", quiet)
    say(f"sweep: {files.page}")
    note(f"as data: {files.csv}, {files.json}", quiet)


def _changed(outcome: Outcome, changed: Sequence[str]) -> str:
    return ", ".join(f"{name}={outcome.point.parameters[name]}" for name in changed) or "the point"


def _command(common: Common, name: str, given: Sequence[str], how: How) -> str:
    words = ["paytm-lab", "sweep", name]
    for assignment in given:
        words += ["-p", assignment]
    for option, value in (
        ("--seed", common.seed), ("--profile", common.profile), ("--data", common.data),
        ("--out", how.out), ("--dask", how.dask),
    ):  # fmt: skip
        words += [option, str(value)] if value is not None else []
    return shlex.join(words)
