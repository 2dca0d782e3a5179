"""What a run leaves to look at: frames, read from ledger and wide store when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from paytm_lab.core.words import plural

if TYPE_CHECKING:
    import pandas as pd


class RunResult:
    """One run. ``posting_s``: first post to last answer; ``drained_s``: first post to last consumer
    done. ``answers``: payments by the status that their callers were answered with; ``reasons``:
    by status, how many for which reason; ``not_admitted``: refused before anything was written, by
    error code. ``command`` repeats the run.
    """

    def __init__(
        self,
        *,
        profile: str,
        seed: int,
        command: str,
        users: int,
        submitted: int,
        answers: Mapping[str, int],
        not_admitted: Mapping[str, int],
        repeated: int,
        posting_s: float,
        drained_s: float,
        read_payments: Callable[[], Mapping[str, Any]],
        read_shards: Callable[[], list[dict[str, Any]]],
        read_features: Callable[[], list[dict[str, Any]]],
        read_events: Callable[[], Mapping[str, int]],
        reasons: Mapping[str, Mapping[str, int]] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self.profile = profile
        self.seed = seed
        self.command = command
        self.users = users
        self.submitted = submitted
        self.answers = dict(answers)
        self.reasons = {status: dict(counts) for status, counts in (reasons or {}).items()}
        self.not_admitted = dict(not_admitted)
        self.repeated = repeated
        self.posting_s = posting_s
        self.drained_s = drained_s
        self.notes = dict(notes or {})
        self._read_payments = read_payments
        self._read_shards = read_shards
        self._read_features = read_features
        self._read_events = read_events

    @cached_property
    def payments(self) -> pd.DataFrame:
        """One row a payment that this run made (frames.PAYMENT_COLUMNS), in order of submission."""
        return (
            _frames()
            .payments_frame(self._read_payments())
            .sort_values("submitted_s", ignore_index=True)
        )

    @cached_property
    def shards(self) -> pd.DataFrame:
        """One row a shard (frames.SHARD_COLUMNS), as the shards stand now."""
        return _frames().shards_frame(self._read_shards())

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row a scored payment of the lab (frames.FEATURE_COLUMNS)."""
        return _frames().features_frame(self._read_features())

    @cached_property
    def model_scores(self) -> pd.DataFrame:
        """One row a scored payment of the lab (frames.MODEL_COLUMNS)."""
        return _frames().model_scores_frame(self._read_features())

    @cached_property
    def events(self) -> pd.DataFrame:
        """Events in the log by topic and type (frames.EVENT_COLUMNS)."""
        return _frames().events_frame(self._read_events())

    @property
    def payments_per_s(self) -> float:
        return self.submitted / self.posting_s if self.posting_s else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready figures of the run, without the frames."""
        return {
            "profile": self.profile,
            "seed": self.seed,
            "command": self.command,
            "users": self.users,
            "payments": self.submitted,
            "answers": self.answers,
            "reasons": self.reasons,
            "not_admitted": self.not_admitted,
            "repeated": self.repeated,
            "posting_s": round(self.posting_s, 3),
            "drained_s": round(self.drained_s, 3),
            "payments_per_s": round(self.payments_per_s, 1),
            **self.notes,
        }

    def __str__(self) -> str:
        answers = ", ".join(
            f"{n} {status}{self._why(status)}" for status, n in sorted(self.answers.items())
        )
        lines = [
            f"{self.submitted} {plural(self.submitted, 'payment')} in {self.posting_s:.1f} s"
            f" ({self.payments_per_s:,.0f}/s),"
            f" drained after {self.drained_s:.1f} s: {answers or 'none answered'}"
        ]
        if self.repeated:
            lines.append(f"{self.repeated} were posted before: they keep their first outcome")
        if self.not_admitted:
            refused = ", ".join(f"{n} {code}" for code, n in sorted(self.not_admitted.items()))
            lines.append(f"refused before anything was written: {refused}")
        return "\n".join(lines)

    def _why(self, status: str) -> str:
        counts = self.reasons.get(status, {})
        return f" ({', '.join(f'{reason} {n}' for reason, n in counts.items())})" if counts else ""

    def __repr__(self) -> str:
        return f"<RunResult {self}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(str(name))}</th>"
            f"<td>{escape(str(value))}</td></tr>"
            for name, value in self.to_dict().items()
            if value not in ({}, 0, "")
        )
        return f"<table>{cells}</table>"


def _frames() -> Any:
    # pandas takes half a second to import, which a run on the command line does not need.
    from paytm_lab.reporting import frames

    return frames
