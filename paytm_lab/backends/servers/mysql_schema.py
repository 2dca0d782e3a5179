"""A shard's database: made, looked for and dropped.

MySQL commits each definition by itself, so a crash can leave some tables. The meta row, written
last and together with the system accounts, says that all is there; before it, creating goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql import err
from sqlalchemy import MetaData, Table
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from paytm_lab.backends.schema_changes import changes
from paytm_lab.backends.servers import mysql_errors
from paytm_lab.backends.servers.mysql_server import (
    READ_TIMEOUT_S,
    MySqlServer,
    connect_arguments,
)
from paytm_lab.backends.servers.mysql_text import text
from paytm_lab.core import errors
from paytm_lab.ports.shard_database import ShardMeta

# Another process that creates holds this lock; its statements take a second or two.
CREATE_WAIT_S = 15
_NOT_THERE = (1049, 1146)
_ACCOUNT = (
    "INSERT INTO accounts (id, user_id, balance, held, currency, state, slot, opening, created_at,"
    " updated_at) VALUES "
)


@contextmanager
def _connected(server: MySqlServer, *, database: bool) -> Iterator[Any]:
    arguments = connect_arguments(server, "READ-COMMITTED", READ_TIMEOUT_S, database=database)
    connection = pymysql.connect(**arguments)
    try:
        yield connection.cursor()
    finally:
        connection.close()


def is_created(server: MySqlServer) -> bool:
    try:
        with _connected(server, database=True) as cursor:
            return _has_meta(cursor)
    except err.Error as error:
        if error.args and error.args[0] in _NOT_THERE:
            return False
        raise


def _has_meta(cursor: Any) -> bool:
    try:
        return bool(cursor.execute("SELECT 1 FROM shard_meta WHERE id = 1"))
    except err.ProgrammingError as error:
        if error.args[0] in _NOT_THERE:
            return False
        raise


def create(
    server: MySqlServer,
    metadata: MetaData,
    shard_id: int,
    system_accounts: Sequence[tuple[int, str]],
    meta: ShardMeta,
    first_user_id: int,
    now_us: int,
    place: str,
) -> None:
    """Safe to race and to repeat. ShardUnavailable when another process creates for too long."""
    if is_created(server):
        _add_columns(server, metadata, place)
        return
    with _connected(server, database=False) as cursor:
        _lock(cursor, server, place)
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {_quoted(server.database)}")
        cursor.execute(f"USE {_quoted(server.database)}")
        if _has_meta(cursor):
            return
        for table in metadata.sorted_tables:
            cursor.execute(create_table(table))
        # A placeholder row moves the automatic ids of users past those of system accounts.
        rows = [*system_accounts, (first_user_id - 1, "system:first")]
        cursor.execute(
            _ACCOUNT
            + ",".join(
                f"({row_id:d}, {text(user)}, 0, 0, 'INR', 'system', -1, 0, {now_us:d}, {now_us:d})"
                for row_id, user in rows
            )
        )
        cursor.execute(
            "INSERT INTO shard_meta (id, shard_id, stamp, map_version, owned_slots) VALUES"
            f" (1, {shard_id:d}, {meta.stamp:d}, {meta.map_version:d}, x'{meta.owned_slots.hex()}')"
        )
        cursor.execute("COMMIT")


def _lock(cursor: Any, server: MySqlServer, place: str) -> None:
    """It ends with the connection, so a creator that dies blocks nobody."""
    cursor.execute(f"SELECT GET_LOCK({text(server.database)}, {CREATE_WAIT_S:d})")
    if cursor.fetchone()[0] != 1:
        raise errors.ShardUnavailable("another process creates the shard", place=place)


def _add_columns(server: MySqlServer, metadata: MetaData, place: str) -> None:
    """What the schema got since the database was made; rows that are there get its default."""
    with _connected(server, database=True) as cursor:
        if not _changes(cursor, metadata, place):
            return
        _lock(cursor, server, place)
        for change in _changes(cursor, metadata, place):
            cursor.execute(change)


def _changes(cursor: Any, metadata: MetaData, place: str) -> list[str]:
    cursor.execute(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE()"
    )
    there: dict[str, set[str]] = {}
    for table, column in cursor.fetchall():
        there.setdefault(table, set()).add(column)
    return changes(metadata, there, mysql.dialect(), lambda table: [create_table(table)], place)


def create_table(table: Table) -> str:
    """One statement a table: each index by itself would cost a statement and a new table file."""
    dialect = mysql.dialect()
    sql = str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)).strip()
    sql = sql.replace("%%", "%")
    parts, options = sql[: sql.rindex(")")].rstrip(), sql[sql.rindex(")") :]
    indexes = "".join(
        f",\n\t{'UNIQUE ' if index.unique else ''}INDEX {index.name}"
        f" ({', '.join(column.name for column in index.columns)})"
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    )
    return f"{parts}{indexes}\n{options}"


def drop(server: MySqlServer) -> None:
    with _connected(server, database=False) as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {_quoted(server.database)}")


def sizes(server: MySqlServer, prefix: str) -> dict[str, int]:
    """Bytes of tables and indexes, by database whose name begins so."""
    try:
        with _connected(server, database=False) as cursor:
            cursor.execute(
                "SELECT s.schema_name, COALESCE(SUM(t.data_length + t.index_length), 0)"
                " FROM information_schema.schemata AS s LEFT JOIN information_schema.tables AS t"
                " ON t.table_schema = s.schema_name WHERE LEFT(s.schema_name, %s) = %s"
                " GROUP BY s.schema_name",
                (len(prefix), prefix),
            )
            return {name: int(size_bytes) for name, size_bytes in cursor.fetchall()}
    except err.Error as error:
        raise mysql_errors.translate(error, f"{server.host}:{server.port}") from error


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
