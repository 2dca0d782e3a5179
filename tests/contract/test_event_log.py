"""What ports.event_log promises, against real processes where it speaks of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.core.errors import BadInput, TransientStoreError
from paytm_lab.ports.event_log import EventLog, LogConsumer, Message, Record, TopicPartition

Make = Callable[[], EventLog]
DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
TOPIC = "payment_events"


class Process:
    """A running event_log_process.py."""

    def __init__(self, profile: str, place: str, command: str, *arguments: str) -> None:
        script = Path(__file__).with_name("event_log_process.py")
        self.popen = subprocess.Popen(
            [sys.executable, str(script), profile, place, command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def says(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def kill(self) -> list[str]:
        """kill -9, and what it had said that nobody read yet."""
        self.popen.kill()
        with self.popen:
            assert self.popen.stdout is not None
            return self.popen.stdout.read().splitlines()


@pytest.fixture
def start(profile: str, event_log_place: str) -> Iterator[Callable[..., Process]]:
    with ExitStack() as processes:

        def begin(command: str, *arguments: str) -> Process:
            process = Process(profile, event_log_place, command, *arguments)
            processes.callback(lambda: process.popen.poll() is None and process.kill())
            processes.callback(process.popen.kill)
            return process

        yield begin


@pytest.fixture
def log(make_event_log: Make) -> EventLog:
    log = make_event_log()
    log.create_topics({TOPIC: 8, "fraud_events": 4})
    return log


def messages(count: int, topic: str = TOPIC, keys: int = 50) -> list[Message]:
    return [Message(topic, f"k{i % keys}", f"v{i}".encode()) for i in range(count)]


def everything(log: EventLog, topic: str = TOPIC) -> list[Record]:
    return [
        r
        for p in range(log.partitions(topic))
        for r in log.read(topic, p, 0, records_max=1_000_000)
    ]


def drain(consumer: LogConsumer, count: int, records_max: int = 100) -> list[Record]:
    """``count`` records, within the deadline."""
    records: list[Record] = []
    give_up_at = time.monotonic() + DEADLINE_S
    while len(records) < count:
        assert time.monotonic() < give_up_at, f"{len(records)} of {count} records"
        records += consumer.poll(records_max, 0.1)
    return records


def settle(consumers: Sequence[LogConsumer], done: Callable[[], bool]) -> None:
    """Let the members poll in turn until the group is as it should be."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < give_up_at, [sorted(c.assignment()) for c in consumers]
        for consumer in consumers:
            consumer.poll(0, 0.0)


def next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    return {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}


def test_topics_are_created_once_and_unknown_ones_are_named(make_event_log: Make) -> None:
    log = make_event_log()
    log.create_topics({TOPIC: 8})
    log.append([Message(TOPIC, "a", b"1")])
    log.create_topics({TOPIC: 3, "more": 2})
    assert (log.partitions(TOPIC), log.partitions("more")) == (8, 2)
    assert len(everything(log)) == 1
    for call in (
        lambda: log.partitions("nowhere"),
        lambda: log.append([Message("nowhere", "a", b"")]),
        lambda: log.consumer("g", ["nowhere"]),
        lambda: log.end_offsets("nowhere"),
    ):
        with pytest.raises(BadInput, match="nowhere"):
            call()


def test_offsets_are_contiguous_and_a_key_keeps_its_partition_and_order(log: EventLog) -> None:
    sent = messages(1_000)
    for start in range(0, 1_000, 130):
        log.append(sent[start : start + 130])
    records = everything(log)
    assert sorted(r.value for r in records) == sorted(m.value for m in sent)
    by_partition = defaultdict(list)
    partitions_of_key = defaultdict(set)
    values_of_key = defaultdict(list)
    for r in records:
        by_partition[r.partition].append(r.offset)
        partitions_of_key[r.key].add(r.partition)
        values_of_key[r.key].append(r.value)
    assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())
    assert all(len(partitions) == 1 for partitions in partitions_of_key.values())
    assert len(by_partition) == 8
    for key, values in values_of_key.items():
        assert values == [m.value for m in sent if m.key == key]
    assert log.end_offsets(TOPIC) == [len(by_partition[p]) for p in range(8)]
    assert log.start_offsets(TOPIC) == [0] * 8


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.binary(max_size=60),
            st.lists(
                st.tuples(st.text("abc-_", min_size=1, max_size=5), st.binary(max_size=9)),
                max_size=2,
            ),
        ),
        max_size=12,
    )
)
def test_any_bytes_come_back_as_they_were(
    make_event_log: Make, sent: list[tuple[str, bytes, list[tuple[str, bytes]]]]
) -> None:
    log = make_event_log()
    log.create_topics({"bytes": 1})
    first = log.end_offsets("bytes")[0]
    log.append([Message("bytes", key, value, tuple(headers)) for key, value, headers in sent])
    expected = [(key, value, tuple(headers)) for key, value, headers in sent]
    for client in (log, make_event_log()):  # from memory, and from the store
        read = client.read("bytes", 0, first, records_max=100)
        assert [(r.key, r.value, r.headers) for r in read] == expected
    log.close()


def test_a_large_append_is_read_in_any_portions(make_event_log: Make) -> None:
    log = make_event_log()
    log.create_topics({"one": 1})
    log.append(messages(3_000, "one"))
    log.append([Message("one", "big", b"x" * 900_000) for _ in range(3)])
    for client in (log, make_event_log()):
        for records_max in (1, 7, 255, 256, 257, 1_000, 5_000):
            offsets = [r.offset for r in client.read("one", 0, 2_500, records_max)]
            assert offsets == list(range(2_500, min(3_003, 2_500 + records_max)))
        assert client.read("one", 0, 3_003, 10) == []
        assert client.read("one", 0, 99_999, 10) == []


def test_a_value_that_is_too_large_is_refused_and_nothing_is_stored(log: EventLog) -> None:
    with pytest.raises(BadInput, match="too large"):
        log.append([Message(TOPIC, "a", b"x" * (2 << 20))])
    assert log.end_offsets(TOPIC) == [0] * 8


def test_appended_means_durable(make_event_log: Make, log: EventLog) -> None:
    log.append(messages(100))
    consumer = log.consumer("g", [TOPIC])
    records = drain(consumer, 100)
    consumer.commit(next_offsets(records[:60]))
    committed = log.committed("g", TOPIC)
    log.close()
    again = make_event_log()
    assert sorted(r.value for r in everything(again)) == sorted(r.value for r in records)
    assert again.committed("g", TOPIC) == committed
    rest = drain(again.consumer("g", [TOPIC]), 40)
    expected = [r for r in records if r.offset >= (committed[r.partition] or 0)]
    assert sorted(rest) == sorted(expected)


def test_each_group_reads_everything_from_the_start(log: EventLog) -> None:
    log.append(messages(300))
    for group in ("fraud", "analytics"):
        assert log.committed(group, TOPIC) == [None] * 8
        records = drain(log.consumer(group, [TOPIC]), 300)
        assert len({(r.partition, r.offset) for r in records}) == 300
        for p in range(8):
            offsets = [r.offset for r in records if r.partition == p]
            assert offsets == list(range(len(offsets)))


def test_a_poll_respects_its_bound_and_starves_no_partition(log: EventLog) -> None:
    log.append(messages(4_000))
    consumer = log.consumer("g", [TOPIC])
    seen = set()
    for _ in range(8):
        records = consumer.poll(50, 0.0)
        assert 0 < len(records) <= 50
        seen |= {r.partition for r in records}
    assert seen == set(range(8))


def test_an_empty_poll_returns_in_time(log: EventLog) -> None:
    consumer = log.consumer("g", [TOPIC])
    started, cpu = time.monotonic(), time.process_time()
    assert consumer.poll(10, 0.4) == []
    took_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
    assert took_s >= 0.39
    assert cpu_s < 0.2, "waiting is not spinning"
    assert consumer.poll(10, 0.0) == []


def test_a_waiting_poll_wakes_for_an_append(log: EventLog, make_event_log: Make) -> None:
    consumer = log.consumer("g", [TOPIC])
    for client in (log, make_event_log()):  # the same client, another one
        appender = threading.Timer(0.1, client.append, ([Message(TOPIC, "a", b"x")],))
        appender.start()
        started = time.monotonic()
        assert len(consumer.poll(10, DEADLINE_S)) == 1
        assert time.monotonic() - started < DEADLINE_S / 2
        appender.join()


def test_seek_goes_anywhere_and_changes_no_committed_offset(log: EventLog) -> None:
    log.append(messages(200))
    consumer = log.consumer("g", [TOPIC])
    first = drain(consumer, 200)
    consumer.commit(next_offsets(first))
    partition = next(p for p in range(8) if log.end_offsets(TOPIC)[p] > 3)
    end = log.end_offsets(TOPIC)[partition]
    consumer.seek({TopicPartition(TOPIC, partition): end - 3, TopicPartition("fraud_events", 0): 1})
    assert [r.offset for r in consumer.poll(10, 1.0)] == [end - 3, end - 2, end - 1]
    consumer.seek({TopicPartition(TOPIC, p): 0 for p in range(8)})
    assert sorted(drain(consumer, 200)) == sorted(first)
    assert log.committed("g", TOPIC) == log.end_offsets(TOPIC)


@pytest.mark.parametrize("members", [2, 3, 5, 8, 11])
def test_members_share_partitions_evenly_and_each_once(
    log: EventLog, make_event_log: Make, members: int
) -> None:
    clients = [log, make_event_log()]
    consumers = [clients[i % 2].consumer("g", [TOPIC, "fraud_events"]) for i in range(members)]
    every = {TopicPartition(TOPIC, p) for p in range(8)}
    every |= {TopicPartition("fraud_events", p) for p in range(4)}

    def settled() -> bool:
        owned = [p for c in consumers for p in c.assignment()]
        for topic in (TOPIC, "fraud_events"):
            shares = [sum(p.topic == topic for p in c.assignment()) for c in consumers]
            if max(shares) - min(shares) > 1:
                return False
        return sorted(owned) == sorted(every)

    settle(consumers, settled)
    for leaver in consumers[: members // 2]:
        leaver.close()
        assert leaver.assignment() == set()
    consumers = consumers[members // 2 :]
    settle(consumers, settled)


def test_members_together_read_each_record_once(log: EventLog) -> None:
    log.append(messages(2_000))
    consumers = [log.consumer("g", [TOPIC]) for _ in range(3)]
    settle(consumers, lambda: sorted(len(c.assignment()) for c in consumers) == [2, 3, 3])
    records = []
    while len(records) < 2_000:
        for consumer in consumers:
            got = consumer.poll(100, 0.0)
            consumer.commit(next_offsets(got))
            records += got
    assert len({(r.partition, r.offset) for r in records}) == 2_000
    assert log.committed("g", TOPIC) == log.end_offsets(TOPIC)


def test_a_member_that_lost_a_partition_cannot_commit_it(log: EventLog) -> None:
    log.append(messages(400))
    first = log.consumer("g", [TOPIC])
    records = first.poll(400, 1.0)
    second = log.consumer("g", [TOPIC])
    settle([second, first], lambda: len(second.assignment()) == 4)
    lost = second.assignment()
    with pytest.raises(TransientStoreError):
        first.commit({p: o for p, o in next_offsets(records).items() if p in lost})
    with pytest.raises(TransientStoreError):
        first.commit(next_offsets(records))
    assert log.committed("g", TOPIC) == [None] * 8, "a refused commit records nothing"
    first.commit({p: o for p, o in next_offsets(records).items() if p not in lost})
    # What the new owner commits stays, even when the old one gets the partition back.
    again = drain(second, sum(log.end_offsets(TOPIC)[p.partition] for p in lost))
    second.commit(next_offsets(again))
    second.close()
    settle([first], lambda: len(first.assignment()) == 8)
    assert first.poll(400, 0.0) == []
    assert log.committed("g", TOPIC) == log.end_offsets(TOPIC)


def test_threads_appending_at_once_lose_and_double_nothing(log: EventLog) -> None:
    def produce(name: str) -> None:
        for start in range(0, 500, 5):
            log.append(
                [
                    Message(TOPIC, f"{name}{i % 20}", f"{name}:{i}".encode())
                    for i in range(start, start + 5)
                ]
            )

    threads = [threading.Thread(target=produce, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = everything(log)
    assert sorted(r.value for r in records) == sorted(
        f"{name}:{i}".encode() for name in "abcd" for i in range(500)
    )
    _require_order_by_key(records)


def _require_order_by_key(records: Sequence[Record]) -> None:
    last: dict[str, int] = {}
    for r in records:
        number = int(r.value.split(b":")[1])
        assert last.get(r.key, -1) < number
        last[r.key] = number


def test_two_clients_that_append_in_turns_see_one_log(log: EventLog, make_event_log: Make) -> None:
    clients = [log, make_event_log()]
    consumers = [
        client.consumer(group, [TOPIC]) for client, group in zip(clients, "gh", strict=True)
    ]
    expected = []
    for i in range(60):
        value = b"%d" % i
        clients[i % 3 % 2].append([Message(TOPIC, "one key", value)])
        expected.append(value)
        if i % 7 == 0:
            for consumer in consumers:
                consumer.poll(3, 0.0)
    for client, consumer in zip(clients, consumers, strict=True):
        assert [r.value for r in everything(client)] == expected
        assert [r.offset for r in everything(client)] == list(range(60))
        consumer.seek({TopicPartition(TOPIC, p): 0 for p in range(8)})
        assert [r.value for r in drain(consumer, 60, records_max=7)] == expected


def test_two_processes_append_while_a_third_consumes(
    log: EventLog, start: Callable[..., Process]
) -> None:
    consumer = log.consumer("g", [TOPIC])
    producers = [start("append", TOPIC, name, "700") for name in ("a", "b")]
    for i in range(100):
        log.append([Message(TOPIC, "c", f"c:{i}".encode())])
    records = drain(consumer, 1_500)
    assert [p.says() for p in producers] == ["appended"] * 2
    assert len({(r.partition, r.offset) for r in records}) == 1_500
    assert len({r.value for r in records}) == 1_500
    _require_order_by_key(records)
    assert consumer.poll(10, 0.0) == []
    assert sum(log.end_offsets(TOPIC)) == 1_500


def test_what_was_acknowledged_survives_kill_9(
    log: EventLog, make_event_log: Make, start: Callable[..., Process]
) -> None:
    producer = start("append_on", TOPIC)
    acknowledged = [int(producer.says()) for _ in range(300)]
    acknowledged += [int(line) for line in producer.kill() if line.isdigit()]
    stored = sorted(int(r.value) for r in everything(make_event_log()))
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) <= len(acknowledged) + 1, "at most the one in flight is there too"
    log.append([Message(TOPIC, "after", b"-1")])
    assert sum(log.end_offsets(TOPIC)) == len(stored) + 1


def test_a_consumer_killed_between_handling_and_commit_is_replaced(
    log: EventLog, start: Callable[..., Process]
) -> None:
    log.append(messages(200))
    victim = start("consume", "g", TOPIC, "hang")
    assert victim.says() == "joined"
    handled = []
    while (line := victim.says()) != "handled":
        handled.append(line)
    survivor = log.consumer("g", [TOPIC])
    victim.kill()
    records = drain(survivor, 200)
    assert len({(r.partition, r.offset) for r in records}) == 200
    again = {f"{r.partition} {r.offset} {r.value.decode()}" for r in records}
    assert handled and set(handled) <= again, "what was not committed comes again"
    survivor.commit(next_offsets(records))
    assert log.committed("g", TOPIC) == log.end_offsets(TOPIC)


def test_a_killed_members_committed_records_do_not_come_again(
    log: EventLog, start: Callable[..., Process]
) -> None:
    log.append(messages(500))
    victim = start("consume", "g", TOPIC, "commit")
    committed, batch = set(), set()
    while len(committed) < 100:
        line = victim.says()
        if line == "committed":
            committed |= batch
            batch = set()
        elif line != "joined":
            batch.add(line)
    victim.kill()
    survivor = log.consumer("g", [TOPIC])
    left = sum(
        end - (done or 0)
        for end, done in zip(log.end_offsets(TOPIC), log.committed("g", TOPIC), strict=True)
    )
    assert left <= 400
    again = {f"{r.partition} {r.offset} {r.value.decode()}" for r in drain(survivor, left)}
    assert not committed & again


def test_close_is_harmless_twice_and_leaves_the_group(log: EventLog, make_event_log: Make) -> None:
    consumer = log.consumer("g", [TOPIC])
    assert len(consumer.assignment()) == 8
    log.close()
    log.close()
    consumer.close()
    other = make_event_log().consumer("g", [TOPIC])
    assert len(other.assignment()) == 8
