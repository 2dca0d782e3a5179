"""The runner that waits for what belongs together: nothing is held for long, lost or put out of
order by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import Unavailable
from paytm_lab.messaging.together import HELD_PARTS, TogetherRunner
from paytm_lab.ports.event_log import Message, Record

START_US = 1_767_225_600_000_000
TOPICS = ("early", "late")
HOLD_S, GATHER_S = 1.0, 0.25


class Handler:
    """Keeps the batches; fails as often as it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.expected: list[list[str]] = []
        self.failures = 0

    def handle(self, records: Sequence[Record]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        self.batches.append(list(records))

    def expect(self, records: Sequence[Record]) -> None:
        self.expected.append([r.value.decode() for r in records])

    def values(self) -> list[list[str]]:
        return [sorted(r.value.decode() for r in batch) for batch in self.batches]


class World:
    """Messages whose key says when what they are about began, in ms of the clock's start."""

    def __init__(self, folder: Path, partitions: int = 1) -> None:
        self.clock = SimulatedClock(START_US)
        self.log = EmbeddedEventLog(folder, self.clock)
        self.log.create_topics(dict.fromkeys(TOPICS, partitions))
        self.handler = Handler()
        self.runner = self.make_runner()

    def make_runner(self, **more: Any) -> TogetherRunner:
        options: dict[str, Any] = {"hold_s": HOLD_S, "gather_s": GATHER_S, "began_us": _began_us}
        return TogetherRunner(self.log, "g", TOPICS, self.handler, self.clock, **(options | more))

    def append(self, topic: str, began_ms: int, value: str) -> None:
        self.log.append([Message(topic, str(began_ms), value.encode())])

    def after(self, seconds: float) -> int:
        self.clock.advance(seconds)
        return self.runner.step()

    def close(self) -> None:
        self.runner.close()
        self.log.close()


def _began_us(record: Record) -> int:
    return START_US + int(record.key) * 1000


def _holds_forty(folder: Path) -> World:
    """Two partitions a topic; twenty of each topic were polled, and none handled."""
    world = World(folder / "log", partitions=2)
    for n in range(20):
        world.append("early", n, f"e{n}")
        world.append("late", n, f"l{n}")
    for _ in range(40):
        assert world.runner.step() == 0
        if world.runner.held() == 40:
            return world
    raise AssertionError(f"only {world.runner.held()} are held")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "log")
    yield world
    world.close()


def test_what_belongs_together_is_handled_in_one_batch(world: World) -> None:
    world.append("early", 0, "a1")
    assert world.runner.step() == 0
    world.clock.advance(0.2)
    world.append("early", 200, "b1")
    world.append("late", 0, "a2")
    assert world.runner.step() == 0
    for _ in range(4):  # something comes all the time
        world.clock.advance(0.2)
        world.append("early", 1_000, "c")
        done = world.runner.step()
    assert (done, world.handler.values()) == (2, [["a1", "a2"]])
    assert world.runner.held() == 5
    assert world.handler.expected == [[]]
    assert world.runner.lag() == 5, "what is held is not committed"


def test_what_has_the_key_of_a_ripe_record_is_expected_though_others_keep_it(world: World) -> None:
    world.append("early", 0, "a1")
    world.append("late", 500, "b2")
    world.append("late", 0, "a2")
    for n in range(5):
        done = world.after(0.21)
        world.append("early", 2_000, str(n))
    assert (done, world.handler.values(), world.handler.expected) == (1, [["a1"]], [["a2"]])


def test_nothing_is_held_longer_than_said_whatever_its_id_claims(world: World) -> None:
    world.append("early", 3_600_000, "of tomorrow")
    world.append("early", 0, "behind it")
    world.runner.step()
    for n in range(4):
        world.append("late", 3_600_000, str(n))
        assert world.after(0.24) == 0
    world.append("late", 3_600_000, "last")
    assert world.after(0.05) == 2
    assert world.handler.values() == [["behind it", "of tomorrow"]]


@pytest.mark.parametrize("jump_s", [-3_600, 3_600])
def test_a_wall_clock_that_jumps_holds_nothing_longer(
    world: World, jump_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = world.clock.now_us
    world.append("early", 0, "before")
    assert world.runner.step() == 0
    monkeypatch.setattr(world.clock, "now_us", lambda: now_us() + jump_s * 1_000_000)
    for n in range(8):
        world.append("late", 0, str(n))
        world.after(0.2)
    assert "before" in [value for batch in world.handler.values() for value in batch]
    world.after(GATHER_S + HOLD_S)
    assert world.runner.held() == 0


def test_when_nothing_more_comes_all_is_handled(world: World) -> None:
    world.append("early", 0, "a1")
    assert world.runner.step() == 0
    assert world.after(GATHER_S - 0.01) == 0
    assert world.after(0.02) == 1
    assert world.runner.lag() == 0


def test_who_hurries_waits_for_nothing(world: World) -> None:
    world.append("early", 0, "a1")
    world.runner.hurry = True
    assert world.runner.step() == 1
    world.append("late", 0, "a2")
    assert world.runner.step() == 1
    assert world.runner.held() == 0


def test_what_is_held_is_bounded(world: World) -> None:
    runner = world.make_runner(records_max=10)
    for n in range(100):
        world.append("early", 0, f"{n:02}")
    for step in range(1, HELD_PARTS):
        assert (runner.step(), runner.held()) == (0, 10 * step)
    assert (runner.step(), runner.held()) == (10 * HELD_PARTS, 0)
    assert world.handler.values() == [[f"{n:02}" for n in range(10 * HELD_PARTS)]]
    runner.close()


def test_what_a_member_holds_when_it_leaves_comes_to_the_next(world: World) -> None:
    world.append("early", 0, "a1")
    assert world.runner.step() == 0
    world.runner.close()
    assert world.runner.held() == 0
    other = world.make_runner()
    other.hurry = True
    assert other.step() == 1
    other.close()


def test_partitions_that_another_member_has_now_are_not_held(tmp_path: Path) -> None:
    world = _holds_forty(tmp_path)
    other = world.make_runner()
    for _ in range(50):
        other.step()
        world.after(0.1)
        if world.runner.lag() == 0:
            break
    values = Counter(r.value for batch in world.handler.batches for r in batch)
    assert values.keys() == {f"{t}{n}".encode() for n in range(20) for t in "el"}
    assert world.runner.lag() == 0
    other.close()
    world.close()


def test_a_partition_that_is_lost_by_the_poll_itself_is_not_handled(tmp_path: Path) -> None:
    world = _holds_forty(tmp_path)
    other = world.log.consumer("g", TOPICS)
    world.clock.advance(5)  # all of it is ripe
    world.runner.step()
    mine = world.runner._member().assignment()
    assert len(mine) == 2
    handled = {(r.topic, r.partition) for batch in world.handler.batches for r in batch}
    assert handled == mine, "what the other has now is its own to handle"
    other.close()
    world.close()


def test_what_is_held_of_a_partition_goes_when_what_waits_before_it_goes(tmp_path: Path) -> None:
    """Else it may be handled before that, when the partition comes back; and totals that carry an
    offset pass over what comes after.
    """
    world = World(tmp_path / "log", partitions=2)
    runner = world.runner = world.make_runner(records_max=4, backoff_s=1.0)
    lost = ("late", 1)
    old, young = _keys_of(1, -9_000), _keys_of(1, 2_000)
    for n in range(4):
        world.log.append([Message("late", (old if n < 2 else young)[n], b"%d" % n)])
    world.handler.failures = 1
    assert runner.step() == 0
    assert (world.handler.failures, runner.held()) == (0, 2), "two wait, two are held behind them"
    other = world.log.consumer("g", TOPICS)
    runner.step()
    other.poll(0, 0.0)
    assert lost in other.assignment()
    other.close()
    for n in range(20):
        world.append("early", 0, str(n))
    for _ in range(60):
        world.after(0.3)
    assert runner.lag() == 0
    offsets = [r.offset for b in world.handler.batches for r in b if (r.topic, r.partition) == lost]
    assert list(dict.fromkeys(offsets)) == [0, 1, 2, 3], "each after what is ahead of it"
    world.close()


def _keys_of(partition: int, from_ms: int) -> list[str]:
    keys = (str(ms) for ms in range(from_ms, from_ms + 100))
    return [key for key in keys if crc32(key.encode()) % 2 == partition]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(TOPICS), st.integers(-3_000, 9_000), st.floats(0, 0.7), st.booleans()
        ),
        max_size=40,
    ),
    st.integers(1, 9),
    st.sets(st.integers(0, 39)),
)
def test_any_stream_is_handled_whole_and_each_partition_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    stream: list[tuple[str, int, float, bool]],
    records_max: int,
    crashes: set[int],
) -> None:
    world = World(tmp_path_factory.mktemp("together"), partitions=2)
    world.runner = world.make_runner(records_max=records_max)
    handled = 0
    for n, (topic, began_ms, pause_s, fails) in enumerate(stream):
        world.append(topic, began_ms, str(n))
        world.handler.failures += fails
        world.after(pause_s)
        assert world.runner.held() <= HELD_PARTS * records_max
        if n in crashes:
            world.runner.close()
            handled += world.runner.counts.handled
            world.runner = world.make_runner(records_max=records_max)
    for _ in range(200):
        if world.runner.lag() == 0:
            break
        world.after(2.5)
    assert handled + world.runner.counts.handled == len(stream)
    seen: dict[tuple[str, int], list[int]] = {}
    for batch in world.handler.batches:
        for record in batch:
            seen.setdefault((record.topic, record.partition), []).append(record.offset)
    assert all(offsets == list(range(len(offsets))) for offsets in seen.values())
    assert sum(map(len, seen.values())) == len(stream), "nothing is handled twice without a crash"
    world.close()
