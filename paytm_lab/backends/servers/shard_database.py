"""One shard on a MySQL server (8.0 or later). The writer's transaction is in ``shard_transaction``;
here are the pools, readers and the outbox.

Durable by the server's own settings: ``sync_binlog=1`` and ``innodb_flush_log_at_trx_commit=1``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pymysql import err
from sqlalchemy import Connection, Engine, MetaData, PoolProxiedConnection
from sqlalchemy import text as sql_text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from paytm_lab.backends.servers import mysql_errors, mysql_schema
from paytm_lab.backends.servers.mysql_server import (
    Connections,
    MySqlServer,
    readers_engine,
    writers_engine,
)
from paytm_lab.backends.servers.mysql_text import Statements
from paytm_lab.backends.servers.plain_session import MySqlPlainSession
from paytm_lab.backends.servers.shard_transaction import MySqlTransaction
from paytm_lab.core import errors
from paytm_lab.ports.shard_database import OutboxRow, ShardMeta

# Ids grow and rows are deleted from the low end, so the span of ids is the count, off only by rows
# of batches that were rolled back or are not committed yet.
_OUTBOX_SPAN = (
    "SELECT COALESCE((SELECT id FROM outbox_events ORDER BY id DESC LIMIT 1)"
    " - (SELECT id FROM outbox_events ORDER BY id LIMIT 1) + 1, 0)"
)
_OUTBOX = (
    "SELECT id, event_id, event_type, aggregate_id, event_data, created_at, traceparent"
    " FROM outbox_events ORDER BY id LIMIT "
)


class MySqlShardDatabase:
    """A ``ports.shard_database.ShardDatabase``. Several threads and processes may use one shard.

    Connects to nothing before the first call that needs a connection.
    """

    def __init__(
        self,
        server: MySqlServer,
        shard_id: int,
        metadata: MetaData,
        insert_columns: Mapping[str, Sequence[str]],
    ) -> None:
        self.shard_id = shard_id
        self.server = server
        self.place = f"shard-{shard_id} ({server.place})"
        self._metadata = metadata
        self._statements = Statements(
            metadata, {name: tuple(columns) for name, columns in insert_columns.items()}
        )
        self._writers: Engine = writers_engine(server)
        self._readers: Engine = readers_engine(server)
        self._connections = [Connections(self._writers), Connections(self._readers)]
        self._local = threading.local()
        self._closed = False

    def create(
        self,
        system_accounts: Sequence[tuple[int, str]],
        meta: ShardMeta,
        first_user_id: int,
        now_us: int,
    ) -> None:
        """Create database, tables and fixed rows where missing. Safe to race, safe to repeat."""
        with self._translated():
            mysql_schema.create(
                self.server,
                self._metadata,
                self.shard_id,
                system_accounts,
                meta,
                first_user_id,
                now_us,
                self.place,
            )

    def require_created(self) -> None:
        """StorageCorrupt where ``create`` was never done: what was there is lost."""
        with self._translated():
            if not mysql_schema.is_created(self.server):
                raise errors.StorageCorrupt(
                    "the shard's tables are missing",
                    place=self.place,
                    remedy="Restore this database from a copy.",
                )

    def drop(self) -> None:
        """Remove the shard's database with all that is in it, and close."""
        self.close()
        with self._translated():
            mysql_schema.drop(self.server)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (err.Error, DBAPIError, PoolTimeout) as error:
            raise mysql_errors.translate(error, self.place) from error

    def _require_open(self) -> None:
        if self._closed:
            raise errors.ShardUnavailable("the shard is closed", place=self.place)

    def _take(self) -> PoolProxiedConnection:
        self._require_open()
        try:
            return self._writers.raw_connection()
        except (err.Error, DBAPIError, PoolTimeout) as error:
            found = mysql_errors.translate(error, self.place)
            if isinstance(found, errors.ConnectionLost):
                # Lost while it was made: there is no server behind the port, or a stopped one.
                found = errors.ShardUnavailable(found.message, place=self.place)
            raise found from error

    def plain_session(self, level: str) -> MySqlPlainSession:
        """A client's own connection, to show what levels of isolation do; see its port."""
        self._require_open()
        return MySqlPlainSession(self.server, self.place, level)

    def begin(self) -> MySqlTransaction:
        """A thread's new transaction ends the one that it left open."""
        before: MySqlTransaction | None = getattr(self._local, "transaction", None)
        if before is not None:
            before.rollback()
        transaction = MySqlTransaction(
            self._take(), self.place, self._statements, self._forget_idle_connections
        )
        self._local.transaction = transaction
        return transaction

    def _forget_idle_connections(self) -> None:
        """Those that were made before the server went away are as dead as the one that failed."""
        self._writers.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._require_open()
        with self._translated(), self._readers.connect() as connection, connection.begin():
            yield connection

    def _alone(self, sql: str) -> Sequence[Any]:
        """The rows of one statement that is a transaction by itself, in one round trip."""
        connection = self._take()
        try:
            cursor = connection.cursor()
            cursor.execute(f"{sql};COMMIT")
            rows = cursor.fetchall()
            cursor.nextset()
        except BaseException as error:
            # Whether its COMMIT was done or not: the connection ends, and work in it with it.
            connection.invalidate()
            connection.close()
            if not isinstance(error, err.Error):
                raise
            if mysql_errors.is_lost(error):
                self._forget_idle_connections()
            raise mysql_errors.translate(error, self.place) from error
        connection.close()
        return rows

    def read_outbox(self, rows_max: int) -> list[OutboxRow]:
        return [OutboxRow(*row) for row in self._alone(f"{_OUTBOX}{rows_max:d}")]

    def delete_outbox(self, row_ids: Sequence[int]) -> None:
        if not row_ids:
            return
        ordered = sorted(set(row_ids))
        if ordered[-1] - ordered[0] + 1 == len(ordered):
            which = f"BETWEEN {ordered[0]:d} AND {ordered[-1]:d}"
        else:
            which = f"IN ({','.join([f'{row_id:d}' for row_id in ordered])})"
        self._alone(f"DELETE FROM outbox_events WHERE id {which}")

    def outbox_rows(self) -> int:
        return int(self._alone(_OUTBOX_SPAN)[0][0])

    def stored_bytes(self) -> int:
        self._alone(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {', '.join(self._metadata.tables)}")
        rows = self._alone(
            "SELECT SUM(data_length + index_length) FROM information_schema.tables"
            " WHERE table_schema = DATABASE()"
        )
        return int(rows[0][0])

    def ping(self) -> float:
        started = time.perf_counter()
        try:
            with self.read() as connection:
                connection.execute(sql_text("SELECT stamp FROM shard_meta")).one()
        except errors.ConnectionLost as error:
            raise errors.ShardUnavailable(error.message, place=self.place) from error
        return (time.perf_counter() - started) * 1e3

    def close(self) -> None:
        """As the port says. Connections in use are cut: a frozen server would keep their users."""
        self._closed = True
        self._writers.dispose()
        self._readers.dispose()
        for connections in self._connections:
            connections.cut()
