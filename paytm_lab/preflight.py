"""What a lab needs and does not find, all of it at once, each with its remedy. Starts nothing.

A command that is about to open a lab calls ``require``; it takes well under two seconds.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil

from paytm_lab.config import Settings
from paytm_lab.core.errors import MissingPart
from paytm_lab.tcp_ports import is_taken, owner, refusal

PYTHON_MIN = (3, 11)
# A report of 50,000 payments writes about 450 MB (each notification is a file of its own); a full
# disk must not be met midway.
DISK_FREE_MIN_MIB = 1024
# A report's process tree peaks below 1 GiB, of which the system needs a part free from the start.
MEMORY_FREE_MIN_MIB = 512
MIB = 1 << 20
_MODULES = {"cassandra-driver": "cassandra", "kafka-python": "kafka"}  # others: the same name


class Problem(NamedTuple):
    """One thing that is wrong: what was looked at, what was found, what is needed, what to do."""

    name: str
    found: str
    needed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: found {self.found}; needed {self.needed}. {self.remedy}"


def preflight(settings: Settings, need_ports: Iterable[int] = ()) -> list[Problem]:
    """Every problem that would stop a lab with these settings; empty when there is none.

    ``need_ports``: ports on 127.0.0.1 that the caller wants to listen on. Nothing is created,
    connected or left behind.
    """
    return [
        *check_python(sys.version_info[:3]),
        *check_packages(_required_packages()),
        *check_folder(settings.data_dir),
        *check_disk(settings.data_dir),
        *check_memory(psutil.virtual_memory().available),
        *check_ports(need_ports),
    ]


def require(settings: Settings, need_ports: Iterable[int] = ()) -> None:
    """Raise MissingPart (exit 3) with every problem, one a line, when there is any."""
    problems = preflight(settings, need_ports)
    if problems:
        lines = "".join(f"\n  {number}. {p}" for number, p in enumerate(problems, start=1))
        raise MissingPart(f"{len(problems)} problem(s) to solve before this can start:{lines}")


def check_python(version: Sequence[int]) -> list[Problem]:
    if tuple(version[:2]) >= PYTHON_MIN:
        return []
    return [
        Problem(
            "Python",
            ".".join(map(str, version)),
            "{}.{} or newer".format(*PYTHON_MIN),
            "Install a newer Python, then `make env PYTHON=/path/to/it`.",
        )
    ]


def check_packages(distributions: Iterable[str]) -> list[Problem]:
    """Looks for the modules without importing them."""
    missing = [d for d in distributions if find_spec(_MODULES.get(d, d.replace("-", "_"))) is None]
    if not missing:
        return []
    return [
        Problem(
            "packages",
            f"no {', '.join(missing)} in {sys.prefix}",
            "the packages of requirements.lock",
            "`make env` installs them; run the lab as .venv/bin/paytm-lab.",
        )
    ]


def _required_packages() -> list[str]:
    try:
        lines = requires("paytm-lab") or []
    except PackageNotFoundError:  # run from a source tree: whoever started it chose the packages
        return []
    return [_name(line) for line in lines if ";" not in line]


def _name(requirement: str) -> str:
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), None)
    return requirement[:end]


def check_folder(folder: Path) -> list[Problem]:
    """The folder, or the nearest one above it that exists, must be a folder one can write into.

    The only sure way to know is to write: a nameless file that is gone with its handle.
    """
    nearest = _nearest(folder)
    another = "Give another folder with --data DIR or PAYTM_LAB_DATA_DIR"
    if not nearest.is_dir():
        remedy = f"{another}, or move that file away."
        return [Problem("data folder", f"{nearest} is a file", f"a folder at {folder}", remedy)]
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return []
    except OSError as error:
        if error.errno == errno.ENOSPC:  # said by the disk's own check
            return []
        found = f"no way to write into {nearest} ({error.strerror})"
        remedy = f"{another}."
        if error.errno == errno.EACCES:
            remedy = f"{another}, or make that one yours (ls -ld {nearest} shows whose it is)."
        return [Problem("data folder", found, f"write access to {folder}", remedy)]


def check_disk(folder: Path, free_min_mib: int = DISK_FREE_MIN_MIB) -> list[Problem]:
    nearest = _nearest(folder)
    free_mib = shutil.disk_usage(nearest).free // MIB
    if free_mib >= free_min_mib:
        return []
    return [
        Problem(
            "disk",
            f"{free_mib} MiB free at {nearest}",
            f"{free_min_mib} MiB",
            "Free some space, or give a folder on another disk with --data DIR.",
        )
    ]


def check_memory(available: int, free_min_mib: int = MEMORY_FREE_MIN_MIB) -> list[Problem]:
    """``available``: bytes that can be had without swapping."""
    if available >= free_min_mib * MIB:
        return []
    return [
        Problem(
            "memory",
            f"{available // MIB} MiB available",
            f"{free_min_mib} MiB",
            "Close other programs, or run on a machine with more memory.",
        )
    ]


def check_ports(ports: Iterable[int]) -> list[Problem]:
    """Ports of 127.0.0.1 that cannot be listened on, with their owner where it can be seen."""
    problems = []
    for port in sorted(set(ports)):
        error = refusal(port)
        if error is not None:
            if is_taken(error):
                found, remedy = f"it taken by {owner(port)}", "Stop that program, or choose"
            else:
                found, remedy = f"{error.strerror}", "Choose"
            needed = f"port {port} free on 127.0.0.1"
            problems.append(Problem(f"port {port}", found, needed, f"{remedy} another port."))
    return problems


def _nearest(folder: Path) -> Path:
    """The folder itself if something is there, else the nearest path above it that exists."""
    path = folder.absolute()
    # Not Path.exists, which raises where a folder on the way may not be searched.
    return next(p for p in (path, *path.parents) if os.path.exists(p))  # noqa: PTH110
