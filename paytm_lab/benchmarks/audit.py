"""The audit of a million ledger entries, every check and the events included."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paytm_lab.simulation.payments import Workload

USERS = 10_000
PAYMENTS = 290_000  # about 3.5 entries each, and the accounts' own
SEED = 7
ROUNDS = 3


def run(data_dir: Path, quick: bool, open_lab: Callable[..., Any]) -> list[dict[str, Any]]:
    """Rows ``mode`` (quiescent, live, replay), ``seconds`` (best of 3), ``entries``, ``events``.

    Raises IntegrityError when an audit is not clean.
    """
    scale = 20 if quick else 1
    workload = Workload(users=USERS // scale, payments=PAYMENTS // scale)
    rows: list[dict[str, Any]] = []
    entries, events = 0, None
    with open_lab(data=data_dir / "audit", seed=SEED, consumers=()) as lab:
        lab.run(workload)
        for mode in ("quiescent", "live"):
            best_s = float("inf")
            for _ in range(ROUNDS):
                started = time.perf_counter()
                report = lab.audit(mode)
                best_s = min(best_s, time.perf_counter() - started)
                report.require_clean()
                entries, events = report.entries, report.events
            rows.append(_row(mode, best_s, entries, events))
        started = time.perf_counter()
        replayed = lab.replay()
        rows.append(_row("replay", time.perf_counter() - started, entries, replayed.events))
    return rows


def _row(mode: str, seconds: float, entries: int, events: int | None) -> dict[str, Any]:
    return {"mode": mode, "seconds": round(seconds, 2), "entries": entries, "events": events}
