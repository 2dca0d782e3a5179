"""A user's own payments through a lab: openings, refusals, keys, and a run that was cut short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import MalformedFile
from paytm_lab.reporting.notebooks import execute
from paytm_lab.simulation.transfers_file import open_transfers
from tests.faults.load import until

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
NOTEBOOK = ROOT / "notebooks" / "00_start_here.ipynb"


def written(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["payment_id,from_user,to_user,amount", *rows, ""]))
    return path


def test_just_enough_opens_every_payer_so_that_nothing_is_refused(tmp_path: Path) -> None:
    rows = [f"k{n},u{n % 5},u{n % 5 + 1},{n + 1}.50" for n in range(200)]
    with Lab(data=tmp_path / "lab", velocity_limit=10**6) as lab:
        with open_transfers(str(written(tmp_path / "f.csv", rows)), in_any_order=True) as file:
            total = sum(file.openings().values())
            run = lab.run(file)
        assert run.answers == {"COMPLETED": 200}
        assert sum(lab.balances().values()) == total
        lab.audit().require_clean()


def test_a_file_without_times_is_no_rush_of_its_payers(tmp_path: Path) -> None:
    path = str(written(tmp_path / "f.csv", [f"k{n},asha,ravi,1" for n in range(300)]))
    with Lab(data=tmp_path / "lab", velocity_limit=5, velocity_window_s=60) as lab:
        with open_transfers(path) as file:
            run = lab.run(file)
        assert run.answers == {"COMPLETED": 300}
        assert set(run.features.decision) == {"allow"}
        assert run.payments.at_us.is_monotonic_increasing
        account = lab.account("asha")
        assert account is not None and account.state == "active"
        lab.audit().require_clean()


def test_the_first_notebook_reads_a_run_that_posted_nothing_new(tmp_path: Path) -> None:
    file, data = written(tmp_path / "f.csv", ["k1,1,2,10", "k2,2,3,10"]), tmp_path / "lab"
    for repeated in (0, 2):
        with Lab(data=data) as lab, open_transfers(str(file)) as transfers:
            assert lab.run(transfers).repeated == repeated
    execute(NOTEBOOK, tmp_path / "out.ipynb", {"data": str(data), "seed": 1})


def test_a_report_of_a_file_in_a_public_format(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paytm_lab.cli", "report", "--quiet", "--seed", "5"]
    command += ["--transfers", str(DATA / "paysim.csv"), "--out", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "money verdict: passed" in done.stdout
    assert (tmp_path / "site" / "index.html").stat().st_size > 10_000
    rejects = (tmp_path / "site" / "data" / "rejects.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rejects[1:]] == [["5", "zero_amount"]]


def test_a_fixed_opening_refuses_who_runs_out_and_keeps_the_sum(tmp_path: Path) -> None:
    rows = ["a,asha,ravi,60", "b,asha,ravi,60", "c,ravi,asha,150", "d,asha,ravi,180"]
    with Lab(data=tmp_path / "lab") as lab:
        path = str(written(tmp_path / "f.csv", rows))
        with open_transfers(path, opening_paise=10_000) as file:
            run = lab.run(file, in_flight=1)
        assert run.answers == {"COMPLETED": 3, "FAILED": 1}
        assert run.payments.reason.max() == "insufficient_funds"
        assert run.reasons == lab.last_run().reasons == {"FAILED": {"insufficient_funds": 1}}
        assert lab.balances() == {"asha": 1_000, "ravi": 19_000}
        lab.audit().require_clean()


def test_the_same_file_again_answers_the_first_outcomes(tmp_path: Path) -> None:
    path = str(written(tmp_path / "f.csv", ["a,asha,ravi,60", "b,asha,ravi,60", "c,ravi,asha,1"]))
    with Lab(data=tmp_path / "lab") as lab:
        runs = []
        for _ in range(3):
            with open_transfers(path, opening_paise=10_000) as file:
                runs.append(lab.run(file, in_flight=1))
            balances = lab.balances()
            assert balances == {"asha": 4_100, "ravi": 15_900}
        assert [run.repeated for run in runs] == [0, 3, 3]
        assert [run.answers for run in runs] == [{"COMPLETED": 2, "FAILED": 1}] * 3
        assert lab.event_counts()["PaymentInitiated"] == 2 + 3, "two openings, three payments"


def test_a_run_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    rows = [f"k{n},u{n % 7},u{n % 7 + 1},1.00" for n in range(3_000)]
    path = str(written(tmp_path / "f.csv", rows))
    settings = {"velocity_limit": 10**6}
    seen: list[str] = []
    lab = Lab(data=tmp_path / "lab", **settings).open()

    class Cut(Exception):
        pass

    def ack(payment: str, status: str) -> None:
        seen.append(payment)

    def progress(phase: str, number: int, total: int | None) -> None:
        if phase == "posting payments" and len(seen) >= 500:
            raise Cut

    with open_transfers(path, opening_paise=10**6) as file, pytest.raises(Cut):
        lab.run(file, in_flight=64, ack=ack, progress=progress)
    lab.crash()
    with Lab(data=tmp_path / "lab", **settings) as lab:
        with open_transfers(path, opening_paise=10**6) as file:
            run = lab.run(file)
        assert run.answers == {"COMPLETED": 3_000}
        assert 500 <= run.repeated < 3_000
        until(lambda: lab.event_counts()["PaymentCompleted"] == 3_000 + 8)
        lab.audit().require_clean()


def test_a_file_that_changed_meanwhile_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "f.csv", ["a,asha,ravi,1", "b,ravi,asha,1"])
    with Lab(data=tmp_path / "lab") as lab, open_transfers(str(path)) as file:
        written(path, ["a,asha,ravi,1", "b,ravi,asha,2"])
        with pytest.raises(MalformedFile):
            lab.run(file)
        lab.audit().require_clean()
