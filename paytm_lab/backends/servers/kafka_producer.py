"""Appending to Kafka: one idempotent producer that all threads share."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from contextlib import suppress

from kafka import KafkaProducer
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_clients import REQUEST_S_MAX, Servers, Shared
from paytm_lab.backends.servers.kafka_errors import core_error
from paytm_lab.core.errors import BadInput
from paytm_lab.ports.event_log import Message

APPEND_S_MAX = 10.0
CLOSE_S_MAX = 2.0
# A broker takes batches of 1 MiB unless told otherwise. What surrounds a record in its batch fits
# in the difference.
RECORD_BYTES_MAX = 1_000_000
_BATCH_BYTES = 256 << 10
_REQUEST_BYTES_MAX = 8 << 20


def partition_of(key: bytes, partitions: int) -> int:
    """As librdkafka does it, and many times faster than the Python client's murmur2."""
    return zlib.crc32(key) % partitions


class _Client(KafkaProducer):  # type: ignore[misc]  # the package has no types
    def give_up(self, wait_s: float) -> None:
        """Fail what was not sent yet, and close. The library's own close() raises instead, and
        leaves its thread running.
        """
        self._sender.force_close()
        self._sender.join(wait_s)
        if self._sender.is_alive():
            self._unregister_cleanup()  # its thread is a daemon, and ends when the request does
            self._closed = True
        else:
            with suppress(kafka.KafkaError):
                self.close(timeout=0)


class Producer:
    """``append`` waits for all acknowledgements. A batch that fails may have been sent in part.

    Messages wait in the client until their append asks for all of them to be sent, so that each
    partition gets one batch, however slowly they are handed over.
    """

    def __init__(self, servers: Servers) -> None:
        self._options = servers.options | {
            "acks": "all",
            "enable_idempotence": True,
            "metrics_enabled": False,
            "allow_auto_create_topics": False,
            "batch_size": _BATCH_BYTES,
            "linger_ms": 1_000,  # never waited for: each append flushes
            "max_request_size": _REQUEST_BYTES_MAX,
            "max_block_ms": round(REQUEST_S_MAX * 1000),
            "delivery_timeout_ms": round(APPEND_S_MAX * 1000),
            "retry_backoff_ms": 20,  # a new producer waits twice so long for its number
        }
        self._client = Shared(servers, lambda: _Client(**self._options))

    def append(self, place: str, messages: Sequence[tuple[str, int, Message]]) -> None:
        """``messages``: full name of the topic, number of its partitions, message."""
        records = [_record(*message) for message in messages]
        deadline_s = time.monotonic() + APPEND_S_MAX
        client, _ = self._client.get()
        try:
            send = client.send
            sent = [send(t, value, key, headers, p) for t, value, key, headers, p in records]
            client.flush(max(0.0, deadline_s - time.monotonic()))
            for future in sent:
                if not future.is_done:
                    future.get(max(0.0, deadline_s - time.monotonic()))
                if future.exception is not None:
                    raise future.exception
        except kafka.KafkaError as error:
            meant = core_error(error, place)
            # After a failure nobody knows the client's state: it may hold back records that were
            # given up, or never recover. The next append has a new one.
            if not isinstance(meant, BadInput) and self._client.drop(client):
                client.give_up(0.5)
            raise meant from error

    def close(self) -> None:
        client = self._client.close()
        if client is None:
            return
        try:
            client.close(timeout=CLOSE_S_MAX)
        except kafka.KafkaError:
            client.give_up(CLOSE_S_MAX)


def _record(
    topic: str, partitions: int, message: Message
) -> tuple[str, bytes, bytes, list[tuple[str, bytes]] | None, int]:
    key = message.key.encode()
    value = message.value
    headers = list(message.headers) if message.headers else None
    size = len(key) + len(value)
    if headers:
        size += sum(len(name.encode()) + len(text) for name, text in headers)
    if size > RECORD_BYTES_MAX:
        raise BadInput(
            f"a message of {size} bytes is too large",
            place=message.topic,
            remedy=f"Key, value and headers have at most {RECORD_BYTES_MAX} bytes.",
        )
    return topic, value, key, headers, partition_of(key, partitions)
