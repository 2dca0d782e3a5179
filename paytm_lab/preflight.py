"""What a lab needs and does not find, all of it at once, each with its remedy. Starts nothing.

A command that is about to open a lab calls ``require``; it takes well under two seconds.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil

from paytm_lab.config import PREFIX, Settings
from paytm_lab.config_servers import CONNECTION_FILE, Address, addresses
from paytm_lab.core.errors import MissingPart
from paytm_lab.tcp_ports import is_taken, owner, refusal

PYTHON_MIN = (3, 11)
# A report of 50,000 payments writes about 450 MB (each notification is a file of its own); a full
# disk must not be met midway.
DISK_FREE_MIN_MIB = 1024
# A report's process tree peaks below 1 GiB, of which the system needs a part free from the start.
MEMORY_FREE_MIN_MIB = 512
MIB = 1 << 20
SERVER_ANSWER_S_MAX = 2.0  # to a first connection; all are asked at once
_MODULES = {  # others: the same name
    "cassandra-driver": "cassandra",
    "kafka-python": "kafka",
    "opentelemetry-api": "opentelemetry",
    "pyjwt": "jwt",
}


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

    ``need_ports``: ports on 127.0.0.1 that the caller wants to listen on. Nothing is created or
    left behind; servers, where the profile needs them, are only knocked at.
    """
    return [
        *check_python(sys.version_info[:3]),
        *check_packages(_required_packages()),
        *check_folder(settings.data_dir),
        *check_disk(settings.data_dir),
        *check_memory(psutil.virtual_memory().available),
        *check_ports(need_ports),
        *(check_servers(settings) if settings.profile == "servers" else ()),
    ]


def require(settings: Settings, need_ports: Iterable[int] = ()) -> None:
    """Raise MissingPart (exit 3) with every problem, one a line, when there is any."""
    _require_none(preflight(settings, need_ports))


def require_servers(settings: Settings) -> None:
    """Raise MissingPart where the servers profile's are away. Only that: what makes room must also
    run where there is none.
    """
    _require_none(check_servers(settings) if settings.profile == "servers" else [])


def _require_none(problems: list[Problem]) -> None:
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


class _Kind(NamedTuple):
    """Servers of one kind, the setting that names them, and whether a lab needs each of them (or
    any one, which tells the others).
    """

    name: str
    setting: str
    each: bool = False

    @property
    def variable(self) -> str:
        return f"{PREFIX}{self.setting.upper()}"


_KINDS = (
    _Kind("MySQL", "mysql_servers", each=True),
    _Kind("Redis", "redis_server"),
    _Kind("Kafka", "kafka_servers"),
    _Kind("ZooKeeper", "zookeeper_servers"),
    _Kind("Cassandra", "cassandra_servers"),
)


def check_servers(settings: Settings) -> list[Problem]:
    """Servers that a lab needs and that take no connection, all kinds at once: those that the
    settings have from the same source are one problem.
    """
    asked = {kind: addresses(str(getattr(settings, kind.setting))) for kind in _KINDS}
    asked[_KINDS[0]] = asked[_KINDS[0]][: settings.shards]
    silent = _silent({place for places in asked.values() for place in places})
    found: dict[str, list[_Kind]] = {}
    for kind, places in asked.items():
        away = sum(place in silent for place in places)
        if away == len(places) or (kind.each and away):
            found.setdefault(settings.source(kind.setting), []).append(kind)
    return [
        Problem(
            "servers",
            "no answer from " + _places(kinds, asked, silent),
            "all of them",
            _remedy(settings, source, kinds),
        )
        for source, kinds in found.items()
    ]


def _places(
    kinds: Sequence[_Kind],
    asked: Mapping[_Kind, Sequence[Address]],
    silent: Mapping[Address, str],
) -> str:
    """'MySQL 127.0.0.1:3308, Kafka 127.0.0.1:9092 (connection refused)'."""
    by_reason: dict[str, list[str]] = {}
    for kind in kinds:
        for place in asked[kind]:
            if place in silent:
                by_reason.setdefault(silent[place], []).append(f"{kind.name} {place}")
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


def _remedy(settings: Settings, source: str, kinds: Sequence[_Kind]) -> str:
    if source == "stack":
        return "`paytm-lab stack up` starts what does not run; `paytm-lab stack status` shows all."
    named = f"by {', '.join(kind.variable for kind in kinds)}"
    if source == "default" and not (settings.stack_dir / CONNECTION_FILE).is_file():
        return (
            f"No stack was started in {settings.stack_dir}: do so with `paytm-lab stack up`, or say"
            f" {named} where others are."
        )
    return f"Start them, or say {named} where they are."


def _silent(places: Iterable[Address]) -> dict[Address, str]:
    """Those that take no connection within ``SERVER_ANSWER_S_MAX``, with the reason."""
    late = f"nothing within {SERVER_ANSWER_S_MAX:g} s"
    found = dict.fromkeys(places, late)

    def knock(place: Address) -> None:
        try:
            socket.create_connection(place, timeout=SERVER_ANSWER_S_MAX).close()
        except TimeoutError:
            return
        except OSError as error:
            found[place] = (error.strerror or str(error)).lower()
        else:
            found[place] = ""

    # Daemons: looking a host's name up cannot be limited in time, and must not keep us from ending.
    knocking = [threading.Thread(target=knock, args=(p,), daemon=True) for p in found]
    until = time.monotonic() + SERVER_ANSWER_S_MAX
    for thread in knocking:
        thread.start()
    for thread in knocking:
        thread.join(max(0.0, until - time.monotonic()))
    return {place: why for place, why in found.items() if why}


def _nearest(folder: Path) -> Path:
    """The folder itself if something is there, else the nearest path above it that exists."""
    path = folder.absolute()
    # Not Path.exists, which raises where a folder on the way may not be searched.
    return next(p for p in (path, *path.parents) if os.path.exists(p))  # noqa: PTH110
