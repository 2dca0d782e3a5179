"""One session with ZooKeeper: connects at first use, comes back by itself, waits for nothing longer
than it was told, and knows how long the server surely keeps it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, NoNodeError
from kazoo.retry import KazooRetry

from paytm_lab.backends.servers.zookeeper_errors import INTERRUPTIONS
from paytm_lab.core.errors import Unavailable

CLOSE_S_MAX = 3.0
RECONNECT_WAIT_S_MAX = 1.0
# A leader stops believing in itself after this part of the session's time without an answer: the
# rest is for what it had begun, and for clocks that do not run alike.
SURE_PART = 0.8
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a laptop sleeps
_log = logging.getLogger(__name__)
# The client tells every try to reconnect; this module tells once that it is away, and back.
_client_log = _log.getChild("client")
_client_log.setLevel(logging.ERROR)
_live: weakref.WeakSet[Session] = weakref.WeakSet()


class NotSent(ConnectionLoss):  # type: ignore[misc]
    """There was no connection: the request was not carried out, and never will be."""


def seconds() -> float:
    """Seconds of a clock that only goes forward, also while this process or machine is stopped."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """How long a session surely lives, by our own clock alone.

    The server ends a session when it has heard nothing for the session's time. What it answered it
    had heard no sooner than we said it: so the session lives at least until then plus that time.
    An ``epoch`` is a time without interruption; what was held in one is never held in the next.
    """

    def __init__(self, session_timeout_s: float, clock: Callable[[], float] = seconds) -> None:
        self._asked_s = session_timeout_s
        self._timeout_s = session_timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._epoch = 0
        self._sure_until_s = float("-inf")

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def timeout_s(self) -> float:
        """What counts as the session's time: what was asked for, or less."""
        return self._timeout_s

    def grant(self, session_timeout_s: float) -> None:
        """The server's word on the session's time, before it answers anything in that session. More
        than was asked for is not made use of.
        """
        with self._lock:
            self._timeout_s = min(self._asked_s, session_timeout_s)

    def interrupt(self) -> None:
        """The connection broke: nothing held before is surely ours any more."""
        with self._lock:
            self._epoch += 1
            self._sure_until_s = float("-inf")

    def confirm(self, epoch: int, sent_at_s: float) -> None:
        """The server answered, in ``epoch``, what we had sent at ``sent_at_s``."""
        with self._lock:
            if epoch == self._epoch:
                sure_until_s = sent_at_s + self._timeout_s * SURE_PART
                self._sure_until_s = max(self._sure_until_s, sure_until_s)

    def sure(self, epoch: int) -> bool:
        """True while what was created in ``epoch`` is surely still there."""
        with self._lock:
            return epoch == self._epoch and self._clock() < self._sure_until_s

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self.interrupt()


class Session:
    """``servers`` as in "host:port,host:port". ``session_timeout_s`` is what a dead client's locks
    outlive it, where the server grants it (its minSessionTimeout and maxSessionTimeout bound it);
    the lease goes by the lesser of the two.
    ``request_timeout_s`` bounds every request, the wait for a connection included.
    """

    def __init__(self, servers: str, session_timeout_s: float, request_timeout_s: float) -> None:
        self.place = f"ZooKeeper {servers}"
        self.lease = Lease(session_timeout_s)
        # Called in the client's own thread, after a connection has come or gone.
        self.on_change: list[Callable[[], None]] = []
        self.on_fork: list[Callable[[], None]] = []
        self._servers = servers
        self._session_timeout_s = session_timeout_s
        self._request_timeout_s = request_timeout_s
        self._lock = threading.Lock()
        self._client: KazooClient | None = None
        self._connected = threading.Event()
        self._told = False
        self._granted_s = session_timeout_s
        self.closed = False
        _live.add(self)

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    def call(self, send: Callable[[KazooClient], Any], deadline_s: float | None = None) -> Any:
        """What the request that ``send`` makes gives. Sent at most once. Raises the client's
        errors; one of INTERRUPTIONS when it may have been carried out or not.
        """
        if deadline_s is None:
            deadline_s = self.deadline_s()
        client = self._open()
        # Nothing is handed to a client without a connection: it would send it whenever it can.
        if not self._connected.wait(max(0.0, deadline_s - seconds())):
            if self.closed:
                raise ConnectionClosedError("closed")
            raise NotSent("no connection")
        return send(client).get(timeout=max(0.0, deadline_s - seconds()))

    def stamped(
        self, send: Callable[[KazooClient], Any], deadline_s: float | None = None
    ) -> tuple[Any, int]:
        """Like ``call``, with the epoch it was sent in, whose lease the answer has prolonged."""
        stamps: list[tuple[int, float]] = []

        def stamp_and_send(client: KazooClient) -> Any:
            stamps.append((self.lease.epoch, seconds()))
            return send(client)

        answer = self.call(stamp_and_send, deadline_s)
        epoch, sent_at_s = stamps[0]
        self.lease.confirm(epoch, sent_at_s)
        return answer, epoch

    def create(
        self, path: str, content: bytes, *, ephemeral: bool = False, deadline_s: float | None = None
    ) -> tuple[Any, int]:
        """Make a node, and where they are missing the nodes above it. Its stat and the epoch it was
        made in; the client's errors as in ``call``.

        One request makes it, never a chain of them: what is asked after a lost answer is answered
        after the request was carried out, if it ever is.
        """

        def send(client: KazooClient) -> Any:
            return client.create_async(path, content, ephemeral=ephemeral, include_data=True)

        try:
            (_, stat), epoch = self.stamped(send, deadline_s)
        except NoNodeError:
            parent = path.rpartition("/")[0]
            self.repeat(lambda client: client.ensure_path_async(parent))
            (_, stat), epoch = self.stamped(send, deadline_s)
        return stat, epoch

    def repeat(self, send: Callable[[KazooClient], Any]) -> Any:
        """Like ``call``, for what may be done twice: tried again until its time is over."""
        deadline_s = self.deadline_s()
        while True:
            try:
                return self.call(send, deadline_s)
            except INTERRUPTIONS as error:
                if isinstance(error, ConnectionClosedError) or seconds() >= deadline_s:
                    raise

    def deadline_s(self) -> float:
        """When a request that begins now must be done."""
        return seconds() + self._request_timeout_s

    def require_open(self) -> None:
        if self.closed:
            raise Unavailable("The coordination was closed", place=self.place)

    def close(self) -> None:
        """End the session, and with it all that lives only as long. Bounded by ``CLOSE_S_MAX``:
        a server that does not answer ends it by itself. Harmless when called twice.
        """
        with self._lock:
            if self.closed:
                return
            self.closed = True
            client, self._client = self._client, None
        self.lease.interrupt()
        self._connected.set()  # whoever waits for a connection need not any more
        if client is not None:
            stopping = threading.Thread(
                target=_stop, args=(client,), name="zookeeper-stop", daemon=True
            )
            stopping.start()
            stopping.join(CLOSE_S_MAX)

    def _open(self) -> KazooClient:
        with self._lock:
            if self.closed:
                raise ConnectionClosedError("closed")
            if self._client is None:
                client = KazooClient(
                    hosts=self._servers,
                    timeout=self._session_timeout_s,
                    # By default waits grow to a minute: usable long after the server is.
                    connection_retry=KazooRetry(max_tries=-1, max_delay=RECONNECT_WAIT_S_MAX),
                    command_retry=KazooRetry(max_tries=1),
                    logger=_client_log,
                )
                client.add_listener(lambda state: self._on_state(client, state))
                self._listen_to_grants(client)
                self._client = client
                client.start_async()
            return self._client

    def _listen_to_grants(self, client: KazooClient) -> None:
        """The client keeps to itself how long a session it was granted. What connects it, private
        in its version 2.11, gives its read timeout, two thirds of that, and its connect timeout, in
        ms; in the thread that reads all later answers, before any.
        """
        connect = client._connection._connect

        def _connect(*where: Any) -> Any:
            read_ms, connect_ms = connect(*where)
            self._on_grant(read_ms * 1.5 / 1000)
            return read_ms, connect_ms

        client._connection._connect = _connect

    def _on_grant(self, granted_s: float) -> None:
        self.lease.grant(granted_s)
        before_s, self._granted_s = self._granted_s, granted_s
        asked_s = self._session_timeout_s
        if _differ(granted_s, asked_s) and _differ(granted_s, before_s):
            _log.warning(
                "%s gives sessions of %g s, not %g s: set PAYTM_LAB_ZOOKEEPER_SESSION_S within its"
                " minSessionTimeout and maxSessionTimeout",
                self.place,
                granted_s,
                asked_s,
            )

    def _on_state(self, client: KazooClient, state: str) -> None:
        """Runs in the client's own thread, which must not wait."""
        if client is not self._client:
            return
        if state == KazooState.CONNECTED:
            self._connected.set()
            if self._told:
                _log.warning("%s is back", self.place)
            self._told = False
        else:
            # SUSPENDED already: that a session was lost is heard only from a server that is back.
            self._connected.clear()
            self.lease.interrupt()
            if not self._told:
                _log.warning("%s is away", self.place)
            self._told = True
        for call in self.on_change:
            call()

    def _after_fork(self) -> None:
        """In a forked child: the session is the parent's. The next use opens another."""
        self.lease.after_fork()
        self._lock = threading.Lock()
        self._client = None
        self._connected = threading.Event()
        for call in self.on_fork:
            call()


def _differ(one_s: float, other_s: float) -> bool:
    """The client asks in whole milliseconds."""
    return abs(one_s - other_s) > 0.002


def _stop(client: KazooClient) -> None:
    try:
        client.stop()
        client.close()
    except Exception:  # it goes either way
        _log.debug("a ZooKeeper client stopped badly", exc_info=True)


def _after_fork_in_child() -> None:
    for session in list(_live):
        session._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
