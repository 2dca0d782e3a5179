"""What ports.event_log promises of consumers and their groups, with processes that are killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from paytm_lab.core.errors import TransientStoreError
from paytm_lab.ports.event_log import EventLog, Message, TopicPartition
from tests.contract.event_log_world import (
    DEADLINE_S,
    TOPIC,
    Make,
    Process,
    drain,
    messages,
    next_offsets,
    settle,
)


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
    settle([second, first], lambda: len(first.assignment()) == len(second.assignment()) == 4)
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


def test_partitions_that_a_member_keeps_go_on_where_they_were(log: EventLog) -> None:
    log.append(messages(400))
    first = log.consumer("g", [TOPIC])
    seen = drain(first, 400)
    second = log.consumer("g", [TOPIC])
    settle([second, first], lambda: len(first.assignment()) == len(second.assignment()) == 4)
    others = second.assignment()
    log.append(messages(200))
    more = drain(first, sum(log.end_offsets(TOPIC)[p.partition] for p in first.assignment()) // 3)
    kept = [r for r in seen if TopicPartition(r.topic, r.partition) not in others]
    assert sorted((r.partition, r.offset) for r in kept + more) == [
        (p.partition, offset)
        for p in sorted(first.assignment())
        for offset in range(log.end_offsets(TOPIC)[p.partition])
    ], "nothing that was polled before comes again"
    first.commit(next_offsets(kept))
    first.commit(next_offsets(more))


def test_a_consumer_killed_between_handling_and_commit_is_replaced(
    log: EventLog, start_on_log: Callable[..., Process]
) -> None:
    log.append(messages(200))
    victim = start_on_log("consume", "g", TOPIC, "hang")
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
    log: EventLog, start_on_log: Callable[..., Process]
) -> None:
    log.append(messages(500))
    victim = start_on_log("consume", "g", TOPIC, "commit")
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
