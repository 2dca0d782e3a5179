"""The health monitor: every part is asked every ten seconds, and what it says becomes an event."""

from __future__ import annotations

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import Unavailable
from paytm_lab.messaging.health import INTERVAL_S


def test_every_part_every_ten_seconds(lab: Lab) -> None:
    def checks() -> int:
        return lab.event_counts().get("SystemHealthCheck", 0)

    health = lab.system.health
    lab.drain()
    parts, first = len(health.latest), checks()
    assert parts >= len(lab.system.databases) + 4
    assert {data.state for data in health.latest.values()} == {"up"}
    assert first >= parts
    assert first % parts == 0
    health.step()
    assert checks() == first, "not before it is time"
    lab.system.clock.advance(INTERVAL_S)  # type: ignore[attr-defined]
    with lab.fault("shard-2", "down"):
        assert health.step() == parts
    assert checks() == first + parts
    down = {name for name, data in health.latest.items() if data.state == "down"}
    assert down == {"shard-2"}
    assert "shard" in health.latest["shard-2"].detail


def test_what_could_not_be_told_is_due_at_once(lab: Lab) -> None:
    health, parts = lab.system.health, len(lab.system.health.latest)
    lab.system.clock.advance(INTERVAL_S)  # type: ignore[attr-defined]
    with lab.fault("event-log", "gone"):
        for _ in range(3):
            with pytest.raises(Unavailable, match="event-log"):
                health.step()
        assert health.latest["event-log"].state == "down"
        assert lab.system.backlog() >= 0, "what is known without the log"
    assert health.step() == parts
    assert health.latest["event-log"].state == "up"


def test_a_service_that_was_announced_and_is_gone_is_down(lab: Lab) -> None:
    health, coordination = lab.system.health, lab.system.coordination

    def look() -> dict[str, str]:
        lab.system.clock.advance(INTERVAL_S)  # type: ignore[attr-defined]
        health.step()
        return {name: data.state for name, data in health.latest.items()}

    assert "fraud" not in look(), "nobody ever served it"
    gone = coordination.register("fraud", "here-1", "127.0.0.1:8003")
    assert look()["fraud"] == "up"
    also = coordination.register("fraud", "here-2", "127.0.0.1:8003")
    gone()
    assert look()["fraud"] == "up", "one is enough"
    also()
    assert look()["fraud"] == "down"
    coordination.register("fraud", "here-3", "127.0.0.1:8003")
    assert look()["fraud"] == "up"
