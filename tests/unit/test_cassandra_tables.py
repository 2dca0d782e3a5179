"""Statements and checks of the wide store on Cassandra, without a server."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from paytm_lab.backends.servers import cassandra_tables as cql
from paytm_lab.backends.servers.wide_store import CassandraWideStore
from paytm_lab.core.errors import BadInput, InvalidSetting, MissingPart, Unavailable
from paytm_lab.ports.wide_store import WideTable

HOURS = cql.sound(
    "paytm_style",
    WideTable(
        "hours",
        ("shard", "day"),
        ("hour", "kind"),
        {"shard": "bigint", "day": "text", "hour": "bigint", "kind": "text", "mean": "double"},
    ),
)
FEATURES = cql.sound(
    "paytm_style", WideTable("features", ("id",), (), {"id": "text", "raw": "blob"})
)


def test_statements() -> None:
    assert cql.create_table(HOURS) == (
        'CREATE TABLE IF NOT EXISTS "paytm_style"."hours" ("shard" bigint, "day" text,'
        ' "hour" bigint, "kind" text, "mean" double,'
        ' PRIMARY KEY (("shard", "day"), "hour", "kind"))'
    )
    assert cql.create_table(FEATURES).endswith('("id" text, "raw" blob, PRIMARY KEY (("id")))')
    assert cql.insert_if_absent(FEATURES) == (
        'INSERT INTO "paytm_style"."features" ("id", "raw") VALUES (?, ?) IF NOT EXISTS'
    )
    assert cql.select_keys(FEATURES).endswith('WHERE "id" IN ?')
    assert cql.select_keys(HOURS).endswith(
        'WHERE "shard" = ? AND "day" = ? AND ("hour", "kind") IN ?'
    )
    assert cql.select_partition(HOURS).endswith('WHERE "shard" = ? AND "day" = ? LIMIT ?')
    assert cql.select_partition_after(HOURS).endswith(
        'WHERE "shard" = ? AND "day" = ? AND ("hour", "kind") > (?, ?) LIMIT ?'
    )
    assert cql.delete(FEATURES) == 'DELETE FROM "paytm_style"."features" WHERE "id" = ?'
    assert "'replication_factor': 3}" in cql.create_keyspace("paytm_style", 3)


def test_a_stored_table_is_read_back_whatever_the_order_of_its_columns() -> None:
    rows = [
        ("kind", "clustering", 1, "text"),
        ("day", "partition_key", 1, "text"),
        ("hour", "clustering", 0, "bigint"),
        ("mean", "regular", -1, "double"),
        ("shard", "partition_key", 0, "bigint"),
    ]
    assert cql.stored("paytm_style", "hours", rows) == HOURS


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a;", "é", "1a", "a" * 49])
def test_names_are_never_more_than_names(name: str) -> None:
    with pytest.raises(BadInput):
        cql.quoted(name)
    with pytest.raises(BadInput):
        cql.sound("k", WideTable("t", ("a",), (), {"a": "text", name: "text"}))
    with pytest.raises(BadInput):
        CassandraWideStore("127.0.0.1:1", name)


GOOD: dict[str, Any] = {"shard": 1, "day": "monday", "hour": 2, "kind": "k", "mean": 0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "red"},
        {"kind": None},
        {"hour": "2"},
        {"hour": 2.0},
        {"hour": 2**63},
        {"day": b"monday"},
        {"mean": "0.5"},
        {"day": "x" * 65_536},
    ],
)
def test_a_row_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    cql.require_rows(HOURS, [GOOD, {**GOOD, "mean": None}, {**GOOD, "mean": 1}], "place")
    with pytest.raises(BadInput):
        cql.require_rows(HOURS, [GOOD, {**GOOD, **changes}], "place")


def test_a_row_needs_its_whole_key_and_a_partition_cannot_be_empty() -> None:
    with pytest.raises(BadInput):
        cql.require_rows(HOURS, [{"shard": 1, "day": "monday", "hour": 2}], "place")
    with pytest.raises(BadInput):
        cql.require_rows(FEATURES, [{"id": ""}], "place")
    cql.require_rows(FEATURES, [{"id": "x", "raw": b""}], "place")


def test_where_no_server_is_it_says_so_at_once() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Unavailable, match=address) as caught:
            CassandraWideStore(address, "paytm_style")
        assert time.monotonic() - began < 5
    assert "Start Cassandra" in caught.value.remedy


def test_addresses_that_are_none() -> None:
    with pytest.raises(MissingPart):
        CassandraWideStore("no-such-host.invalid:9042", "paytm_style")
    with pytest.raises(InvalidSetting):
        CassandraWideStore("127.0.0.1:cql", "paytm_style")
