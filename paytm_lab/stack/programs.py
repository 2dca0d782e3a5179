"""Finds the servers' programs: on this machine first, then among the fetched packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import platformdirs

from paytm_lab.core.errors import MissingPart
from paytm_lab.stack.layout import Layout

VERSION_WAIT_S_MAX = 20.0
FETCH = "Debian on its own: paytm-lab stack up --fetch"
JAVA_VERSIONS = ("11", "17")


class Places(NamedTuple):
    """Where to look: the environment's PATH, *_HOME and CONDA_PREFIX, the usual places below
    ``root``, and the fetched packages.
    """

    packages: Path
    environ: Mapping[str, str]
    root: Path = Path("/")

    def which(self, name: str, *usual: str) -> list[Path]:
        """Programs of that name on the PATH and in the usual places (patterns), each once."""
        found = shutil.which(name, path=self.environ.get("PATH", ""))
        paths = [Path(found)] if found else []
        if prefix := self.environ.get("CONDA_PREFIX"):
            paths.append(Path(prefix) / "bin" / name)
        for pattern in usual:
            paths += sorted(self.root.glob(pattern), reverse=True)
        return [path for path in dict.fromkeys(paths) if os.access(path, os.X_OK)]

    def home(self, variable: str) -> list[Path]:
        return [Path(self.environ[variable])] if self.environ.get(variable) else []


class Program(NamedTuple):
    """``command``: its first words; ``options``: what it needs, whatever it is to do."""

    command: tuple[str, ...]
    version: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}


class Jars(NamedTuple):
    folder: Path
    version: str


class Missing(NamedTuple):
    """A part that is not there; ``how``: where one gets it, by system."""

    part: str
    needed: str
    found: str
    how: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.part}: needed {self.needed}; found {self.found}." + "".join(
            f"\n       {line}" for line in self.how
        )


Part = Program | Jars | Missing


def places(layout: Layout) -> Places:
    """The stack's own folder of packages where there is one, else the one of the user's cache."""
    own = layout.packages.exists()
    cache = platformdirs.user_cache_path("paytm_lab", appauthor=False) / "stack"
    return Places(layout.packages if own else cache, os.environ)


def said(command: Iterable[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """What a program says of itself, on either stream; '' when it cannot be run."""
    try:
        done = subprocess.run(  # noqa: S603 - a server's program, to ask its version
            [str(word) for word in command],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_WAIT_S_MAX,
            check=False,
            env={**os.environ, **environment} if environment else None,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def version_in(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def at_least(version: str, least: tuple[int, ...]) -> bool:
    numbers = tuple(map(int, re.findall(r"\d+", version)[: len(least)]))
    return len(numbers) == len(least) and numbers >= least


def find_java(where: Places) -> Program | Missing:
    paths = [home / "bin/java" for home in where.home("JAVA_HOME")] + where.which(
        "java",
        "usr/lib/jvm/*-17-*/bin/java",
        "usr/lib/jvm/*-11-*/bin/java",
        "opt/homebrew/opt/openjdk@17/bin/java",
        "opt/homebrew/opt/openjdk@11/bin/java",
        "usr/local/opt/openjdk@17/bin/java",
    )
    seen = []
    for path in paths:
        version = version_in(said([path, "-version"]), r'version "([^"]+)"')
        if version.split(".")[0] in JAVA_VERSIONS:
            return Program((str(path),), version)
        seen.append(f"{path} ({version or 'does not run'})")
    return Missing(
        "java", "Java 11 or 17", ", ".join(seen) or "no java",
        (
            "Debian 12, Ubuntu: apt-get install openjdk-17-jre-headless",
            "macOS: brew install openjdk@17",
            "conda: conda install -c conda-forge openjdk=17",
        ),
    )  # fmt: skip


def find_jars(
    part: str, folders: Iterable[Path], version_of: Callable[[Path], str], needed: str,
    how: tuple[str, ...],
) -> Jars | Missing:  # fmt: skip
    """The first folder whose jars are of a version that ``version_of`` does not call ''."""
    seen = []
    for folder in folders:
        if folder.is_dir():
            if version := version_of(folder):
                return Jars(folder, version)
            seen.append(f"other versions in {folder}")
    return Missing(part, needed, ", ".join(seen) or "none", how)


def jar_version(folder: Path, pattern: str) -> str:
    """The version in the first jar's name that the regular expression matches; ''."""
    names = sorted(path.name for path in folder.glob("*.jar"))
    return next((m[1] for name in names if (m := re.fullmatch(pattern, name))), "")


def require(parts: Mapping[str, Part]) -> None:
    """MissingPart (exit 3) with every missing part, and how to get each."""
    missing = [part for part in parts.values() if isinstance(part, Missing)]
    if missing:
        lines = "".join(f"\n  {n}. {part}" for n, part in enumerate(missing, start=1))
        raise MissingPart(
            f"{len(missing)} part(s) of the stack are not on this machine:{lines}\n  {FETCH}"
        )
