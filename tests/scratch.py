"""Where the tests' files lie: in memory, where the machine has enough.

A commit waits until the disk has it, and a lab is made of a hundred such waits. What the tests kill
are processes, whose files outlive them in memory just as on a disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
DISK = Path("/var/tmp")
# All tests together leave about a sixth of it, and what runs needs its own.
FREE_BYTES_MIN = 8 << 30
_PREFIX = "paytm-lab-tests-"


def make(within: Path = MEMORY, free_bytes_min: int = FREE_BYTES_MIN) -> Path | None:
    """A new folder in memory, or None where that is too small or there is none. Those of runs that
    have ended, which failed or were killed, are removed.
    """
    if not os.access(within, os.W_OK):
        return None
    _remove_forgotten(within)
    free = min(shutil.disk_usage(within).free, psutil.virtual_memory().available)
    if free < free_bytes_min:
        return None
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=within))


def use(folder: Path) -> None:
    """Let this process and all that it starts make their temporary files there."""
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # what was found before is forgotten


@contextmanager
def on_disk() -> Iterator[Path]:
    """For what a disk has to slow down: in memory a load without a pace outgrows who watches it."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=DISK) as folder:
        yield Path(folder)


def _remove_forgotten(within: Path) -> None:
    for folder in within.glob(f"{_PREFIX}*"):
        pid = int(folder.name.removeprefix(_PREFIX).split("-")[0])
        with suppress(FileNotFoundError):
            if folder.stat().st_uid == os.getuid() and not psutil.pid_exists(pid):
                shutil.rmtree(folder, ignore_errors=True)
