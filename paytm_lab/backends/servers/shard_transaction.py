"""The writer's transaction on a shard's MySQL server: READ COMMITTED, row locks.

A round trip costs as much CPU as ten rows do, so a transaction makes few: nothing opens it, the
meta row comes with the locked accounts, each table takes one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from pymysql import err
from sqlalchemy import PoolProxiedConnection

from paytm_lab.backends.servers import mysql_errors
from paytm_lab.backends.servers.mysql_server import IN_USE
from paytm_lab.backends.servers.mysql_text import (
    ROWS_A_STATEMENT,
    Statements,
    binaries,
    text,
    texts,
)
from paytm_lab.core import errors
from paytm_lab.ports.shard_database import AccountRow, HoldRow, PaymentRow, ShardMeta

_PAYMENT_COLUMNS = ", ".join(PaymentRow._fields)
_META_COLUMNS = "stamp, map_version, owned_slots"
_META_ROW = "FROM shard_meta WHERE id = 1 FOR SHARE"
_META = f"SELECT {_META_COLUMNS} {_META_ROW}"
# One text for all rows: the driver spends more on a row's columns than the server on this.
_ACCOUNTS = (
    "SELECT GROUP_CONCAT('[', id, ',', JSON_QUOTE(user_id), ',', balance, ',', held, ',\"',"
    # A column of ASCII among the parts would make the whole text ASCII.
    " CONVERT(currency USING utf8mb4), '\",\"', CONVERT(state USING utf8mb4), '\",', slot,"
    " ',', opening, ',',"
    " IFNULL(CONCAT('\"', LOWER(HEX(create_key)), '\"'), 'null'), ']')"
    # The index is read in its own order, and the rows are locked in it.
    " FROM accounts FORCE INDEX (user_id) WHERE user_id IN ("
)
MESSAGE_BYTES_MAX = 4 * 2**20
_decode_accounts = msgspec.json.Decoder(list[AccountRow]).decode


class MySqlTransaction:
    """A ``ports.shard_database.ShardTransaction`` on a connection of the writers' pool, which it
    gives back when it ends. ``lost`` is called when the server has gone away.
    """

    def __init__(
        self,
        connection: PoolProxiedConnection,
        place: str,
        statements: Statements,
        lost: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._place = place
        self._statements = statements
        self._lost = lost
        self._meta: ShardMeta | None = None
        self._begun = False
        self._commit_sent = False  # it is part of the message whose answers are read
        self._commit_asked = False  # and its own answer is the next
        self._deferring = False
        self._deferred: list[str] = []
        self._deferred_bytes = 0
        self.ended = False

    def _run(self, sql: str) -> Any:
        """The driver's cursor after the statement; core errors."""
        if self.ended:
            raise errors.StoreError("the transaction has ended", place=self._place)
        if not self._begun:
            self._begun = self._connection.info[IN_USE] = True
        try:
            self._cursor.execute(sql)
        except err.Error as error:
            raise self._failed(error) from error
        return self._cursor

    def _failed(self, error: err.Error) -> errors.PaytmLabError:
        if mysql_errors.is_lost(error):
            self._drop()
        if self._commit_asked or (self._commit_sent and mysql_errors.is_lost(error)):
            return mysql_errors.translate_commit(error, self._place)
        return mysql_errors.translate(error, self._place)

    def _drop(self) -> None:
        """Never give a broken connection back."""
        if not self.ended:
            self.ended = True
            self._connection.invalidate()
            self._connection.close()
            self._lost()

    def meta(self) -> ShardMeta:
        if self._meta is None:
            self._meta = self._meta_of(self._run(_META).fetchone())
        return self._meta

    def _meta_of(self, row: Any) -> ShardMeta:
        if row is None:
            raise errors.StorageCorrupt("shard_meta has no row", place=self._place)
        return ShardMeta(*row)

    def lock_accounts(self, user_ids: Sequence[str]) -> list[AccountRow]:
        found: list[AccountRow] = []
        for part in _parts(sorted(user_ids)):
            sql = f"{_ACCOUNTS}{texts(part)}) FOR UPDATE"
            if self._meta is None:
                # One statement: the server parses, opens and answers once.
                row = self._run(f"SELECT {_META_COLUMNS}, ({sql}) {_META_ROW}").fetchone()
                self._meta = self._meta_of(row and row[:-1])
                body = row[-1]
            else:
                (body,) = self._run(sql).fetchone()
            if body is not None:
                found.extend(_decode_accounts(f"[{body}]"))
        return found

    def _next_result(self, cursor: Any) -> None:
        try:
            cursor.nextset()
        except err.Error as error:
            raise self._failed(error) from error

    def find_payments(self, payment_ids: Sequence[bytes]) -> list[PaymentRow]:
        return self._find_rows("transaction_id", "transactions_by_id", payment_ids)

    def find_keys(self, key_hashes: Sequence[bytes]) -> list[PaymentRow]:
        return self._find_rows("key_hash", "transactions_by_key", key_hashes)

    def _find_rows(self, column: str, index: str, values: Sequence[bytes]) -> list[PaymentRow]:
        found: list[PaymentRow] = []
        for part in _parts(values):
            cursor = self._run(
                f"SELECT {_PAYMENT_COLUMNS} FROM transactions FORCE INDEX ({index})"
                f" WHERE {column} IN ({binaries(part)})"
            )
            found.extend(PaymentRow(*row) for row in cursor.fetchall())
        return found

    def find_holds(self, payment_ids: Sequence[bytes]) -> list[HoldRow]:
        found: list[HoldRow] = []
        for part in _parts(payment_ids):
            cursor = self._run(
                "SELECT payment_id, account_id, amount, captured, state, expires_at FROM holds"
                f" FORCE INDEX (PRIMARY) WHERE payment_id IN ({binaries(part)})"
            )
            found.extend(HoldRow(*row) for row in cursor.fetchall())
        return found

    def find_reviews(self, payment_ids: Sequence[bytes]) -> list[tuple[bytes, str]]:
        found: list[tuple[bytes, str]] = []
        for part in _parts(payment_ids):
            cursor = self._run(
                "SELECT payment_id, state FROM reviews FORCE INDEX (PRIMARY)"
                f" WHERE payment_id IN ({binaries(part)})"
            )
            found.extend((row[0], row[1]) for row in cursor.fetchall())
        return found

    def applied_events(self, event_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for part in _parts(event_ids):
            cursor = self._run(
                "SELECT event_id FROM applied_events FORCE INDEX (PRIMARY)"
                f" WHERE event_id IN ({texts(part)})"
            )
            found.update(row[0] for row in cursor.fetchall())
        return found

    def open_payments_of(self, user_id: str) -> int:
        cursor = self._run(
            "SELECT COUNT(*) FROM transactions WHERE open_since IS NOT NULL"
            f" AND from_user_id = {text(user_id)} AND role <> 'destination'"
        )
        return int(cursor.fetchone()[0])

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for part in _parts(rows):
            self._write(self._statements.insert(table, part), len(part))

    def update(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> int:
        return sum(
            self._write(self._statements.update(table, key, columns, part), len(part))
            for part in _parts(rows)
        )

    def complete_sources(self, payment_ids: Sequence[bytes], updated_at: int) -> int:
        return sum(
            self._write(
                "UPDATE transactions FORCE INDEX (transactions_by_id)"
                " SET status = 'COMPLETED', open_since = NULL,"
                f" updated_at = {updated_at:d} WHERE transaction_id IN ({binaries(part)})"
                " AND role = 'source' AND status = 'PENDING'",
                len(part),
            )
            for part in _parts(payment_ids)
        )

    def defer(self) -> None:
        self._deferring = True

    def _write(self, sql: str, rows: int) -> int:
        """How many rows it changed; when kept back, how many it names."""
        if not self._deferring:
            return int(self._run(sql).rowcount)
        if self._deferred_bytes + len(sql) > MESSAGE_BYTES_MAX:
            self._send_deferred()
        self._deferred.append(sql)
        self._deferred_bytes += len(sql)
        return rows

    def _send_deferred(self) -> None:
        if self._deferred:
            self._send(self._deferred)
            self._deferred, self._deferred_bytes = [], 0

    def _send(self, statements: Sequence[str]) -> None:
        """All in one message; the server stops at the first that fails."""
        cursor = self._run(";".join(statements))
        for left in range(len(statements) - 1, 0, -1):
            self._commit_asked = self._commit_sent and left == 1
            self._next_result(cursor)

    def commit(self) -> None:
        if self.ended:
            raise errors.ConnectionLost("the transaction has ended before", place=self._place)
        if self._begun or self._deferred:
            self._commit_sent = True
            self._commit_asked = not self._deferred
            try:
                self._send([*self._deferred, "COMMIT"])
            except errors.PaytmLabError:
                self.rollback()
                raise
        self._give_back()

    def rollback(self) -> None:
        if self.ended:
            return
        self._deferred = []
        if self._begun:
            try:
                self._cursor.execute("ROLLBACK")
            except Exception:  # whatever it was: the server rolls back what is cut off
                self._drop()
                return
        self._give_back()

    def _give_back(self) -> None:
        self.ended = True
        self._connection.info.pop(IN_USE, None)
        self._connection.close()


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    if len(values) <= ROWS_A_STATEMENT:
        if values:
            yield values
        return
    for start in range(0, len(values), ROWS_A_STATEMENT):
        yield values[start : start + ROWS_A_STATEMENT]
