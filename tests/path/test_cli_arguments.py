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


def test_an_empty_folder_name_is_no_folder(tmp_path: Path) -> None:
    environment = processes.environment() | {"PYTHONPATH": str(ROOT)}
    words = ["run", "--data", "", "--users", "5", "--payments", "5"]
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
