"""What a sweep's workers do: one point of a notebook, or of plain simulations.

Workers import this module, perhaps dozens of them: what only one kind of point needs is imported
there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from paytm_lab.core.errors import NotebookFailed
from paytm_lab.reporting.recording import Recorded, recorded
from paytm_lab.reporting.sweeps import Worked

_UNITS = {
    "users_max_over_mean": "fullest shard over mean",
    "users_cv": "sd over mean",
    "sent_max_over_mean": "busiest shard over mean",
    "sent_cv": "sd over mean",
    "legs_max_over_mean": "busiest shard over mean",
    "legs_cv": "sd over mean",
    "legs_per_payment": "legs",
    "cross_shard_share": "share of payments",
    "moved_users_share": "share of users",
    "hottest_user_share": "share of payments",
}


def run_notebook(
    stem: str, text: str, runs_in: str, timeout_s: float, parameters: Mapping[str, Any]
) -> Worked:
    """One point of a notebook, wherever this runs: the notebook comes as text. It runs in its own
    folder where there is one, and its lab, where it is given no data, is a fresh one.
    """
    from paytm_lab.reporting.export import read_notebook
    from paytm_lab.reporting.notebooks import execute
    from paytm_lab.verbs.abandoned import remove_abandoned

    with tempfile.TemporaryDirectory(prefix="paytm-lab-point-") as folder:
        source, out = Path(folder) / f"{stem}.ipynb", Path(folder) / "out" / f"{stem}.ipynb"
        source.write_text(text, encoding="utf-8")
        where = Path(runs_in) if Path(runs_in).is_dir() else Path(folder)
        profile = str(parameters.get("profile", "embedded"))
        try:
            execute(
                source, out, parameters, timeout_s=timeout_s, runs_in=where,
                abandoned=partial(remove_abandoned, profile),
            )  # fmt: skip
        except NotebookFailed as error:
            return Worked(error=error.message, notebook=_text(out))
        return Worked(tuple(recorded(read_notebook(out), stem)), notebook=_text(out))


def run_simulation(parameters: Mapping[str, Any]) -> Worked:
    """One point of plain simulations."""
    from paytm_lab.simulation.payments import Workload
    from paytm_lab.simulation.simulate import simulate

    p = parameters
    workload = Workload(p["users"], p["payments"], p["zipf_s"])
    (row,) = simulate(workload, p["seed"], (p["shards"],), (p["strategy"],))
    return Worked(tuple(Recorded(name, row[name], unit) for name, unit in _UNITS.items()))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
