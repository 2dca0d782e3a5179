"""Reading a Kafka partition from any offset, outside any group."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_clients import Servers
from paytm_lab.backends.servers.kafka_errors import core_error
from paytm_lab.core.errors import Unavailable
from paytm_lab.ports.event_log import Record

READ_S_MAX = 10.0  # without a single record, though there are some


def records_of(topic: str, found: Iterable[Any]) -> list[Record]:
    """The port's records of the client's. ``topic``: the plain name. What other programs wrote has
    perhaps no key, no value or a key that is no text.
    """
    return [
        Record(
            topic,
            r.partition,
            r.offset,
            r.key.decode(errors="replace") if r.key else "",
            r.value or b"",
            tuple((name, text or b"") for name, text in r.headers) if r.headers else (),
            r.timestamp * 1000,
        )
        for r in found
    ]


class Reader:
    """One consumer that is moved from partition to partition. Threads take turns."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._lock = threading.Lock()
        self._consumer: KafkaConsumer | None = None
        self._partition: KafkaPartition | None = None
        self._position = -1
        self._closed = False

    def read(self, partition: KafkaPartition, offset: int, end: int, records_max: int) -> list[Any]:
        """The client's records from ``offset`` to before ``end``, at most so many."""
        with self._lock:
            if self._closed:
                raise Unavailable("the event log is closed", place=self._servers.text)
            try:
                return self._read(partition, offset, end, records_max)
            except kafka.KafkaError as error:
                self._drop()
                raise core_error(error, partition.topic) from error
            except Unavailable:
                self._drop()
                raise

    def _read(
        self, partition: KafkaPartition, offset: int, end: int, records_max: int
    ) -> list[Any]:
        if self._consumer is None:
            # Once at the end of a partition the client asks for more: that must not keep the next
            # partition waiting.
            self._consumer = self._servers.new_consumer(
                KafkaConsumer,
                retry_backoff_ms=10,
                fetch_max_wait_ms=10,
                max_partition_fetch_bytes=4 << 20,
            )
        consumer = self._consumer
        if partition != self._partition:
            consumer.assign([partition])
            self._partition = partition
            self._position = -1
        if offset != self._position:
            consumer.seek(partition, offset)
            self._position = offset
        records: list[Any] = []
        give_up_at_s = time.monotonic() + READ_S_MAX
        while len(records) < records_max and self._position < end:
            found = consumer.poll(1_000, max_records=records_max - len(records)).get(partition)
            if found:
                records += found
                self._position = found[-1].offset + 1
                give_up_at_s = time.monotonic() + READ_S_MAX
            elif time.monotonic() > give_up_at_s:
                raise Unavailable("Kafka gives no records", place=f"{partition}, offset {offset}")
        return records

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._partition = None
        if consumer is not None:
            with suppress(kafka.KafkaError, OSError):
                consumer.close(autocommit=False, timeout_ms=1_000)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()
