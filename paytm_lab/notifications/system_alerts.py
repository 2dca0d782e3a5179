"""From the health monitor's checks: which part of the lab went down, or came back.

One alert a change. A change is what several checks in a row say, so that a single lost answer wakes
nobody; a part that keeps changing must stay as it is for longer each time. All of it is a function
of the checks and of what is stored, so a repeated event makes the same alert under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from paytm_lab.core.events import EventType, HealthData, Topic
from paytm_lab.notifications.tables import PARTS
from paytm_lab.ports.event_log import Record
from paytm_lab.ports.wide_store import Row, WideStore

CHECKS_MIN = 2
CALM_US = 600_000_000  # after so long without a change a part counts as steady again
CHANGES_FREE = 4  # within that time: down, up, down, up
CHECKS_MAX = 32
UP, DOWN = "up", "down"
_TYPE = str(EventType.SYSTEM_HEALTH_CHECK)
_MARK = f'"{_TYPE}"'.encode()
_TOPIC = str(Topic.ANALYTICS)
_HEAD_BYTES = 400  # where an envelope names its type


class _HealthEvent(msgspec.Struct, frozen=True):
    type: str
    time: str
    data: HealthData
    traceparent: str = ""


_read = msgspec.json.Decoder(_HealthEvent).decode


class Alert(NamedTuple):
    """``id`` grows with time, as payment ids do. ``at_us``: of the check that settled it."""

    id: str
    event_type: str
    part: str
    state: str
    detail: str
    at_us: int
    traceparent: str


class Changes(NamedTuple):
    """What a batch of checks changed: alerts to be sent, then rows to be stored."""

    alerts: list[Alert]
    rows: dict[str, Row]


class SystemAlerts:
    def __init__(self, store: WideStore) -> None:
        self._store = store

    def changes(self, records: Sequence[Record]) -> Changes | None:
        """None where no record is a check. The order of a part's checks is its partition's."""
        events = [
            _read(record.value)
            for record in records
            if record.topic == _TOPIC and _MARK in record.value[:_HEAD_BYTES]
        ]
        if not events:
            return None
        parts = sorted({event.data.part for event in events})
        stored = self._store.fetch(PARTS, [(part,) for part in parts])
        rows = {part: dict(stored.get((part,)) or _new(part)) for part in parts}
        alerts = []
        for event in events:
            alert = _step(rows[event.data.part], event)
            if alert is not None:
                alerts.append(alert)
        return Changes(alerts, rows)

    def remember(self, changes: Changes) -> None:
        """After the alerts were sent: what comes again before that makes them again."""
        self._store.upsert(PARTS, list(changes.rows.values()))


def _new(part: str) -> Row:
    return {
        "part": part, "state": UP, "checked_us": 0, "against": 0, "changes": 0, "told_us": 0,
    }  # fmt: skip


def _step(row: Row, event: _HealthEvent) -> Alert | None:
    """Take one check into account; an alert where it settles a change."""
    at_us = round(datetime.fromisoformat(event.time).timestamp() * 1e6)
    if at_us <= row["checked_us"]:
        return None  # it was counted before
    row["checked_us"] = at_us
    state = DOWN if event.data.state == DOWN else UP
    if state == row["state"]:
        row["against"] = 0
        return None
    row["against"] += 1
    if at_us - row["told_us"] > CALM_US:
        row["changes"] = 0
    needed = CHECKS_MIN << max(0, row["changes"] - CHANGES_FREE + 1)
    if row["against"] < min(CHECKS_MAX, needed):
        return None
    row.update(state=state, against=0, changes=row["changes"] + 1, told_us=at_us)
    milliseconds = f"{at_us // 1_000:012x}"
    id_ = f"{milliseconds[:8]}-{milliseconds[8:]}-{event.data.part}"
    detail = event.data.detail if state == DOWN else ""
    return Alert(id_, f"{_TYPE}.{state}", event.data.part, state, detail, at_us, event.traceparent)
