"""bench: run one benchmark module and print its rows."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from inspect import signature
from pathlib import Path
from typing import Any

from paytm_lab import benchmarks, preflight, wiring
from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput
from paytm_lab.lab import Lab
from paytm_lab.own_process import collect_less
from paytm_lab.stack.control import Stack
from paytm_lab.terminal import note, print_json, say, table
from paytm_lab.verbs.common import Common

_HELPERS = frozenset({"cpu", "raw_loop"})
_PARTS = ("_", "simulate_")  # what a benchmark of another name puts together


class _Labs:
    """Opens labs of one profile, each in a folder that it is given; at the end what they have on
    the servers is removed.
    """

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self._settings: dict[Path, Settings] = {}

    def __call__(self, data: Path, **options: Any) -> Lab:
        lab = Lab(self._profile, data=data, **options)
        self._settings[data] = lab.settings
        return lab

    def __enter__(self) -> _Labs:
        return self

    def __exit__(self, *_: object) -> None:
        for settings in self._settings.values():
            wiring.remove(settings)


def names() -> list[str]:
    """The benchmarks that there are."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in found if name not in _HELPERS and not name.startswith(_PARTS))


def bench(common: Common, name: str | None, quick: bool) -> int:
    if name is None:
        for known in names():
            module = importlib.import_module(f"paytm_lab.benchmarks.{known}")
            say(f"{known:10} {(module.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if name not in names():
        raise BadInput(f"{name!r} is not a benchmark", remedy=f"Name one of {', '.join(names())}.")
    settings = common.settings()
    module = importlib.import_module(f"paytm_lab.benchmarks.{name}")
    asked = signature(module.run).parameters
    if settings.profile == "servers" and "open_lab" not in asked:
        raise BadInput(f"{name} measures no servers", remedy="Leave out --profile.")
    if settings.profile == "servers" and settings.source("namespace") != "default":
        raise BadInput(
            f"a benchmark makes namespaces of its own, {settings.namespace!r} cannot be one",
            remedy="Unset PAYTM_LAB_NAMESPACE.",
        )
    preflight.require(settings)
    if common.data is not None:
        common.data.mkdir(parents=True, exist_ok=True)
    collect_less()
    with (
        tempfile.TemporaryDirectory(prefix="paytm_lab-bench-", dir=common.data) as folder,
        _Labs(settings.profile) as open_lab,
    ):
        given = {"open_lab": open_lab, "server_pids": _server_pids(settings), "tell": note}
        rows = module.run(Path(folder), quick, **{k: v for k, v in given.items() if k in asked})
    if common.as_json:
        print_json({"bench": name, "profile": settings.profile, "rows": rows})
    else:
        table(rows, list(dict.fromkeys(name for row in rows for name in row)))
    return 0


def _server_pids(settings: Settings) -> dict[str, int]:
    """By name, where the servers are this machine's own stack; nothing otherwise."""
    if settings.profile != "servers" or settings.source("mysql_servers") != "stack":
        return {}
    stack = Stack(settings.stack_dir)
    pids = {server.name: stack.pid(server.name) for server in stack.servers()}
    return {name: pid for name, pid in pids.items() if pid is not None}
