"""DataFrames of a run. Units are in the column names; money stays integer paise.

A frame is the only thing a chart takes, so whatever holds a run (memory, shard files, a benchmark)
builds these frames and nothing else needs to know where the numbers came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from paytm_lab.core.errors import BadInput
from paytm_lab.core.events import TOPIC_OF, EventType

PAYMENT_COLUMNS = (
    "payment_id",
    "from_user_id",
    "to_user_id",
    "from_shard",
    "to_shard",
    "cross_shard",
    "amount_paise",
    "status",
    "reason",
    "latency_ms",
    "submitted_s",
    "at_us",
)
SHARD_COLUMNS = ("shard", "accounts", "balance_paise", "payments", "entries")
HOURLY_COLUMNS = ("hour", "payments", "completed", "failed", "amount_paise")
FEATURE_COLUMNS = ("payment_id", "user_id", "amount_paise", "score", "decision", "rule")
MODEL_COLUMNS = (
    "payment_id",
    "user_id",
    "to_user_id",
    "amount_paise",
    "at_us",
    "gate",
    "decision",
    "rule",
    "model",
    "model_score",
    "shadow_model",
    "shadow_score",
)
VERDICT_COLUMNS = ("check", "state", "detail")
EVENT_COLUMNS = ("topic", "type", "events")
NAIVE_COLUMNS = ("path", "accepted", "refused", "affordable", "lost_paise")
LATENCY_COLUMNS = (
    "path",
    "payments",
    "latency_ms_p50",
    "latency_ms_p90",
    "latency_ms_p99",
    "latency_ms_p99_9",
    "latency_ms_max",
)
STEP_COLUMNS = ("actor", "to", "label", "at_us")

_HOUR_US = 3_600_000_000


def payments_frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """One row a payment, in the order submitted, from columns of equal length.

    Needs every name of PAYMENT_COLUMNS but ``cross_shard``, which is derived. ``latency_ms`` runs
    from submission to the answer; ``submitted_s`` counts from the run's start; ``at_us`` is when
    the payer asked, microseconds since 1970 UTC. ``reason`` is empty for completed payments. A
    shard that is not known (a refusal before routing) is -1. Raises BadInput when a column is
    missing.
    """
    _need("payments", PAYMENT_COLUMNS, [*columns, "cross_shard"])
    frame = pd.DataFrame({name: columns[name] for name in PAYMENT_COLUMNS if name in columns})
    known = (frame["from_shard"] >= 0) & (frame["to_shard"] >= 0)
    frame["cross_shard"] = known & (frame["from_shard"] != frame["to_shard"])
    frame = frame.astype(
        {
            "from_shard": "int16",
            "to_shard": "int16",
            "cross_shard": "bool",
            "amount_paise": "int64",
            "latency_ms": "float64",
            "submitted_s": "float64",
            "at_us": "int64",
        }
    )
    return frame[list(PAYMENT_COLUMNS)]


def shards_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a shard: users' accounts and balances, payments sent from it, ledger entries."""
    return _from_rows("shards", SHARD_COLUMNS, rows).sort_values("shard", ignore_index=True)


def hourly_frame(payments: pd.DataFrame) -> pd.DataFrame:
    """24 rows, one an hour of the (UTC) day of ``at_us``: counts and the completed amount."""
    hour = (payments["at_us"] // _HOUR_US % 24).astype("int64")
    completed = payments["status"] == "COMPLETED"
    every = pd.RangeIndex(24, name="hour")
    return pd.DataFrame(
        {
            "payments": hour.value_counts().reindex(every, fill_value=0),
            "completed": hour[completed].value_counts().reindex(every, fill_value=0),
            "failed": hour[payments["status"] == "FAILED"]
            .value_counts()
            .reindex(every, fill_value=0),
            "amount_paise": payments["amount_paise"]
            .where(completed, 0)
            .groupby(hour)
            .sum()
            .reindex(every, fill_value=0),
        }
    ).reset_index(names="hour")


def features_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a scored payment, from the wide store's ``features`` (``amount`` is paise there)."""
    renamed = ({**row, "amount_paise": row.get("amount_paise", row.get("amount"))} for row in rows)
    return _from_rows("features", FEATURE_COLUMNS, renamed)


def model_scores_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a scored payment, from the wide store's ``features``: what trained models gave it.
    ``model_score`` is NaN where none decided, ``shadow_score`` where none was watched; in order of
    ``at_us``.
    """
    plain = {"shadow_model": "", "shadow_score": -1.0}  # of rows that are older than these columns
    full = (
        {
            **row,
            **{
                name: other if row.get(name) is None else row[name] for name, other in plain.items()
            },
            "amount_paise": row.get("amount_paise", row.get("amount")),
        }
        for row in rows
    )
    frame = _from_rows("model scores", MODEL_COLUMNS, full)
    for name in ("model_score", "shadow_score"):
        frame[name] = frame[name].astype(float).where(frame[name] >= 0)
    return frame.sort_values(["at_us", "payment_id"], ignore_index=True)


def verdict_frame(checks: Iterable[Any]) -> pd.DataFrame:
    """One row a check of the audit: its name, ``passed | failed | unknown``, and what was seen.

    Takes rows as mappings, triples, or objects with ``name`` (or ``check``), ``state`` and
    ``detail``.
    """
    return _from_rows("verdict", VERDICT_COLUMNS, (_check_row(check) for check in checks))


def verdict_state(verdict: pd.DataFrame) -> str:
    """``failed`` when any check failed, else ``unknown`` when any is unknown or none was made."""
    states = set(verdict["state"])
    if "failed" in states:
        return "failed"
    return "passed" if states == {"passed"} else "unknown"


def events_frame(counts: Mapping[str, int]) -> pd.DataFrame:
    """One row for each of the 13 event types, zero included, and any other type that was seen."""
    types = [str(t) for t in EventType]
    types += sorted(set(counts) - set(types))
    return pd.DataFrame(
        {
            "topic": [str(TOPIC_OF.get(t, "other")) for t in types],
            "type": types,
            "events": np.array([int(counts.get(t, 0)) for t in types], dtype="int64"),
        }
    )


def drift_frame(ledger: Mapping[str, int], replayed: Mapping[str, int]) -> pd.DataFrame:
    """One row a user that either side knows: balance by the ledger, by the replay, the gap."""
    users = sorted(ledger.keys() | replayed.keys())
    frame = pd.DataFrame(
        {
            "user_id": users,
            "ledger_paise": np.array([ledger.get(u, 0) for u in users], dtype="int64"),
            "replayed_paise": np.array([replayed.get(u, 0) for u in users], dtype="int64"),
        }
    )
    frame["drift_paise"] = frame["replayed_paise"] - frame["ledger_paise"]
    return frame


def drift_of_replay(
    balances: Mapping[str, int], drifting: Iterable[Mapping[str, Any]]
) -> pd.DataFrame:
    """A drift frame from the ledger's ``balances`` and the rows of a ReplayReport. The replay has
    compared every user and names those that differ (20 at most); the others are equal.
    """
    rebuilt = dict(balances)
    ledger = dict(balances)
    for row in drifting:
        rebuilt[row["user_id"]] = row["rebuilt_paise"]
        ledger[row["user_id"]] = row["ledger_paise"]
    return drift_frame(ledger, rebuilt)


def naive_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a way of spending (``path``): how many spends it accepted, refused, how many the
    balance could afford, and the paise handed out that were not there.
    """
    return _from_rows("naive", NAIVE_COLUMNS, rows)


def steps_frame(steps: Iterable[Any]) -> pd.DataFrame:
    """One row a step of a payment's trace, in time order: who acted, towards whom (empty: itself),
    what, when. Takes mappings or objects with these attributes.
    """
    rows = [
        step if isinstance(step, Mapping) else {n: getattr(step, n, "") for n in STEP_COLUMNS}
        for step in steps
    ]
    frame = _from_rows("steps", STEP_COLUMNS, ({**{"to": ""}, **row} for row in rows))
    frame["to"] = frame["to"].fillna("")
    return frame.sort_values("at_us", kind="stable", ignore_index=True)


def in_flight_max(payments: pd.DataFrame) -> int:
    """The most payments that waited for their answers at one time; 0 where none was timed. Of a
    run, which is a closed loop, that is how many it keeps under way.
    """
    timed = payments.dropna(subset=["submitted_s", "latency_ms"])
    submitted_s = np.sort(timed["submitted_s"].to_numpy())
    answered_s = np.sort((timed["submitted_s"] + timed["latency_ms"] / 1000).to_numpy())
    # Just as the n-th is submitted, all earlier ones wait but for those that were answered by then.
    answered_by_then = np.searchsorted(answered_s, submitted_s, side="right")
    waiting = np.arange(1, len(timed) + 1) - answered_by_then
    return int(waiting.max(initial=0))


def closed_loop(payments: pd.DataFrame) -> str:
    """What the latencies of a run hold, for the reader who compares them with an offered rate's."""
    most = in_flight_max(payments)
    if most < 2:  # alone, a payment waits for no other
        return "closed loop, 1 in flight" if most else ""
    return f"closed loop, {most:,} in flight: queueing included"


def latency_summary(payments: pd.DataFrame) -> pd.DataFrame:
    """Rows ``same shard``, ``cross shard``, ``all`` of the completed payments: quantiles in ms."""
    done = payments[(payments["status"] == "COMPLETED") & payments["latency_ms"].notna()]
    groups = {
        "same shard": done.loc[~done["cross_shard"], "latency_ms"],
        "cross shard": done.loc[done["cross_shard"], "latency_ms"],
        "all": done["latency_ms"],
    }
    rows = [
        (name, len(ms), *np.quantile(ms, (0.5, 0.9, 0.99, 0.999)), ms.max())
        for name, ms in groups.items()
        if len(ms)
    ]
    return pd.DataFrame(rows, columns=list(LATENCY_COLUMNS))


def _check_row(check: Any) -> Mapping[str, Any]:
    if isinstance(check, Mapping):
        return {"check": check.get("check", check.get("name")), **check}
    if isinstance(check, tuple) and not hasattr(check, "_fields"):
        return dict(zip(VERDICT_COLUMNS, check, strict=True))
    name = getattr(check, "check", None) or check.name
    return {"check": name, "state": str(check.state), "detail": str(check.detail)}


def _from_rows(
    what: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> pd.DataFrame:
    held = list(rows)
    if held:
        _need(what, columns, held[0])
    return pd.DataFrame({name: [row[name] for row in held] for name in columns})


def _need(what: str, columns: Iterable[str], present: Iterable[str]) -> None:
    missing = sorted(set(columns) - set(present))
    if missing:
        raise BadInput(
            f"the {what} frame lacks {', '.join(missing)}",
            remedy=f"It needs the columns {', '.join(columns)}.",
        )
