"""One shard as one SQLite file: WAL, ``synchronous=FULL`` (a commit is on disk when it returns).

The writer's transaction is in ``shard_transaction``; here are the file, its connections, readers
and the outbox.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, MetaData, Table, create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from paytm_lab.backends.compiled import KEPT_TOGETHER, Alike
from paytm_lab.backends.embedded.plain_session import EmbeddedPlainSession
from paytm_lab.backends.embedded.shard_transaction import EmbeddedTransaction
from paytm_lab.backends.embedded.sqlite_files import (
    CHECKPOINT_PAGES,
    make_directory,
    translate,
    use_wal,
)
from paytm_lab.backends.schema_changes import changes
from paytm_lab.core import errors
from paytm_lab.ports.shard_database import OutboxRow, ShardMeta

_decode_rows = msgspec.json.Decoder(list[list[Any]]).decode
BUSY_TIMEOUT_MS = 10_000
# Ids grow and rows are deleted from the low end, so the span of ids is the count, a few rows off at
# most when batches of two processes interleave; counting 100,000 rows on every batch would not do.
_OUTBOX_SPAN = (
    "SELECT coalesce((SELECT id FROM outbox_events ORDER BY id DESC LIMIT 1)"
    " - (SELECT id FROM outbox_events ORDER BY id LIMIT 1) + 1, 0)"
)


class AlikeSqlite(Alike, SQLiteDialect_pysqlite):
    supports_statement_cache = True


registry.register("sqlite.alike", __name__, AlikeSqlite.__name__)


class EmbeddedShardDatabase:
    """A ``ports.shard_database.ShardDatabase``. Several threads and processes may use one file."""

    def __init__(
        self,
        path: Path,
        shard_id: int,
        metadata: MetaData,
        insert_columns: Mapping[str, Sequence[str]],
    ) -> None:
        self.shard_id = shard_id
        self.path = path
        self.place = f"shard-{shard_id} ({path.name})"
        self._columns = insert_columns
        self._metadata = metadata
        self._local = threading.local()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._engine = create_engine(
            "sqlite+alike://",
            execution_options=KEPT_TOGETHER,
            creator=lambda: self._connect(query_only=True),
            poolclass=QueuePool,
            pool_size=4,
            max_overflow=12,
            pool_timeout=10,
        )
        event.listen(self._engine, "begin", lambda c: c.exec_driver_sql("BEGIN"))

    def _connect(self, query_only: bool = False) -> sqlite3.Connection:
        if self._closed:
            raise errors.ShardUnavailable("the shard is closed", place=self.place)
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute("PRAGMA cache_size=-16000")
            if query_only:
                connection.execute("PRAGMA query_only=1")
        except BaseException:
            connection.close()
            raise
        return connection

    def _require_file(self) -> None:
        # SQLite would make an empty one.
        if not self.path.exists():
            raise errors.ShardUnavailable(
                "the shard's file is gone", place=self.place, remedy="Put the file back."
            )

    def require_created(self) -> None:
        """StorageCorrupt where ``create`` was never done: what was there is lost."""
        try:
            if self.path.stat().st_size > 0:
                return
            found = "the shard's file is empty"
        except FileNotFoundError:
            found = "the shard's file is missing"
        raise errors.StorageCorrupt(found, place=self.place, remedy="Put the file back.")

    def create(
        self,
        system_accounts: Sequence[tuple[int, str]],
        meta: ShardMeta,
        first_user_id: int,
        now_us: int,
    ) -> None:
        """Create the file's tables and fixed rows where missing. Safe to race, safe to repeat."""
        make_directory(self.path.parent)
        try:
            connection = self._connection()
            use_wal(connection)
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name='shard_meta'").fetchone():
                self._add_columns(connection)
                return
            self._create_tables(connection, system_accounts, meta, first_user_id, now_us)
        except sqlite3.Error as error:
            raise translate(error, self.place) from error

    def _add_columns(self, connection: sqlite3.Connection) -> None:
        """What the schema got since the file was made; rows that are there get its default."""
        if not self._changes(connection):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for change in self._changes(connection):  # another process may have been first
                connection.execute(change)
        finally:
            connection.execute("COMMIT")

    def _changes(self, connection: sqlite3.Connection) -> list[str]:
        there = {
            table.name: {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
            for table in self._metadata.sorted_tables
        }
        return changes(self._metadata, there, self._engine.dialect, self._creation, self.place)

    def _creation(self, table: Table) -> list[str]:
        from sqlalchemy.schema import CreateIndex, CreateTable

        dialect = self._engine.dialect
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made = [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
        return [str(CreateTable(table).compile(dialect=dialect)), *made]

    def _create_tables(
        self,
        connection: sqlite3.Connection,
        system_accounts: Sequence[tuple[int, str]],
        meta: ShardMeta,
        first_user_id: int,
        now_us: int,
    ) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name='shard_meta'").fetchone():
                return
            for table in self._metadata.sorted_tables:
                for statement in self._creation(table):
                    connection.execute(statement)
            connection.executemany(
                "INSERT INTO accounts (id, user_id, balance, held, currency, state, slot, opening,"
                " created_at, updated_at) VALUES (?, ?, 0, 0, 'INR', 'system', -1, 0, ?, ?)",
                [(row_id, user_id, now_us, now_us) for row_id, user_id in system_accounts],
            )
            # A placeholder row moves the automatic ids of users past those of system accounts.
            connection.execute(
                "INSERT INTO accounts (id, user_id, balance, held, currency, state, slot, opening,"
                " created_at, updated_at)"
                " VALUES (?, 'system:first', 0, 0, 'INR', 'system', -1, 0, ?, ?)",
                (first_user_id - 1, now_us, now_us),
            )
            connection.execute(
                "INSERT INTO shard_meta (id, shard_id, stamp, map_version, owned_slots)"
                " VALUES (1, ?, ?, ?, ?)",
                (self.shard_id, *meta),
            )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        """This thread's own connection for writing; kept until ``close``."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._closed:
            connection = self._connect()
            with self._lock:
                self._close_those_of_dead_threads()
                self._connections[threading.current_thread()] = connection
            self._local.connection = connection
        return connection

    def plain_session(self, level: str) -> EmbeddedPlainSession:
        """A client's own connection, to show what levels of isolation do; see its port."""
        self._require_file()
        return EmbeddedPlainSession(self.path, self.place, level)

    def begin(self) -> EmbeddedTransaction:
        return EmbeddedTransaction(self._begin(), self.place, self._columns)

    def _begin(self) -> sqlite3.Connection:
        """This thread's connection, alone with the file. A holder that outlasts the busy timeout is
        no deadlock that a retry would end: the shard counts as away.
        """
        self._require_file()
        try:
            connection = self._connection()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            found = translate(error, self.place)
            if isinstance(found, errors.LockTimeout):
                raise errors.ShardUnavailable(
                    "another process holds the shard's file", place=self.place
                ) from error
            raise found from error
        return connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._require_file()
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise translate(error.orig, self.place) from error
            raise
        except sqlite3.Error as error:
            raise translate(error, self.place) from error

    def read_outbox(self, rows_max: int) -> list[OutboxRow]:
        self._require_file()
        try:
            (body,) = (
                self._connection()
                .execute(
                    "SELECT json_group_array(json_array(id, event_id, event_type, aggregate_id,"
                    " event_data, created_at, traceparent))"
                    " FROM (SELECT * FROM outbox_events ORDER BY id LIMIT ?)",
                    (rows_max,),
                )
                .fetchone()
            )
        except sqlite3.Error as error:
            raise translate(error, self.place) from error
        return [OutboxRow(*row) for row in _decode_rows(body)]

    def delete_outbox(self, row_ids: Sequence[int]) -> None:
        if not row_ids:
            return
        ordered = sorted(set(row_ids))
        connection = self._begin()
        try:
            try:
                if ordered[-1] - ordered[0] + 1 == len(ordered):
                    connection.execute(
                        "DELETE FROM outbox_events WHERE id BETWEEN ? AND ?",
                        (ordered[0], ordered[-1]),
                    )
                else:
                    connection.execute(
                        "DELETE FROM outbox_events WHERE id IN (SELECT value FROM json_each(?))",
                        (msgspec.json.encode(ordered).decode(),),
                    )
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise translate(error, self.place) from error

    def outbox_rows(self) -> int:
        self._require_file()
        try:
            (rows,) = self._connection().execute(_OUTBOX_SPAN).fetchone()
        except sqlite3.Error as error:
            raise translate(error, self.place) from error
        return int(rows)

    def stored_bytes(self) -> int:
        with self.read() as connection:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def ping(self) -> float:
        started = time.perf_counter()
        with self.read() as connection:
            connection.execute(text("SELECT stamp FROM shard_meta")).one()
        return (time.perf_counter() - started) * 1e3

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()
        with self._lock:
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def _close_those_of_dead_threads(self) -> None:
        dead = [thread for thread in self._connections if not thread.is_alive()]
        for thread in dead:
            self._connections.pop(thread).close()
