"""Ctrl-C in `paytm-lab report` while its notebooks run: a real process, real kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import waiting
from tests.unit.test_reporting_notebooks import write

ROOT = Path(__file__).parents[2]
PARAMETERS = ("data = ''\nprofile = 'embedded'\nseed = 7", "parameters")
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
# Its kernel's own end is what it leaves behind: an interrupted cell goes through its finally.
TIDY = "try:\n    {wait}\nfinally:\n    open('{folder}/tidied', 'w').close()"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("deaf", [False, True], ids=["listens", "deaf"])
def test_ctrl_c_ends_the_kernels_and_says_where_the_half_report_lies(
    deaf: bool, tmp_path: Path
) -> None:
    """Of two kernels at work one may not listen; a third notebook is never begun."""
    for folder in ("nb", "temporary"):
        (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / "gate")  # nobody ever opens its other end
    wait = f"open('{tmp_path}/gate').read()"
    tidy = TIDY.format(wait=wait, folder=tmp_path)
    for name, work in (("00_a", tidy), ("01_b", DEAF + wait if deaf else wait), ("02_c", "")):
        here = f"open('{tmp_path}/{name}', 'w').close()\n"
        write(tmp_path / "nb" / f"{name}.ipynb", PARAMETERS, ("print('before')",), (here + work,))
    out = tmp_path / "report"
    words = ["report", "--users", "40", "--payments", "120", "--notebooks", str(tmp_path / "nb"),
             "--out", str(out)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "paytm_lab.cli", *words], cwd=ROOT, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )  # fmt: skip
    waiting.until(lambda: (tmp_path / "00_a").exists() and (tmp_path / "01_b").exists())
    kernels = psutil.Process(process.pid).children(recursive=True)
    assert len(kernels) >= 2
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert time.monotonic() - began_s < 10  # about 3 s, where nothing else runs
    assert process.returncode == 130 and said == ""
    assert f"what there is of the report lies in {out}" in errors
    assert "interrupted" in errors and "Traceback" not in errors
    assert not psutil.wait_procs(kernels, timeout=5)[1]
    assert (tmp_path / "tidied").exists() and not (tmp_path / "02_c").exists()
    assert (out / "data" / "shards").is_dir()
    assert "before" in (out / "notebooks" / "00_a.ipynb").read_text()
    assert list((tmp_path / "temporary").iterdir()) == []
