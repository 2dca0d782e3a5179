"""How the embedded stores open and use their SQLite files (WAL, durable at commit), and what the
errors of SQLite mean to the core.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paytm_lab.core import errors
from paytm_lab.core.errors import MissingPart

BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 4_000  # 16 MB of WAL: fewer, longer copies into the main file
_WAL_ATTEMPTS_MAX = 200


def translate(error: sqlite3.Error, place: str) -> errors.StoreError:
    """A driver error -> the core error that says what it means for the caller."""
    name = getattr(error, "sqlite_errorname", "") or ""
    words = str(error)
    if isinstance(error, sqlite3.IntegrityError) and "UNIQUE" in words:
        return errors.DuplicateKey(words, place=place)
    if name.startswith("SQLITE_BUSY") or name.startswith("SQLITE_LOCKED"):
        return errors.LockTimeout(words, place=place)
    # A quota and a limit on file sizes show as failed writes.
    if name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE") or "disk is full" in words:
        return errors.StorageFull(
            f"no space left to write ({words})", place=place, remedy="Free disk space, then repeat."
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in words:
        return errors.StorageCorrupt(
            words, place=place, remedy="Restore this file from a copy, or replay the event log."
        )
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return errors.ConnectionLost(words, place=place)
    return errors.StoreError(f"{type(error).__name__}: {words}", place=place)


def make_directory(path: Path) -> None:
    """Create the folder where it is missing; MissingPart when that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingPart(
            f"the folder cannot be made: {error.strerror}",
            place=str(path),
            remedy="Give another folder, or the right to write to this one.",
        ) from error


def connect(path: Path) -> sqlite3.Connection:
    """Open (or make) a file in WAL mode with ``synchronous=FULL``. Any thread may use the
    connection, one at a time. Raises core.errors.StoreError.
    """
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=1024
        )
        try:
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            use_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute("PRAGMA cache_size=-16000")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, path.name) from error
    return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """Set the file's WAL mode, also while others do the same."""
    # SQLite does not wait for a lock while it changes the mode, so two first openers can collide.
    for attempt in range(_WAL_ATTEMPTS_MAX):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if attempt == _WAL_ATTEMPTS_MAX - 1:
                raise
            time.sleep(0.01)


@contextmanager
def alone(place: str) -> Iterator[None]:
    """For one statement, which is a transaction by itself. Driver errors are translated."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, place) from error


@contextmanager
def transaction(connection: sqlite3.Connection, place: str) -> Iterator[None]:
    """BEGIN IMMEDIATE .. COMMIT; rolled back when the body raises. Driver errors are translated."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise translate(error, place) from error
