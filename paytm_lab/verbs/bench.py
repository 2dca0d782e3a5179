"""bench: run one benchmark module and print its rows."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from inspect import signature
from pathlib import Path

from paytm_lab import benchmarks, preflight
from paytm_lab.core.errors import BadInput
from paytm_lab.lab import Lab
from paytm_lab.terminal import print_json, say, table
from paytm_lab.verbs.common import Common, collect_less

_HELPERS = frozenset({"raw_loop"})


def names() -> list[str]:
    """The benchmarks that there are."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in found if name not in _HELPERS and not name.startswith("_"))


def bench(common: Common, name: str | None, quick: bool) -> int:
    if name is None:
        for known in names():
            module = importlib.import_module(f"paytm_lab.benchmarks.{known}")
            say(f"{known:10} {(module.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if name not in names():
        raise BadInput(f"{name!r} is not a benchmark", remedy=f"Name one of {', '.join(names())}.")
    settings = common.settings()
    preflight.require(settings)
    if common.data is not None:
        common.data.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"paytm_lab.benchmarks.{name}")
    collect_less()
    with tempfile.TemporaryDirectory(prefix="paytm_lab-bench-", dir=common.data) as folder:
        options = {"open_lab": Lab} if "open_lab" in signature(module.run).parameters else {}
        rows = module.run(Path(folder), quick, **options)
    if common.as_json:
        print_json({"bench": name, "profile": settings.profile, "rows": rows})
    else:
        table(rows)
    return 0
