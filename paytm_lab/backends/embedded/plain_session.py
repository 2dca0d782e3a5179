"""A ``ports.plain_session.PlainSession`` on a shard's SQLite file.

SQLite has one writer a file and knows two ways to begin: DEFERRED reads a snapshot and asks for the
file's write lock at its first write, which is refused for good if somebody has written since the
snapshot (SQLITE_BUSY_SNAPSHOT); IMMEDIATE asks for the lock at once.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from paytm_lab.backends.embedded.sqlite_files import translate
from paytm_lab.core import errors

LEVELS = ("autocommit", "deferred", "immediate", "one statement")
_BEGIN = {"deferred": "BEGIN DEFERRED", "immediate": "BEGIN IMMEDIATE"}


class EmbeddedPlainSession:
    """``level``: one of LEVELS; BadInput for another."""

    def __init__(self, path: Path, place: str, level: str) -> None:
        if level not in LEVELS:
            raise errors.BadInput(
                f"SQLite has no level {level!r}", place=place, remedy=f"Use {', '.join(LEVELS)}."
            )
        self._place = place
        self._begin = _BEGIN.get(level, "")
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        self._connection.execute("PRAGMA busy_timeout=0")

    def read(self, user_id: str) -> int:
        self._start()
        row = self._run("SELECT balance FROM accounts WHERE user_id = ?", (user_id,)).fetchone()
        if row is None:
            raise errors.InvalidUserId(f"user {user_id!r} has no account", place=self._place)
        return int(row[0])

    def write(self, user_id: str, balance_paise: int) -> None:
        self._start()
        self._run("UPDATE accounts SET balance = ? WHERE user_id = ?", (balance_paise, user_id))

    def add(self, user_id: str, amount_paise: int) -> None:
        self._start()
        sql = "UPDATE accounts SET balance = balance + ? WHERE user_id = ?"
        self._run(sql, (amount_paise, user_id))

    def commit(self) -> None:
        if self._connection.in_transaction:
            self._run("COMMIT")

    def close(self) -> None:
        self._connection.close()  # which rolls back

    def _start(self) -> None:
        if self._begin and not self._connection.in_transaction:
            self._run(self._begin)

    def _run(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT":
                self._connection.execute("ROLLBACK")
                raise errors.Deadlock(
                    "somebody has written since this transaction's snapshot", place=self._place
                ) from error
            raise translate(error, self._place) from error
