"""What ports.event_log promises of topics, against real processes where it speaks of processes."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.core.errors import BadInput
from paytm_lab.ports.event_log import EventLog, Message, Record, TopicPartition
from tests.contract.event_log_world import (
    TOPIC,
    Make,
    Process,
    drain,
    everything,
    messages,
    next_offsets,
)


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
    log: EventLog, start_on_log: Callable[..., Process]
) -> None:
    consumer = log.consumer("g", [TOPIC])
    producers = [start_on_log("append", TOPIC, name, "700") for name in ("a", "b")]
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
    log: EventLog, make_event_log: Make, start_on_log: Callable[..., Process]
) -> None:
    producer = start_on_log("append_on", TOPIC)
    acknowledged = [int(producer.says()) for _ in range(300)]
    acknowledged += [int(line) for line in producer.kill() if line.isdigit()]
    stored = sorted(int(r.value) for r in everything(make_event_log()))
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) <= len(acknowledged) + 1, "at most the one in flight is there too"
    log.append([Message(TOPIC, "after", b"-1")])
    assert sum(log.end_offsets(TOPIC)) == len(stored) + 1
