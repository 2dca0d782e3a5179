"""How long each notebook takes, alone, with its own parameters and with two other sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paytm_lab.core.errors import NotebookFailed
from paytm_lab.reporting.catalog import notebooks_in
from paytm_lab.reporting.export import read_notebook
from paytm_lab.reporting.notebooks import execute, known_parameters

FOLDER = Path("notebooks")
QUICK = ("00",)
_SIZES = ("users", "payments")  # halved in the third set, where a notebook has them


def run(
    data_dir: Path, quick: bool = False, tell: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """Rows ``notebook``, ``parameters`` (what differs from its own), ``seconds`` (one kernel,
    from its start on), ``passed``, ``error`` (the first line of what a cell raised, or nothing).
    ``tell`` hears of each failure with the cell. Run it in the project's folder. Quick: one
    notebook, once.
    """
    rows = []
    for path in notebooks_in(FOLDER):
        if quick and path.name[:2] not in QUICK:
            continue
        known = known_parameters(read_notebook(path), path.name)
        for number, given in enumerate(_sets(known)[: 1 if quick else 3]):
            started_s = time.perf_counter()
            failed: NotebookFailed | None = None
            try:
                execute(path, data_dir / f"{path.stem}-{number}.ipynb", given)
            except NotebookFailed as error:
                failed = error
                # Not where it was written to: that is gone when the benchmark ends.
                tell(f"{_with(given)}{error.message}")
            rows.append(
                {
                    "notebook": path.stem,
                    "parameters": given,
                    "seconds": round(time.perf_counter() - started_s, 1),
                    "passed": failed is None,
                    "error": "" if failed is None else failed.raised or failed.message,
                }
            )
    return rows


def _with(given: dict[str, Any]) -> str:
    return (
        f"with {', '.join(f'{name}={value}' for name, value in given.items())}: " if given else ""
    )


def _sets(known: dict[str, Any]) -> list[dict[str, Any]]:
    halves = {name: known[name] // 2 for name in _SIZES if isinstance(known.get(name), int)}
    return [{}, {"seed": known["seed"] + 1}, {"seed": known["seed"] + 2, **halves}]
