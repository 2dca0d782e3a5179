"""Arguments that make no sense leave nothing behind, and are named before anything else is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.faults import processes
from tests.faults.processes import ROOT
from tests.path.command_line import Cli

DATA = ROOT / "tests" / "data"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--users -5", "users = -5"),
        ("--cross-shard-share 7", "cross_shard_share"),
        ("--transfers nowhere.csv", "no such file"),
        ("--transfers {} --map from=nobody", "nobody"),
        ("--transfers {} --opening-balance much", "much"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "report"])
def test_what_cannot_be_posted_makes_no_lab_and_says_nothing_first(
    verb: str, words: str, said: str, tmp_path: Path, cli: Cli
) -> None:
    given = words.format(DATA / "paysim.csv").split()
    out = ["--out", str(tmp_path / "out")] if verb == "report" else []
    done = cli(verb, *given, "--data", str(tmp_path / "lab"), *out)
    assert done.code == 2
    assert said in done.err
    assert "to repeat" not in done.err + done.out
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("line", ["--data = --users 5 --payments 5", "--transfers ="])
def test_an_empty_name_is_neither_folder_nor_file(line: str, tmp_path: Path) -> None:
    environment = processes.environment() | {"PYTHONPATH": str(ROOT)}
    environment["PAYTM_LAB_DATA_DIR"] = str(tmp_path / "lab")
    words = ["run", *("" if word == "=" else word for word in line.split())]
    done = subprocess.run(
        processes.command(*words),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=90,
    )
    assert done.returncode == 2
    assert "it is empty" in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["run", "report"])
def test_a_file_of_which_no_row_is_a_payment_is_no_clean_run(
    verb: str, tmp_path: Path, cli: Cli
) -> None:
    file, lab = tmp_path / "prices.csv", tmp_path / "lab"
    file.write_text('from,to,amount\nasha,ravi,"1,000.50"\nasha,ravi,-5\nravi,ravi,1\n')
    out = ["--out", str(tmp_path / "out")] if verb == "report" else []
    done = cli(verb, "--transfers", str(file), "--data", str(lab), *out)
    assert done.code == 2
    assert "none of its 3 rows is a payment" in done.err
    assert "2 bad_amount, 1 same_account" in done.err
    assert "passed" not in done.out
    assert len((lab / "rejects.csv").read_text().splitlines()) == 4


def test_names_with_spaces_at_their_ends_are_told(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "spaces.csv"
    file.write_text("from,to,amount\n asha,ravi,5\nasha,ravi ,5\nasha,ravi,5\n")
    done = cli("run", "--transfers", str(file), "--data", str(tmp_path / "lab"))
    assert done.code == 0
    assert "begin or end with a space, such as ' asha'" in " ".join(done.err.split())
    file.write_text("from,to,amount\nasha,ravi,5\n")
    done = cli("run", "--transfers", str(file), "--data", str(tmp_path / "lab"))
    assert "begin or end" not in done.err
