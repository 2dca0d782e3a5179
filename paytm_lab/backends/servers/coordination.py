"""Coordination by ZooKeeper.

    CHROOT/locks/NAME                leadership: an ephemeral node
    CHROOT/documents/NAME            a versioned document
    CHROOT/services/SERVICE/NAME     a registration: an ephemeral node with the address

Every node begins with a line that says by which request it was written, so that a request whose
answer was lost is neither done twice nor forgotten. Made at first use, the chroot included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any
from urllib.parse import quote, unquote

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, NotEmptyError

from paytm_lab.backends.servers.zookeeper_errors import INTERRUPTIONS, translated
from paytm_lab.backends.servers.zookeeper_keeper import (
    Keeper,
    ZooKeeperLeadership,
    new_tag,
    tagged,
    untagged,
)
from paytm_lab.backends.servers.zookeeper_session import NotSent, Session, seconds
from paytm_lab.backends.servers.zookeeper_watches import Watches
from paytm_lab.core.errors import BadInput, CommitOutcomeLost, Conflict, InvalidSetting

SESSION_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 5.0
DOCUMENT_BYTES_MAX = 1_000_000  # a ZooKeeper closes the connection on more than 1 MiB - 1
_DROP_TRIES_MAX = 5


class ZooKeeperCoordination:
    """``servers`` as in "host:port,host:port"; ``chroot`` as in "/paytm_lab". A dead leader or
    instance is gone after ``session_timeout_s``, or after what the servers grant. No call takes
    longer than ``request_timeout_s``; while ZooKeeper is away calls raise core.errors.Unavailable
    and nobody leads.
    """

    def __init__(
        self,
        servers: str,
        chroot: str,
        *,
        session_timeout_s: float = SESSION_TIMEOUT_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        if not chroot.startswith("/") or not all(chroot[1:].split("/")):
            raise InvalidSetting(f"{chroot!r} is not a ZooKeeper chroot", remedy="Say /paytm_lab.")
        self._chroot = chroot
        self._session = Session(servers, session_timeout_s, request_timeout_s)
        self._keeper = Keeper(self._session)
        self._watches = Watches(self._session)

    def try_lead(self, name: str) -> ZooKeeperLeadership | None:
        self._session.require_open()
        return self._keeper.lead(self._path("locks", name))

    def read_document(self, name: str) -> tuple[bytes, int] | None:
        self._session.require_open()
        path = self._path("documents", name)
        with self._translated(path):
            found = self._read(path)
        return None if found is None else found[1:]

    def write_document(self, name: str, body: bytes, expected_version: int | None) -> int:
        """As in the port. Raises core.errors.CommitOutcomeLost when the answer was lost and what
        is there now does not tell whether this write took place.
        """
        self._session.require_open()
        path = self._path("documents", name)
        if len(body) > DOCUMENT_BYTES_MAX:
            raise BadInput(
                f"A document of {len(body)} bytes is too large: {DOCUMENT_BYTES_MAX} at most",
                place=path,
            )
        if expected_version is not None and expected_version < 1:
            raise self._conflict(path, expected_version)
        with self._translated(path):
            return self._write(path, body, expected_version)

    def watch_document(
        self, name: str, on_change: Callable[[bytes, int], None]
    ) -> Callable[[], None]:
        self._session.require_open()
        path = self._path("documents", name)
        with self._translated(path):
            return self._watches.add(
                path, lambda content, version: on_change(untagged(content)[1], version + 1)
            )

    def register(self, service: str, instance: str, address: str) -> Callable[[], None]:
        """As in the port. After a lost session the instance is announced again by itself."""
        self._session.require_open()
        path = self._path("services", service, instance)
        return self._keeper.register(path, address).end

    def instances(self, service: str) -> dict[str, str]:
        self._session.require_open()
        folder = self._path("services", service)
        found = {}
        with self._translated(folder):
            for name in sorted(self._children(folder)):
                try:
                    content, _ = self._session.repeat(_get(f"{folder}/{name}"))
                except NoNodeError:  # left meanwhile
                    continue
                found[unquote(name)] = untagged(content)[1].decode()
        return found

    def drop(self) -> None:
        """Remove the chroot and all that is in it, whoever uses it."""
        self._session.require_open()
        with self._translated(self._chroot):
            for attempt in range(_DROP_TRIES_MAX):
                try:
                    self._drop(self._chroot)
                    return
                except NotEmptyError:  # somebody was at work in it
                    if attempt == _DROP_TRIES_MAX - 1:
                        raise

    def close(self) -> None:
        """As in the port; takes a few seconds at most, also while ZooKeeper is away."""
        self._session.close()
        self._watches.close()
        self._keeper.close()

    def _translated(self, path: str) -> AbstractContextManager[None]:
        """Errors name the server too: 'ZooKeeper 127.0.0.1:2181/paytm_lab/documents/shard_map'."""
        return translated(f"{self._session.place}{path}")

    def _path(self, part: str, *names: str) -> str:
        return "/".join((self._chroot, part, *map(_node_name, names)))

    def _read(self, path: str) -> tuple[bytes, bytes, int] | None:
        """Tag, body and version, from 1."""
        try:
            content, stat = self._session.repeat(_get_newest(path))
        except NoNodeError:
            return None
        return *untagged(content), stat.version + 1

    def _write(self, path: str, body: bytes, expected_version: int | None) -> int:
        tag = new_tag()
        content = tagged(tag, body)
        deadline_s = self._session.deadline_s()
        answer_lost = False
        while True:
            try:
                if expected_version is None:
                    self._session.create(path, content, deadline_s=deadline_s)
                    return 1
                stat = self._session.call(
                    lambda client: client.set_async(path, content, expected_version - 1),
                    deadline_s,
                )
                return int(stat.version) + 1
            except (NodeExistsError, BadVersionError, NoNodeError) as error:
                if not answer_lost:
                    raise self._conflict(path, expected_version) from error
                return self._written_earlier(path, tag, expected_version)
            except NotSent:
                if answer_lost:
                    raise self._unknown(path) from None
                raise
            except INTERRUPTIONS as error:
                answer_lost = True
                if seconds() >= deadline_s or self._session.closed:
                    raise self._unknown(path) from error

    def _written_earlier(self, path: str, tag: bytes, expected_version: int | None) -> int:
        """What a repeated write comes to, whose first answer was lost and which is refused."""
        wanted = (expected_version or 0) + 1
        found = self._read(path)
        if found is not None and found[0] == tag:
            return wanted
        if found is not None and found[2] <= wanted:  # ours would have left a later version
            raise self._conflict(path, expected_version)
        raise self._unknown(path)

    @staticmethod
    def _conflict(path: str, expected_version: int | None) -> Conflict:
        return Conflict(
            f"The document's version is not {expected_version}",
            place=path,
            remedy="Read it again and repeat the change.",
        )

    @staticmethod
    def _unknown(path: str) -> CommitOutcomeLost:
        return CommitOutcomeLost(
            "ZooKeeper's answer was lost: the document may have been written",
            place=path,
            remedy="Read it again before another change.",
        )

    def _children(self, path: str) -> list[str]:
        def newest(client: KazooClient) -> Any:
            client.sync_async(path)
            return client.get_children_async(path)

        try:
            return list(self._session.repeat(newest))
        except NoNodeError:
            return []

    def _drop(self, path: str) -> None:
        for name in self._children(path):
            self._drop(f"{path}/{name}")
        with suppress(NoNodeError):
            self._session.repeat(lambda client: client.delete_async(path))


def _node_name(name: str) -> str:
    """Any name as one part of a path: ZooKeeper allows no "/", ".", ".." and control characters."""
    if not name:
        raise BadInput("A name is empty", remedy="Give it at least one character.")
    return quote(name, safe="").replace(".", "%2E")


def _get(path: str) -> Callable[[KazooClient], Any]:
    return lambda client: client.get_async(path)


def _get_newest(path: str) -> Callable[[KazooClient], Any]:
    """Of several servers one may lag behind: it catches up before it answers."""

    def send(client: KazooClient) -> Any:
        client.sync_async(path)
        return client.get_async(path)

    return send
