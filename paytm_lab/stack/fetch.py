"""Runs fetch.sh, which gets the parts that a bare Debian lacks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from paytm_lab.core.errors import MissingPart

SCRIPT = Path(__file__).with_name("fetch.sh")
LINES_KEPT = 12


def fetch(packages: Path, parts: Sequence[str], say: Callable[[str], None]) -> None:
    """Get the parts into the folder. MissingPart, with the script's last words, when it cannot."""
    say(f"fetching {', '.join(parts)} into {packages} (once)")
    process = subprocess.Popen(  # noqa: S603 - our own script
        ["/bin/bash", str(SCRIPT), str(packages), *parts],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    last: list[str] = []
    with process:
        for line in process.stdout or ():
            last = [*last, line.rstrip()][-LINES_KEPT:]
            say(f"  {line.rstrip()}")
    if process.returncode != 0:
        words = "".join(f"\n  {line}" for line in last)
        raise MissingPart(
            f"the parts could not be fetched:{words}",
            remedy="\nPackages come by apt-get, jars by Maven: both need to reach their sources.",
        )
