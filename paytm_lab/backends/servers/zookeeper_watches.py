"""Watching nodes: one thread looks again whenever the server says that something changed, whenever
a connection has come back, and now and then without being told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from paytm_lab.backends.servers.zookeeper_session import Session

LOOK_INTERVAL_S_MAX = 5.0
STOP_S_MAX = 2.0
_log = logging.getLogger(__name__)


class _Watch:
    def __init__(self, path: str, on_change: Callable[[bytes, int], None]) -> None:
        self.path = path
        self.on_change = on_change
        self.seen: tuple[int, int] | None = None


def _mark(stat: Any) -> tuple[int, int]:
    """Which node, and which version of it: a node that was made anew counts from 0 again."""
    return stat.czxid, stat.version


class Watches:
    """Calls back with the content and version of a node, from a thread that runs only while
    somebody watches; a callback may use the session. Versions are ZooKeeper's, from 0.
    """

    _lock: threading.Lock
    _wake: threading.Event
    _watches: list[_Watch]
    _thread: threading.Thread | None

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reset()
        session.on_change.append(lambda: self._wake.set())
        session.on_fork.append(self._reset)

    def add(self, path: str, on_change: Callable[[bytes, int], None]) -> Callable[[], None]:
        """Watch from what is there now; returns what ends the watch. Raises the client's errors."""
        watch = _Watch(path, on_change)
        stat = self._session.repeat(lambda client: client.exists_async(path))
        watch.seen = None if stat is None else _mark(stat)
        with self._lock:
            self._watches = [*self._watches, watch]
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="zookeeper-watch", daemon=True
                )
                self._thread.start()
        self._wake.set()

        def end() -> None:
            with self._lock:
                self._watches = [other for other in self._watches if other is not watch]
            self._wake.set()

        return end

    def close(self) -> None:
        with self._lock:
            self._watches = []
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_S_MAX)

    def _run(self) -> None:
        while True:
            self._wake.wait(LOOK_INTERVAL_S_MAX)
            self._wake.clear()
            with self._lock:
                watches = self._watches
                if not watches:
                    self._thread = None
                    return
            for watch in watches:
                self._look(watch)

    def _look(self, watch: _Watch) -> None:
        if not self._session.connected:  # its coming back wakes us
            return
        try:
            content, stat = self._session.call(self._get(watch.path))
        except NoNodeError:
            self._await_creation(watch)
            return
        except (KazooException, KazooTimeoutError):  # looked at again on reconnecting, or later
            return
        if _mark(stat) == watch.seen or watch not in self._watches:
            return
        watch.seen = _mark(stat)
        try:
            watch.on_change(content, stat.version)
        except Exception:  # one watcher's failure must not end the others' watches
            _log.exception("the watcher of %s failed", watch.path)

    def _await_creation(self, watch: _Watch) -> None:
        try:
            stat = self._session.call(
                lambda client: client.exists_async(watch.path, watch=self._on_event)
            )
        except (KazooException, KazooTimeoutError):
            return
        if stat is not None:  # made in between
            self._wake.set()

    def _get(self, path: str) -> Callable[[KazooClient], Any]:
        """Read it, and be told of the next change: the server tells once."""
        return lambda client: client.get_async(path, watch=self._on_event)

    def _on_event(self, _event: object) -> None:
        self._wake.set()

    def _reset(self) -> None:
        """At first; and in a forked child, where the parent's watches are the parent's."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._watches = []
        self._thread = None
