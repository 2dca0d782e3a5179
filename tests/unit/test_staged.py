"""The staged runner: decisions do not wait for storing, and nothing is lost or done twice by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import TransientStoreError, Unavailable
from paytm_lab.messaging.consumer import BACKOFF_S_MAX, HANDLED
from paytm_lab.messaging.staged import COMMIT_S, StagedRunner
from paytm_lab.messaging.topics import create_topics, dead_letter
from paytm_lab.ports.event_log import Message, Record, TopicPartition
from tests.waiting import until

TOPIC = "payment_events"
WAIT_S_MAX = 20.0


class Crash(BaseException):
    """The process dies here."""


class Handler:
    """Notes what was decided and stored; fails as it is told to; storing may be held up."""

    def __init__(self) -> None:
        self.decided: list[Record] = []
        self.stored: list[list[list[Record]]] = []
        self.open: set[bytes] = set()
        self.poison: set[bytes] = set()
        self.poison_stores: set[bytes] = set()
        self.failures: list[BaseException] = []
        self.may_store = threading.Event()
        self.may_store.set()
        self.storing = threading.Event()

    def handle(self, records: Sequence[Record]) -> None:
        decided = self.decide(records)
        try:
            self.store([decided])
        finally:
            self.forget([decided])

    def decide(self, records: Sequence[Record]) -> list[Record]:
        if bad := self.poison & {r.value for r in records}:
            raise ValueError(f"cannot read {bad}")
        new = [r for r in records if r.value not in self.open]
        self.decided += new
        self.open |= {r.value for r in new}
        return new

    def store(self, decided: Sequence[list[Record]]) -> None:
        self.storing.set()
        if not self.may_store.wait(WAIT_S_MAX):
            raise AssertionError("held up for ever")
        if self.failures:
            raise self.failures.pop(0)
        if bad := self.poison_stores & {r.value for each in decided for r in each}:
            raise ValueError(f"cannot store {bad}")
        self.stored.append(list(decided))

    def forget(self, decided: Sequence[list[Record]]) -> None:
        self.open -= {r.value for each in decided for r in each}

    def stored_values(self) -> list[bytes]:
        return [r.value for group in self.stored for each in group for r in each]


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock()
        self.log = EmbeddedEventLog(folder, self.clock)
        create_topics(self.log)
        self.handler = Handler()
        self.runner = self.make_runner()

    def make_runner(self, **more: Any) -> StagedRunner:
        return StagedRunner(self.log, "g", [TOPIC], self.handler, self.clock, **more)

    def append(self, count: int, first: int = 0) -> list[bytes]:
        values = [b"%d" % i for i in range(first, first + count)]
        self.log.append([Message(TOPIC, f"k{v.decode()}", v) for v in values])
        return values

    def until(self, condition: Callable[[], bool], runner: StagedRunner | None = None) -> None:
        """Step, and let the simulated time pass, until it holds."""
        runner = runner if runner is not None else self.runner
        for _ in range(100_000):
            if condition():
                return
            runner.step()
            self.clock.advance(BACKOFF_S_MAX)
        raise AssertionError(f"lag {runner.lag()}: {runner.error!r}")

    def dead(self) -> list[Record]:
        return self.log.read(dead_letter(TOPIC), 0, 0, 1_000)

    def close(self) -> None:
        self.handler.may_store.set()
        self.runner.close()
        self.log.close()


def _storing(runner: StagedRunner) -> Any:
    assert runner._storing is not None
    return runner._storing


def _has(stored: Callable[[], list[bytes]], values: list[bytes]) -> bool:
    return set(values) <= set(stored())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "log")
    yield world
    world.close()


def test_decisions_do_not_wait_for_storing_and_are_stored_together(world: World) -> None:
    world.handler.may_store.clear()
    first = world.append(3)
    assert world.runner.step() == 3
    assert world.handler.storing.wait(WAIT_S_MAX)
    second, third = world.append(4, first=3), world.append(5, first=7)
    while len(world.handler.decided) < 12:
        assert world.runner.step() >= 0
    assert world.runner.lag() == 12, "nothing is committed before it is stored"
    assert world.handler.stored == []
    world.handler.may_store.set()
    world.until(lambda: world.runner.lag() == 0)
    groups = [sorted(r.value for each in g for r in each) for g in world.handler.stored]
    assert groups == [sorted(first), sorted(second + third)]
    assert world.runner.counts.handled == 12
    assert world.log.committed("g", TOPIC) == world.log.end_offsets(TOPIC)


def test_commits_come_together_and_a_crash_before_one_repeats_what_was_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, member = world.runner, world.runner._member()
    commits = []
    commit = member.commit

    def noted(offsets: Mapping[TopicPartition, int]) -> None:
        commits.append(offsets)
        commit(offsets)

    monkeypatch.setattr(member, "commit", noted)

    def stored(value: int) -> None:
        world.append(1, first=value)
        assert runner.step() == 1
        until(lambda: _storing(runner).open_records() == 0, "not stored", WAIT_S_MAX)

    for n in range(5):
        stored(n)
    assert (len(commits), runner.lag()) == (1, 4), "the first, and then none for a while"
    world.clock.advance(COMMIT_S)
    stored(5)
    assert (len(commits), runner.lag()) == (2, 1), "all that was stored before"
    _storing(runner).stop()  # the process dies here
    member.close()
    again = world.make_runner()
    world.until(lambda: again.lag() == 0, again)
    assert world.handler.stored_values() == [b"%d" % n for n in (0, 1, 2, 3, 4, 5, 5)]
    again.close()


def test_who_hurries_finds_it_committed_at_once(world: World) -> None:
    world.runner.hurry = True
    stored = world.handler.stored_values
    for n in range(3):
        values = world.append(1, first=n)
        assert world.runner.step() == 1
        until(partial(_has, stored, values), "not stored", WAIT_S_MAX)
        assert world.runner.step() == 0
        assert world.runner.lag() == 0


def test_what_is_decided_and_not_stored_is_bounded(world: World) -> None:
    world.handler.may_store.clear()
    runner = world.make_runner(records_max=10)
    world.append(25)
    assert [runner.step() for _ in range(4)] == [10, 0, 0, 0]
    assert len(world.handler.decided) == 10
    world.handler.may_store.set()
    world.until(lambda: runner.lag() == 0, runner)
    assert sorted(world.handler.stored_values()) == sorted(b"%d" % i for i in range(25))
    runner.close()


def test_a_store_that_is_away_is_waited_for_and_all_is_decided_again(world: World) -> None:
    values = world.append(10)
    world.handler.failures = [Unavailable("away") for _ in range(5)]
    world.until(lambda: world.runner.lag() == 0)
    assert sorted(world.handler.stored_values()) == sorted(values)
    assert world.dead() == []
    assert world.runner.counts.waits >= 5
    assert world.handler.open == set()
    assert world.runner.error is None


def test_whatever_ends_storing_is_seen_and_gone_on_after(world: World) -> None:
    values = world.append(3)
    world.handler.failures = [SystemExit(1)]
    world.until(lambda: world.runner.error is not None)
    assert "SystemExit" in str(world.runner.error)
    world.until(lambda: world.runner.lag() == 0)
    more = world.append(2, first=3)
    world.until(lambda: world.runner.lag() == 0)
    assert sorted(world.handler.stored_values()) == sorted(values + more)


def test_a_failure_is_shown_until_it_is_over(world: World) -> None:
    world.append(1)
    world.handler.failures = [Unavailable("away") for _ in range(3)]
    world.until(lambda: world.runner.error is not None)
    assert isinstance(world.runner.error, Unavailable)
    assert world.runner.lag() == 1
    world.until(lambda: world.runner.lag() == 0)
    assert world.runner.error is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 50),
    st.sets(st.integers(0, 49), max_size=4),
    st.sets(st.integers(0, 49), max_size=4),
    st.lists(st.booleans(), max_size=6),
    st.integers(1, 20),
)
def test_any_failures_and_every_record_is_stored_or_goes_aside(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    poison: set[int],
    poison_stores: set[int],
    away: list[bool],
    records_max: int,
) -> None:
    world = World(tmp_path_factory.mktemp("staged"))
    values = set(world.append(count))
    world.handler.poison = {b"%d" % i for i in poison}
    world.handler.poison_stores = {b"%d" % i for i in poison_stores}
    world.handler.failures = [Unavailable("away") if a else TransientStoreError("no") for a in away]
    runner = world.make_runner(records_max=records_max)
    world.until(lambda: runner.lag() == 0, runner)
    bad = world.handler.poison | world.handler.poison_stores
    assert set(world.handler.stored_values()) == values - bad
    assert sorted(r.value for r in world.dead()) == sorted(values & bad)
    assert runner.counts.handled + runner.counts.dead_lettered == count
    assert world.handler.open == set()
    last: dict[int, int] = {}
    for group in world.handler.stored:
        for record in (r for each in group for r in each):
            assert record.offset > last.get(record.partition, -1), "each partition in order, once"
            last[record.partition] = record.offset
    runner.close()
    world.close()


def test_a_crash_between_storing_and_commit_repeats(world: World) -> None:
    def crash(point: str) -> None:
        assert point == HANDLED
        raise Crash

    world.append(5)
    world.runner.fault = crash
    with pytest.raises(Crash):
        world.until(lambda: False)
    assert (world.runner.lag(), len(world.handler.stored_values())) == (5, 5)
    world.runner.paused = True
    world.runner.close()
    again = world.make_runner()
    world.until(lambda: again.lag() == 0, again)
    assert len(world.handler.stored_values()) == 10
    again.close()


def test_what_ends_a_commit_before_it_is_made_is_tried_again(world: World) -> None:
    """Nothing more comes whose commit would take it along."""
    broken = [True]

    def fail(_: str) -> None:
        if broken:
            broken.pop()
            raise RuntimeError("not the log's own error")

    world.append(5)
    world.runner.fault = fail
    with pytest.raises(RuntimeError):
        world.until(lambda: not broken)
    for _ in range(20):
        world.runner.step()
        world.clock.advance(COMMIT_S)
    assert world.runner.lag() == 0
    assert len(world.handler.stored_values()) == 5


def test_a_paused_runner_does_nothing(world: World) -> None:
    world.append(5)
    world.runner.paused = True
    assert world.runner.step() == 0
    assert world.handler.decided == []


def test_closing_stores_and_commits_what_was_decided(world: World) -> None:
    world.append(5)
    assert world.runner.step() == 5
    world.runner.close()
    assert len(world.handler.stored_values()) == 5
    assert world.runner.lag() == 0


def test_a_slow_consumer_takes_its_time(world: World) -> None:
    world.runner.slow_s_per_record = 1.0
    world.append(4)
    assert world.runner.step() == 4
    while world.runner.lag():
        assert world.runner.step() == 0
    world.append(1, first=4)
    assert world.runner.step() == 0, "the four took four seconds"
    world.clock.advance(4.0)
    world.until(lambda: world.runner.lag() == 0)


def test_records_of_a_partition_that_another_member_has_now_are_not_committed(
    world: World,
) -> None:
    world.handler.may_store.clear()
    world.append(40)
    assert world.runner.step() == 40
    other = world.log.consumer("g", [TOPIC])
    taken: list[Record] = []
    while not taken:
        taken = other.poll(1_000, 0.0)
        world.runner.step()
    world.handler.may_store.set()
    other.close()
    world.until(lambda: world.runner.lag() == 0)
    assert set(world.handler.stored_values()) == {b"%d" % i for i in range(40)}
