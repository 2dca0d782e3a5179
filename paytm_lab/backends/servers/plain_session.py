"""A ``ports.plain_session.PlainSession`` on a shard's MySQL server.

Locks are asked for by NOWAIT, so that one thread can play several clients: it locks what the
statement after it locks, and answers at once instead of waiting.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pymysql
from pymysql import err

from paytm_lab.backends.servers import mysql_errors
from paytm_lab.backends.servers.mysql_server import (
    WRITE_TIMEOUT_S,
    MySqlServer,
    connect_arguments,
)
from paytm_lab.core import errors

_ISOLATION = {
    "autocommit": "REPEATABLE-READ",
    "read committed": "READ-COMMITTED",
    "repeatable read": "REPEATABLE-READ",
    "serializable": "SERIALIZABLE",
    "repeatable read, FOR UPDATE": "REPEATABLE-READ",
    "one statement": "REPEATABLE-READ",
}
LEVELS = tuple(_ISOLATION)
_READ_LOCK = {
    "repeatable read, FOR UPDATE": "FOR UPDATE NOWAIT",
    "serializable": "FOR SHARE NOWAIT",
}
_BALANCE = "SELECT balance FROM accounts WHERE user_id = %s"


class MySqlPlainSession:
    """``level``: one of LEVELS; BadInput for another. core.errors where the server is away."""

    def __init__(self, server: MySqlServer, place: str, level: str) -> None:
        if level not in LEVELS:
            raise errors.BadInput(
                f"MySQL has no level {level!r}", place=place, remedy=f"Use {', '.join(LEVELS)}."
            )
        self._place = place
        self._read = f"{_BALANCE} {_READ_LOCK.get(level, '')}"
        self._alone = level in ("autocommit", "one statement")
        arguments = connect_arguments(server, _ISOLATION[level], WRITE_TIMEOUT_S)
        try:
            self._connection = pymysql.connect(**arguments | {"autocommit": self._alone})
            if self._alone:  # the session's first command has turned it off
                self._connection.autocommit(True)
        except err.Error as error:
            raise mysql_errors.translate(error, place) from error

    def read(self, user_id: str) -> int:
        row = self._run(self._read, (user_id,))
        if row is None:
            raise errors.InvalidUserId(f"user {user_id!r} has no account", place=self._place)
        return int(row[0])

    def write(self, user_id: str, balance_paise: int) -> None:
        self._lock(user_id)
        self._run("UPDATE accounts SET balance = %s WHERE user_id = %s", (balance_paise, user_id))

    def add(self, user_id: str, amount_paise: int) -> None:
        self._lock(user_id)
        sql = "UPDATE accounts SET balance = balance + %s WHERE user_id = %s"
        self._run(sql, (amount_paise, user_id))

    def commit(self) -> None:
        try:
            self._connection.commit()
        except err.Error as error:
            raise mysql_errors.translate(error, self._place) from error

    def close(self) -> None:
        if self._connection.open:
            with suppress(err.Error):  # the server is away, and has rolled back
                self._connection.rollback()
            self._connection.close()

    def _lock(self, user_id: str) -> None:
        self._run(f"{_BALANCE} FOR UPDATE NOWAIT", (user_id,))

    def _run(self, sql: str, parameters: tuple[Any, ...]) -> Any:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchone()
        except err.Error as error:
            found = mysql_errors.translate(error, self._place)
            if isinstance(found, errors.Deadlock):
                self._connection.rollback()
            raise found from error
