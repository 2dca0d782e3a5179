"""One connected session: how the lab talks to Cassandra, and how much at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from paytm_lab.backends.servers.cassandra_errors import translated
from paytm_lab.core.errors import InvalidSetting, Unavailable

CONNECT_TIMEOUT_S = 4.0
REQUEST_TIMEOUT_S = 5.0
SCHEMA_TIMEOUT_S = 30.0
RECONNECT_S = 0.5
IN_FLIGHT_MAX = 128
_PROTOCOL_VERSION = 4  # of Cassandra 2.2 and all later ones; asking for more costs a round trip
_PORT = 9042


class _Connection(Cluster.connection_class):  # type: ignore[misc]
    """Sends no request as number 0.

    What waited for too long in the server (``native_transport_timeout``, 12 s: it was frozen, or
    has too much to do) is answered as number 0, whatever number it came with. The driver takes that
    for the end of its own request 0: that number is then free as many times over, several requests
    share it, and one is given another's rows.
    """

    def get_request_id(self) -> int:
        while True:
            number: int = super().get_request_id()
            if number:
                return number


class CassandraSession:
    """``servers`` is "host:port[,host:port]". Connects at once, or raises Unavailable.

    Reads and writes ask for LOCAL_QUORUM: whatever was acknowledged is seen by the next read, on
    any number of replicas, and one node that is down stops nobody (with one replica it is the same
    as ONE). Conditional writes are serialised by LOCAL_SERIAL. Nothing is ever repeated or sent to
    a second node on suspicion: a conditional write that timed out may have happened, and its repeat
    would be told that somebody else was first.
    """

    def __init__(self, servers: str, user: str = "", password: str = "") -> None:
        self.place = f"Cassandra {servers}"
        self._closed = False
        self._free = threading.BoundedSemaphore(IN_FLIGHT_MAX)
        with translated(self.place):
            self._cluster = _cluster(servers, user, password)
            try:
                self._session = self._cluster.connect()
            except BaseException:
                self._cluster.shutdown()
                raise
        self._session.default_fetch_size = None

    def require_open(self) -> None:
        if self._closed:
            raise Unavailable("the wide store is closed", place=self.place)

    def prepare(self, text: str) -> Any:
        self.require_open()
        with translated(self.place):
            return self._session.prepare(text)

    def ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement that is not worth preparing."""
        self.require_open()
        with translated(self.place):
            return list(self._session.execute(text, tuple(values) or None))

    def pages(self, statement: Any, rows: int) -> Iterable[tuple[Any, ...]]:
        """Rows of a statement of any length, fetched ``rows`` at a time while they are read."""
        self.require_open()
        statement.fetch_size = rows
        with translated(self.place):
            yield from self._session.execute(statement)

    def change_schema(self, text: str) -> None:
        """All clients change it through the same node, so that two of them cannot make one table
        twice; returns once all nodes agree.
        """
        self.require_open()
        hosts = [host for host in self._cluster.metadata.all_hosts() if host.is_up]
        first = min(hosts, key=lambda host: (host.address, host.broadcast_rpc_port or 0))
        with translated(self.place):
            self._session.execute(text, timeout=SCHEMA_TIMEOUT_S, host=first)

    def know_keyspace(self, keyspace: str) -> None:
        """Let the driver know which node holds which of its rows."""
        if keyspace not in self._cluster.metadata.keyspaces:
            with translated(self.place):
                self._cluster.refresh_keyspace_metadata(keyspace)

    def replica_of(self, keyspace: str, statement: Any) -> Any:
        """The first node that holds a statement's partition, where there are several."""
        metadata = self._cluster.metadata
        if len(metadata.all_hosts()) < 2:
            return None
        replicas = metadata.get_replicas(keyspace, statement.routing_key)
        return replicas[0] if replicas else None

    def run(self, statements: Iterable[Any]) -> list[list[tuple[Any, ...]]]:
        """The rows of each statement, all in flight together, but never more than
        ``IN_FLIGHT_MAX`` of all callers. The first error is raised once none is in flight any more.
        """
        with self.running(statements) as answers:
            pass
        return answers

    @contextmanager
    def running(self, statements: Iterable[Any]) -> Iterator[list[list[tuple[Any, ...]]]]:
        """``run`` while the block does something else; the rows are there once it has ended. None
        is in flight any more then, whatever was raised.
        """
        self.require_open()
        futures: list[Any] = []
        answers: list[list[tuple[Any, ...]]] = []
        try:
            with translated(self.place):
                futures += map(self._start, statements)  # as far as it comes
            yield answers
        except BaseException:
            _wait(futures)
            raise
        with translated(self.place):
            rows, error = _wait(futures)
            if error is not None:
                raise error
        answers += rows

    def _start(self, statement: Any) -> Any:
        # Each request in flight ends by itself within the request timeout.
        if not self._free.acquire(timeout=4 * REQUEST_TIMEOUT_S):
            raise Unavailable("Cassandra's requests pile up", place=self.place)
        try:
            future = self._session.execute_async(statement)
        except BaseException:
            self._free.release()
            raise
        future.add_callbacks(self._release, self._release)
        return future

    def _release(self, _: object) -> None:
        self._free.release()

    def close(self) -> None:
        self._closed = True
        self._cluster.shutdown()


def _wait(futures: Sequence[Any]) -> tuple[list[list[tuple[Any, ...]]], Exception | None]:
    """The rows of those that came to something, and the first error."""
    answers: list[list[tuple[Any, ...]]] = []
    error: Exception | None = None
    for future in futures:
        try:
            answers.append(list(future.result()))
        except Exception as caught:
            error = error or caught
    return answers, error


def _cluster(servers: str, user: str, password: str) -> Any:
    return Cluster(
        _contact_points(servers),
        auth_provider=PlainTextAuthProvider(user, password) if user else None,
        protocol_version=_PROTOCOL_VERSION,
        connection_class=_Connection,
        execution_profiles={EXEC_PROFILE_DEFAULT: _profile()},
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, max_attempts=None),
        connect_timeout=CONNECT_TIMEOUT_S,
        control_connection_timeout=CONNECT_TIMEOUT_S,
        # What others do to the schema is asked for when it matters; and of what there is, only our
        # own keyspace (``know_keyspace``): every other lab's tables took ten times as long.
        schema_event_refresh_window=-1,
        schema_metadata_enabled=False,
        # Off by default here: a batch longer than a packet then waits 40 ms for an acknowledgement
        # that the server holds back (100 rows: 62 ms; so: see docs/benchmarks.md).
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )


def _profile() -> ExecutionProfile:
    return ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()),
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=REQUEST_TIMEOUT_S,
        row_factory=tuple_factory,
    )


def _contact_points(servers: str) -> list[tuple[str, int]]:
    points = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host:
            host, port = port, str(_PORT)
        if not port.isdecimal():
            raise InvalidSetting(f"{server!r:.80} is not host:port", place="Cassandra servers")
        points.append((host.strip("[]"), int(port)))
    return points
