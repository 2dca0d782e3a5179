"""The producer's limits, on the client's own accumulator; nothing is sent."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka import errors as kafka
from kafka.producer.record_accumulator import RecordAccumulator

from paytm_lab.backends.servers.kafka_producer import _Client

LIMIT_S = 0.6


@pytest.fixture
def client() -> _Client:
    """Without threads and connections, as if its broker answered nothing."""
    made = _Client.__new__(_Client)
    made._closed, made.config = True, {}
    made._accumulator = RecordAccumulator()
    made._sender = SimpleNamespace(wakeup=lambda: None)
    for partition in range(8):
        made._accumulator.append(TopicPartition("t", partition), 0, b"k", b"v", [])
    return made


def test_all_partitions_together_have_the_time_of_one(client: _Client) -> None:
    """When a broker dies, each partition's batch may end a moment before its time is over."""
    batches = client._accumulator._incomplete.all()
    assert len(batches) == 8
    ended = threading.Event()

    def end_one_by_one() -> None:
        for batch in batches:
            if ended.wait(LIMIT_S * 0.8):
                return
            batch.produce_future.success((0, 0))

    thread = threading.Thread(target=end_one_by_one)
    thread.start()
    began = time.monotonic()
    with pytest.raises(kafka.KafkaTimeoutError):
        client.flush_within(lambda: max(0.0, began + LIMIT_S - time.monotonic()))
    took_s = time.monotonic() - began
    ended.set()
    thread.join()
    assert LIMIT_S <= took_s < 2 * LIMIT_S
    assert not client._accumulator.flush_in_progress()


def test_what_is_acknowledged_is_not_waited_for(client: _Client) -> None:
    for batch in client._accumulator._incomplete.all():
        batch.produce_future.success((0, 0))
    client.flush_within(lambda: 0.0)
    assert not client._accumulator.flush_in_progress()
