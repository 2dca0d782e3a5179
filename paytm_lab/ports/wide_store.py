"""Wide rows by partition key (Cassandra's shape): features, events, rollups, notifications."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol


class WideTable(NamedTuple):
    """``columns`` maps name -> 'text' | 'bigint' | 'double' | 'blob'. The primary key is
    ``partition_key`` + ``clustering_key``; both are among the columns.
    """

    name: str
    partition_key: tuple[str, ...]
    clustering_key: tuple[str, ...]
    columns: Mapping[str, str]


Row = dict[str, Any]


class WideStore(Protocol):
    """Raises core.errors.Unavailable when the store is away, BadInput for an unknown table or
    column.
    """

    def create_tables(self, tables: Sequence[WideTable]) -> None:
        """Create those that are missing."""

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert or overwrite whole columns by primary key; columns not named keep their value.
        Durable when it returns; rows of one partition become visible together.
        """

    def upserting(self, rows: Mapping[str, Sequence[Row]]) -> AbstractContextManager[None]:
        """``upsert`` into several tables, by name, while the block runs: what is not allowed raises
        at its beginning and stores nothing, what fails raises at its end, and then any of it may
        be stored. In no order.
        """

    def insert_if_absent(self, table: str, rows: Sequence[Row]) -> list[bool]:
        """For each row: True if its primary key was new and is stored now, else False."""

    def fetch(self, table: str, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
        """Rows by full primary key (partition then clustering values); absent keys are left out."""

    def partition(
        self,
        table: str,
        key: tuple[Any, ...],
        rows_max: int = 10_000,
        after: tuple[Any, ...] = (),
    ) -> list[Row]:
        """Rows of one partition in clustering order; with ``after`` (a whole clustering key) only
        those behind it.
        """

    def delete(self, table: str, keys: Sequence[tuple[Any, ...]]) -> None:
        """Remove rows by full primary key; absent ones are no error. Durable when it returns."""

    def scan(self, table: str) -> Iterator[Row]:
        """All rows, in no order; for reports and audits, never on a hot path."""

    def count(self, table: str) -> int:
        """How many rows (a scan where the store has no cheaper way)."""

    def close(self) -> None:
        """Release connections. Harmless when called twice."""
