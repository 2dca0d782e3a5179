"""The wide store as one SQLite file. Writes are multi-row statements, one transaction a call."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from paytm_lab.backends.embedded.sqlite_files import (
    alone,
    connect,
    make_directory,
    transaction,
    translate,
)
from paytm_lab.core.errors import BadInput, PaytmLabError, StoreError, Unavailable
from paytm_lab.ports.wide_store import Row, WideTable

_TYPES = {"text": "TEXT", "bigint": "INTEGER", "double": "REAL", "blob": "BLOB"}
_STATEMENT_ROWS_MAX = 1_024
_PARAMETERS_MAX = 32_000  # SQLite takes 32,766 in one statement
_SCAN_ROWS = 1_000
_CATALOG = (
    "CREATE TABLE IF NOT EXISTS wide_tables"
    " (name TEXT PRIMARY KEY, declaration TEXT NOT NULL) STRICT"
)
_decode_rows = msgspec.json.Decoder(list[list[Any]]).decode
_decode_indexes = msgspec.json.Decoder(list[int]).decode


class _Table(NamedTuple):
    name: str
    key: tuple[str, ...]
    partition_key: tuple[str, ...]
    clustering_key: tuple[str, ...]
    columns: Mapping[str, str]
    as_json: bool  # SQLite's JSON keeps text and bigint exactly, but not double and blob


def _quoted(name: str) -> str:
    if not name.isidentifier() or not name.isascii():
        raise BadInput(f"{name!r:.80} is not a name for a table or column")
    return f'"{name}"'


def _joined(names: Sequence[str], each: str = "{}") -> str:
    return ", ".join(each.format(f'"{name}"') for name in names)


class EmbeddedWideStore:
    """A ``ports.wide_store.WideStore``. Several threads and processes may use one file.

    ``available = False`` makes every call raise Unavailable, as a store that is gone does.
    """

    def __init__(self, path: Path) -> None:
        self.available = True
        self._path = path
        self._place = path.name
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._statements: dict[tuple[str, str, tuple[str, ...], int], str] = {}
        self._tables: dict[str, _Table] = {}
        make_directory(path.parent)
        self._writer = connect(path)
        try:
            self._reader = connect(path)
            try:
                with transaction(self._writer, self._place):
                    self._writer.execute(_CATALOG)
                self._load()
            except BaseException:
                self._reader.close()
                raise
        except BaseException:
            self._writer.close()
            raise

    def _load(self) -> None:
        rows = self._query("SELECT declaration FROM wide_tables", ())
        for (declaration,) in rows:
            table = msgspec.json.decode(declaration, type=WideTable)
            self._tables[table.name] = _Table(
                table.name,
                (*table.partition_key, *table.clustering_key),
                table.partition_key,
                table.clustering_key,
                table.columns,
                not {"double", "blob"} & set(table.columns.values()),
            )

    def create_tables(self, tables: Sequence[WideTable]) -> None:
        self._require_available()
        for table in tables:
            _require_sound(table)
        with self._write_lock, transaction(self._writer, self._place):  # one wait for the disk
            for table in tables:
                self._create(table)
        self._load()
        self._statements.clear()

    def _create(self, table: WideTable) -> None:
        run = self._writer.execute
        keys = (*table.partition_key, *table.clustering_key)
        required = " NOT NULL"
        columns = ", ".join(
            f"{_quoted(n)} {_TYPES[t]}{required if n in keys else ''}"
            for n, t in table.columns.items()
        )
        run(
            f"CREATE TABLE IF NOT EXISTS {_quoted(table.name)}"
            f" ({columns}, PRIMARY KEY ({_joined(keys)})) STRICT"
        )
        # A table made before its declaration grew gets the new columns.
        there = {row[1] for row in run(f"PRAGMA table_info({_quoted(table.name)})").fetchall()}
        for name, kind in table.columns.items():
            if name not in there:
                run(f"ALTER TABLE {_quoted(table.name)} ADD COLUMN {_quoted(name)} {_TYPES[kind]}")
        new = "INSERT OR REPLACE INTO wide_tables SELECT ?1, ?2 WHERE (?1, ?2) NOT IN wide_tables"
        run(new, (table.name, msgspec.json.encode(table).decode()))

    def _require_available(self) -> None:
        if not self.available:
            raise Unavailable("the wide store does not answer", place=self._place)

    def _table(self, name: str) -> _Table:
        self._require_available()
        table = self._tables.get(name)
        if table is None:
            self._load()  # another process may have made it
            table = self._tables.get(name)
        if table is None:
            raise BadInput(f"{name!r:.80} is not a table of the wide store", place=self._place)
        return table

    def _query(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        try:
            with self._read_lock:
                return self._reader.execute(sql, parameters).fetchall()
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise _translated(error, self._place) from error

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        with self.upserting({table: rows}):
            pass

    @contextmanager
    def upserting(self, rows: Mapping[str, Sequence[Row]]) -> Iterator[None]:
        statements = [
            statement
            for table, of_table in rows.items()
            for statement in self._upserts(self._table(table), of_table)
        ]
        # One statement is a transaction by itself; it gives the interpreter lock away once.
        if statements:
            with self._write_lock, _writing(self._writer, self._place, len(statements) == 1):
                for sql, parameters in statements:
                    self._writer.execute(sql, parameters)
        yield

    def _upserts(self, table: _Table, rows: Sequence[Row]) -> list[tuple[str, list[Any]]]:
        # Rows that name the same columns go together, in the order given.
        runs = [(columns, list(group)) for columns, group in groupby(rows, key=tuple)]
        for columns, _ in runs:
            _require_columns(table, columns, self._place)
        return [
            statement
            for columns, group in runs
            for statement in self._writes(table, "upsert", columns, group)
        ]

    def insert_if_absent(self, table: str, rows: Sequence[Row]) -> list[bool]:
        declared = self._table(table)
        for row in rows:
            _require_columns(declared, tuple(row), self._place)
        keys = [tuple(row[name] for name in declared.key) for row in rows]
        new = [False] * len(rows)
        with self._write_lock, _writing(self._writer, self._place):
            seen = {keys[i] for i in self._existing(declared, keys)}
            for i, key in enumerate(keys):
                if key not in seen:
                    seen.add(key)
                    new[i] = True
            wanted = [row for row, is_new in zip(rows, new, strict=True) if is_new]
            for columns, group in groupby(wanted, key=tuple):
                for sql, parameters in self._writes(declared, "insert", columns, list(group)):
                    self._writer.execute(sql, parameters)
        return new

    def _existing(self, table: _Table, keys: Sequence[tuple[Any, ...]]) -> list[int]:
        """The indexes of the keys that are there, asked within the open transaction."""
        found: list[int] = []
        on = " AND ".join(f't."{n}" = v.column{i}' for i, n in enumerate(table.key, 2))
        numbered = [(i, *key) for i, key in enumerate(keys)]
        for part in _parts(numbered, len(table.key) + 1):
            sql = self._statements.get((table.name, "existing", (), len(part)))
            if sql is None:
                sql = (
                    f"SELECT json_group_array(v.column1) FROM"
                    f" ({_values(len(table.key) + 1, len(part))}) AS v"
                    f' CROSS JOIN "{table.name}" AS t ON {on}'
                )
                self._statements[table.name, "existing", (), len(part)] = sql
            cursor = self._writer.execute(sql, list(chain.from_iterable(part)))
            found += _decode_indexes(cursor.fetchone()[0])
        return found

    def _writes(
        self, table: _Table, kind: str, columns: tuple[str, ...], rows: Sequence[Row]
    ) -> Iterator[tuple[str, list[Any]]]:
        for part in _parts([row.values() for row in rows], len(columns)):
            sql = self._statements.get((table.name, kind, columns, len(part)))
            if sql is None:
                sql = _write_sql(table, kind, columns, len(part))
                self._statements[table.name, kind, columns, len(part)] = sql
            yield sql, list(chain.from_iterable(part))

    def fetch(self, table: str, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
        declared = self._table(table)
        _require_keys(declared.key, keys, self._place)
        names = tuple(declared.columns)
        at = [names.index(name) for name in declared.key]
        found: dict[tuple[Any, ...], Row] = {}
        for part in _parts(keys, len(declared.key)):
            sql = self._fetch_sql(declared, names, len(part))
            rows = self._query(sql, list(chain.from_iterable(part)))
            if declared.as_json:
                rows = _decode_rows(rows[0][0])
            for row in rows:
                found[tuple(row[i] for i in at)] = dict(zip(names, row, strict=True))
        return found

    def _fetch_sql(self, table: _Table, names: tuple[str, ...], size: int) -> str:
        sql = self._statements.get((table.name, "fetch", (), size))
        if sql is None:
            # One row out where the types allow it: each row costs a turn of the interpreter lock.
            columns = _joined(names, "t.{}")
            wanted = f"json_group_array(json_array({columns}))" if table.as_json else columns
            # CROSS JOIN keeps the order: for each key a look into the index, never a scan.
            on = " AND ".join(f't."{n}" = v.column{i}' for i, n in enumerate(table.key, 1))
            sql = (
                f"SELECT {wanted} FROM ({_values(len(table.key), size)}) AS v"
                f' CROSS JOIN "{table.name}" AS t ON {on}'
            )
            self._statements[table.name, "fetch", (), size] = sql
        return sql

    def partition(
        self,
        table: str,
        key: tuple[Any, ...],
        rows_max: int = 10_000,
        after: tuple[Any, ...] = (),
    ) -> list[Row]:
        declared = self._table(table)
        _require_keys(declared.partition_key, [key], self._place)
        if after:
            _require_keys(declared.clustering_key, [after], self._place)
        names = tuple(declared.columns)
        order = f" ORDER BY {_joined(declared.clustering_key)}" if declared.clustering_key else ""
        where = " AND ".join(f'"{name}" = ?' for name in declared.partition_key)
        if after:
            marks = ", ".join("?" * len(after))
            where += f" AND ({_joined(declared.clustering_key)}) > ({marks})"
        sql = f'SELECT {_joined(names)} FROM "{declared.name}" WHERE {where}{order} LIMIT ?'
        if declared.as_json:
            sql = f"SELECT json_group_array(json_array({_joined(names)})) FROM ({sql})"
        rows = self._query(sql, (*key, *after, max(0, rows_max)))
        if declared.as_json:
            rows = _decode_rows(rows[0][0])
        return [dict(zip(names, row, strict=True)) for row in rows]

    def delete(self, table: str, keys: Sequence[tuple[Any, ...]]) -> None:
        declared = self._table(table)
        _require_keys(declared.key, keys, self._place)
        if not keys:
            return
        with self._write_lock, _writing(self._writer, self._place):
            for part in _parts(keys, len(declared.key)):
                sql = self._statements.get((declared.name, "delete", (), len(part)))
                if sql is None:
                    values = _values(len(declared.key), len(part))
                    sql = (
                        f'DELETE FROM "{declared.name}"'
                        f" WHERE ({_joined(declared.key)}) IN ({values})"
                    )
                    self._statements[declared.name, "delete", (), len(part)] = sql
                self._writer.execute(sql, list(chain.from_iterable(part)))

    def scan(self, table: str) -> Iterator[Row]:
        declared = self._table(table)
        return self._scan(declared)

    def _scan(self, table: _Table) -> Iterator[Row]:
        # A connection of its own: one snapshot, however long the caller takes, and nobody waits.
        names = tuple(table.columns)
        connection = connect(self._path)
        try:
            cursor = connection.execute(f'SELECT {_joined(names)} FROM "{table.name}"')
            while rows := cursor.fetchmany(_SCAN_ROWS):
                for row in rows:
                    yield dict(zip(names, row, strict=True))
        except sqlite3.Error as error:
            raise _translated(error, self._place) from error
        finally:
            connection.close()

    def count(self, table: str) -> int:
        declared = self._table(table)
        return int(self._query(f'SELECT count(*) FROM "{declared.name}"', ())[0][0])

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()


def _values(columns: int, rows: int) -> str:
    one = "(" + ",".join("?" * columns) + ")"
    return f"VALUES {','.join([one] * rows)}"


def _parts(rows: Sequence[Any], columns: int) -> Iterator[Sequence[Any]]:
    """Cut into parts whose lengths are powers of two, so that few statement texts exist and each
    stays prepared. A part that is nearly full repeats its last row: one statement more costs a turn
    of the interpreter lock, and a repeated row changes nothing.
    """
    bound = 1 << (min(_STATEMENT_ROWS_MAX, _PARAMETERS_MAX // columns).bit_length() - 1)
    start = 0
    while start < len(rows):
        left = min(len(rows) - start, bound)
        size = 1 << (left - 1).bit_length()
        if left < size * 7 // 8:
            size //= 2
        part = rows[start : start + size]
        start += len(part)
        yield part if len(part) == size else [*part, *[part[-1]] * (size - len(part))]


def _write_sql(table: _Table, kind: str, columns: tuple[str, ...], size: int) -> str:
    sql = f'INSERT INTO "{table.name}" ({_joined(columns)}) {_values(len(columns), size)}'
    sets = ", ".join(f'"{n}" = excluded."{n}"' for n in columns if n not in table.key)
    keep = kind == "insert" or not sets
    return f"{sql} ON CONFLICT ({_joined(table.key)}) DO " + (
        "NOTHING" if keep else f"UPDATE SET {sets}"
    )


@contextmanager
def _writing(
    connection: sqlite3.Connection, place: str, one_statement: bool = False
) -> Iterator[None]:
    try:
        with alone(place) if one_statement else transaction(connection, place):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, sqlite3.Error):
            raise _translated(error.__cause__, place) from error
        raise
    except (ValueError, OverflowError) as error:
        raise _translated(error, place) from error


def _translated(error: Exception, place: str) -> PaytmLabError:
    """What SQLite says about a value is the caller's mistake; all else is the store's trouble."""
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return Unavailable("the wide store is closed", place=place)
    about_values = sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError
    if isinstance(error, about_values) or not isinstance(error, sqlite3.Error):
        return BadInput(f"a value that the table cannot hold: {error}", place=place)
    return translate(error, place)


def _require_sound(table: WideTable) -> None:
    key = (*table.partition_key, *table.clustering_key)
    if not table.partition_key or not set(key) <= set(table.columns):
        raise BadInput("the key must be among the columns, and not empty", place=table.name)
    unknown = set(table.columns.values()) - set(_TYPES)
    if unknown:
        raise BadInput(f"{min(unknown)!r} is not a type of column", place=table.name)


def _require_columns(table: _Table, columns: tuple[str, ...], place: str) -> None:
    unknown = [name for name in columns if name not in table.columns]
    if unknown:
        raise BadInput(f"{table.name} has no column {unknown[0]!r:.80}", place=place)
    missing = [name for name in table.key if name not in columns]
    if missing:
        raise BadInput(f"a row of {table.name} needs {missing[0]}", place=place)


def _require_keys(names: tuple[str, ...], keys: Sequence[tuple[Any, ...]], place: str) -> None:
    if any(len(key) != len(names) for key in keys):
        raise BadInput(f"a key here has {len(names)} values: {', '.join(names)}", place=place)
