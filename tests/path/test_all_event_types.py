"""Every type of event is produced by something that happened."""

from __future__ import annotations

from paytm_lab import Lab
from paytm_lab.core.events import TOPIC_OF, EventType, unwrap
from paytm_lab.messaging.health import INTERVAL_S
from tests.path.conftest import MakeLab

LIMIT = 3


def produced(lab: Lab) -> dict[str, set[str]]:
    """Type -> the topics that hold one."""
    lab.drain()
    found: dict[str, set[str]] = {}
    for record in lab.system.all_records():
        found.setdefault(unwrap(record.value).type, set()).add(record.topic)
    return found


def test_a_life_with_all_thirteen(make_lab: MakeLab) -> None:
    lab = make_lab(users=0, velocity_limit=LIMIT)
    before = produced(lab)
    assert set(before) <= {"SystemHealthCheck"}
    lab.open_accounts({"1": 10_000_000, "2": 0, "5": 10_000})
    assert "UserCreated" in produced(lab)

    lab.transfer("1", "2", "7000")  # completed, and large enough for a review
    assert lab.transfer("5", "2", "999").status == "FAILED"
    held = lab.transfer("5", "2", "1", hold=True)
    assert lab.release(held.payment).status == "CANCELLED"
    assert "TransactionBlocked" not in produced(lab)
    for _ in range(LIMIT + 1):
        lab.transfer("5", "2", "1")

    after = produced(lab)
    assert after == {str(kind): {str(TOPIC_OF[kind])} for kind in EventType}
    assert len(after) == 13


def test_a_health_check_of_every_part_every_ten_seconds(lab: Lab) -> None:
    def checks() -> int:
        return lab.event_counts().get("SystemHealthCheck", 0)

    lab.drain()
    parts, first = len(lab.system.health.latest), checks()
    assert parts >= len(lab.system.databases) + 4
    assert first >= parts
    assert first % parts == 0
    lab.system.health.step()
    assert checks() == first, "not before it is time"
    lab.system.clock.advance(INTERVAL_S)  # type: ignore[attr-defined]
    assert lab.system.health.step() == parts
    assert checks() == first + parts
