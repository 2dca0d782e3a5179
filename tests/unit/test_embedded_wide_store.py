"""What is the embedded wide store's own: its switch, grown tables, damaged files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.core.errors import BadInput, StorageCorrupt, Unavailable
from paytm_lab.ports.wide_store import WideTable

TABLE = WideTable("events", ("id",), (), {"id": "text", "body": "text"})
CALLS: list[Callable[[EmbeddedWideStore], object]] = [
    lambda s: s.create_tables([TABLE]),
    lambda s: s.upsert("events", [{"id": "a", "body": "b"}]),
    lambda s: s.insert_if_absent("events", [{"id": "a"}]),
    lambda s: s.fetch("events", [("a",)]),
    lambda s: s.partition("events", ("a",)),
    lambda s: s.scan("events"),
    lambda s: s.count("events"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_store_that_is_gone_says_so_and_heals(
    tmp_path: Path, call: Callable[[EmbeddedWideStore], object]
) -> None:
    store = EmbeddedWideStore(tmp_path / "wide.sqlite")
    store.create_tables([TABLE])
    store.available = False
    with pytest.raises(Unavailable, match="wide store"):
        call(store)
    store.available = True
    call(store)
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.count("events")


def test_a_table_whose_declaration_grew_gets_its_columns(tmp_path: Path) -> None:
    store = EmbeddedWideStore(tmp_path / "wide.sqlite")
    store.create_tables([TABLE])
    store.upsert("events", [{"id": "a", "body": "b"}])
    assert store.fetch("events", [("a",)]) == {("a",): {"id": "a", "body": "b"}}
    store.create_tables([TABLE._replace(columns={**TABLE.columns, "more": "bigint"})])
    store.upsert("events", [{"id": "a", "more": 7}])
    assert store.fetch("events", [("a",)]) == {("a",): {"id": "a", "body": "b", "more": 7}}
    store.close()


def test_tables_that_are_there_are_not_written_again(tmp_path: Path) -> None:
    store = EmbeddedWideStore(tmp_path / "wide.sqlite")
    tables = [TABLE._replace(name=name) for name in ("one", "two")]
    store.create_tables(tables)
    written = (tmp_path / "wide.sqlite-wal").stat().st_size
    store.create_tables(tables)
    assert (tmp_path / "wide.sqlite-wal").stat().st_size == written
    store.create_tables([*tables, TABLE])
    assert (tmp_path / "wide.sqlite-wal").stat().st_size > written
    store.close()


def test_tables_are_made_all_or_none(tmp_path: Path) -> None:
    store = EmbeddedWideStore(tmp_path / "wide.sqlite")
    with pytest.raises(BadInput, match="bad name"):
        store.create_tables([TABLE, TABLE._replace(name="bad name")])
    with pytest.raises(BadInput, match="not a table"):
        store.count("events")
    store.close()


def test_another_clients_new_table_is_found(tmp_path: Path) -> None:
    first, second = (EmbeddedWideStore(tmp_path / "wide.sqlite") for _ in range(2))
    first.create_tables([TABLE])
    assert second.count("events") == 0
    first.close()
    second.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wide.sqlite"
    path.write_bytes(b"this is no database" * 500)
    with pytest.raises(StorageCorrupt, match=r"wide\.sqlite"):
        EmbeddedWideStore(path)
