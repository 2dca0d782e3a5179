"""What the wide store on Cassandra sends, seen by something that takes the session's place: no
server is needed to see that a batch is of a size it takes, and that values are its columns'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from cassandra.cqltypes import LongType, UTF8Type
from cassandra.protocol import ColumnMetadata
from cassandra.query import UNSET_VALUE, PreparedStatement

from paytm_lab.backends.servers import wide_store
from paytm_lab.backends.servers.wide_store import CassandraWideStore
from paytm_lab.core.errors import BadInput
from paytm_lab.ports.wide_store import WideTable

BATCH_BYTES_MAX = 50 * 1024  # Cassandra refuses more, where it is of several partitions
TYPES = {"text": UTF8Type, "bigint": LongType}
EVENTS = WideTable("events", ("id",), ("type",), {"id": "text", "type": "text", "z": "text"})
GROWN = EVENTS._replace(columns={**EVENTS.columns, "seen": "bigint"})


class Session:
    """Knows one table as Cassandra does, columns by name, and keeps the batches it is sent."""

    place = "here"

    def __init__(self, *_: object) -> None:
        self.columns: dict[str, str] = {}
        self.batches: list[list[list[Any]]] = []
        self.before_prepare: Callable[[], None] | None = None

    def ask(self, _: str, __: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        kinds = {"id": ("partition_key", 0), "type": ("clustering", 0)}
        return [
            ("events", name, *kinds.get(name, ("regular", -1)), type_)
            for name, type_ in sorted(self.columns.items())
        ]

    def change_schema(self, text: str) -> None:
        self.columns |= dict(re.findall(r'"(\w+)" (text|bigint)', text))

    def prepare(self, text: str) -> PreparedStatement:
        if self.before_prepare is not None:
            action, self.before_prepare = self.before_prepare, None
            action()
        names = re.findall(r'"(\w+)"', text[text.index('"events"') + 8 :].split("VALUES")[0])
        marks = [ColumnMetadata("k", "events", n, TYPES[self.columns[n]]) for n in names]
        return PreparedStatement(marks, text.encode(), [names.index("id")], text, "k", 4, [], None)

    @contextmanager
    def running(self, batches: Iterable[Any]) -> Iterator[None]:
        self.run(batches)
        yield

    def run(self, batches: Iterable[Any]) -> list[list[tuple[Any, ...]]]:
        for batch in batches:
            sent = []
            for _, text, values in batch._statements_and_parameters:
                assert text.count(b"?") == len(values), "the server refuses it"
                sent.append(values)
            self.batches.append(sent)
        return []

    def replica_of(self, *_: object) -> None:
        return None

    def require_open(self) -> None:
        pass

    def know_keyspace(self, _: str) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> CassandraWideStore:
    monkeypatch.setattr(wide_store, "CassandraSession", Session)
    store = CassandraWideStore("here", "k")
    store.create_tables([EVENTS])
    return store


def sent(store: CassandraWideStore) -> list[list[list[Any]]]:
    session: Any = store._session
    return session.batches


@pytest.mark.parametrize("what", ["upsert", "delete"])
def test_no_batch_of_several_partitions_is_larger_than_cassandra_takes(
    store: CassandraWideStore, what: str
) -> None:
    ids = [f"{n:03}" + "x" * 3_000 for n in range(100)]
    if what == "upsert":
        store.upsert("events", [{"id": each, "type": "t", "z": "z"} for each in ids])
    else:
        store.delete("events", [(each, "t") for each in ids])
    batches = sent(store)
    assert sum(map(len, batches)) == 100
    sizes = [sum(len(v) for values in batch for v in values) for batch in batches]
    assert max(sizes) < BATCH_BYTES_MAX


def test_a_statement_that_was_prepared_while_its_table_grew_is_not_kept(
    store: CassandraWideStore,
) -> None:
    session: Any = store._session
    session.before_prepare = lambda: store.create_tables([GROWN])
    store.upsert("events", [{"id": "p", "type": "t", "z": "z"}])
    store.upsert("events", [{"id": "q", "type": "t", "z": "z", "seen": 7}])
    store.upsert("events", [{"id": "r", "type": "t", "seen": 7}])
    seven = (7).to_bytes(8, "big")
    assert sent(store) == [
        [[b"p", b"t", b"z"]],
        [[b"q", seven, b"t", b"z"]],
        [[b"r", seven, b"t", UNSET_VALUE]],
    ]


def test_rows_of_one_key_are_sent_as_one_and_the_later_value_counts(
    store: CassandraWideStore,
) -> None:
    key = {"id": "p", "type": "t"}
    store.create_tables([GROWN])
    store.upsert("events", [key | {"z": "a", "seen": 1}, key | {"z": "b"}, key | {"seen": None}])
    store.upsert("events", [key | {"z": "a"}, {**key, "id": "q"}, key])
    assert sent(store) == [
        [[b"p", None, b"t", b"b"]],
        [[b"p", UNSET_VALUE, b"t", b"a"], [b"q", UNSET_VALUE, b"t", UNSET_VALUE]],
    ]


@pytest.mark.parametrize(
    "bad",
    [{"colour": "red"}, {"z": 7}, {"type": None}, {"id": ["p"]}, {"id": ""}],
)
def test_one_row_that_does_not_fit_and_nothing_is_sent(
    store: CassandraWideStore, bad: dict[str, Any]
) -> None:
    key = {"id": "p", "type": "t"}
    for rows in ([key, key | bad], [key, key, key | bad], [key | bad, key], [key, {"id": "q"}]):
        with pytest.raises(BadInput):
            store.upsert("events", rows)
        with pytest.raises(BadInput):
            store.insert_if_absent("events", rows)
    assert sent(store) == []
