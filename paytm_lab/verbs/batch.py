"""report --batch: reports by schedule, for cron and systemd. The exit code is the audit's verdict.

A run writes ``DIR/DATE.partial``, renamed to ``DIR/DATE`` when it is whole, so that what has a date
only is a finished report; ``DIR/latest`` points at the newest, ``DIR/last-run.json`` says how the
last run ended (or that it is running). The lab of a run that was clean is removed with its data; of
any other run it stays, to be looked at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from paytm_lab import wiring
from paytm_lab.core.errors import MissingPart, PaytmLabError
from paytm_lab.ledger.audit.report import AuditReport
from paytm_lab.reporting.sweeps import replace_file
from paytm_lab.terminal import note, print_json, say
from paytm_lab.verbs.abandoned import named_by_folder
from paytm_lab.verbs.common import Common
from paytm_lab.verbs.folders import only_one
from paytm_lab.verbs.report import MARK, What, make_report

STATUS = "last-run.json"
LATEST = "latest"
PARTIAL = ".partial"
UNKNOWN = 4  # also the exit code of a run that ended before it had a verdict, by no named error
STOPPED = 128 + signal.SIGTERM  # as shells say it
_DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")


def batch(common: Common, what: What, folder: Path, keep: int) -> int:
    """One scheduled run. 0 clean, 1 a finding (the audit's, or a notebook that failed), 2 bad
    input, 3 a part is missing or another run has the folder, 4 the verdict is unknown.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / ".lock"
        lock.touch()
    except OSError as error:
        raise MissingPart(
            f"reports cannot be written into {folder} ({error.strerror})",
            remedy="Give another folder to --batch, or the right to write there.",
        ) from error
    with only_one(lock, f"another report --batch works in {folder}"):
        _clean_up(folder, common)
        return _run(replace(common, quiet=True), common.quiet, what, folder, keep)


@contextmanager
def _stoppable(folder: Path, status: Mapping[str, Any]) -> Iterator[None]:
    """systemd's stop ends a run at once, with its kernels: a lab bears that as it bears a kill, and
    the next run clears up. The status says it.
    """

    def stop(*_: object) -> None:
        _write(folder, {**status, "state": "interrupted", "error": "SIGTERM"})
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(STOPPED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(common: Common, quiet: bool, what: What, folder: Path, keep: int) -> int:
    started, begun = datetime.now(UTC), time.monotonic()
    name = _free_name(folder, started)
    status: dict[str, Any] = {
        "state": "running", "pid": os.getpid(), "started_at": _text(started), "verdict": None,
        "exit_code": None, "report": None, "error": None,
    }  # fmt: skip
    part = folder / f"{name}{PARTIAL}"

    def audited(audit: AuditReport) -> None:
        status["verdict"] = audit.verdict
        status["not_passed"] = [check.name for check in audit.not_passed()]

    _write(folder, status)
    try:
        with _stoppable(folder, status):
            code = make_report(common, what, part, audited).audit.exit_code
    except PaytmLabError as error:
        status["error"], code = str(error), error.exit_code
    except Exception as error:  # a schedule must hear of it, and of nothing it could take for clean
        traceback.print_exc()
        status["error"], code = f"{type(error).__name__}: {error}", UNKNOWN
    except BaseException as error:
        _write(folder, status | {"state": "interrupted", "error": type(error).__name__})
        raise
    if code == 0 and common.data is None:
        shutil.rmtree(part / "data", ignore_errors=True)
    if (part / "index.html").exists():
        part.rename(folder / name)
        _point(folder / LATEST, name)
        status["report"] = str(folder / name / "index.html")
        _retain(folder, keep)
    ended = datetime.now(UTC)
    status |= {"state": "done", "exit_code": code, "ended_at": _text(ended),
               "seconds": round(time.monotonic() - begun, 1)}  # fmt: skip
    _write(folder, status)
    _say(common, quiet, status)
    return code


def _say(common: Common, quiet: bool, status: dict[str, Any]) -> None:
    """One line; with --quiet none of a clean run, so that cron sends no mail about it."""
    if common.as_json:
        print_json(status)
    elif status["exit_code"] or not quiet:
        where = status["report"] or "no report"
        say(f"{status['ended_at']} money verdict: {status['verdict'] or 'unknown'}; {where}")
    if status["error"]:
        note(f"paytm-lab: {status['error']}")


def _clean_up(folder: Path, common: Common) -> None:
    """What runs that were killed left; on servers their labs, too."""
    for left in folder.glob(f"*{PARTIAL}"):
        if (left / MARK).exists():
            if common.data is None:
                settings = replace(common, data=left / "data").settings()
                if named_by_folder(settings):
                    with suppress(PaytmLabError):
                        wiring.remove(settings)
            shutil.rmtree(left, ignore_errors=True)


def _retain(folder: Path, keep: int) -> None:
    """Only the newest ``keep`` reports of ours stay; nothing else in the folder is touched."""
    dated = [p for p in folder.iterdir() if _DATED.fullmatch(p.name) and (p / MARK).exists()]
    for old in sorted(dated, key=_age)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _age(path: Path) -> tuple[str, int]:
    moment, _, number = path.name.partition("Z-")
    return moment.rstrip("Z"), int(number or 0)


def _free_name(folder: Path, moment: datetime) -> str:
    name = f"{moment:%Y-%m-%dT%H-%M-%SZ}"
    names = [name, *(f"{name}-{n}" for n in range(1, 1000))]
    return next(free for free in names if not (folder / free).exists())


def _point(link: Path, name: str) -> None:
    part = link.with_name(f".{link.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.symlink_to(name, target_is_directory=True)
    part.replace(link)


def _write(folder: Path, status: dict[str, Any]) -> None:
    replace_file(folder / STATUS, json.dumps(status, indent=1) + "\n")


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
