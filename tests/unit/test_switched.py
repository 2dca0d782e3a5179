"""The switch in front of an embedded store: while it is off, it is as if its server were gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.switched import Switch, switched
from paytm_lab.core.clock import SystemClock
from paytm_lab.core.errors import Unavailable
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.event_log import EventLog, Message


@pytest.fixture
def switch() -> Switch:
    return Switch("the store")


@pytest.fixture
def log(switch: Switch, tmp_path: Path) -> Iterator[EventLog]:
    log: EventLog = switched(EmbeddedEventLog(tmp_path / "log", SystemClock()), switch)
    log.create_topics({"topic": 1})
    yield log
    log.close()


@pytest.fixture
def coordination(switch: Switch, tmp_path: Path) -> Iterator[Coordination]:
    coordination: Coordination = switched(EmbeddedCoordination(tmp_path / "c"), switch)
    yield coordination
    coordination.close()


def test_a_consumer_goes_on_where_it_was(log: EventLog, switch: Switch) -> None:
    consumer = log.consumer("group", ["topic"])
    log.append([Message("topic", "k", b"1"), Message("topic", "k", b"2")])
    assert [r.value for r in consumer.poll(1, 1.0)] == [b"1"]
    switch.available = False
    calls = (
        lambda: consumer.poll(1, 0.0),
        lambda: consumer.commit({}),
        lambda: log.append([]),
        lambda: log.end_offsets("topic"),
        lambda: log.consumer("other", ["topic"]),
    )
    for call in calls:
        with pytest.raises(Unavailable, match="the store"):
            call()
    assert consumer.assignment(), "it remembers what it has"
    switch.available = True
    assert [r.value for r in consumer.poll(10, 1.0)] == [b"2"]
    consumer.close()


def test_a_leadership_is_lost_for_good(coordination: Coordination, switch: Switch) -> None:
    leadership = coordination.try_lead("name")
    assert leadership is not None
    assert leadership.held()
    assert coordination.try_lead("name") is None
    switch.available = False
    assert not leadership.held()
    with pytest.raises(Unavailable, match="the store"):
        coordination.try_lead("name")
    switch.available = True
    assert not leadership.held(), "somebody else may have led meanwhile"
    leadership.release()
    again = coordination.try_lead("name")
    assert again is not None
    assert again.held()


def test_closing_needs_no_server(log: EventLog, switch: Switch) -> None:
    consumer = log.consumer("group", ["topic"])
    switch.available = False
    consumer.close()
    log.close()
