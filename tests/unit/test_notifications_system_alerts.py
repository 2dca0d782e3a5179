"""Which checks make an alert: one a change, none for a blip, fewer for a part that flaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab.core.events import EventType, HealthData, Topic, encode, wrap
from paytm_lab.notifications.channels import MemoryChannel, every_kind
from paytm_lab.notifications.consumer import NotificationConsumer
from paytm_lab.ports.event_log import Record
from tests.unit.consumer_world import START_US, World, crash_points

OPERATORS = "system:operators"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    yield world
    world.close()


def checks(states: str, part: str = "shard-2", every_s: float = 10, first: int = 0) -> list[Record]:
    """'udd': up, down, down, at so many seconds from one another."""
    kind = str(EventType.SYSTEM_HEALTH_CHECK)
    records = []
    for number, letter in enumerate(states, first):
        at_us = START_US + round(number * every_s * 1e6)
        state = {"u": "up", "d": "down"}[letter]
        data = HealthData(part, state, 1.0, "it said <b>no</b>" if letter == "d" else "")
        body = wrap(
            event_id=f"{part}.{at_us}", event_type=kind, subject=part, source="/health",
            time_us=at_us, data=encode(data),
        )  # fmt: skip
        records.append(Record(str(Topic.ANALYTICS), 0, number, part, body, (), at_us))
    return records


def consumer(world: World, channel: MemoryChannel) -> NotificationConsumer:
    return NotificationConsumer(
        world.store, every_kind(channel), world.log, world.clock, alert_users=[OPERATORS]
    )


def subjects(channel: MemoryChannel) -> list[str]:
    return [m.subject.removeprefix("paytm_lab: ") for m in channel.messages(OPERATORS)]


DOWN, BACK = "shard-2 is down", "shard-2 is up again"


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ("uuuu", []),
        ("uuduu", []),
        ("ududududud", []),
        ("uudd", [DOWN]),
        ("dd", [DOWN]),
        ("uuddddddd", [DOWN]),
        ("uuddddu", [DOWN]),
        ("uudddduuuu", [DOWN, BACK]),
        ("uuddudduduu", [DOWN, BACK]),
        ("dduudduu", [DOWN, BACK, DOWN, BACK]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_one_alert_a_change(world: World, states: str, told: list[str], size: int) -> None:
    channel = MemoryChannel()
    records = checks(states)
    for start in range(0, len(records), size):
        consumer(world, channel).handle(records[start : start + size])
        # Each batch comes twice, and the second time to another process.
        consumer(world, channel).handle(records[start : start + size])
    assert subjects(channel) == told


def test_a_part_that_keeps_changing_is_told_of_less_and_less(world: World) -> None:
    channel = MemoryChannel()
    alerts = consumer(world, channel)
    alerts.handle(checks("dduu" * 90))  # an hour of it
    assert 4 <= len(subjects(channel)) <= 6 * 4  # ten minutes each begin anew, four changes at most
    before = len(subjects(channel))
    alerts.handle(checks("u" * 70 + "dd", first=360))
    assert subjects(channel)[-1] == DOWN and len(subjects(channel)) - before <= 2


def test_parts_do_not_mix(world: World) -> None:
    channel = MemoryChannel()
    mixed = [r for pair in zip(checks("dddd"), checks("uuuu", "cache"), strict=True) for r in pair]
    consumer(world, channel).handle(mixed)
    assert subjects(channel) == [DOWN]


def test_what_it_says(world: World) -> None:
    channel = MemoryChannel()
    consumer(world, channel).handle(checks("dd", "service auth"))
    (message,) = channel.messages()
    assert message.subject == "paytm_lab: service auth is down"
    assert message.body.endswith("What it said: it said <b>no</b>")
    assert (message.channel, message.template) == ("email", "part_changed")


def test_other_events_of_the_topic_are_passed_over(world: World) -> None:
    channel = MemoryChannel()
    body = b'{"type":"BalanceUpdated","data":{"note":"\\"SystemHealthCheck\\""}}'
    consumer(world, channel).handle([Record(str(Topic.ANALYTICS), 0, 0, "k", body, (), START_US)])
    assert channel.sent == 0


def test_a_crash_anywhere_makes_no_second_alert_and_loses_none(tmp_path: Path) -> None:
    channels: dict[int, MemoryChannel] = {}

    def run(world: World) -> None:
        channels[id(world)] = MemoryChannel()
        consumer(world, channels[id(world)]).handle(checks("dduu"))

    count = 0
    for where, world in crash_points(tmp_path, run):
        channel = channels[id(world)]
        consumer(world, channel).handle(checks("dduu"))
        count += 1
        assert set(subjects(channel)) == {DOWN, BACK}, where
        # Only between the provider and the record may they repeat, under the same ids.
        assert channel.sent in ((2, 4) if where in ("after send", "before upsert") else (2,)), where
        assert len({m.notification_id for m in channel.messages()}) == 2, where
    assert count > 10
