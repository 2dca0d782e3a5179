"""Appending to Kafka: one idempotent producer that all threads share."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

from kafka import KafkaProducer
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_clients import REQUEST_S_MAX, Servers, Shared
from paytm_lab.backends.servers.kafka_errors import core_error
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.ports.event_log import Message

APPEND_S_MAX = 10.0
ROUND_S_MIN = 0.01  # between the beginnings of two: small ones cost as much as large ones
CLOSE_S_MAX = 2.0
# A broker takes batches of 1 MiB unless told otherwise. What surrounds a record in its batch fits
# in the difference.
RECORD_BYTES_MAX = 1_000_000
_BATCH_BYTES = 256 << 10
_REQUEST_BYTES_MAX = 8 << 20
# Topic, value, key, headers, partition: what the client's ``send`` takes.
_Record = tuple[str, bytes, bytes, list[tuple[str, bytes]] | None, int]


def partition_of(key: bytes, partitions: int) -> int:
    """As librdkafka does it, and many times faster than the Python client's murmur2."""
    return zlib.crc32(key) % partitions


class _Client(KafkaProducer):  # type: ignore[misc]  # the package has no types
    def flush_within(self, left_s: Callable[[], float]) -> None:
        """Send all that waits, and wait for it. The library's own flush() gives each batch all of
        the time, one after the other: as much for each partition as for all.
        """
        accumulator = self._accumulator
        accumulator.begin_flush()
        try:
            self._sender.wakeup()
            for batch in accumulator._incomplete.all():
                if not batch.produce_future.wait(timeout=left_s()):
                    raise kafka.KafkaTimeoutError("not all is acknowledged in time")
        finally:
            accumulator._flushes_in_progress.decrement()

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


class _Share:
    """What one caller appends in a round. ``failure``: None where all of it was acknowledged."""

    __slots__ = ("deadline_s", "done", "failure", "records")

    def __init__(self, records: list[_Record]) -> None:
        self.records = records
        self.deadline_s = time.monotonic() + APPEND_S_MAX
        self.done = threading.Event()
        self.failure: Exception | None = None

    def left_s(self) -> float:
        return max(0.0, self.deadline_s - time.monotonic())


class Producer:
    """``append`` waits for all acknowledgements. A batch that fails may have been sent in part.

    One round is on its way at a time; who comes meanwhile is in the next one, sent by the first of
    them for all. Several relays that append a few rows each cost little more than one, and none
    waits longer than for the round under way and its own. Messages wait in the client until their
    round asks for all of them to be sent, so that each partition gets one batch, however slowly
    they are handed over.
    """

    def __init__(self, servers: Servers) -> None:
        self._options = servers.options | {
            "acks": "all",
            "enable_idempotence": True,
            "metrics_enabled": False,
            "allow_auto_create_topics": False,
            "batch_size": _BATCH_BYTES,
            "linger_ms": 1_000,  # never waited for: each round flushes
            "max_request_size": _REQUEST_BYTES_MAX,
            "max_block_ms": round(REQUEST_S_MAX * 1000),
            "delivery_timeout_ms": round(APPEND_S_MAX * 1000),
            "retry_backoff_ms": 20,  # a new producer waits twice so long for its number
        }
        self._client = Shared(servers, lambda: _Client(**self._options))
        self._lock = threading.Lock()
        self._on_its_way = threading.Lock()
        self._next_round: list[_Share] = []
        self._began_at_s = float("-inf")  # the last round

    def append(self, place: str, messages: Sequence[tuple[str, int, Message]]) -> None:
        """``messages``: full name of the topic, number of its partitions, message."""
        share = _Share([_record(*message) for message in messages])
        with self._lock:
            self._next_round.append(share)
            leads = self._next_round[0] is share
        if leads:
            self._lead(share)
        if not share.done.wait(share.left_s()):
            raise Unavailable("not acknowledged in time", place=place)
        failure = share.failure
        if isinstance(failure, kafka.KafkaError):
            raise core_error(failure, place) from failure
        if isinstance(failure, Unavailable):
            raise Unavailable(failure.message, place=failure.place, remedy=failure.remedy)
        if failure is not None:
            raise failure

    def _lead(self, first: _Share) -> None:
        in_time = self._on_its_way.acquire(timeout=first.left_s())
        shares: list[_Share] = []
        try:
            if in_time:
                # What comes in this time is in this round. A closed log waits for nothing.
                self._client.closed.wait(self._began_at_s + ROUND_S_MIN - time.monotonic())
                self._began_at_s = time.monotonic()
            shares = self._take_round()
            if not in_time:
                raise Unavailable("the appends before this one take too long")
            self._send(shares)
        except BaseException as error:  # whatever it is, each caller is told
            shares = shares or self._take_round()
            why = error if isinstance(error, Exception) else Unavailable("the append was cut off")
            for share in shares:
                share.failure = share.failure or why
            if why is not error:
                raise
        finally:
            if in_time:
                self._on_its_way.release()
            for share in shares:
                share.done.set()

    def _take_round(self) -> list[_Share]:
        with self._lock:
            shares, self._next_round = self._next_round, []
        return shares

    def _send(self, shares: Sequence[_Share]) -> None:
        client, _ = self._client.get()
        left_s = shares[0].left_s
        try:
            send = client.send
            sent = [
                (share, send(topic, value, key, headers, partition))
                for share in shares
                for topic, value, key, headers, partition in share.records
            ]
            client.flush_within(left_s)
            for share, future in sent:
                if not future.is_done:
                    future.get(left_s())
                share.failure = share.failure or future.exception
        except kafka.KafkaError as error:
            self._begin_anew(client, error)
            raise
        for failure in filter(None, (share.failure for share in shares)):
            self._begin_anew(client, failure)

    def _begin_anew(self, client: _Client, failure: Exception) -> None:
        """After a failure nobody knows the client's state: it may hold back records that were given
        up, or never recover. The next round has a new one.
        """
        if not isinstance(core_error(failure, ""), BadInput) and self._client.drop(client):
            client.give_up(0.5)

    def close(self) -> None:
        client = self._client.close()
        if client is None:
            return
        try:
            client.close(timeout=CLOSE_S_MAX)
        except kafka.KafkaError:
            client.give_up(CLOSE_S_MAX)


def _record(topic: str, partitions: int, message: Message) -> _Record:
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
