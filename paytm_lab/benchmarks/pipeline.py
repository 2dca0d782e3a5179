"""The whole way of payments: posted, relayed, scored, counted, notified, until all is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paytm_lab.simulation.payments import Workload

USERS = 10_000
PAYMENTS = 50_000
IN_FLIGHT = 256
SEED = 7


def run(data_dir: Path, quick: bool, open_lab: Callable[..., Any]) -> list[dict[str, Any]]:
    """One row: ``payments_per_s`` from the first post to the last consumer done, ``posted_per_s``,
    ``drain_ratio`` (that time over the posting time), ``posting_s``, ``drained_s``, ``events``.
    Ends in a full audit: IntegrityError when it is not clean.
    """
    scale = 10 if quick else 1
    workload = Workload(users=USERS // scale, payments=PAYMENTS // scale)
    with open_lab(data=data_dir / "pipeline", seed=SEED) as lab:
        run = lab.run(workload, in_flight=IN_FLIGHT)
        lab.audit().require_clean()
        events = sum(lab.event_counts().values())
    return [
        {
            "payments": run.submitted,
            "payments_per_s": round(run.submitted / run.drained_s, 1),
            "posted_per_s": round(run.payments_per_s, 1),
            "drain_ratio": round(run.drained_s / run.posting_s, 3),
            "posting_s": round(run.posting_s, 2),
            "drained_s": round(run.drained_s, 2),
            "events": events,
        }
    ]
