"""Rows as the bytes that Cassandra takes, checked on the way.

Bound by the driver, which takes values of any type, a row costs 10 to 20 us of the client's time,
batch and all, and a payment is a dozen rows. With four types, whose bytes are one call of the
standard library each, it is half of that; and what they refuse is what has to be refused anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from cassandra.query import UNSET_VALUE, BoundStatement

from paytm_lab.backends.servers.cassandra_tables import KEY_BYTES_MAX, Table, require_rows
from paytm_lab.core.errors import BadInput
from paytm_lab.ports.wide_store import Row

_COLUMN_OVERHEAD_BYTES = 16
_pack_bigint = struct.Struct(">q").pack
_pack_double = struct.Struct(">d").pack


def _bigint(value: Any) -> bytes:
    if not isinstance(value, int):
        raise TypeError(f"{value!r:.80} is no integer")
    return _pack_bigint(value)


def _double(value: Any) -> bytes:
    if not isinstance(value, float | int):
        raise TypeError(f"{value!r:.80} is no number")
    return _pack_double(value)


def _blob(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r:.80} is no bytes")
    return value


def _other(value: Any) -> bytes:
    raise TypeError(f"{value!r:.80} is for a column of a type that the lab has not")


_PACK: dict[str, Callable[[Any], bytes]] = {
    "text": str.encode,
    "bigint": _bigint,
    "double": _double,
    "blob": _blob,
}


def size_bytes(values: Iterable[Any]) -> int:
    """About how many bytes a statement of these packed values is."""
    sizes = [len(value) for value in values if isinstance(value, bytes)]
    return sum(sizes) + _COLUMN_OVERHEAD_BYTES * len(sizes)


class RowPacker:
    """For statements that take all columns of ``table`` in their order."""

    def __init__(self, table: Table, place: str) -> None:
        self._table, self._place = table, place
        self._columns = [(name, _PACK.get(type_, _other)) for name, type_ in table.columns.items()]
        at = {name: number for number, name in enumerate(table.columns)}
        self._key = [at[name] for name in table.key]
        self._partition = [at[name] for name in table.partition_key]

    def bind(self, prepared: Any, row: Row) -> tuple[BoundStatement, int]:
        """The statement, and about how many bytes it is. What the row does not name is left unset.
        BadInput for what the server would refuse.
        """
        try:
            values = self._values(row)
        except (TypeError, ValueError, struct.error) as error:
            require_rows(self._table, [row], self._place)  # says what is wrong with it
            raise BadInput(
                f"a value that {self._table.name} cannot hold: {error!s:.200}", place=self._place
            ) from error
        bound = BoundStatement(prepared)
        bound.values = values
        bound.raw_values = row  # what it shows of itself
        return bound, size_bytes(values)

    def _values(self, row: Row) -> list[Any]:
        values: list[Any] = []
        named = 0
        for name, pack in self._columns:
            if name in row:
                value = row[name]
                values.append(None if value is None else pack(value))
                named += 1
            else:
                values.append(UNSET_VALUE)
        if named < len(row):
            raise ValueError("a column that the table has not")
        for number in self._key:
            if not isinstance(values[number], bytes):
                raise ValueError("a key that is not whole")
        sizes = [len(values[number]) for number in self._partition]
        if sum(sizes) > KEY_BYTES_MAX or sizes == [0]:
            raise ValueError("a partition key of a size that Cassandra does not take")
        return values
