"""The writer's transaction on a shard's SQLite file.

Each ``sqlite3`` step gives the interpreter lock away. With four writer threads that makes calls row
by row slow, so the calls here touch SQLite once for many rows: multi-row VALUES on the way in
(chunks of fixed sizes keep the prepared statements cached), one JSON array on the way out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from paytm_lab.backends.embedded.sqlite_files import translate
from paytm_lab.core import errors
from paytm_lab.ports.shard_database import AccountRow, HoldRow, PaymentRow, ShardMeta

# Powers of two: any number of rows takes few statements (each gives the interpreter lock away and
# has to win it back), and few statement texts exist, so each stays prepared.
_CHUNKS = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
_PAYMENT_COLUMNS = ", ".join(PaymentRow._fields)
_decode_accounts = msgspec.json.Decoder(list[AccountRow]).decode


class EmbeddedTransaction:
    """A ``ports.shard_database.ShardTransaction``. BEGIN IMMEDIATE makes it the file's only writer,
    so its reads are locked reads.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        place: str,
        insert_columns: Mapping[str, Sequence[str]],
    ) -> None:
        self._connection = connection
        self._place = place
        self._columns = insert_columns

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise translate(error, self._place) from error

    def meta(self) -> ShardMeta:
        row = self._run(
            "SELECT stamp, map_version, owned_slots FROM shard_meta WHERE id = 1"
        ).fetchone()
        if row is None:
            raise errors.StorageCorrupt("shard_meta has no row", place=self._place)
        return ShardMeta(*row)

    def lock_accounts(self, user_ids: Sequence[str]) -> list[AccountRow]:
        # create_key is a blob, which JSON cannot carry; hex text can.
        (body,) = self._run(
            "SELECT json_group_array(json_array(id, user_id, balance, held, currency, state, slot,"
            " opening, CASE WHEN create_key IS NOT NULL THEN lower(hex(create_key)) END))"
            " FROM accounts WHERE user_id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(user_ids).decode(),),
        ).fetchone()
        return _decode_accounts(body)

    def find_payments(self, payment_ids: Sequence[bytes]) -> list[PaymentRow]:
        return self._find_rows("transaction_id", payment_ids)

    def find_keys(self, key_hashes: Sequence[bytes]) -> list[PaymentRow]:
        return self._find_rows("key_hash", key_hashes)

    def _find_rows(self, column: str, values: Sequence[bytes]) -> list[PaymentRow]:
        found: list[PaymentRow] = []
        for part in _padded(values):
            marks = ",".join("?" * len(part))
            sql = f"SELECT {_PAYMENT_COLUMNS} FROM transactions WHERE {column} IN ({marks})"
            found.extend(PaymentRow(*row) for row in self._run(sql, part))
        return found

    def find_holds(self, payment_ids: Sequence[bytes]) -> list[HoldRow]:
        found: list[HoldRow] = []
        for part in _padded(payment_ids):
            sql = (
                "SELECT payment_id, account_id, amount, captured, state, expires_at FROM holds"
                f" WHERE payment_id IN ({','.join('?' * len(part))})"
            )
            found.extend(HoldRow(*row) for row in self._run(sql, part))
        return found

    def find_reviews(self, payment_ids: Sequence[bytes]) -> list[tuple[bytes, str]]:
        found: list[tuple[bytes, str]] = []
        for part in _padded(payment_ids):
            marks = ",".join("?" * len(part))
            sql = f"SELECT payment_id, state FROM reviews WHERE payment_id IN ({marks})"
            found.extend((row[0], row[1]) for row in self._run(sql, part))
        return found

    def applied_events(self, event_ids: Sequence[str]) -> set[str]:
        rows = self._run(
            "SELECT event_id FROM applied_events"
            " WHERE event_id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(event_ids).decode(),),
        )
        return {row[0] for row in rows}

    def open_payments_of(self, user_id: str) -> int:
        row = self._run(
            "SELECT count(*) FROM transactions WHERE open_since IS NOT NULL AND from_user_id = ?"
            " AND role <> 'destination'",
            (user_id,),
        ).fetchone()
        return int(row[0])

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = self._columns[table]
        done = 0
        for size in _CHUNKS:
            while len(rows) - done >= size:
                sql = _insert_sql(table, columns, size)
                self._run(sql, list(chain.from_iterable(rows[done : done + size])))
                done += size

    def update(
        self,
        table: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> int:
        done = changed = 0
        for size in _CHUNKS:
            while len(rows) - done >= size:
                sql = _update_sql(table, tuple(key), tuple(columns), size)
                cursor = self._run(sql, list(chain.from_iterable(rows[done : done + size])))
                changed += cursor.rowcount
                done += size
        return changed

    def complete_sources(self, payment_ids: Sequence[bytes], updated_at: int) -> int:
        changed = 0
        for part in _padded(payment_ids):
            sql = (
                "UPDATE transactions SET status = 'COMPLETED', open_since = NULL, updated_at = ?"
                f" WHERE transaction_id IN ({','.join('?' * len(part))})"
                " AND role = 'source' AND status = 'PENDING'"
            )
            changed += self._run(sql, [updated_at, *part]).rowcount
        return changed

    def defer(self) -> None:
        """Statements on a file have no round trips to save: each runs when it is called."""

    def commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            found = translate(error, self._place)
            if getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_FSYNC":
                # The commit's frames may be in the file, and count once it is opened anew.
                found = errors.CommitOutcomeLost(str(error), place=self._place)
            # Of all others SQLite says for sure that it did not commit.
            raise found from error

    def rollback(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return  # the connection is beyond use; the file's own recovery undoes the rest


_sql_cache: dict[tuple[Any, ...], str] = {}


def _insert_sql(table: str, columns: Sequence[str], size: int) -> str:
    sql = _sql_cache.get((table, size))
    if sql is None:
        one = f"({','.join('?' * len(columns))})"
        names = ", ".join(columns)
        sql = f"INSERT INTO {table} ({names}) VALUES {','.join([one] * size)}"
        _sql_cache[table, size] = sql
    return sql


def _update_sql(table: str, key: tuple[str, ...], columns: tuple[str, ...], size: int) -> str:
    sql = _sql_cache.get((table, key, columns, size))
    if sql is None:
        one = f"({','.join('?' * (len(key) + len(columns)))})"
        match = " AND ".join(f"{table}.{name} = v.column{i + 1}" for i, name in enumerate(key))
        sets = ", ".join(f"{name} = v.column{i + 1 + len(key)}" for i, name in enumerate(columns))
        sql = f"UPDATE {table} SET {sets} FROM (VALUES {','.join([one] * size)}) AS v WHERE {match}"
        _sql_cache[table, key, columns, size] = sql
    return sql


def _padded(values: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Parts whose lengths are powers of two up to 256 (the last value repeated), so few texts of
    statements exist and each stays prepared.
    """
    for start in range(0, len(values), 256):
        part = list(values[start : start + 256])
        yield part + [part[-1]] * ((1 << (len(part) - 1).bit_length()) - len(part))
