"""The wide store on Cassandra. Rows of one partition travel as one mutation.

Several partitions travel together in one unlogged batch. That is no transaction: each partition is
stored on its own, as if it had been sent on its own. It saves what a request costs by itself, which
is most of it on both sides; only partitions of one node go together, so no node forwards for
another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from cassandra.query import BatchStatement

from paytm_lab.backends.servers import cassandra_tables as cql
from paytm_lab.backends.servers.cassandra_batches import Batch, vote
from paytm_lab.backends.servers.cassandra_rows import RowPacker, size_bytes
from paytm_lab.backends.servers.cassandra_session import CassandraSession
from paytm_lab.backends.servers.cassandra_tables import Table
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.ports.wide_store import Row, WideTable

_FETCH_PARTITIONS_MAX = 64
_STATEMENTS_IN_BATCH_MAX = 65_535
_CLAIMS_MAX = 1_000  # rows of one partition in one vote
_CLAIM_ROUNDS_MAX = 1_000
_SCAN_ROWS = 1_000
_COUNT_RANGES = 8
_Partition = tuple[Any, ...]
_Key = tuple[Any, ...]
_Bound = tuple[Any, int]  # a statement, and about how many bytes it is


class CassandraWideStore:
    """A ``ports.wide_store.WideStore``. Any number of threads and processes may use one keyspace,
    which ``create_tables`` makes. Connects at once: Unavailable where no server answers.

    After a write that failed its rows may be stored or not. ``available = False`` makes every call
    raise Unavailable, as a store that is gone does.
    """

    def __init__(
        self,
        servers: str,
        keyspace: str,
        *,
        replication: int = 1,
        user: str = "",
        password: str = "",
    ) -> None:
        cql.quoted(keyspace)
        self.available = True
        self._keyspace = keyspace
        self._replication = replication
        self._session = CassandraSession(servers, user, password)
        self._place = f"{self._session.place}/{keyspace}"
        self._lock = threading.Lock()
        self._tables: dict[str, Table] = {}
        self._prepared: dict[tuple[str, Callable[[Table], str]], tuple[Table, Any]] = {}

    # Tables

    def create_tables(self, tables: Sequence[WideTable]) -> None:
        self._require_available()
        wanted = [cql.sound(self._keyspace, table) for table in tables]
        self._load()
        changes = [change for table in wanted for change in self._changes(table)]
        if changes:
            if not self._tables:
                self._session.change_schema(cql.create_keyspace(self._keyspace, self._replication))
            for change in changes:
                self._change(change)
            self._load()
        self._session.know_keyspace(self._keyspace)

    def _changes(self, wanted: Table) -> list[str]:
        there = self._tables.get(wanted.name)
        if there is None:
            return [cql.create_table(wanted)]
        if there.key != wanted.key or there.partition_key != wanted.partition_key:
            raise BadInput(f"{wanted.name} exists with another key", place=self._place)
        # A table made before its declaration grew gets the new columns.
        missing = [name for name in wanted.columns if name not in there.columns]
        return [cql.add_columns(wanted, missing)] if missing else []

    def _change(self, text: str) -> None:
        try:
            self._session.change_schema(text)
        except BadInput:
            # Another process may have added the same column first.
            self._load()
            if text.startswith("CREATE"):
                raise

    def _load(self) -> None:
        """What the server knows; the driver's own picture may be seconds old."""
        rows = self._session.ask(
            "SELECT table_name, column_name, kind, position, type FROM system_schema.columns"
            " WHERE keyspace_name = %s",
            (self._keyspace,),
        )
        by_table: dict[str, list[tuple[str, str, int, str]]] = {}
        for name, *column in rows:
            by_table.setdefault(name, []).append(tuple(column))
        tables = {name: cql.stored(self._keyspace, name, c) for name, c in by_table.items()}
        with self._lock:
            stale = [name for name, table in self._tables.items() if tables.get(name) != table]
            for key in [key for key in self._prepared if key[0] in stale]:
                del self._prepared[key]
            self._tables = tables

    def _require_available(self) -> None:
        if not self.available:
            raise Unavailable("the wide store does not answer", place=self._place)
        self._session.require_open()

    def _table(self, name: str) -> Table:
        self._require_available()
        table = self._tables.get(name)
        if table is None:
            self._load()  # another process may have made it
            table = self._tables.get(name)
        if table is None:
            raise BadInput(f"{name!r:.80} is not a table of the wide store", place=self._place)
        return table

    def _statement(self, table: Table, text: Callable[[Table], str]) -> Any:
        """Prepared once; there are as many as tables times kinds of statement."""
        known = self._prepared.get((table.name, text))
        if known is not None and known[0] == table:
            return known[1]
        statement = self._session.prepare(text(table))
        with self._lock:
            # The table may have grown meanwhile: a statement takes the columns it was made for.
            self._prepared[table.name, text] = table, statement
        return statement

    # Writing

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        with self.upserting({table: rows}):
            pass

    @contextmanager
    def upserting(self, rows: Mapping[str, Sequence[Row]]) -> Iterator[None]:
        batches: list[BatchStatement] = []
        for name, of_table in rows.items():
            table = self._table(name)
            if of_table:
                bound = self._bind(table, cql.insert, _merged(table, of_table, self._place))
                batches += self._batches(table, bound)
        with self._session.running(batches):
            yield

    def delete(self, table: str, keys: Sequence[tuple[Any, ...]]) -> None:
        declared = self._table(table)
        cql.require_keys(declared, declared.key, keys, self._place)
        for key in keys:
            cql.require_partition(declared, key[: len(declared.partition_key)], self._place)
        if keys:
            prepared = self._statement(declared, cql.delete)
            bound = {key: _bound(prepared, key, self._place) for key in keys}
            sized = {key: (each, size_bytes(each.values)) for key, each in bound.items()}
            self._session.run(self._batches(declared, sized))

    def _bind(
        self, table: Table, text: Callable[[Table], str], rows: Mapping[_Key, Row]
    ) -> dict[_Key, _Bound]:
        prepared = self._statement(table, text)
        packer = RowPacker(table, self._place)
        return {key: packer.bind(prepared, row) for key, row in rows.items()}

    def _batches(self, table: Table, rows: Mapping[_Key, _Bound]) -> list[BatchStatement]:
        width = len(table.partition_key)
        partitions: dict[_Partition, list[_Bound]] = {}
        for key, bound in rows.items():
            partitions.setdefault(key[:width], []).append(bound)
        batches: list[BatchStatement] = []
        open_: dict[Any, Batch] = {}
        for partition, of_partition in partitions.items():
            if len(of_partition) > _STATEMENTS_IN_BATCH_MAX:
                raise BadInput(
                    f"{len(of_partition)} rows are too many for one partition: {partition!r:.80}",
                    place=self._place,
                )
            statements = [statement for statement, _ in of_partition]
            size = sum(size for _, size in of_partition)
            replica = self._session.replica_of(self._keyspace, statements[0])
            batch = open_.get(replica)
            if batch is None or not batch.has_room(size):
                batch = open_[replica] = Batch()
                batches.append(batch.statement)
            batch.add(statements, size)
        return batches

    def insert_if_absent(self, table: str, rows: Sequence[Row]) -> list[bool]:
        """One vote of the replicas for all rows of a partition that are new: as dear as ten upserts
        and more, so rows that are claimed together belong into one partition. Unavailable leaves
        open which of the rows were stored.
        """
        declared = self._table(table)
        cql.require_rows(declared, rows, self._place)
        wanted = _keys(declared, rows)
        first: dict[_Key, int] = {}
        for i, key in enumerate(wanted):
            first.setdefault(key, i)
        partitions: dict[_Partition, list[_Key]] = {}
        for key in first:
            partitions.setdefault(key[: len(declared.partition_key)], []).append(key)
        once = {key: rows[i] for key, i in first.items()}
        bound = self._bind(declared, cql.insert_if_absent, once) if rows else {}
        new = self._claim(declared, partitions, {key: each for key, (each, _) in bound.items()})
        return [first[key] == i and key in new for i, key in enumerate(wanted)]

    def _claim(
        self, table: Table, partitions: Mapping[_Partition, list[_Key]], bound: Mapping[_Key, Any]
    ) -> set[_Key]:
        """The keys that were new. A partition's rows are stored all or none; where one of them is
        there already, that one is left out and the rest tried again.
        """
        new: set[_Key] = set()
        waiting = {p: _chunks(keys) for p, keys in partitions.items()}
        for _ in range(_CLAIM_ROUNDS_MAX):
            # Votes about one partition would outbid each other: one at a time.
            voted = {p: chunks.pop() for p, chunks in waiting.items() if chunks}
            if not voted:
                return new
            answers = self._session.run([vote([bound[key] for key in k]) for k in voted.values()])
            refused = {}
            for (partition, keys), answer in zip(voted.items(), answers, strict=True):
                if answer[0][0]:
                    new.update(keys)
                elif len(keys) > 1:
                    refused[partition] = keys
            there = self.fetch(table.name, [key for keys in refused.values() for key in keys])
            for partition, keys in refused.items():
                if rest := [key for key in keys if key not in there]:
                    waiting[partition].append(rest)
        raise Unavailable("others claim the same rows all the time", place=self._place)

    # Reading

    def fetch(self, table: str, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
        declared = self._table(table)
        cql.require_keys(declared, declared.key, keys, self._place)
        if not keys:
            return {}
        names = tuple(declared.columns)
        at = [names.index(name) for name in declared.key]
        found: dict[tuple[Any, ...], Row] = {}
        for answer in self._session.run(self._lookups(declared, keys)):
            for row in answer:
                found[tuple(row[i] for i in at)] = dict(zip(names, row, strict=True))
        return {key: found[key] for key in keys if key in found}

    def _lookups(self, table: Table, keys: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One statement for many partitions: on absent ones, the usual case, it costs a small part
        of what as many statements would.
        """
        prepared = self._statement(table, cql.select_keys)
        width = len(table.partition_key)
        wanted: dict[_Partition, dict[_Key, None]] = {}
        for key in keys:
            wanted.setdefault(key[:width], {})[key[width:]] = None
        # Partitions of which the same rows are wanted can be asked for together.
        alike: dict[tuple[_Key, ...], list[_Partition]] = {}
        for partition, clusterings in wanted.items():
            cql.require_partition(table, partition, self._place)
            alike.setdefault(tuple(clusterings), []).append(partition)
        lookups = []
        for rows, partitions in alike.items():
            rest: list[Any] = []
            if len(table.clustering_key) == 1:
                rest = [[row[0] for row in rows]]
            elif table.clustering_key:
                rest = [list(rows)]
            if width == 1:
                for start in range(0, len(partitions), _FETCH_PARTITIONS_MAX):
                    part = [p[0] for p in partitions[start : start + _FETCH_PARTITIONS_MAX]]
                    lookups.append(_bound(prepared, [part, *rest], self._place))
            else:
                lookups += [_bound(prepared, [*p, *rest], self._place) for p in partitions]
        return lookups

    def partition(
        self,
        table: str,
        key: tuple[Any, ...],
        rows_max: int = 10_000,
        after: tuple[Any, ...] = (),
    ) -> list[Row]:
        declared = self._table(table)
        cql.require_keys(declared, declared.partition_key, [key], self._place)
        if after:
            cql.require_keys(declared, declared.clustering_key, [after], self._place)
        if rows_max <= 0:
            return []
        text = cql.select_partition_after if after else cql.select_partition
        statement = _bound(self._statement(declared, text), [*key, *after, rows_max], self._place)
        names = tuple(declared.columns)
        rows = self._session.pages(statement, _SCAN_ROWS)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def scan(self, table: str) -> Iterator[Row]:
        declared = self._table(table)
        return self._scan(declared)

    def _scan(self, table: Table) -> Iterator[Row]:
        names = tuple(table.columns)
        statement = _bound(self._statement(table, cql.select_all), (), self._place)
        for row in self._session.pages(statement, _SCAN_ROWS):
            yield dict(zip(names, row, strict=True))

    def count(self, table: str) -> int:
        """By parts of the token ring, so that each has a timeout of its own."""
        declared = self._table(table)
        prepared = self._statement(declared, cql.count_range)
        step = 2**64 // _COUNT_RANGES
        edges = [-(2**63) + step * i for i in range(_COUNT_RANGES)] + [2**63 - 1]
        answers = self._session.run(
            [_bound(prepared, edge, self._place) for edge in pairwise(edges)]
        )
        return sum(int(answer[0][0]) for answer in answers)

    def writes(self) -> dict[str, int]:
        """By table: the mutations that the server asked has applied since it started."""
        self._require_available()
        rows = self._session.ask(
            "SELECT keyspace_name, table_name, count FROM system_views.local_write_latency"
        )
        return {table: count for keyspace, table, count in rows if keyspace == self._keyspace}

    def keyspaces(self) -> list[str]:
        """All that the server has, its own included."""
        self._require_available()
        rows = self._session.ask("SELECT keyspace_name FROM system_schema.keyspaces")
        return [name for (name,) in rows]

    def clear(self) -> None:
        """Remove all rows; the tables stay."""
        self._require_available()
        self._load()
        for table in self._tables.values():
            if self._session.ask(cql.any_row(table)):
                self._session.change_schema(f"TRUNCATE {table.full_name}")

    def drop(self) -> None:
        """Remove the keyspace with all its tables and rows."""
        self._require_available()
        self._session.change_schema(f"DROP KEYSPACE IF EXISTS {cql.quoted(self._keyspace)}")
        self._load()

    def close(self) -> None:
        self._session.close()


def _merged(table: Table, rows: Sequence[Row], place: str) -> dict[_Key, Row]:
    """One row per key: rows sent together bear one time, and of two with one time the greater value
    would count, not the later.
    """
    merged: dict[_Key, Row] = {}
    try:
        for row in rows:
            merged[tuple([row[name] for name in table.key])] = row
    except (KeyError, TypeError):
        cql.require_rows(table, rows, place)  # says which row has no such key
        raise
    if len(merged) == len(rows):
        return merged
    cql.require_rows(table, rows, place)  # also those that are not sent
    merged.clear()
    for key, row in zip(_keys(table, rows), rows, strict=True):
        merged[key] = {**merged.get(key, {}), **row}
    return merged


def _keys(table: Table, rows: Iterable[Row]) -> list[_Key]:
    return [tuple(row[name] for name in table.key) for row in rows]


def _chunks(keys: list[_Key]) -> list[list[_Key]]:
    return [keys[i : i + _CLAIMS_MAX] for i in range(0, len(keys), _CLAIMS_MAX)]


def _bound(prepared: Any, values: Any, place: str) -> Any:
    try:
        return prepared.bind(values)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInput(
            f"a value that the table cannot hold: {error!s:.200}", place=place
        ) from error
