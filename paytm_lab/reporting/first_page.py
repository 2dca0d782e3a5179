"""A report's first page alone, from a run and an audit, where no notebook is to be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from paytm_lab.reporting import frames
from paytm_lab.reporting.results import RunResult
from paytm_lab.reporting.site import RunData, build_site


def run_data(
    run: RunResult,
    verdict: pd.DataFrame,
    *,
    review_threshold: float = 0.7,
    measured: Mapping[str, str] | None = None,
) -> RunData:
    """What a site shows of a run. ``measured``: more facts about it, besides its notes."""
    notes = {name.replace("_", " "): str(value) for name, value in run.notes.items()}
    return RunData(
        profile=run.profile,
        seed=run.seed,
        command=run.command,
        payments=run.payments,
        shards=run.shards,
        features=run.features,
        verdict=verdict,
        events=run.events,
        posting_s=run.posting_s,
        drained_s=run.drained_s,
        review_threshold=review_threshold,
        facts=notes | dict(measured or {}),
    )


def write_first_page(
    run: RunResult, audit: Any, out: Path, *, review_threshold: float = 0.7
) -> Path:
    """Writes ``out/index.html`` (the folder is made) while the run's lab is open; its path. The
    page opens in any browser without a network.
    """
    data = run_data(run, frames.verdict_frame(audit.checks), review_threshold=review_threshold)
    return build_site(out, [], data)
