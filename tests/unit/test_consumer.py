"""The consumer runner on a real log and a simulated clock: what fails waits, or goes aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import DuplicateKey, LockTimeout, StorageFull, Unavailable
from paytm_lab.messaging.consumer import BACKOFF_S_MAX, HANDLED, ConsumerRunner
from paytm_lab.messaging.topics import create_topics, dead_letter
from paytm_lab.ports.event_log import Message, Record, TopicPartition

TOPIC = "payment_events"


class Crash(BaseException):
    """The process dies here."""


class Recorder:
    """A handler that notes what it handled, and fails as it is told to."""

    def __init__(self) -> None:
        self.handled: list[Record] = []
        self.calls: list[int] = []
        self.poison: set[bytes] = set()
        self.failure: Callable[[], Exception] | None = None

    def handle(self, records: Sequence[Record]) -> None:
        self.calls.append(len(records))
        if self.failure is not None:
            raise self.failure()
        for record in records:
            if record.value in self.poison:
                raise ValueError(f"cannot read {record.value!r}")
            self.handled.append(record)


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock()
        self.log = EmbeddedEventLog(folder, self.clock)
        create_topics(self.log)
        self.recorder = Recorder()
        self.runner = self.make_runner()

    def make_runner(self, log: Any = None, **more: Any) -> ConsumerRunner:
        return ConsumerRunner(
            log if log is not None else self.log, "g", [TOPIC], self.recorder, self.clock, **more
        )

    def append(self, count: int, first: int = 0) -> list[bytes]:
        values = [b"%d" % i for i in range(first, first + count)]
        self.log.append([Message(TOPIC, f"k{v.decode()}", v) for v in values])
        return values

    def run(self, runner: ConsumerRunner | None = None) -> int:
        """Step, and let time pass, until nothing is left; the sum of what the steps returned."""
        runner = runner if runner is not None else self.runner
        done = 0
        for _ in range(1_000):
            done += runner.step()
            if runner.lag() == 0:
                return done
            self.clock.advance(BACKOFF_S_MAX)
        raise AssertionError(f"lag {runner.lag()} remains: {runner.error!r}")

    def dead(self) -> list[Record]:
        return self.log.read(dead_letter(TOPIC), 0, 0, 1_000)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "log")
    yield world
    world.log.close()


def test_records_are_handled_in_order_and_committed(world: World) -> None:
    values = world.append(300)
    assert world.runner.lag() == 300
    assert world.runner.step() == 300
    assert world.recorder.calls == [300]
    assert sorted(r.value for r in world.recorder.handled) == sorted(values)
    last = Counter[int]()
    for record in world.recorder.handled:
        assert record.offset == last[record.partition]
        last[record.partition] += 1
    assert (world.runner.lag(), world.runner.step(), world.runner.counts.handled) == (0, 0, 300)
    assert world.log.committed("g", TOPIC) == world.log.end_offsets(TOPIC)


def test_a_poison_record_is_found_goes_aside_and_blocks_nothing(world: World) -> None:
    values = world.append(200)
    world.recorder.poison = {b"77"}
    assert world.run() == 200
    handled = {r.value for r in world.recorder.handled}
    assert handled == set(values) - {b"77"}
    (dead,) = world.dead()
    headers = {name: body.decode() for name, body in dead.headers}
    original = world.log.read(TOPIC, int(headers["partition"]), int(headers["offset"]), 1)[0]
    assert (dead.key, dead.value) == (original.key, original.value) == ("k77", b"77")
    assert headers["topic"] == TOPIC
    assert headers["group"] == "g"
    assert headers["error"] == "ValueError: cannot read b'77'"
    assert int(headers["attempts"]) >= 3
    counts = world.runner.counts
    assert (counts.handled, counts.dead_lettered) == (199, 1)
    assert len(world.recorder.calls) <= 3 + 2 * 8, "halving takes two calls a level"
    world.append(10, first=200)
    assert world.run() == 10


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=10), st.integers(1, 70))
def test_any_poison_records_and_only_they_go_aside(
    tmp_path_factory: pytest.TempPathFactory, count: int, poison: set[int], records_max: int
) -> None:
    world = World(tmp_path_factory.mktemp("poison"))
    values = set(world.append(count))
    world.recorder.poison = {b"%d" % i for i in poison}
    world.run(world.make_runner(records_max=records_max))
    assert {r.value for r in world.recorder.handled} == values - world.recorder.poison
    assert sorted(r.value for r in world.dead()) == sorted(values & world.recorder.poison)
    # First handling keeps each partition's order, whatever was halved.
    seen: dict[tuple[int, int], None] = {}
    for record in world.recorder.handled:
        seen.setdefault((record.partition, record.offset))
    offsets: dict[int, list[int]] = {}
    for partition, offset in seen:
        offsets.setdefault(partition, []).append(offset)
    assert all(part == sorted(part) for part in offsets.values())
    world.log.close()


def test_a_failure_that_passes_costs_a_wait_and_no_record(world: World) -> None:
    world.append(10)
    world.recorder.failure = lambda: RuntimeError("not now")
    assert world.runner.step() == 0
    assert isinstance(world.runner.error, RuntimeError)
    assert world.runner.step() == 0, "it waits for the clock"
    assert world.recorder.calls == [10]
    world.clock.advance(0.06)
    assert world.runner.step() == 0
    world.clock.advance(0.06)
    world.runner.step()
    assert world.recorder.calls == [10, 10], "the second wait is longer"
    world.recorder.failure = None
    world.clock.advance(0.06)
    assert world.runner.step() == 10
    assert world.dead() == []
    assert world.runner.error is None
    assert (world.runner.counts.retried, world.runner.counts.waits) == (20, 2)


@pytest.mark.parametrize("error", [Unavailable, StorageFull, LockTimeout])
def test_a_part_that_is_away_is_waited_for_however_long(
    world: World, error: Callable[[str], Exception]
) -> None:
    world.append(10)
    world.recorder.failure = lambda: error("away")
    for _ in range(50):
        assert world.runner.step() == 0
        world.clock.advance(BACKOFF_S_MAX)
    assert set(world.recorder.calls) == {10}, "never halved"
    assert world.dead() == []
    world.recorder.failure = None
    assert world.run() == 10


def test_a_duplicate_key_is_about_a_record(world: World) -> None:
    world.append(1)
    world.recorder.failure = lambda: DuplicateKey("exists")
    assert world.run() == 1
    assert len(world.dead()) == 1


def test_a_crash_between_handling_and_commit_brings_the_records_again(world: World) -> None:
    def die(point: str) -> None:
        assert point == HANDLED
        raise Crash

    world.append(40)
    dying = world.make_runner(fault=die)
    with pytest.raises(Crash):
        dying.step()
    assert world.log.committed("g", TOPIC) == [None] * 8
    dying.close()
    assert world.runner.step() == 40
    assert Counter(r.value for r in world.recorder.handled) == {b"%d" % i: 2 for i in range(40)}


def test_the_same_runner_goes_on_after_a_fault(world: World) -> None:
    def fail(point: str) -> None:
        raise Crash

    world.append(5)
    world.runner.fault = fail
    with pytest.raises(Crash):
        world.runner.step()
    world.runner.fault = None
    world.append(5, first=5)
    assert world.run() == 10
    assert world.runner.counts.handled == 10


def test_what_another_member_took_over_is_dropped(world: World) -> None:
    world.append(100)
    world.recorder.failure = lambda: Unavailable("away")
    assert world.runner.step() == 0
    other = world.log.consumer("g", [TOPIC])
    world.clock.advance(31)  # the runner hung past its lease
    assert len(other.poll(1_000, 0.0)) == 100
    world.recorder.failure = None
    assert world.runner.step() == 0
    assert world.recorder.handled == []
    assert world.runner.counts.handled == 0


def test_a_refused_commit_is_not_counted_and_the_rest_is_handled(world: World) -> None:
    taken: list[Record] = []

    def take_over(point: str) -> None:
        if not taken:
            other = world.log.consumer("g", [TOPIC])
            world.clock.advance(31)
            taken.extend(other.poll(1_000, 0.0))
            other.close()

    values = world.append(50)
    world.runner.fault = take_over
    assert world.runner.step() == 0
    assert len(taken) == 50
    assert world.run() == 50
    assert {r.value for r in world.recorder.handled} == set(values)
    assert world.runner.counts.handled == 50


def test_a_partition_that_was_lost_and_came_back_goes_on_where_the_other_stopped(
    world: World,
) -> None:
    world.append(100)
    world.recorder.failure = lambda: Unavailable("away")
    assert world.runner.step() == 0
    other = world.log.consumer("g", [TOPIC])
    world.clock.advance(31)
    world.append(50, first=100)
    records = other.poll(1_000, 0.0)
    other.commit({TopicPartition(TOPIC, r.partition): r.offset + 1 for r in records})
    other.close()
    world.recorder.failure = None
    more = world.append(20, first=150)
    world.run()
    assert world.runner.counts.handled == 20
    assert {r.value for r in world.recorder.handled} >= set(more)
    assert world.log.committed("g", TOPIC) == world.log.end_offsets(TOPIC)


def test_a_dead_letter_that_cannot_be_stored_waits(world: World) -> None:
    class DeafLog:
        """The real log, whose dead letters are refused twice."""

        refusals = 2

        def __getattr__(self, name: str) -> Any:
            return getattr(world.log, name)

        def append(self, messages: Sequence[Message]) -> None:
            if self.refusals:
                self.refusals -= 1
                raise Unavailable("log away")
            world.log.append(messages)

    world.append(3)
    world.recorder.poison = {b"1"}
    assert world.run(world.make_runner(log=DeafLog())) == 3
    assert [r.value for r in world.dead()] == [b"1"]


def test_a_paused_consumer_does_nothing_and_catches_up(world: World) -> None:
    world.append(10)
    world.runner.paused = True
    assert (world.runner.step(), world.runner.lag(), world.recorder.calls) == (0, 10, [])
    world.runner.paused = False
    assert world.runner.step() == 10


def test_a_slow_consumer_takes_its_time_by_the_clock(world: World) -> None:
    world.append(100)
    runner = world.make_runner(records_max=10)
    runner.slow_s_per_record = 0.1
    done = 0
    for _ in range(50):  # five seconds: about fifty records
        done += runner.step()
        world.clock.advance(0.1)
    assert 40 <= done <= 60
    runner.slow_s_per_record = 0.0
    world.clock.advance(1)
    world.run(runner)
    assert runner.lag() == 0


def test_one_that_is_no_longer_slow_goes_on_at_once(world: World) -> None:
    world.append(20)
    runner = world.make_runner(records_max=10)
    runner.slow_s_per_record = 4.0
    assert runner.step() == 10
    assert runner.step() == 0, "for the next 40 seconds"
    runner.slow_s_per_record = 0.0
    assert runner.step() == 10


def test_what_arrives_soon_after_a_batch_is_handled_together(world: World) -> None:
    world.append(3)
    runner = world.make_runner(records_max=10, gather_s=0.5)
    assert runner.step() == 3, "the first is not kept waiting"
    world.append(4)
    assert runner.step() == 0
    world.clock.advance(0.4)
    world.append(12)
    assert runner.step() == 0
    world.clock.advance(0.11)
    assert [runner.step(), runner.step()] == [10, 6], "there was more: no waiting"
    assert runner.step() == 0
    assert runner.lag() == 0


def test_leaving_gives_the_partitions_to_the_others(world: World) -> None:
    world.append(10)
    world.runner.step()
    world.runner.close()
    world.runner.close()
    assert len(world.log.consumer("g", [TOPIC]).assignment()) == 8


class Ahead:
    """A client that fetches ahead: its polls give what was found then, piece by piece."""

    def __init__(self, consumer: Any, pieces: list[int | Exception]) -> None:
        self._consumer = consumer
        self._pieces = pieces

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def poll(self, records_max: int, timeout_s: float) -> list[Record]:
        piece = self._pieces.pop(0) if self._pieces else records_max
        if isinstance(piece, Exception):
            raise piece
        found: list[Record] = self._consumer.poll(min(piece, records_max), 0.0)
        return found


def reads_ahead(world: World, *pieces: int | Exception) -> Any:
    class Log:
        def consumer(self, *arguments: Any, **options: Any) -> Any:
            return Ahead(world.log.consumer(*arguments, **options), list(pieces))

        def __getattr__(self, name: str) -> Any:
            return getattr(world.log, name)

    return Log()


def test_a_gathering_runner_takes_all_that_is_there_by_now(world: World) -> None:
    world.append(20)
    runner = world.make_runner(reads_ahead(world, 1, 2, 5), records_max=50, gather_s=0.5)
    assert runner.step() == 20
    assert world.recorder.calls == [20]
    world.append(200)
    world.clock.advance(0.6)
    assert [runner.step() for _ in range(4)] == [50] * 4, "never more than it may"
    assert (runner.lag(), len(world.recorder.handled)) == (0, 220)


def test_what_was_polled_before_an_error_is_handled(world: World) -> None:
    world.append(10)
    log = reads_ahead(world, 4, Unavailable("no answer"), Unavailable("no answer"))
    runner = world.make_runner(log, records_max=50, gather_s=0.5)
    assert runner.step() == 4
    world.clock.advance(0.6)
    with pytest.raises(Unavailable):
        runner.step()
    assert (runner.step(), runner.lag()) == (6, 0)


def test_what_is_lost_while_a_runner_gathers_is_not_handled(world: World) -> None:
    world.append(200)
    log = reads_ahead(world, 150)
    runner = world.make_runner(log, records_max=500, gather_s=0.5)
    member: Any = runner._member()
    first = member.poll

    def poll(records_max: int, timeout_s: float) -> list[Record]:
        found: list[Record] = first(records_max, timeout_s)
        if not others:
            others.append(world.log.consumer("g", [TOPIC]))
        return found

    others: list[Any] = []
    member.poll = poll
    runner.step()
    mine = runner._member().assignment()
    assert len(mine) == 4
    handled = {(r.topic, r.partition) for r in world.recorder.handled}
    assert handled <= mine, "what the other has now is its own to handle"
    others[0].close()
    world.run(runner)
    assert len({r.value for r in world.recorder.handled}) == 200
