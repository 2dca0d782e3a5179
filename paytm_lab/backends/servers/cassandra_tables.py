"""A wide table in Cassandra's words: its statements, and what may be written to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from paytm_lab.core.errors import BadInput
from paytm_lab.ports.wide_store import Row, WideTable

TYPES = ("text", "bigint", "double", "blob")
_BIGINTS = range(-(2**63), 2**63)
KEY_BYTES_MAX = 65_535
# Names that both this store and the embedded one can take; Cassandra's are no longer than this.
_NAME_LENGTH_MAX = 48


class Table(NamedTuple):
    keyspace: str
    name: str
    partition_key: tuple[str, ...]
    clustering_key: tuple[str, ...]
    columns: Mapping[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        return self.partition_key + self.clustering_key

    @property
    def full_name(self) -> str:
        return f'{quoted(self.keyspace)}."{self.name}"'


def sound(keyspace: str, table: WideTable) -> Table:
    """The declared table; BadInput where it is none."""
    key = (*table.partition_key, *table.clustering_key)
    if not table.partition_key or not set(key) <= set(table.columns) or len(set(key)) < len(key):
        raise BadInput("the key must be among the columns, and not empty", place=table.name)
    unknown = set(table.columns.values()) - set(TYPES)
    if unknown:
        raise BadInput(f"{min(unknown)!r} is not a type of column", place=table.name)
    for name in (table.name, *table.columns):
        quoted(name)
    return Table(
        keyspace, table.name, table.partition_key, table.clustering_key, dict(table.columns)
    )


def stored(keyspace: str, name: str, rows: Iterable[tuple[str, str, int, str]]) -> Table:
    """A table as Cassandra knows it: (column, kind, position, type) of each column."""
    parts: dict[str, list[tuple[int, str]]] = {}
    columns = {}
    for column, kind, position, type_ in rows:
        parts.setdefault(kind, []).append((position, column))
        columns[column] = type_
    partition_key, clustering_key = (
        tuple(column for _, column in sorted(parts.get(kind, ())))
        for kind in ("partition_key", "clustering")
    )
    return Table(keyspace, name, partition_key, clustering_key, columns)


def quoted(name: str) -> str:
    if not name.isidentifier() or not name.isascii() or len(name) > _NAME_LENGTH_MAX:
        raise BadInput(f"{name!r:.80} is not a name for a table or column")
    return f'"{name}"'


def _joined(names: Iterable[str], each: str = "{}") -> str:
    return ", ".join(each.format(f'"{name}"') for name in names)


def create_keyspace(keyspace: str, replication: int) -> str:
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {quoted(keyspace)} WITH replication ="
        f" {{'class': 'SimpleStrategy', 'replication_factor': {replication}}}"
        " AND durable_writes = true"
    )


def create_table(table: Table) -> str:
    columns = ", ".join(f'"{name}" {type_}' for name, type_ in table.columns.items())
    clustering = f", {_joined(table.clustering_key)}" if table.clustering_key else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.full_name}"
        f" ({columns}, PRIMARY KEY (({_joined(table.partition_key)}){clustering}))"
    )


def add_columns(table: Table, names: Sequence[str]) -> str:
    columns = ", ".join(f'"{name}" {table.columns[name]}' for name in names)
    return f"ALTER TABLE {table.full_name} ADD ({columns})"


def insert(table: Table) -> str:
    """Columns that a row does not name are left unset, so one statement serves all rows."""
    marks = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {table.full_name} ({_joined(table.columns)}) VALUES ({marks})"


def insert_if_absent(table: Table) -> str:
    return f"{insert(table)} IF NOT EXISTS"


def _select(table: Table, where: str) -> str:
    return f"SELECT {_joined(table.columns)} FROM {table.full_name}{where}"


def select_partition(table: Table) -> str:
    where = " AND ".join(f'"{name}" = ?' for name in table.partition_key)
    return _select(table, f" WHERE {where} LIMIT ?")


def select_partition_after(table: Table) -> str:
    where = " AND ".join(f'"{name}" = ?' for name in table.partition_key)
    marks = ", ".join("?" * len(table.clustering_key))
    return _select(
        table, f" WHERE {where} AND ({_joined(table.clustering_key)}) > ({marks}) LIMIT ?"
    )


def delete(table: Table) -> str:
    where = " AND ".join(f'"{name}" = ?' for name in table.key)
    return f"DELETE FROM {table.full_name} WHERE {where}"


def select_keys(table: Table) -> str:
    """Values: the partition's columns, or, where that is one, a list of partitions; then a list of
    the clustering columns.
    """
    if len(table.partition_key) == 1:
        where = f'"{table.partition_key[0]}" IN ?'
    else:
        where = " AND ".join(f'"{name}" = ?' for name in table.partition_key)
    if len(table.clustering_key) == 1:
        where += f' AND "{table.clustering_key[0]}" IN ?'
    elif table.clustering_key:
        where += f" AND ({_joined(table.clustering_key)}) IN ?"
    return _select(table, f" WHERE {where}")


def select_all(table: Table) -> str:
    return _select(table, "")


def any_row(table: Table) -> str:
    return _select(table, " LIMIT 1")


def count_range(table: Table) -> str:
    token = f"token({_joined(table.partition_key)})"
    return f"SELECT count(*) FROM {table.full_name} WHERE {token} > ? AND {token} <= ?"


def require_rows(table: Table, rows: Sequence[Row], place: str) -> None:
    """BadInput for what the server would refuse, before anything is sent."""
    columns = table.columns
    for row in rows:
        for name, value in row.items():
            type_ = columns.get(name)
            if type_ is None:
                raise BadInput(f"{table.name} has no column {name!r:.80}", place=place)
            if value is not None and not _fits(type_, value):
                raise BadInput(f"{value!r:.80} is not a {type_}: {table.name}.{name}", place=place)
        for name in table.key:
            if row.get(name) is None:
                raise BadInput(f"a row of {table.name} needs {name}", place=place)
        require_partition(table, tuple(row[name] for name in table.partition_key), place)


def _fits(type_: str, value: Any) -> bool:
    if type_ == "text":
        return isinstance(value, str)
    if type_ == "bigint":
        return isinstance(value, int) and value in _BIGINTS
    if type_ == "double":
        return isinstance(value, float | int)
    return isinstance(value, bytes)


def require_partition(table: Table, values: tuple[Any, ...], place: str) -> None:
    """Cassandra takes a partition key of 1 to 65,535 bytes."""
    size = sum(
        len(value.encode(errors="replace") if isinstance(value, str) else value)
        for value in values
        if isinstance(value, str | bytes)
    )
    if size > KEY_BYTES_MAX or (len(values) == 1 and values[0] in ("", b"")):
        raise BadInput(f"{table.name} cannot have a partition key of {size} bytes", place=place)


def require_keys(
    table: Table, names: tuple[str, ...], keys: Sequence[tuple[Any, ...]], place: str
) -> None:
    for key in keys:
        if len(key) != len(names):
            raise BadInput(f"a key here has {len(names)} values: {', '.join(names)}", place=place)
        for name, value in zip(names, key, strict=True):
            if not _fits(table.columns[name], value):
                raise BadInput(f"{value!r:.80} is no {table.name}.{name}", place=place)
