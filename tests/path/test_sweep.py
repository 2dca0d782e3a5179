"""`paytm-lab sweep` and `paytm-lab report --notebook` as users type them; a kill loses nothing."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from paytm_lab.reporting.export import read_notebook
from paytm_lab.reporting.grid import points
from paytm_lab.reporting.recording import recorded
from paytm_lab.reporting.sweeps import Kept, run_sweep
from paytm_lab.simulation.payments import Workload
from paytm_lab.simulation.simulate import simulate
from paytm_lab.verbs.executors import dask
from paytm_lab.verbs.folders import only_one
from paytm_lab.verbs.sweep_work import run_simulation
from tests import waiting
from tests.path.command_line import Cli
from tests.unit.test_reporting_notebooks import write

ROOT = Path(__file__).parents[2]
RECORD = "from paytm_lab.reporting.recording import record\n"
# Each run of a point leaves a line in a log; the point n = 3 waits until something is in the gate.
GATED = """\
with open(f"{folder}/log", "a") as log: print(n, file=log)
if n == 3: open(f"{folder}/gate").read()
record("square", n * n, "apples")"""


def made(folder: Path, *cells: str) -> Path:
    """A folder with the notebook 01_small, whose parameters are n, word and seed."""
    folder.mkdir(exist_ok=True)
    parameters = ("n = 1\nword = 'a'\nseed = 7", "parameters")
    write(folder / "01_small.ipynb", parameters, *((RECORD + cell,) for cell in cells))
    return folder


def test_simulations_are_the_rows_of_simulate(cli: Cli, tmp_path: Path) -> None:
    words = ("-p", "shards=4,8", "-p", "strategy=ring,slot_map", "-p", "users=500")
    ran = cli("sweep", "simulate", *words, "-p", "payments=2000", "--seed", "3", "--json",
              "--out", str(tmp_path / "s"))  # fmt: skip
    assert ran.code == 0, ran.err
    assert (ran.json["points"], ran.json["failed"], ran.json["kept"]) == (4, 0, 0)
    expected = simulate(Workload(500, 2000, 0.99), 3, (4, 8), ("ring", "slot_map"))
    for row, truth in zip(ran.json["rows"], expected, strict=True):
        assert row["strategy"] == truth["strategy"] and row["shards"] == truth["shards"]
        for name in ("cross_shard_share", "legs_max_over_mean", "moved_users_share", "users_cv"):
            assert row[name] == truth[name]
    with Path(ran.json["csv"]).open() as file:
        table = list(csv.DictReader(file))
    assert [float(r["legs_cv"]) for r in table] == [r["legs_cv"] for r in expected]
    # More values later: only what is new is run.
    words = ("-p", "shards=4,8,16", "-p", "strategy=ring,slot_map", "-p", "users=500")
    ran = cli("sweep", "simulate", *words, "-p", "payments=2000", "--seed", "3", "--json",
              "--out", str(tmp_path / "s"))  # fmt: skip
    assert (ran.json["points"], ran.json["kept"]) == (6, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulate", "-p", "shard=4"), "simulate has no parameter shard. It has: shards=4"),
        (("simulate", "-p", "shards=x"), "shards='x' is no int"),
        (("simulate", "-p", "users=0"), "users"),
        (("simulate", "-p", "zipf_s=-1"), "zipf_s"),
        (("simulate", "-p", "strategy=mod"), "mod"),
        (("simulate", "-p", "shards=0"), "shards"),
        (("simulate", "-p", "seed=1", "--seed", "2"), "--seed is given by -p, too"),
        (("simulate", "--profile", "servers"), "--profile is no parameter of simulate"),
        (("simulate", "-p", "seed=1,2,3", "--points-max", "2"), "the grid has 3 points"),
        (("99",), "there is no notebook '99'"),
        (("01", "-p", "user=1"), "01_routing has no parameter user"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ran = cli("sweep", *words, "--out", str(tmp_path / "s"))
    assert ran.code == 2 and said in ran.err, ran.err
    assert not (tmp_path / "s").exists()


def test_a_folder_with_other_things_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    ran = cli("sweep", "simulate", "--out", str(tmp_path))
    assert ran.code == 2 and "is no sweep of this lab" in ran.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_two_at_once_in_one_folder_are_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("sweep", "simulate", "--out", str(tmp_path / "s")).code == 0
    with only_one(tmp_path / "s" / ".lock", "busy"):
        ran = cli("sweep", "simulate", "--out", str(tmp_path / "s"))
    assert ran.code == 3 and f"another sweep works in {tmp_path / 's'}" in ran.err
    assert cli("sweep", "simulate", "--out", str(tmp_path / "s")).code == 0


@pytest.mark.timeout(120)
def test_a_failed_point_is_on_the_page_and_in_the_exit_code(cli: Cli, tmp_path: Path) -> None:
    cell = "import tempfile\nrecord('half', 12 // (n - 1))\nrecord('at', tempfile.mkdtemp())"
    notebooks, out = made(tmp_path / "nb", cell), tmp_path / "s"
    words = ("sweep", "small", "-p", "n=1,2", "--notebooks", str(notebooks), "--out", str(out),
             "--workers", "1")  # fmt: skip
    ran = cli(*words)
    assert ran.code == 1
    assert "failed: n=1: ZeroDivisionError" in ran.out and f"sweep: {out}/index.html" in ran.out
    html = (out / "index.html").read_text()
    assert "1 of 2 failed" in html and "ZeroDivisionError" in html and "12 // (n - 1)" in html
    again = cli(*words, "--json")
    assert again.code == 1 and (again.json["failed"], again.json["kept"]) == (1, 1)
    assert [row.get("half") for row in again.json["rows"]] == [None, 12]
    # A point's temporary files lie in the sweep's folder, and are gone with it.
    (place,) = [Path(row["at"]) for row in again.json["rows"] if "at" in row]
    assert out in place.parents and not place.exists()
    executed = [read_notebook(p) for p in (out / "notebooks").glob("*.ipynb")]
    assert sorted(len(recorded(nb)) for nb in executed) == [0, 2]


@pytest.mark.timeout(120)
def test_kill_9_keeps_what_was_finished(tmp_path: Path) -> None:
    notebooks, out = made(tmp_path / "nb", GATED.replace("{folder}", str(tmp_path))), tmp_path / "s"
    os.mkfifo(tmp_path / "gate")
    words = ["sweep", "01", "-p", "n=2,3", "--workers", "1", "--notebooks", str(notebooks)]
    command = [sys.executable, "-m", "paytm_lab.cli", *words, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    log = tmp_path / "log"
    waiting.until(lambda: log.exists() and log.read_text().split() == ["2", "3"])
    family = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert len(family) >= 2  # a worker and its kernel
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "workers and kernels outlive the sweep"
    assert len(list((out / "points").glob("*.json"))) == 1
    (tmp_path / "gate").unlink()
    (tmp_path / "gate").touch()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 points were finished before" in done.stderr
    assert log.read_text().split() == ["2", "3", "3"]
    assert not (out / ".work").exists()
    with (out / "results.csv").open() as file:
        assert [row["square"] for row in csv.DictReader(file)] == ["4", "9"]


@pytest.mark.timeout(180)
def test_a_dask_cluster_gives_what_processes_give(cli: Cli, tmp_path: Path) -> None:
    """On a real cluster of this machine: two worker processes and a scheduler."""
    notebooks = made(tmp_path / "nb", "import os\nrecord('pid', os.getppid())\n6 / (n - 2)")
    ran = cli("sweep", "01", "-p", "n=1,2,3", "--notebooks", str(notebooks), "--dask", "local",
              "--workers", "2", "--json", "--out", str(tmp_path / "n"))  # fmt: skip
    assert ran.code == 1
    one, two, three = ran.json["rows"]
    assert [row["state"] for row in (one, two, three)] == ["done", "failed", "done"]
    assert "ZeroDivisionError" in two["error"]
    assert os.getpid() not in (one["pid"], three["pid"])


def test_simulations_on_dask_are_the_same(tmp_path: Path) -> None:
    grid = points("w", {"shards": [4, 8], "strategy": ["ring"], "users": [500],
                        "payments": [2000], "zipf_s": [0.99], "seed": [3]})  # fmt: skip
    outcomes = run_sweep(
        grid, run_simulation, Kept(tmp_path), lambda: dask("local", 1, tmp_path / "w"), at_once=2
    )
    expected = simulate(Workload(500, 2000, 0.99), 3, (4, 8), ("ring",))
    for outcome, row in zip(outcomes, expected, strict=True):
        assert {f.name: f.value for f in outcome.worked.figures}.items() <= row.items()


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [("tcp://127.0.0.1:1", 3, "no Dask scheduler answers"), ("nowhere://x", 2, "is no address")],
)
def test_a_cluster_that_is_not_there_is_said(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, code: int, said: str
) -> None:
    monkeypatch.setattr("paytm_lab.verbs.executors.CONNECT_S_MAX", 0.5)
    ran = cli("sweep", "simulate", "--dask", address, "--out", str(tmp_path / "s"))
    assert ran.code == code and said in ran.err
    assert code != 2 or ran.err.startswith("paytm-lab: "), "nothing is said, or made, before"
    assert (tmp_path / "s").exists() == (code != 2)


def test_a_bad_value_is_said_before_any_hint(cli: Cli, tmp_path: Path) -> None:
    notebooks = made(tmp_path / "nb")
    words = ("sweep", "01", "--notebooks", str(notebooks), "--out", str(tmp_path / "s"))
    bad = cli(*words, "-p", "n=x")
    assert bad.code == 2 and bad.err.startswith("paytm-lab: "), bad.err


@pytest.mark.timeout(120)
def test_one_notebook_with_parameters_is_a_page(cli: Cli, tmp_path: Path) -> None:
    notebooks, out = (
        made(tmp_path / "nb", "record('square', n * n)\nprint(word, seed)"),
        tmp_path / "r",
    )
    words = ("report", "--notebook", "small", "--notebooks", str(notebooks), "--out", str(out))
    ran = cli(*words, "-p", "n=5", "-p", "word=a,b", "--seed", "11", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["figures"] == {"square": 25}
    assert ran.json["parameters"] == {"n": 5, "word": "a,b", "seed": 11}
    assert "a,b 11" in Path(ran.json["page"]).read_text()
    failing = made(tmp_path / "bad", "1 / 0")
    ran = cli(*words[:3], "--notebooks", str(failing), "--out", str(out))
    assert ran.code == 1 and "ZeroDivisionError" in ran.err
    assert "ZeroDivisionError" in (out / "01_small.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--notebook", "01", "-p", "user=3"), "has no parameter user. It has: data='', profile"),
        (("--notebook", "01", "-p", "users=x"), "users='x' is no int"),
        (("--notebook", "99"), "there is no notebook '99'"),
        (("--notebook", "01", "--users", "5"), "--users does not go with --notebook"),
        (("--notebook", "01", "--batch", "x"), "--batch does not go with --notebook"),
        (("-p", "users=5"), "--parameter goes with --notebook"),
        (("--keep", "3"), "--keep goes with --batch"),
        (("--batch", "x", "--out", "y"), "--out does not go with --batch"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ran = cli("report", *words)
    assert ran.code == 2 and said in ran.err, ran.err
