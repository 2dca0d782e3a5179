"""Labs for the tests of a payment's path: users '0' to '11' with 1,000 rupees each; user n lies on
shard n % 4. A deterministic lab stands still until it is stepped or somebody waits for an answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab
from paytm_lab.cli import app
from tests.faults.processes import ROOT
from tests.path.command_line import Cli, Ran

USERS = 12
OPENING_PAISE = 100_000
PROGRAM = Path(__file__).with_name("posting_process.py")
MakeLab = Callable[..., Lab]


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """``make(**settings)``: an open lab with its users. All calls of one test share a folder."""
    with ExitStack() as labs:

        def make(users: int = USERS, **settings: Any) -> Lab:
            settings.setdefault("deterministic", True)
            settings.setdefault("seed", 1)
            settings.setdefault("data", tmp_path / "lab")
            settings.setdefault("velocity_limit", 1_000_000)  # nobody is frozen for being quick
            lab = Lab(shards=4, **settings).open()
            labs.callback(lab.close)
            lab.open_accounts({str(n): OPENING_PAISE for n in range(users)})
            return lab

        yield make


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab()


@pytest.fixture
def running_lab(make_lab: MakeLab) -> Lab:
    """The same with threads."""
    return make_lab(deterministic=False)


@pytest.fixture
def start_posting(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start another process on the test's lab (see posting_process.py); it is gone at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path / "lab"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROGRAM.parents[2],
            env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command in this very process, which spares a second of imports: ``cli("run", ...)``."""
    monkeypatch.chdir(ROOT)

    def call(*words: str) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(list(words), prog_name="paytm-lab")
        printed = capfd.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    return call
