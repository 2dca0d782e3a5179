"""Coordination on one machine: locked files under one folder.

A lock here is ``flock``: it belongs to an open file, so that it excludes two objects of one process
as well as two processes, and the kernel drops it when the process dies, however it dies.

    locks/NAME.lock               leadership: locked while somebody leads; never deleted
    documents/NAME.doc            first line the version, then the body; replaced by rename
    documents/NAME.lock           held for the moment of a replacement
    services/SERVICE/NAME.live    a registration: the address; locked while the instance lives
    services/SERVICE/.lock        held for the moment of a registration
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

from paytm_lab.backends.embedded.locked_files import (
    LOCK_WAIT_S_MAX,
    locked,
    open_file,
    replace_file,
    same_file,
    sync_folder,
    translated,
    try_lock,
)
from paytm_lab.core.errors import BadInput, Conflict, MissingPart, StorageCorrupt, Unavailable

POLL_INTERVAL_MS = 50
_log = logging.getLogger(__name__)
_live: weakref.WeakSet[EmbeddedCoordination] = weakref.WeakSet()


class EmbeddedLeadership:
    """Held while its file stays locked and in place."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = True
        self._closing = threading.Lock()

    def held(self) -> bool:
        with self._closing:
            # A deleted lock file no longer keeps anybody out: another leader may hold a new one.
            if self._held and os.fstat(self._descriptor).st_nlink == 0:
                self._drop()
            return self._held

    def release(self) -> None:
        with self._closing:
            self._drop()

    def _drop(self) -> None:
        if self._held:
            self._held = False
            os.close(self._descriptor)

    def _after_fork(self) -> None:
        self._closing = threading.Lock()
        self._drop()


class _Registration:
    def __init__(self, path: Path, descriptor: int, turn: Path) -> None:
        self._path = path
        self._descriptor = descriptor
        self._turn = turn
        self._open = True

    def end(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            with translated(self._path), locked(self._turn):
                if same_file(self._path, self._descriptor):
                    self._path.unlink()
        except MissingPart:  # the folder is gone, and the registration with it
            pass
        finally:
            os.close(self._descriptor)

    def _after_fork(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


class _Watch:
    def __init__(self, name: str, on_change: Callable[[bytes, int], None], version: int) -> None:
        self.name = name
        self.on_change = on_change
        self.version = version


class EmbeddedCoordination:
    """``folder`` is made if it is missing. Changes of documents are noticed within
    ``poll_interval_ms``, by a thread that runs only while somebody watches.
    """

    def __init__(self, folder: Path, *, poll_interval_ms: int = POLL_INTERVAL_MS) -> None:
        self._folder = Path(folder)
        self._poll_interval_s = poll_interval_ms / 1000
        self._closed = False
        self._lock = threading.Lock()
        self._leaderships: list[EmbeddedLeadership] = []
        self._registrations: list[_Registration] = []
        self._watches: list[_Watch] = []
        self._watcher: threading.Thread | None = None
        self._wake = threading.Event()
        with translated(self._folder):
            for part in ("locks", "documents", "services"):
                (self._folder / part).mkdir(parents=True, exist_ok=True)
            sync_folder(self._folder)
            sync_folder(self._folder.parent)
        _live.add(self)

    def try_lead(self, name: str) -> EmbeddedLeadership | None:
        path = self._folder / "locks" / f"{_file_name(name)}.lock"
        with self._lock, translated(path):
            self._require_open()
            descriptor = open_file(path)
            try:
                free = try_lock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                os.close(descriptor)
                raise
            if not free:
                os.close(descriptor)
                return None
            leadership = EmbeddedLeadership(descriptor)
            self._leaderships = [old for old in self._leaderships if old.held()] + [leadership]
            return leadership

    def read_document(self, name: str) -> tuple[bytes, int] | None:
        self._require_open()
        return _read(self._document(name))

    def write_document(self, name: str, body: bytes, expected_version: int | None) -> int:
        self._require_open()
        path = self._document(name)
        with translated(path), locked(path.with_suffix(".lock")):
            found = _read(path)
            version = None if found is None else found[1]
            if version != expected_version:
                raise Conflict(
                    f"The document {name!r} has version {version}, not {expected_version}",
                    place=str(path),
                    remedy="Read it again and repeat the change.",
                )
            following = (version or 0) + 1
            replace_file(path, b"%d\n%b" % (following, body))
        self._wake.set()
        return following

    def watch_document(
        self, name: str, on_change: Callable[[bytes, int], None]
    ) -> Callable[[], None]:
        with self._lock:
            self._require_open()
            found = _read(self._document(name))
            watch = _Watch(name, on_change, 0 if found is None else found[1])
            self._watches = [*self._watches, watch]
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._watch_loop, name="coordination-watch", daemon=True
                )
                self._watcher.start()

        def end() -> None:
            with self._lock:
                self._watches = [other for other in self._watches if other is not watch]
            self._wake.set()

        return end

    def register(self, service: str, instance: str, address: str) -> Callable[[], None]:
        folder = self._folder / "services" / _file_name(service)
        path = folder / f"{_file_name(instance)}.live"
        turn = folder / ".lock"
        with self._lock, translated(path):
            self._require_open()
            folder.mkdir(exist_ok=True)
            with locked(turn):
                if _address_if_alive(path) is not None:
                    raise Conflict(
                        f"An instance {instance!r} of {service!r} is registered already",
                        place=str(path),
                        remedy="Choose another instance name.",
                    )
                # Locked before it gets its name: nobody ever sees it unlocked or half-written.
                prepared = path.with_suffix(".new")
                descriptor = open_file(prepared, os.O_TRUNC)
                try:
                    if not try_lock(descriptor, fcntl.LOCK_EX):
                        raise Conflict(f"{prepared} is in use", place=str(folder))
                    os.write(descriptor, address.encode())
                    prepared.rename(path)
                except BaseException:
                    os.close(descriptor)
                    raise
            registration = _Registration(path, descriptor, turn)
            self._registrations.append(registration)
        return registration.end

    def instances(self, service: str) -> dict[str, str]:
        self._require_open()
        folder = self._folder / "services" / _file_name(service)
        with translated(folder):
            paths = sorted(folder.glob("*.live"))
            found = {unquote(path.stem): _address_if_alive(path) for path in paths}
        return {instance: address for instance, address in found.items() if address is not None}

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._watches = []
            watcher = self._watcher
        self._wake.set()
        for leadership in self._leaderships:
            leadership.release()
        for registration in self._registrations:
            registration.end()
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join(LOCK_WAIT_S_MAX)

    def _document(self, name: str) -> Path:
        return self._folder / "documents" / f"{_file_name(name)}.doc"

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("The coordination was closed", place=str(self._folder))

    def _watch_loop(self) -> None:
        while True:
            self._wake.wait(self._poll_interval_s)
            self._wake.clear()
            with self._lock:
                watches = self._watches
                if not watches:
                    self._watcher = None
                    return
            for watch in watches:
                self._look(watch)

    def _look(self, watch: _Watch) -> None:
        try:
            found = _read(self._document(watch.name))
            # Versions go back when the folder was replaced by another: that is a change too.
            if found is None or found[1] == watch.version or watch not in self._watches:
                return
            watch.version = found[1]
            watch.on_change(*found)
        except Exception:  # one watcher's failure must not end the others' watches
            _log.exception("watching %r failed", watch.name)

    def _after_fork(self) -> None:
        """In a forked child: the parent leads and lives, not the child, and the child must not keep
        the parent's locks alive. Closing an inherited descriptor leaves the parent's lock as it is.
        """
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._watcher = None
        self._watches = []
        for leadership in self._leaderships:
            leadership._after_fork()
        for registration in self._registrations:
            registration._after_fork()
        self._leaderships, self._registrations = [], []


def _after_fork_in_child() -> None:
    for coordination in list(_live):
        coordination._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _file_name(name: str) -> str:
    if not name:
        raise BadInput("A name is empty", remedy="Give it at least one character.")
    return quote(name, safe="").replace(".", "%2E")


def _read(path: Path) -> tuple[bytes, int] | None:
    with translated(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    version, newline, body = content.partition(b"\n")
    if not newline or not version.isdigit():
        raise StorageCorrupt(
            "A coordination document does not begin with its version",
            place=str(path),
            remedy="Restore the file from a backup of the data folder.",
        )
    return body, int(version)


def _address_if_alive(path: Path) -> str | None:
    """The address in a registration whose process holds its lock; None for any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who look at once do not take each other for the owner.
        if try_lock(descriptor, fcntl.LOCK_SH):
            return None
        return os.read(descriptor, 1 << 16).decode()
    finally:
        os.close(descriptor)
