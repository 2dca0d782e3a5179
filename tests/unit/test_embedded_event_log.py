"""What is the embedded log's own: leases by a given clock, repeatable runs, damaged files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.backends.embedded.consumer_group import fair_share
from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.log_consumer import EmbeddedConsumer
from paytm_lab.backends.embedded.topic_file import partition_of
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import (
    BadInput,
    MissingPart,
    StorageCorrupt,
    StoreError,
    TransientStoreError,
    Unavailable,
)
from paytm_lab.ports.event_log import Message, Record, TopicPartition
from tests.waiting import until

LEASE_S = 10.0


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def log(tmp_path: Path, clock: SimulatedClock) -> Iterator[EmbeddedEventLog]:
    log = EmbeddedEventLog(tmp_path / "log", clock, lease_s=LEASE_S)
    log.create_topics({"t": 4})
    yield log
    log.close()


def test_a_keys_partition_is_the_same_for_ever() -> None:
    keys = ("", "a", "b", "alice", "ünïcode", "42")
    assert [partition_of(key, 8) for key in keys] == [0, 3, 1, 7, 2, 0]


def test_records_carry_the_clocks_time(log: EmbeddedEventLog, clock: SimulatedClock) -> None:
    log.append([Message("t", "a", b"1")])
    clock.advance(5)
    log.append([Message("t", "a", b"2")])
    first, second = log.read("t", partition_of("a", 4), 0, 10)
    assert second.time_us - first.time_us == 5_000_000


def test_a_member_that_hangs_loses_its_partitions_when_its_lease_is_over(
    log: EmbeddedEventLog, clock: SimulatedClock
) -> None:
    log.append([Message("t", str(i), b"x") for i in range(40)])
    hung = log.consumer("g", ["t"])
    records = hung.poll(100, 0.0)
    other = log.consumer("g", ["t"])
    clock.advance(LEASE_S - 1)
    other.poll(0, 0.0)
    assert other.assignment() == set()
    clock.advance(1.5)
    assert len(other.poll(100, 0.0)) == len(records) == 40
    assert len(other.assignment()) == 4
    with pytest.raises(TransientStoreError):
        hung.commit({TopicPartition("t", 0): 1})
    hung.poll(0, 0.0)  # it wakes and is a member again, with nothing yet
    assert hung.assignment() == set()
    other.poll(0, 0.0)
    hung.poll(0, 0.0)
    assert len(hung.assignment()) == len(other.assignment()) == 2


def test_what_was_read_before_a_loss_is_not_committed_after_it(
    log: EmbeddedEventLog, clock: SimulatedClock
) -> None:
    log.append([Message("t", str(i), b"x") for i in range(40)])
    hung = log.consumer("g", ["t"])
    early = {r.partition: r.offset + 1 for r in hung.poll(10, 0.0)}
    other = log.consumer("g", ["t"])
    clock.advance(LEASE_S + 1)
    done = {TopicPartition("t", r.partition): r.offset + 1 for r in other.poll(100, 0.0)}
    other.commit(done)
    other.close()
    hung.poll(0, 0.0)  # it has all partitions again, and never knew that it lost them
    assert len(hung.assignment()) == 4
    with pytest.raises(TransientStoreError, match="lost"):
        hung.commit({TopicPartition("t", p): offset for p, offset in early.items()})
    assert log.committed("g", "t") == log.end_offsets("t")
    hung.seek(dict.fromkeys(done, 0))  # going back on purpose is allowed
    hung.commit(dict.fromkeys(done, 0))
    assert log.committed("g", "t") == [0, 0, 0, 0]


def test_polling_keeps_a_lease(log: EmbeddedEventLog, clock: SimulatedClock) -> None:
    members = [log.consumer("g", ["t"]) for _ in range(2)]
    for _ in range(3):
        for member in members:
            member.poll(0, 0.0)
    shares = [member.assignment() for member in members]
    for _ in range(20):
        clock.advance(LEASE_S / 3)
        for member in members:
            member.poll(10, 0.0)
        assert [member.assignment() for member in members] == shares


def test_an_old_lease_in_the_future_does_not_outlive_its_log(
    tmp_path: Path, log: EmbeddedEventLog, clock: SimulatedClock
) -> None:
    clock.advance(10_000)
    log.consumer("g", ["t"])
    log._instance.close()  # type: ignore[union-attr]  # what the kernel does when the process dies
    earlier = EmbeddedEventLog(tmp_path / "log", SimulatedClock())
    try:
        assert len(earlier.consumer("g", ["t"]).assignment()) == 4
    finally:
        earlier.close()


def test_the_same_steps_give_the_same_records(tmp_path: Path) -> None:
    def run(name: str) -> list[object]:
        clock = SimulatedClock()
        log = EmbeddedEventLog(tmp_path / name, clock)
        log.create_topics({"t": 4})
        seen: list[object] = []
        consumers = [log.consumer("g", ["t"]) for _ in range(2)]
        for i in range(30):
            log.append([Message("t", str(i * j), f"{i}".encode()) for j in range(3)])
            clock.advance(0.7)
            for consumer in consumers:
                records = consumer.poll(5, 0.0)
                seen.append((records, sorted(consumer.assignment())))
                consumer.commit(
                    {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}
                )
        log.close()
        return seen

    assert run("one") == run("two")


class Group:
    """Members of one group over two clients of one log, and what was delivered to any of them."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock()
        self.clients = [EmbeddedEventLog(folder, self.clock, lease_s=LEASE_S) for _ in range(2)]
        self.clients[0].create_topics({"t": 3})
        self.members: list[EmbeddedConsumer] = []
        self.polled: dict[int, list[Record]] = {}
        self.delivered: set[tuple[int, int]] = set()
        self.appended = 0
        self.refused = 0

    def act(self, act: str, number: int) -> None:
        if act == "append":
            log = self.clients[number % 2]
            log.append([Message("t", str(self.appended + i), b"") for i in range(number)])
            self.appended += number
        elif act == "join":
            if len(self.members) < 5:
                self.members.append(self.clients[number % 2].consumer("g", ["t"]))
        elif act == "pass":
            self.clock.advance(number)
        elif self.members:
            member = self.members[number % len(self.members)]
            getattr(self, act)(member)

    def poll(self, member: EmbeddedConsumer) -> None:
        records = member.poll(3, 0.0)
        self.polled.setdefault(id(member), []).extend(records)
        self.delivered |= {(r.partition, r.offset) for r in records}

    def commit(self, member: EmbeddedConsumer) -> None:
        records = self.polled.pop(id(member), [])
        try:
            member.commit({TopicPartition("t", r.partition): r.offset + 1 for r in records})
        except TransientStoreError:
            self.refused += 1

    def leave(self, member: EmbeddedConsumer) -> None:
        member.close()
        self.members.remove(member)
        self.polled.pop(id(member), None)

    def committed(self) -> list[int]:
        return [offset or 0 for offset in self.clients[0].committed("g", "t")]


ACTS = ["append", "join", "poll", "poll", "poll", "commit", "commit", "leave", "pass"]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 12)), max_size=60))
def test_whatever_members_do_nothing_uncommitted_is_skipped(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]]
) -> None:
    group = Group(tmp_path_factory.mktemp("group"))
    before = [0, 0, 0]
    for act, number in history:
        group.act(act, number)
        committed = group.committed()
        assert all(new >= old for new, old in zip(committed, before, strict=True))
        for partition, offset in enumerate(committed):
            assert {(partition, o) for o in range(offset)} <= group.delivered
        before = committed
    for member in list(group.members):
        group.leave(member)
    last = group.clients[1].consumer("g", ["t"])
    rest: list[tuple[int, int]] = []
    while records := last.poll(10_000, 0.0):
        rest += [(r.partition, r.offset) for r in records]
    ends = group.clients[1].end_offsets("t")
    assert sorted(rest) == [(p, o) for p in range(3) for o in range(before[p], ends[p])]
    assert sum(ends) == group.appended
    for client in group.clients:
        client.close()


@pytest.mark.parametrize("partitions", [1, 4, 8, 9])
@pytest.mark.parametrize("members", [1, 2, 3, 7, 12])
def test_fair_shares_add_up_to_all_partitions(partitions: int, members: int) -> None:
    held = [0] * members
    for me in [*range(members), *range(members)]:
        above = sum(n > partitions // members for i, n in enumerate(held) if i != me)
        free = partitions - sum(held)
        held[me] = min(fair_share(partitions, members, above), held[me] + free)
    assert sum(held) == partitions
    assert max(held) - min(held) <= 1


def test_records_can_be_deleted_from_the_start(log: EmbeddedEventLog, tmp_path: Path) -> None:
    log.append([Message("t", "a", str(i).encode()) for i in range(600)])
    partition = partition_of("a", 4)
    log.delete_records("t", partition, 450)
    assert log.start_offsets("t")[partition] == 450
    reopened = EmbeddedEventLog(tmp_path / "log", SimulatedClock())
    try:
        for client in (log, reopened):
            assert [r.offset for r in client.read("t", partition, 0, 3)] == [450, 451, 452]
        assert len(reopened.consumer("g", ["t"]).poll(1_000, 0.0)) == 150
        with pytest.raises(BadInput):
            log.delete_records("t", partition, 9_999)
    finally:
        reopened.close()


def test_old_records_leave_memory_and_are_still_read(log: EmbeddedEventLog) -> None:
    sent = [Message("t", str(i % 100), b"%07d" % i * 1_400) for i in range(4_000)]  # 39 MB
    for start in range(0, len(sent), 400):
        log.append(sent[start : start + 400])
    kept = sum(tail.value_bytes for tail in log.topic("t")._tails)
    assert kept <= 17 << 20
    records = [r for p in range(4) for r in log.read("t", p, 0, 10_000)]
    assert sorted(r.value for r in records) == sorted(m.value for m in sent)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    log = EmbeddedEventLog(tmp_path / "log")
    log.create_topics({"t": 1})
    log.close()
    (tmp_path / "log" / "t.sqlite").write_bytes(b"this is no database" * 500)
    again = EmbeddedEventLog(tmp_path / "log")
    with pytest.raises(StoreError, match=r"t\.sqlite") as caught:
        again.partitions("t")
    assert caught.value.code == "storage_corrupt"
    again.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingPart, match="file/log"):
        EmbeddedEventLog(tmp_path / "file" / "log")


def test_names_and_counts_outside_the_grammar_are_refused(log: EmbeddedEventLog) -> None:
    for name in ("", "../up", "a/b", ".hidden", "x" * 201):
        with pytest.raises(BadInput):
            log.create_topics({name: 1})
        with pytest.raises(BadInput):
            log.consumer(name, ["t"])
    for count in (0, 257):
        with pytest.raises(BadInput):
            log.create_topics({"ok": count})
    with pytest.raises(BadInput, match="partition 4"):
        log.read("t", 4, 0, 1)
    with pytest.raises(BadInput, match="Unicode"):
        log.append([Message("t", "\ud800", b"")])


def test_a_closed_log_says_so(log: EmbeddedEventLog) -> None:
    log.close()
    with pytest.raises(Unavailable, match="closed"):
        log.append([Message("t", "a", b"")])


def test_nobody_who_shares_a_commit_hears_that_it_was_done_where_it_was_not(
    log: EmbeddedEventLog, tmp_path: Path
) -> None:
    """What one thread commits for another: a relay deletes what it hears is in the log."""
    log.append([Message("t", "a", b"1")])
    with closing(sqlite3.connect(tmp_path / "log" / "t.sqlite")) as damaged, damaged:
        damaged.execute("UPDATE head SET ends = 'nothing that can be read'")
    told: list[BaseException | None] = []

    def append() -> None:
        try:
            log.append([Message("t", "a", b"2")])
            told.append(None)
        except BaseException as error:
            told.append(error)

    topic = log._topics["t"]
    threads = [threading.Thread(target=append) for _ in range(3)]
    with topic._write_lock:  # so that one of them commits for all
        for thread in threads:
            thread.start()
        until(lambda: len(topic._waiting) == len(threads))
    for thread in threads:
        thread.join()
    assert [type(error) for error in told] == [StorageCorrupt] * 3


def test_who_is_cut_off_in_a_commit_for_others_leaves_them_no_false_answer(
    log: EmbeddedEventLog, clock: SimulatedClock
) -> None:
    told: list[type[BaseException] | None] = []

    def append() -> None:
        try:
            log.append([Message("t", "a", b"2")])
            told.append(None)
        except BaseException as error:
            told.append(type(error))

    topic = log._topics["t"]
    topic._clock = _CutOff()
    threads = [threading.Thread(target=append) for _ in range(3)]
    with topic._write_lock:
        for thread in threads:
            thread.start()
        until(lambda: len(topic._waiting) == len(threads))
    for thread in threads:
        thread.join()
    topic._clock = clock
    stored = log.end_offsets("t")[partition_of("a", 4)]
    assert (stored, told.count(None), told.count(Unavailable)) == (0, 0, 2)
    log.append([Message("t", "a", b"3")])
    assert [r.value for r in log.read("t", partition_of("a", 4), 0, 9)] == [b"3"]


class _CutOff(SimulatedClock):
    """Whoever asks it first is interrupted."""

    asked = 0

    def now_us(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise KeyboardInterrupt
        return super().now_us()
