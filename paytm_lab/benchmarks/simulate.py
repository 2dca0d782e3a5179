"""How fast the simulations run, each beside SimPy on the same model where SimPy can do it."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from paytm_lab import benchmarks


def run(data_dir: Path, quick: bool = False) -> list[dict[str, Any]]:
    """The rows of every module of this package called ``simulate_*``, which each have
    ``rows(data_dir, quick)``. A row has ``what``, and speeds by their units. MissingPart where one
    needs a package that is not here.
    """
    found = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name.startswith("simulate_")
    )
    parts = [importlib.import_module(f"{benchmarks.__name__}.{name}") for name in found]
    return [row for part in parts for row in part.rows(data_dir, quick)]
