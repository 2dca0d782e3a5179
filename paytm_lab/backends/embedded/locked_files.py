"""Files that are locked, and files that are replaced whole."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paytm_lab.core.errors import (
    LockTimeout,
    MissingPart,
    PaytmLabError,
    StorageFull,
    StoreError,
)

LOCK_WAIT_S_MAX = 10.0
_UNUSABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOENT,
)


def open_file(path: Path, more_flags: int = 0) -> int:
    """A descriptor for reading and writing; the file is made if it is missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | more_flags, 0o644)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take the lock (LOCK_EX or LOCK_SH) at once, or not at all; whether it was taken."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file for a moment. LockTimeout when another keeps it for LOCK_WAIT_S_MAX."""
    descriptor = open_file(path)
    try:
        give_up_at = time.monotonic() + LOCK_WAIT_S_MAX
        while not try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > give_up_at:
                raise LockTimeout(f"Another process keeps {path.name} locked", place=str(path))
            time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Durable and whole: readers, and a machine that comes back, see the old content or the new."""
    prepared = path.with_suffix(".new")
    descriptor = open_file(prepared, os.O_TRUNC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    prepared.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def same_file(path: Path, descriptor: int) -> bool:
    """Whether ``path`` still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def translated(place: Path) -> Iterator[None]:
    """Errors of files leave as StorageFull, MissingPart or StoreError that name ``place``."""
    try:
        yield
    except OSError as error:
        raise _translate(error, place) from error


def _translate(error: OSError, place: Path) -> PaytmLabError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(
            f"No space left: {reason}", place=str(place), remedy="Free disk space and repeat."
        )
    if error.errno in _UNUSABLE:
        return MissingPart(
            f"The data folder cannot be used: {reason}",
            place=str(place),
            remedy="Make it writable, or choose another with --data.",
        )
    return StoreError(f"The data folder failed: {reason}", place=str(place))
