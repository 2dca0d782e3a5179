"""The payment page: what everybody wrote about one payment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from paytm_lab.analytics.panel import (
    Fact,
    Panel,
    Table,
    count,
    head,
    number,
    rupees,
    text,
    time_of,
)

Json = dict[str, Any]
TONES = {"COMPLETED": "good", "FAILED": "bad", "CANCELLED": "warn"}


def summary(data: Json) -> Panel:
    return Panel(
        "summary",
        "",
        facts=[
            Fact("State", data["status"], data["reason"].replace("_", " "),
                 TONES.get(data["status"], "")),
            Fact("Amount", rupees(data["amount_paise"])),
            Fact("From", data["from_user"]),
            Fact("To", data["to_user"]),
            Fact("Asked", data["asked_at"][11:19], data["asked_at"][:10] + ", UTC"),
        ],
    )  # fmt: skip


def steps(data: Json) -> list[Json]:
    """Each with ``offset``: how long after the first it was."""
    if not data["steps"]:
        return []
    first = _at(data["steps"][0]["at"])
    return [{**step, "offset": _offset((_at(step["at"]) - first) * 1e3)} for step in data["steps"]]


def _at(text_: str) -> float:
    return datetime.fromisoformat(text_).timestamp()


def _offset(ms: float) -> str:
    if ms < 1:
        return "0 ms"
    return f"+{ms:,.0f} ms" if ms < 10_000 else f"+{ms / 1e3:,.1f} s"


def panels(data: Json) -> list[Panel]:
    return [
        _rows(data),
        _entries(data),
        _outbox(data),
        _events(data),
        *([_score(data)] if data["shown_in_full"] else []),
        _notifications(data),
    ]


def _rows(data: Json) -> Panel:
    return Panel(
        "rows",
        "On the shards",
        table=Table(
            "A row for each shard that knows it",
            head("shard", "role", "state", "written", "last changed"),
            [[text(r["shard"]), text(r["role"]), text(r["status"], TONES.get(r["status"], "")),
              text(time_of(r["created_at"])), text(time_of(r["updated_at"]))]
             for r in data["rows"]],
        ),
        wide=True,
    )  # fmt: skip


def _entries(data: Json) -> Panel:
    entries = data["entries"]
    return Panel(
        "entries",
        "Ledger entries",
        table=Table(
            "A row for each entry", head("shard", "account", "#debit", "#credit"),
            [[text(e["shard"]), text(e["account"]),
              number(rupees(e["amount_paise"]) if e["direction"] == "debit" else ""),
              number(rupees(e["amount_paise"]) if e["direction"] == "credit" else "")]
             for e in entries],
        ) if entries else None,
        why="" if entries else "It has moved no money.",
    )  # fmt: skip


def _outbox(data: Json) -> Panel:
    rows = data["outbox"]
    return Panel(
        "outbox",
        "Outbox",
        table=Table(
            "Events that wait to be relayed", head("shard", "event", "since"),
            [[text(r["shard"]), text(r["type"]), text(time_of(r["since"]))] for r in rows],
        ) if rows else None,
        why="" if rows else "No event of it waits: all are in the log.",
    )  # fmt: skip


def _events(data: Json) -> Panel:
    events = data["events"]
    return Panel(
        "events",
        "Events: the log and Cassandra",
        table=Table(
            "A row for each stored event",
            head("event", "topic", "#partition", "#offset"),
            [[text(e["type"]), text(e["topic"]), number(count(e["partition"])),
              number(count(e["offset"]))] for e in events],
        ) if events else None,
        why="" if events else "Cassandra has no event of it yet.",
    )  # fmt: skip


def _score(data: Json) -> Panel:
    score = data["score"]
    return Panel(
        "score",
        "Fraud",
        facts=[
            Fact("Score", f"{score['score']:.4g}", f"model {score['model']}"),
            Fact("Decision", score["decision"], score["rule"].replace("_", " ")),
        ] if score else (),
        why="" if score else "It has not been scored.",
    )  # fmt: skip


def _notifications(data: Json) -> Panel:
    sent = [step for step in data["steps"] if step["notification"]]
    return Panel(
        "notifications",
        "Notifications",
        table=Table(
            "A row for each message", head("when", "what"),
            [[text(time_of(s["at"])), text(s["what"])] for s in sent],
        ) if sent else None,
        why="" if sent else "No message about it has been sent.",
        wide=True,
    )  # fmt: skip
