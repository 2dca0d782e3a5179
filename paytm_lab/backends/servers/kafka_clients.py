"""Connections to Kafka: how clients are set, the administrator, names with their prefix."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Generic, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_errors import core_error, translated
from paytm_lab.backends.servers.kafka_selector import CheapMisses
from paytm_lab.core.errors import InvalidSetting, Unavailable

CONNECT_S_MAX = 5.0  # from nothing to a client that knows the cluster
REACH_S_MAX = 2.0  # for a TCP connection to one broker
REQUEST_S_MAX = 5.0  # for the answer to one request
NOT_YET_S_MAX = 10.0  # a broker that starts: until it has loaded its groups
_NOT_YET_S = 0.05
_T = TypeVar("_T")
_C = TypeVar("_C")


def quiet() -> None:
    """The client reports each failed attempt in its log, and what comes of it by an exception. The
    exception is enough, unless somebody wants the log.
    """
    logger = logging.getLogger("kafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


class Servers:
    """Where Kafka is: ``servers`` as in "host:port,host:port"."""

    def __init__(self, servers: str) -> None:
        self.text = servers
        self._addresses = [_address(server.strip()) for server in servers.split(",")]
        self.options: dict[str, Any] = {
            "bootstrap_servers": [f"{host}:{port}" for host, port in self._addresses],
            "client_id": "paytm_lab",
            "bootstrap_timeout_ms": round(CONNECT_S_MAX * 1000),
            "request_timeout_ms": round(REQUEST_S_MAX * 1000),
            # A broker that is back is found within half a second, not half a minute.
            "reconnect_backoff_max_ms": 500,
            "retry_backoff_ms": 50,
            "selector": CheapMisses,
        }

    def require_reachable(self) -> None:
        """Raise Unavailable where no server takes connections: a client that starts would keep on
        trying for all its time.
        """
        for address in self._addresses:
            with suppress(OSError), socket.create_connection(address, REACH_S_MAX):
                return
        raise Unavailable(
            "Kafka does not take connections",
            place=self.text,
            remedy="Start Kafka, or repeat when it answers again.",
        )

    def new_consumer(self, kind: type[KafkaConsumer], **options: Any) -> KafkaConsumer:
        self.require_reachable()
        settings = self.options | {
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            "fetch_min_bytes": 1,
        }
        return kind(**(settings | options))


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidSetting(f"{server!r} is not a Kafka server", remedy="Say host:port.")
    return host.strip("[]"), int(port)


class Names:
    """Topics and groups of one namespace: ``prefix`` and a dot come before the plain names."""

    def __init__(self, prefix: str) -> None:
        self._before = f"{prefix}." if prefix else ""

    def full(self, name: str) -> str:
        return self._before + name

    def plain(self, name: str) -> str:
        return name[len(self._before) :]

    def ours(self, name: str) -> bool:
        return name.startswith(self._before)


class Shared(Generic[_C]):
    """One client for all threads, made by ``make`` when it is first needed. Who comes while another
    thread tries to make it shares what comes of that attempt, so that many do not wait one after
    the other.
    """

    def __init__(self, servers: Servers, make: Callable[[], _C]) -> None:
        self._servers = servers
        self._make = make
        self._lock = threading.Lock()
        self._client: _C | None = None
        self._attempt: Future[_C] | None = None
        self.closed = threading.Event()

    def get(self) -> tuple[_C, bool]:
        """The client, and whether it is new."""
        client = self._client
        if client is not None:
            return client, False
        with self._lock:
            if self.closed.is_set():
                raise Unavailable("the event log is closed", place=self._servers.text)
            if self._client is not None:
                return self._client, False
            attempt, mine = self._attempt, self._attempt is None
            if attempt is None:
                attempt = self._attempt = Future()
        if mine:
            self._try(attempt)
        try:
            return attempt.result(), True  # bounded: an attempt is
        except Unavailable as error:
            if mine:
                raise
            raise Unavailable(error.message, place=error.place, remedy=error.remedy) from error
        except BaseException as error:
            if mine or isinstance(error, Exception):
                raise
            # Only whoever made the attempt is to end.
            raise Unavailable("connecting was cut off", place=self._servers.text) from error

    def _try(self, attempt: Future[_C]) -> None:
        try:
            self._servers.require_reachable()
            with translated(self._servers.text):
                client = self._make()
        except BaseException as error:
            with self._lock:
                self._attempt = None
            attempt.set_exception(error)
        else:
            with self._lock:
                self._client, self._attempt = client, None
            attempt.set_result(client)

    def drop(self, client: _C) -> bool:
        """The next one who asks gets a new one. False where somebody else dropped it."""
        with self._lock:
            if self._client is not client:
                return False
            self._client = None
            return True

    def close(self) -> _C | None:
        """Nobody gets one any more. Returns the one that is left."""
        self.closed.set()
        with self._lock:
            attempt = self._attempt
        if attempt is not None:
            wait([attempt])
        with self._lock:
            client, self._client = self._client, None
            return client


class Admin:
    """Asks Kafka about topics, offsets and groups. Any thread may ask.

    A client that was in use while the broker was away may stay dead when the broker is back, so
    after a failure at once the question is put once more, through a new client. A broker that has
    just started, or makes its first group, says "not yet" for a while: that is waited for, and by
    those with ``patience_s`` a broker that is too busy to answer in time, too.
    """

    def __init__(self, servers: Servers) -> None:
        self._client = Shared(servers, lambda: KafkaAdminClient(**servers.options))

    def ask(
        self, place: str, question: Callable[[KafkaAdminClient], _T], patience_s: float = 0.0
    ) -> _T:
        """The question must be one that does no harm when asked twice."""
        give_up_at_s = time.monotonic() + NOT_YET_S_MAX
        patient_until_s = time.monotonic() + patience_s
        renewed = False
        while True:
            client, fresh = self._client.get()
            began_s = time.monotonic()
            try:
                return question(client)
            except (kafka.KafkaError, RuntimeError) as raised:
                error = _named(raised)
                meant = core_error(error, place)
                now_s = time.monotonic()
                at_once = now_s - began_s < REACH_S_MAX
                if at_once and _says_not_yet(error) and now_s < give_up_at_s:
                    self._client.closed.wait(_NOT_YET_S)
                    continue
                if type(meant) is Unavailable:
                    if self._client.drop(client):
                        _close(client)
                    if at_once and not fresh and not renewed:
                        renewed = True
                        continue
                    if not at_once and now_s < patient_until_s:
                        continue
                raise meant from raised

    def close(self) -> None:
        client = self._client.close()
        if client is not None:
            _close(client)


def _named(error: Exception) -> kafka.KafkaError:
    """The client has no name for a cluster whose controller changes just now."""
    if isinstance(error, kafka.KafkaError):
        return error
    if "controller" in str(error):
        return kafka.NotControllerError(str(error))
    raise error


def _says_not_yet(error: kafka.KafkaError) -> bool:
    """Whether a broker has answered, and a later answer may be another."""
    gone = kafka.UnknownTopicOrPartitionError | kafka.UnknownTopicIdError
    answered = isinstance(error, kafka.BrokerResponseError) and not isinstance(error, gone)
    # What has no name may be a broker that does not find its ZooKeeper at the moment.
    return bool(answered and (error.retriable or type(error) is kafka.UnknownError))


def _close(client: KafkaAdminClient) -> None:
    with suppress(kafka.KafkaError, OSError):
        client.close()
