"""Rows packed by hand are, byte for byte, what the driver would make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cassandra.cqltypes import BytesType, DoubleType, LongType, UTF8Type
from cassandra.protocol import ColumnMetadata
from cassandra.query import UNSET_VALUE, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.backends.servers import cassandra_tables as cql
from paytm_lab.backends.servers.cassandra_rows import RowPacker
from paytm_lab.core.errors import BadInput
from paytm_lab.ports.wide_store import WideTable

TYPES = {"text": UTF8Type, "bigint": LongType, "double": DoubleType, "blob": BytesType}
TABLE = cql.sound(
    "k",
    WideTable(
        "t",
        ("a", "n"),
        ("c",),
        {"a": "text", "n": "bigint", "c": "text", "x": "double", "b": "blob", "more": "text"},
    ),
)
ALONE = cql.sound("k", WideTable("one", ("a",), (), {"a": "text", "x": "double"}))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
BIGINT = st.integers(-(2**63), 2**63 - 1)


def prepared(table: cql.Table) -> PreparedStatement:
    columns = [
        ColumnMetadata(table.keyspace, table.name, name, TYPES[type_])
        for name, type_ in table.columns.items()
    ]
    at = [list(table.columns).index(name) for name in table.partition_key]
    return PreparedStatement(columns, b"id", at, "INSERT", table.keyspace, 4, [], None)


@given(
    st.fixed_dictionaries(
        {"a": TEXT, "n": BIGINT, "c": TEXT},
        optional={
            "x": st.none() | st.floats() | st.integers(-(2**53), 2**53),
            "b": st.none() | st.binary(),
            "more": st.none() | TEXT,
        },
    )
)
def test_any_row_is_what_the_driver_would_bind(row: dict[str, Any]) -> None:
    statement = prepared(TABLE)
    bound, size = RowPacker(TABLE, "place").bind(statement, row)
    theirs = statement.bind(row)
    assert bound.values == theirs.values
    assert bound.routing_key == theirs.routing_key
    assert bound.keyspace == theirs.keyspace
    assert size >= sum(len(v) for v in bound.values if isinstance(v, bytes))


def test_what_a_row_does_not_name_is_left_as_it_is() -> None:
    row = {"a": "a", "n": 1, "c": "", "b": None}
    bound, _ = RowPacker(TABLE, "place").bind(prepared(TABLE), row)
    assert bound.values[3:] == [UNSET_VALUE, None, UNSET_VALUE]


GOOD: dict[str, Any] = {"a": "a", "n": 1, "c": "c"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": "red"}, "no column 'colour'"),
        ({"a": None}, "needs a"),
        ({"c": None}, "needs c"),
        ({"n": "1"}, "'1' is not a bigint: t.n"),
        ({"n": 1.0}, "not a bigint"),
        ({"n": 2**63}, "not a bigint"),
        ({"n": -(2**63) - 1}, "not a bigint"),
        ({"a": b"a"}, "not a text"),
        ({"x": "0.5"}, "not a double"),
        ({"b": "raw"}, "not a blob"),
        ({"b": 7}, "not a blob"),
        ({"a": "x" * 65_536}, "a partition key of 65536 bytes"),
        ({"more": "\ud800"}, "cannot hold"),
        ({"a": "\ud800"}, "cannot hold"),
        ({"x": 10**400}, "cannot hold"),
        ({"n": np.int64(1)}, "not a bigint"),
        ({"x": np.float32(0.5)}, "not a double"),
        ({"b": bytearray(b"raw")}, "not a blob"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    packer, statement = RowPacker(TABLE, "place"), prepared(TABLE)
    packer.bind(statement, GOOD)
    with pytest.raises(BadInput, match=said):
        packer.bind(statement, GOOD | changes)


def test_a_row_needs_its_whole_key() -> None:
    with pytest.raises(BadInput, match="needs c"):
        RowPacker(TABLE, "place").bind(prepared(TABLE), {"a": "a", "n": 1})


def test_a_partition_key_of_one_column_is_not_empty_and_of_two_it_may_be() -> None:
    RowPacker(TABLE, "place").bind(prepared(TABLE), GOOD | {"a": ""})
    with pytest.raises(BadInput, match="a partition key of 0 bytes"):
        RowPacker(ALONE, "place").bind(prepared(ALONE), {"a": ""})


def test_values_that_are_of_a_type_below_are_packed_as_the_driver_does() -> None:
    row = {"a": np.str_("a"), "n": True, "c": "c", "x": np.float64("nan"), "b": b""}
    statement = prepared(TABLE)
    assert RowPacker(TABLE, "place").bind(statement, row)[0].values == statement.bind(row).values


def test_a_column_of_another_type_stops_only_who_names_it() -> None:
    """Somebody has added it on the server; the lab makes none such."""
    types = {"a": "text", "x": "double", "made_at": "timestamp"}
    table = cql.Table("k", "one", ("a",), (), types)
    packer, statement = RowPacker(table, "place"), prepared(ALONE)
    assert packer.bind(statement, {"a": "a", "x": 0.5})[0].values[2] == UNSET_VALUE
    for value in (7, "now", b"12345678"):
        with pytest.raises(BadInput, match="one"):
            packer.bind(statement, {"a": "a", "made_at": value})


def test_a_bound_row_can_be_shown() -> None:
    bound, _ = RowPacker(TABLE, "place").bind(prepared(TABLE), GOOD)
    assert "INSERT" in str(bound)
