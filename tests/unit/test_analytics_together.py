"""Analytics on its runner of the real servers: a payment's events are stored in one write, and each
counts once, in its partition's order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.analytics.consumer import AnalyticsConsumer, began_us
from paytm_lab.analytics.rollups import COMPLETED, INITIATED, read_rollups
from paytm_lab.analytics.tables import EVENTS
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.events import Topic
from paytm_lab.core.ids import PaymentIds, payment_id_text
from paytm_lab.messaging.together import TogetherRunner
from paytm_lab.messaging.topics import ANALYTICS, GROUPS
from paytm_lab.ports.event_log import Message, Record
from paytm_lab.ports.wide_store import Row
from tests.unit.consumer_world import START_US, World, as_records, crash_points, payment
from tests.unit.consumer_world import payment_message as message
from tests.unit.test_analytics_consumer import contents, expected, scored

PAYMENTS = 40


def stream(count: int) -> list[tuple[float, Message]]:
    """When each event comes (s after the start): a payment every 10 ms, completed within 0.3 s,
    scored 0.1 s later.
    """
    clock = SimulatedClock(START_US)
    ids = PaymentIds(clock)
    events = []
    for n in range(count):
        at_s = n / 100
        data = payment(payment_id_text(ids.next(n % 1024)), at_us=clock.now_us())
        done_s = at_s + 0.05 + 0.25 * (n % 3 == 0)
        events += [
            (at_s, message(INITIATED, data)),
            (done_s, message(COMPLETED, data)),
            (done_s + 0.1, scored(data)),
        ]
        clock.advance(0.01)
    return sorted(events, key=lambda each: each[0])


class CountedWrites:
    """The real store; notes which payments each write of events is about."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.writes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        self._store.upsert(table, rows)
        if table == EVENTS:
            self.writes.update({str(row["payment_id"]) for row in rows})


def runner(world: World, store: Any) -> TogetherRunner:
    return TogetherRunner(
        world.log, ANALYTICS, GROUPS[ANALYTICS], AnalyticsConsumer(store, world.clock), world.clock,
        gather_s=0.5, hold_s=1.0, began_us=began_us,
    )  # fmt: skip


def play(world: World, member: TogetherRunner, events: Sequence[tuple[float, Message]]) -> None:
    for at_s, event in events:
        world.clock.advance(max(0.0, at_s - (world.clock.now_us() - START_US) / 1e6))
        world.real_log.append([event])
        member.step()
    for _ in range(30):
        world.clock.advance(0.3)
        member.step()


def test_a_payments_events_are_stored_in_one_write(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    store = CountedWrites(world.real_store)
    events = stream(400)
    member = runner(world, store)
    play(world, member, events)
    assert member.lag() == 0
    assert len(store.writes) == 400
    assert set(store.writes.values()) == {1}
    member.close()
    world.close()


def test_without_waiting_it_is_three_writes(tmp_path: Path) -> None:
    """What the test above would see if nothing were held."""
    world = World(tmp_path / "world")
    store = CountedWrites(world.real_store)
    member = runner(world, store)
    member.hurry = True
    play(world, member, stream(50))
    assert set(store.writes.values()) == {3}
    member.close()
    world.close()


def test_a_crash_at_any_call_counts_everything_once(tmp_path: Path) -> None:
    seen = 0

    def run(world: World) -> None:
        play(world, runner(world, world.store), stream(PAYMENTS))

    for where, world in crash_points(tmp_path, run):
        events = [event for _, event in stream(PAYMENTS)]
        written = sum(len(world.records(topic)) for topic in (Topic.PAYMENT, Topic.FRAUD))
        world.real_log.append(events[written:])
        world.clock.advance(60)
        again = runner(world, world.real_store)
        again.hurry = True
        for _ in range(20):
            again.step()
        assert again.lag() == 0, where
        totals = read_rollups(world.real_store)
        assert contents(totals) == contents(expected(events)), where
        assert world.real_store.count(EVENTS) == len(events), where
        again.close()
        seen += 1
    assert seen > 20


def test_what_is_expected_counts_when_it_comes(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    data = payment("p")
    first, second, copy = as_records([message(INITIATED, data), *[message(COMPLETED, data)] * 2])
    consumer = AnalyticsConsumer(world.store, world.clock)
    consumer.expect([second, copy])
    consumer.handle([first])
    assert world.real_store.count(EVENTS) == 2
    assert contents(read_rollups(world.real_store)) == contents(
        expected([message(INITIATED, data)])
    )
    consumer.handle([second, copy])
    both = [message(INITIATED, data), message(COMPLETED, data)]
    assert contents(read_rollups(world.real_store)) == contents(expected(both))
    assert consumer.counters["duplicates"] == 1
    world.close()


def test_an_expected_record_that_cannot_be_read_holds_up_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    good, bad = as_records([message(INITIATED, payment("p")), message(COMPLETED, payment("p"))])
    consumer = AnalyticsConsumer(world.store, world.clock)
    consumer.expect([bad._replace(value=b"\xff")])
    consumer.handle([good])
    assert consumer.counters["counted"] == 1
    with pytest.raises(ValueError):
        consumer.handle([bad._replace(value=b"\xff")])
    world.close()


def test_what_was_expected_beside_a_record_that_cannot_be_read_is_expected_no_more(
    tmp_path: Path,
) -> None:
    """A batch with such a record is halved. If a later copy of an event were stored with the first
    half, the event in the other half would count for nothing, and the copy, after a crash, neither.
    """
    world = World(tmp_path / "world")
    data = payment("p")
    first, bad, second, copy = as_records(
        [message(INITIATED, data), *[message(COMPLETED, data)] * 3]
    )
    bad = bad._replace(value=b"\xff")
    consumer = AnalyticsConsumer(world.store, world.clock)
    consumer.expect([copy])
    with pytest.raises(ValueError):
        consumer.handle([first, bad, second])
    consumer.handle([first])
    with pytest.raises(ValueError):
        consumer.handle([bad])
    again = AnalyticsConsumer(world.store, world.clock)  # the process died here
    again.handle([second, copy])
    both = [message(INITIATED, data), message(COMPLETED, data)]
    assert contents(read_rollups(world.real_store)) == contents(expected(both))
    world.close()


@pytest.mark.parametrize("key", ["", "asha", "٣" * 36, "0" * 36])
def test_what_is_about_no_payment_began_long_ago(key: str) -> None:
    assert began_us(Record("payment_events", 0, 0, key, b"", (), 0)) == 0


def test_a_record_began_when_its_payment_was_admitted() -> None:
    clock = SimulatedClock(START_US + 7_000)
    key = payment_id_text(PaymentIds(clock).next(5))
    assert began_us(Record("payment_events", 0, 0, key, b"", (), 0)) == START_US + 7_000
