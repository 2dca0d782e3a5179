"""Frame in, Plotly figure out. Every figure names its profile, its units, and what to look at.

No chart is ever an empty panel: given no rows it becomes the sentence that says why. The functions
live in run_charts, check_charts and sequence; ``Charts`` applies them to a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from paytm_lab.reporting import frames
from paytm_lab.reporting.check_charts import (
    backlog,
    balance_drift,
    decisions,
    event_counts,
    fraud_scores,
    naive_loss,
    verdict,
)
from paytm_lab.reporting.routing_charts import keys_moved, strategy_balance
from paytm_lab.reporting.run_charts import (
    cross_shard_cost,
    hourly,
    latency_percentiles,
    outcomes,
    shard_balance,
    throughput,
)
from paytm_lab.reporting.sequence import sequence

__all__ = [
    "Charts",
    "backlog",
    "balance_drift",
    "cross_shard_cost",
    "decisions",
    "event_counts",
    "fraud_scores",
    "hourly",
    "keys_moved",
    "latency_percentiles",
    "naive_loss",
    "outcomes",
    "sequence",
    "shard_balance",
    "strategy_balance",
    "throughput",
    "verdict",
]


class Charts:
    """The charts of one profile, for ``lab.charts``. Each takes a frame, or anything that has the
    frame as an attribute (``run.payments``, ``run.shards``, ``run.features``, ``run.events``).
    """

    def __init__(self, profile: str = "embedded", review_threshold: float = 0.7) -> None:
        self.profile = profile
        self.review_threshold = review_threshold

    def shard_balance(self, run: Any, by: str = "accounts") -> go.Figure:
        """``by``: accounts | balance | payments | load."""
        return shard_balance(_frame(run, "shards"), by=by, profile=self.profile)

    def throughput(self, run: Any) -> go.Figure:
        return throughput(_frame(run, "payments"), profile=self.profile)

    def latency_percentiles(self, run: Any) -> go.Figure:
        return latency_percentiles(_frame(run, "payments"), profile=self.profile)

    def cross_shard_cost(self, run: Any) -> go.Figure:
        return cross_shard_cost(_frame(run, "payments"), profile=self.profile)

    def hourly(self, run: Any) -> go.Figure:
        frame = _frame(run, "payments")
        hours = frame if "hour" in frame.columns else frames.hourly_frame(frame)
        return hourly(hours, profile=self.profile)

    def outcomes(self, run: Any) -> go.Figure:
        return outcomes(_frame(run, "payments"), profile=self.profile)

    def fraud_scores(self, run: Any) -> go.Figure:
        return fraud_scores(
            _frame(run, "features"), threshold=self.review_threshold, profile=self.profile
        )

    def decisions(self, run: Any) -> go.Figure:
        return decisions(_frame(run, "features"), profile=self.profile)

    def event_counts(self, run: Any) -> go.Figure:
        return event_counts(_frame(run, "events"), profile=self.profile)

    def verdict(self, audit: Any) -> go.Figure:
        """Takes a verdict frame, or an audit whose ``checks`` have name, state and detail."""
        if not isinstance(audit, pd.DataFrame):
            checks = getattr(audit, "frame", None)
            audit = checks if checks is not None else frames.verdict_frame(audit.checks)
        return verdict(audit, profile=self.profile)

    def balance_drift(self, replay: Any, balances: Mapping[str, int]) -> go.Figure:
        """Takes a replay's report and the ledger's balances in paise."""
        drift = frames.drift_of_replay(balances, replay.rows())
        return balance_drift(drift, profile=self.profile)

    def strategy_balance(self, rows: Any) -> go.Figure:
        """Rows of ``simulation.simulate`` for one number of shards; nothing is measured there."""
        return strategy_balance(pd.DataFrame(rows))

    def keys_moved(self, rows: Any) -> go.Figure:
        """Rows of ``simulation.simulate`` for one number of shards; nothing is measured there."""
        return keys_moved(pd.DataFrame(rows))

    def naive_loss(self, paths: Any) -> go.Figure:
        """Takes rows as ``frames.naive_frame`` does."""
        return naive_loss(frames.naive_frame(paths), profile=self.profile)

    def backlog(self, steps: Any) -> go.Figure:
        """Takes rows with ``at_s`` and the rows waiting in each place."""
        return backlog(pd.DataFrame(steps), profile=self.profile)

    def sequence(self, trace: Any, title: str = "") -> go.Figure:
        """Takes a steps frame, or a trace with ``steps``."""
        steps = trace if isinstance(trace, pd.DataFrame) else frames.steps_frame(trace.steps)
        return sequence(steps, title=title, profile=self.profile)


def _frame(source: Any, name: str) -> pd.DataFrame:
    return source if isinstance(source, pd.DataFrame) else getattr(source, name)
