"""`paytm-lab report --batch`: what a schedule needs. Real runs of small labs, a small notebook."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from paytm_lab.ledger.audit.report import AuditReport, Check
from paytm_lab.verbs import batch as module
from paytm_lab.verbs import report as report_verb
from paytm_lab.verbs.folders import only_one
from tests import waiting
from tests.path.command_line import Cli, Ran
from tests.unit.test_reporting_notebooks import write

ROOT = Path(__file__).parents[2]
PARAMETERS = ("data = ''\nprofile = 'embedded'\nseed = 7", "parameters")


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Any:
    """``run(*more)``: one scheduled report into tmp_path / "reports"."""
    (tmp_path / "nb").mkdir()
    write(tmp_path / "nb" / "00_small.ipynb", PARAMETERS, ("print(len(data) > 0)",))

    def once(*more: str) -> Ran:
        return cli("report", "--batch", str(tmp_path / "reports"), "--users", "40", "--payments",
                   "120", "--notebooks", str(tmp_path / "nb"), *more)  # fmt: skip

    return once


def status(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "reports" / "last-run.json").read_text()))


def dated(tmp_path: Path) -> list[Path]:
    return sorted(p for p in (tmp_path / "reports").iterdir() if p.name.startswith("2"))


@pytest.mark.timeout(120)
def test_a_clean_run_leaves_a_dated_report_and_says_one_line(run: Any, tmp_path: Path) -> None:
    ran = run()
    assert ran.code == 0, ran.err
    (report,) = dated(tmp_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", report.name)
    assert re.fullmatch(r"\S+Z money verdict: passed; \S+/index\.html\n", ran.out)
    assert ran.err == ""  # no bars, no hints: it goes into a log
    assert "Every paisa is accounted for" in (report / "index.html").read_text()
    assert (tmp_path / "reports" / "latest").resolve() == report
    said = status(tmp_path)
    assert (said["state"], said["exit_code"], said["verdict"], said["error"]) == (
        "done", 0, "passed", None,
    )  # fmt: skip
    assert said["report"] == str(report / "index.html") and said["not_passed"] == []
    assert not (report / "data").exists()  # clean: nobody needs the lab
    # Retention: of five the newest two stay; what is not ours stays, whatever its name.
    for name in ("2020-01-01T00-00-00Z", "2020-01-02T00-00-00Z", "2020-01-03T00-00-00Z-2"):
        (tmp_path / "reports" / name).mkdir()
        (tmp_path / "reports" / name / ".paytm-lab-report").touch()
    (tmp_path / "reports" / "2019-01-01T00-00-00Z").mkdir()
    (tmp_path / "reports" / "notes.txt").touch()
    killed = tmp_path / "reports" / "2020-01-05T00-00-00Z.partial"
    killed.mkdir()
    (killed / ".paytm-lab-report").touch()
    ran = run("--keep", "2", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")  # cron sends no mail
    kept = dated(tmp_path)
    assert [p.name for p in kept if p.name < "2021"] == ["2019-01-01T00-00-00Z"]
    assert report in kept and len(kept) == 3
    assert (tmp_path / "reports" / "notes.txt").exists() and not killed.exists()


@pytest.mark.timeout(120)
def test_a_finding_of_the_audit_is_1_and_is_said(run: Any, cli: Cli, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    assert cli("run", "--users", "40", "--payments", "120", "--data", str(lab)).code == 0
    with sqlite3.connect(lab / "shards" / "shard-0.sqlite") as books:
        books.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = '4'")
    books.close()
    ran = run("--quiet", "--data", str(lab))
    assert ran.code == 1
    assert "money verdict: failed;" in ran.out  # said even when quiet
    said = status(tmp_path)
    assert (said["state"], said["exit_code"], said["verdict"]) == ("done", 1, "failed")
    assert "balances_equal_entries" in said["not_passed"]
    assert "The money does not add up" in Path(said["report"]).read_text()
    assert (lab / "shards" / "shard-0.sqlite").exists()  # somebody's own: never removed


@pytest.mark.timeout(120)
def test_an_unknown_verdict_is_4_and_the_lab_stays_to_be_looked_at(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = report_verb.Lab.audit

    def audit(self: Any, mode: str = "quiescent") -> AuditReport:
        found = real(self, mode)
        unknown = Check("log", "unknown", "the log does not begin at offset 0")
        return msgspec.structs.replace(found, checks=(*found.checks, unknown))

    monkeypatch.setattr(report_verb.Lab, "audit", audit)
    ran = run("--json")
    assert ran.code == ran.json["exit_code"] == status(tmp_path)["exit_code"] == 4
    assert (ran.json["verdict"], ran.json["not_passed"]) == ("unknown", ["log"])
    (report,) = dated(tmp_path)
    assert (report / "data" / "shards").is_dir()


@pytest.mark.timeout(120)
def test_a_failing_notebook_is_a_finding_whose_site_is_kept(run: Any, tmp_path: Path) -> None:
    write(tmp_path / "nb" / "01_fails.ipynb", PARAMETERS, ("1 / 0",))
    ran = run()
    assert ran.code == 1 and "ZeroDivisionError" in ran.err
    said = status(tmp_path)
    assert said["verdict"] == "passed" and "ZeroDivisionError" in said["error"]
    assert Path(said["report"]).exists() and "(failed)" in Path(said["report"]).read_text()


def test_a_missing_part_is_3_and_a_bug_is_never_clean(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("--notebooks", str(tmp_path / "none"))
    assert ran.code == 3 and "there are no notebooks" in ran.err
    assert (status(tmp_path)["exit_code"], status(tmp_path)["verdict"]) == (3, None)

    def breaks(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(module, "make_report", breaks)
    ran = run()
    assert ran.code == 4 and "Traceback" in ran.err
    assert status(tmp_path)["error"] == "ZeroDivisionError: a bug"
    assert dated(tmp_path) == []


def test_two_at_once_are_refused_and_change_nothing(run: Any, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "last-run.json").write_text('{"state": "running"}')
    with only_one(tmp_path / "reports" / ".lock", "busy"):
        ran = run("--json")
    assert ran.code == 3 and ran.json["error"] == "unavailable"
    assert "another report --batch works in" in ran.err
    assert status(tmp_path) == {"state": "running"}


@pytest.mark.timeout(120)
def test_a_stop_is_said_and_the_next_run_clears_up(run: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    waits = f"open('{tmp_path}/here', 'w').close()\nopen('{tmp_path}/gate').read()"
    write(tmp_path / "nb" / "01_waits.ipynb", PARAMETERS, (waits,))
    words = ["report", "--batch", str(tmp_path / "reports"), "--users", "40", "--payments", "120",
             "--notebooks", str(tmp_path / "nb")]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "paytm_lab.cli", *words], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    waiting.until((tmp_path / "here").exists)
    assert status(tmp_path)["state"] == "running"
    assert status(tmp_path)["pid"] == process.pid
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(60) == 143
    assert len(family) >= 1 and not psutil.wait_procs(family, timeout=30)[1]  # a kernel
    said = status(tmp_path)
    assert (said["state"], said["error"], said["verdict"]) == ("interrupted", "SIGTERM", "passed")
    (part,) = dated(tmp_path)
    assert part.name.endswith(".partial")
    (tmp_path / "nb" / "01_waits.ipynb").unlink()
    assert run().code == 0
    assert not part.exists() and len(dated(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = cli("report", "--batch", str(tmp_path / "file" / "reports"))
    assert ran.code == 3 and "reports cannot be written into" in ran.err


def test_a_lock_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\nfrom paytm_lab.verbs.folders import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1]), 'busy'): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")], cwd=ROOT, check=False
    )
    assert done.returncode == -9
    with only_one(tmp_path / "lock", "busy"):
        assert (tmp_path / "lock").exists()
