"""What lives as long as a session: leaderships and registrations, and the thread that keeps them.

A node of ours begins with a tag of its own, a line of random hex: so that we know our node from
another's after a request whose answer was lost.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from paytm_lab.backends.servers.zookeeper_errors import INTERRUPTIONS, translated
from paytm_lab.backends.servers.zookeeper_session import NotSent, Session
from paytm_lab.core.errors import Conflict

_HEARTBEATS = 6  # in the time of a session
_INTERVAL_S_MAX = 1.0  # a node that somebody deleted is missed so soon, a left one removed
_log = logging.getLogger(__name__)


def new_tag() -> bytes:
    return secrets.token_hex(8).encode()


def tagged(tag: bytes, body: bytes) -> bytes:
    return tag + b"\n" + body


def untagged(content: bytes) -> tuple[bytes, bytes]:
    """The tag and the body of a node."""
    tag, _, body = content.partition(b"\n")
    return tag, body


class _Kept(Protocol):
    path: str

    def look(self) -> bool:
        """See to it; False when it has ended."""

    def forget(self) -> None:
        """It has ended, without a word to the server."""


class ZooKeeperLeadership:
    """Held while its ephemeral node is surely there: it ends at the first interruption of the
    connection, and when the server has not answered for most of the session's time.
    """

    def __init__(self, keeper: Keeper, path: str, tag: bytes, epoch: int, owner: int) -> None:
        self.path = path
        self._keeper = keeper
        self._tag = tag
        self._epoch = epoch
        self._owner = owner
        self._over = False

    def held(self) -> bool:
        if not self._over and not self._keeper.session.lease.sure(self._epoch):
            self._over = True
            self._keeper.abandon(self.path, self._tag)
        return not self._over

    def release(self) -> None:
        if self._over or not self.held():
            return
        self._over = True
        self._keeper.remove(self.path, self._tag, surely_ours=True)

    def look(self) -> bool:
        """Ask for the node: the answer prolongs the lease, or ends what is no longer there."""
        if not self.held():
            return False
        stat, _ = self._keeper.session.stamped(lambda client: client.exists_async(self.path))
        if stat is None or stat.ephemeralOwner != self._owner:  # deleted: another may lead
            self._over = True
        return self.held()

    def forget(self) -> None:
        self._over = True


class Registration:
    """An instance's ephemeral node, made again after a lost session."""

    def __init__(self, keeper: Keeper, path: str, tag: bytes, address: bytes, epoch: int) -> None:
        self.path = path
        self._keeper = keeper
        self._tag = tag
        self._content = tagged(tag, address)
        self._epoch = epoch
        self._over = False
        self._taken = False

    def end(self) -> None:
        if self._over:
            return
        self._over = True
        self._keeper.remove(self.path, self._tag)

    def look(self) -> bool:
        if not self._over and self._epoch != self._keeper.session.lease.epoch:
            self._renew()
        return not self._over

    def forget(self) -> None:
        self._over = True

    def _renew(self) -> None:
        session = self._keeper.session
        try:
            _, epoch = session.create(self.path, self._content, ephemeral=True)
        except NodeExistsError:
            content, stat = session.call(lambda client: client.get_async(self.path))
            if untagged(content)[0] != self._tag:
                if not self._taken:
                    _log.warning("another instance took the name of %s", self.path)
                self._taken = True
                return
            # Ours, but it may end with a session that is over: replaced in one step by one of
            # this session, so that nobody sees the instance missing.
            _, epoch = session.stamped(
                lambda client: _Replacing(client, self.path, self._content, stat.version)
            )
        self._epoch = epoch
        self._taken = False
        if self._over:  # ended meanwhile
            self._keeper.abandon(self.path, self._tag)


class _Replacing:
    """One ephemeral node takes another's place in one step. A transaction's answer lists its errors
    instead of raising them.
    """

    def __init__(self, client: KazooClient, path: str, content: bytes, version: int) -> None:
        transaction = client.transaction()
        transaction.delete(path, version=version)
        transaction.create(path, content, ephemeral=True)
        self._answer = transaction.commit_async()

    def get(self, timeout: float) -> None:
        for part in self._answer.get(timeout=timeout):
            if isinstance(part, Exception):
                raise part


class Keeper:
    """Its thread runs from the first node to ``close``: sends heartbeats for leaderships, makes
    registrations again and removes what was left behind when the connection broke.
    """

    _lock: threading.Lock
    _wake: threading.Event
    _thread: threading.Thread | None
    _kept: list[_Kept]
    _leftovers: dict[bytes, str]
    _closed: bool

    def __init__(self, session: Session) -> None:
        self.session = session
        self._reset()
        session.on_change.append(lambda: self._wake.set())
        session.on_fork.append(self._after_fork)

    @property
    def _interval_s(self) -> float:
        return min(self.session.lease.timeout_s / _HEARTBEATS, _INTERVAL_S_MAX)

    def lead(self, path: str) -> ZooKeeperLeadership | None:
        """Make the leader's node; None when there is one."""
        made = self._create(path, tag := new_tag(), b"")
        if made is None:
            return None
        owner, epoch = made
        leadership = ZooKeeperLeadership(self, path, tag, epoch, owner)
        self._keep(leadership)
        return leadership

    def register(self, path: str, address: str) -> Registration:
        """Make an instance's node; Conflict when there is one."""
        made = self._create(path, tag := new_tag(), address.encode())
        if made is None:
            raise Conflict(
                "An instance of this name is registered already",
                place=path,
                remedy="Choose another name; a dead instance's is free once its session ends.",
            )
        registration = Registration(self, path, tag, address.encode(), made[1])
        self._keep(registration)
        return registration

    def abandon(self, path: str, tag: bytes) -> None:
        """There may be a node of ours that must go: the thread removes it when it can."""
        with self._lock:
            self._leftovers[tag] = path
        self._start()

    def remove(self, path: str, tag: bytes, *, surely_ours: bool = False) -> None:
        """Remove a node of ours: now, or soon after ZooKeeper answers again."""
        try:
            if not self.session.connected or self.session.closed:
                raise NotSent("no connection")
            self._remove(path, tag, surely_ours=surely_ours)
        except (KazooException, KazooTimeoutError):
            self.abandon(path, tag)

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._interval_s)

    def _create(self, path: str, tag: bytes, body: bytes) -> tuple[int, int] | None:
        """The owning session and the epoch of a new ephemeral node; None when there is one."""
        with translated(path):
            self._remove_own(path)
            try:
                stat, epoch = self.session.create(path, tagged(tag, body), ephemeral=True)
            except NodeExistsError:
                return None
            except NotSent:
                raise
            except INTERRUPTIONS:
                self.abandon(path, tag)  # it may have been made
                raise
        return stat.ephemeralOwner, epoch

    def _remove_own(self, path: str) -> None:
        """Remove what an earlier holder of ours, which holds no more, has left at ``path``."""
        for kept in self._all():
            if isinstance(kept, ZooKeeperLeadership) and kept.path == path:
                kept.held()
        with self._lock:
            tags = [tag for tag, left in self._leftovers.items() if left == path]
        for tag in tags:
            self._remove(path, tag)

    def _remove(self, path: str, tag: bytes, *, surely_ours: bool = False) -> None:
        epoch, version = self.session.lease.epoch, -1
        try:
            if not surely_ours:
                content, stat = self.session.call(lambda client: client.get_async(path))
                if untagged(content)[0] != tag:
                    raise NoNodeError
                version = stat.version
            if epoch != self.session.lease.epoch:  # what was ours may be another's by now
                raise NotSent("interrupted")
            self.session.call(lambda client: client.delete_async(path, version))
        except (NoNodeError, BadVersionError):
            pass
        with self._lock:
            self._leftovers.pop(tag, None)

    def _keep(self, kept: _Kept) -> None:
        with self._lock:
            self._kept.append(kept)
        self._start()

    def _all(self) -> list[_Kept]:
        with self._lock:
            return list(self._kept)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="zookeeper-keeper", daemon=True
                )
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._step()
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def _step(self) -> None:
        for kept in self._all():
            if not self._try(kept.look):
                with self._lock:
                    self._kept.remove(kept)
        with self._lock:
            leftovers = list(self._leftovers.items())
        for tag, path in leftovers:
            self._try(partial(self._remove, path, tag))

    def _try(self, act: Callable[[], bool | None]) -> bool:
        """False only when ``act`` says so: what fails is done again in the next step."""
        if not self.session.connected:
            return True
        try:
            return act() is not False
        except (KazooException, KazooTimeoutError):
            return True
        except Exception:  # the thread must go on for the others
            _log.exception("keeping a node in ZooKeeper failed")
            return True

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        self._kept = []
        self._leftovers = {}
        self._closed = False

    def _after_fork(self) -> None:
        """In a forked child: the parent leads and lives, not the child."""
        for kept in self._kept:
            kept.forget()
        closed = self._closed
        self._reset()
        self._closed = closed
