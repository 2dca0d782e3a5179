"""One payment followed through shards, outbox, log and consumers: listed, and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from paytm_lab.core.ids import parse_payment_id, payment_id_text
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.ports.wide_store import WideStore
from paytm_lab.reporting import charts, frames
from paytm_lab.reporting.steps import ANSWERED, Step, answer, steps_of

if TYPE_CHECKING:
    from paytm_lab.reporting.results import RunResult

NOTE = (
    "Time 0: admitted, by the id, to the millisecond. A shard's time is when its batch began; the"
    " commit came later."
)
UNANSWERED = "When the answer came was not measured."


class Trace:
    """The steps of one payment in order of time. In a notebook it draws itself. ``note`` says what
    the times are.
    """

    def __init__(self, payment_id: str, status: str, steps: list[Step], profile: str) -> None:
        self.payment_id = payment_id
        self.status = status
        self.steps = steps
        self.profile = profile

    @property
    def note(self) -> str:
        measured = any(step.label.startswith(ANSWERED) for step in self.steps)
        return NOTE if measured else f"{NOTE} {UNANSWERED}"

    def answered_in(self, run: RunResult) -> Trace:
        """The same with the answer as the run's caller measured it, where the payment is one of the
        run's and was answered.
        """
        latencies = run.payments.loc[run.payments["payment_id"] == self.payment_id, "latency_ms"]
        known = [step for step in self.steps if not step.label.startswith(ANSWERED)]
        measured = [float(latency) for latency in latencies if isfinite(latency)]
        if known and measured:
            known.append(answer(known, parse_payment_id(self.payment_id), measured[0]))
        return Trace(
            self.payment_id, self.status, sorted(known, key=lambda s: s.at_us), self.profile
        )

    @property
    def figure(self) -> go.Figure:
        title = f"Payment {self.payment_id}: {self.status}"
        steps = frames.steps_frame(self.steps)
        return charts.sequence(steps, title=title, note=self.note, profile=self.profile)

    def to_dict(self) -> dict[str, Any]:
        return {
            "payment_id": self.payment_id,
            "status": self.status,
            "note": self.note,
            "steps": [step._asdict() for step in self.steps],
        }

    def __str__(self) -> str:
        start = self.steps[0].at_us if self.steps else 0
        width = max((len(f"{s.actor} -> {s.to}") for s in self.steps), default=0)
        lines = [f"payment {self.payment_id}: {self.status}"]
        for step in self.steps:
            way = step.actor if step.to in ("", step.actor) else f"{step.actor} -> {step.to}"
            lines.append(f"{(step.at_us - start) / 1e3:10.2f} ms  {way:{width}}  {step.label}")
        return "\n".join([*lines, self.note])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = dict(self.figure._repr_mimebundle_() or {})
        bundle.setdefault("text/plain", str(self))
        bundle.setdefault("text/html", f"<pre>{escape(str(self))}</pre>")
        return bundle


def trace(
    payment_id: bytes,
    source_shard: int,
    databases: Mapping[int, ShardDatabase],
    log: EventLog,
    wide_store: WideStore,
    profile: str,
    latency_ms: float = float("nan"),
) -> Trace:
    """Collect what every part wrote about one payment; BadInput when no shard knows it.

    ``latency_ms``: as its caller measured it, where that is known.
    """
    status, steps = steps_of(payment_id, source_shard, databases, log, wide_store, latency_ms)
    return Trace(payment_id_text(payment_id), status, steps, profile)
