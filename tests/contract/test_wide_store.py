"""What ports.wide_store promises, against real processes where it speaks of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.core.errors import BadInput
from paytm_lab.ports.wide_store import Row, WideStore, WideTable

Make = Callable[[], WideStore]
ROOT = Path(__file__).parents[2]
EVENTS = WideTable(
    "events",
    ("payment_id",),
    ("type",),
    {"payment_id": "text", "type": "text", "body": "text", "seen": "bigint"},
)
FEATURES = WideTable(
    "features",
    ("payment_id",),
    (),
    {"payment_id": "text", "amount": "bigint", "score": "double", "model": "text", "raw": "blob"},
)
HOURS = WideTable(
    "hours",
    ("shard", "day"),
    ("hour", "kind"),
    {"shard": "bigint", "day": "text", "hour": "bigint", "kind": "text", "total": "bigint"},
)
PLACES = WideTable("places", ("hour",), ("payment_id",), {"hour": "bigint", "payment_id": "text"})
TABLES = (EVENTS, FEATURES, HOURS, PLACES)


@pytest.fixture
def store(make_wide_store: Make) -> WideStore:
    store = make_wide_store()
    store.create_tables(TABLES)
    return store


@pytest.fixture
def start(profile: str, wide_store_place: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    with ExitStack() as processes:

        def begin(*arguments: str) -> subprocess.Popen[str]:
            script = Path(__file__).with_name("wide_store_process.py")
            process = subprocess.Popen(
                [sys.executable, str(script), profile, wide_store_place, *arguments],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield begin


def event(payment_id: str, kind: str = "PaymentCompleted", **more: object) -> Row:
    return {"payment_id": payment_id, "type": kind, "body": "{}", "seen": 1, **more}


def test_rows_come_back_by_their_key_and_absent_keys_are_left_out(store: WideStore) -> None:
    rows = [event(f"p{i}", kind) for i in range(300) for kind in ("a", "b")]
    store.upsert("events", rows)
    keys = [(r["payment_id"], r["type"]) for r in rows]
    assert store.fetch("events", keys) == dict(zip(keys, rows, strict=True))
    assert store.fetch("events", [("p1", "c"), ("p1", "b"), ("x", "a"), ("p1", "b")]) == {
        ("p1", "b"): event("p1", "b")
    }
    assert store.fetch("events", []) == {}
    assert store.count("events") == 600


def test_columns_that_are_not_named_keep_their_value(store: WideStore) -> None:
    store.upsert("features", [{"payment_id": "p", "amount": 5, "model": "m"}])
    store.upsert("features", [{"payment_id": "p", "score": 0.25}])
    store.upsert("features", [{"payment_id": "p"}])
    assert store.fetch("features", [("p",)]) == {
        ("p",): {"payment_id": "p", "amount": 5, "score": 0.25, "model": "m", "raw": None}
    }
    store.upsert("features", [{"payment_id": "p", "amount": None}])
    assert store.fetch("features", [("p",)])[("p",)]["amount"] is None


def test_rows_of_one_call_count_in_their_order(store: WideStore) -> None:
    store.upsert(
        "features",
        [
            {"payment_id": "p", "amount": 1, "model": "first"},
            {"payment_id": "p", "amount": 2},
            {"amount": 3, "payment_id": "p"},
            {"payment_id": "q", "amount": 9},
            {"payment_id": "p", "model": "last"},
        ],
    )
    row = store.fetch("features", [("p",)])[("p",)]
    assert (row["amount"], row["model"]) == (3, "last")


def test_several_tables_are_written_while_something_else_is_done(store: WideStore) -> None:
    rows = [event(f"p{n}") for n in range(300)]
    place = {"hour": 1, "payment_id": "p1"}
    with store.upserting({"events": rows, "features": [], "places": [place]}):
        store.upsert("features", [{"payment_id": "other", "amount": 5}])
    assert store.count("events") == 300
    assert store.partition("places", (1,)) == [place]
    assert store.count("features") == 1
    with store.upserting({}):
        pass


def test_of_several_tables_none_is_written_where_one_is_told_nonsense(store: WideStore) -> None:
    begun = False
    for nonsense in ({"features": [{"payment_id": "p", "colour": 1}]}, {"nothing": [{"a": 1}]}):
        with pytest.raises(BadInput), store.upserting({"events": [event("p")]} | nonsense):
            begun = True
    assert not begun and store.count("events") == 0


def test_an_error_beside_a_write_is_the_callers_own(store: WideStore) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        store.upserting({"events": [event(f"p{n}") for n in range(300)]}),
    ):
        1 / 0  # noqa: B018
    store.upsert("events", [event("q")])  # and nothing hangs
    assert store.count("events") in (1, 301)


def test_a_table_may_be_all_key(store: WideStore) -> None:
    rows = [{"hour": n % 2, "payment_id": f"p{n}"} for n in range(5)]
    store.upsert("places", rows[:3])
    store.upsert("places", rows[1:])
    assert store.partition("places", (0,)) == [rows[0], rows[2], rows[4]]
    assert store.fetch("places", [(1, "p3"), (1, "p4")]) == {(1, "p3"): rows[3]}
    assert store.count("places") == 5


def test_insert_if_absent_tells_who_was_first(store: WideStore) -> None:
    assert store.insert_if_absent("events", [event("p", body="first")]) == [True]
    rows = [event("p", body="2nd"), event("q", body="a"), event("q", body="b"), event("r")]
    assert store.insert_if_absent("events", rows) == [False, True, False, True]
    assert store.insert_if_absent("events", []) == []
    stored = store.fetch("events", [(p, "PaymentCompleted") for p in "pqr"])
    assert [row["body"] for row in stored.values()] == ["first", "a", "{}"]
    many = [event(f"m{i}") for i in range(500)]
    assert store.insert_if_absent("events", many[::2]) == [True] * 250
    assert store.insert_if_absent("events", many) == [False, True] * 250


def test_rows_of_one_partition_are_claimed_one_by_one(store: WideStore) -> None:
    rows = [event("p", f"type{i:04}") for i in range(2_500)]
    assert store.insert_if_absent("events", rows[5:1_000:7]) == [True] * 143
    claimed = {row["type"] for row in rows[5:1_000:7]}
    answers = store.insert_if_absent("events", [*rows, *rows[:10], event("q")])
    assert answers[:2_500] == [row["type"] not in claimed for row in rows]
    assert answers[2_500:] == [False] * 10 + [True]
    assert store.insert_if_absent("events", rows) == [False] * 2_500
    assert store.count("events") == 2_501


def test_a_partition_comes_in_clustering_order(store: WideStore) -> None:
    cells = [(h, k) for h in (11, 2, 30) for k in ("b", "a")]
    for shard in (0, 1):
        store.upsert(
            "hours",
            [
                {"shard": shard, "day": "monday", "hour": h, "kind": k, "total": 100 * h + shard}
                for h, k in cells
            ],
        )
    rows = store.partition("hours", (1, "monday"))
    assert [(r["hour"], r["kind"]) for r in rows] == sorted(cells)
    assert {r["total"] % 100 for r in rows} == {1}
    assert store.partition("hours", (1, "monday"), rows_max=2) == rows[:2]
    assert store.partition("hours", (1, "tuesday")) == []
    assert store.partition("features", ("nobody",)) == []


def test_a_partition_is_read_page_by_page(store: WideStore) -> None:
    cells = [(h, k) for h in (2, 11, 30) for k in ("a", "b")]
    rows = [{"shard": 1, "day": "monday", "hour": h, "kind": k, "total": h} for h, k in cells]
    store.upsert("hours", [*rows, {**rows[0], "day": "sunday", "hour": 40}])
    read: list[Row] = []
    after: tuple[object, ...] = ()
    while page := store.partition("hours", (1, "monday"), rows_max=2, after=after):
        assert len(page) == 2
        read += page
        after = (page[-1]["hour"], page[-1]["kind"])
    assert read == rows
    assert store.partition("hours", (1, "monday"), after=(11, "aa")) == rows[3:]
    store.upsert("events", [event("p", f"type{i}") for i in range(5)])
    kinds = [r["type"] for r in store.partition("events", ("p",), 2, after=("type1",))]
    assert kinds == ["type2", "type3"]
    assert store.partition("events", ("p",), 0, after=("type1",)) == []
    with pytest.raises(BadInput):
        store.partition("hours", (1, "monday"), after=(11,))


def test_deleted_rows_are_gone_and_others_stay(store: WideStore, make_wide_store: Make) -> None:
    rows = [event(f"p{i}", kind) for i in range(300) for kind in ("a", "b")]
    store.upsert("events", rows)
    gone = [(r["payment_id"], r["type"]) for r in rows if r["payment_id"] < "p2"]
    store.delete("events", [*gone, gone[0], ("nobody", "a")])
    store.delete("events", [])
    other = make_wide_store()
    assert store.count("events") == other.count("events") == 600 - len(gone)
    assert other.fetch("events", gone) == {}
    assert other.partition("events", ("p100",)) == []
    # What was removed can be there again, for the first time.
    assert store.insert_if_absent("events", [event("p100", "a")]) == [True]
    store.delete("events", [("p100", "a")])
    store.upsert("events", [event("p100", "a", body="new")])
    assert store.partition("events", ("p100",)) == [event("p100", "a", body="new")]
    store.upsert("hours", [{"shard": 1, "day": "d", "hour": h, "kind": "k"} for h in (1, 2)])
    store.delete("hours", [(1, "d", 1, "k")])
    assert [r["hour"] for r in store.partition("hours", (1, "d"))] == [2]
    for bad in (
        lambda: store.delete("nowhere", [("p",)]),
        lambda: store.delete("events", [("p",)]),
    ):
        with pytest.raises(BadInput):
            bad()


def test_a_scan_returns_every_row_while_others_write(store: WideStore) -> None:
    store.upsert("events", [event(f"p{i}") for i in range(2_500)])
    rows = store.scan("events")
    seen = [next(rows)]
    store.upsert("events", [event(f"late{i}") for i in range(10)])
    seen += rows
    ids = {r["payment_id"] for r in seen}
    assert ids >= {f"p{i}" for i in range(2_500)}
    assert len(seen) == len(ids)
    assert set(seen[0]) == set(EVENTS.columns)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"payment_id": _text.filter(bool)},
            optional={
                "amount": st.none() | st.integers(-(2**63), 2**63 - 1),
                "score": st.none() | st.floats(allow_nan=False),
                "model": st.none() | _text,
                "raw": st.none() | st.binary(max_size=30),
            },
        ),
        max_size=20,
    )
)
def test_upserts_do_what_a_dictionary_would(make_wide_store: Make, rows: list[Row]) -> None:
    store = make_wide_store()
    store.create_tables(TABLES)
    empty = dict.fromkeys(FEATURES.columns)
    keys = [(row["payment_id"],) for row in rows]
    expected = {key: {**empty, **row} for key, row in store.fetch("features", keys).items()}
    for key, row in zip(keys, rows, strict=True):
        expected[key] = {**expected.get(key, empty), **row}
    store.upsert("features", rows)
    assert store.fetch("features", keys) == expected
    assert all(store.partition("features", key) == [expected[key]] for key in keys)
    store.close()


@given(st.lists(st.tuples(_text, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=10))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_and_numbers_come_back_exactly(
    make_wide_store: Make, values: list[tuple[str, int]]
) -> None:
    store = make_wide_store()
    store.create_tables(TABLES)
    rows = [
        {"payment_id": f"k{i}", "type": "t", "body": text, "seen": number}
        for i, (text, number) in enumerate(values)
    ]
    store.upsert("events", rows)
    assert list(store.fetch("events", [(r["payment_id"], "t") for r in rows]).values()) == rows
    assert [store.partition("events", (r["payment_id"],)) for r in rows] == [[r] for r in rows]
    store.close()


def test_stored_means_durable_and_tables_are_known_again(
    store: WideStore, make_wide_store: Make
) -> None:
    store.upsert("events", [event("p")])
    store.close()
    store.close()
    again = make_wide_store()
    assert again.count("events") == 1
    again.create_tables(TABLES)
    assert again.fetch("events", [("p", "PaymentCompleted")])
    assert again.partition("hours", (0, "monday")) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.upsert("nowhere", [{"payment_id": "p"}]),
        lambda s: s.upsert("events", [event("p", colour="red")]),
        lambda s: s.upsert("events", [event("p"), {"payment_id": "p", "body": ""}]),
        lambda s: s.upsert("events", [event("p"), {**event("q"), "type": None}]),
        lambda s: s.upsert("events", [event("p"), event("q", seen="many")]),
        lambda s: s.upsert("events", [event("p"), event("q", seen=2**63)]),
        lambda s: s.upsert("events", [event("p"), event("q", body={"a": 1})]),
        lambda s: s.insert_if_absent("events", [event("p"), event("q", colour="red")]),
        lambda s: s.insert_if_absent("events", [event("p"), {"payment_id": "p"}]),
        lambda s: s.insert_if_absent("nowhere", [event("p")]),
        lambda s: s.fetch("nowhere", [("p",)]),
        lambda s: s.fetch("events", [("p",)]),
        lambda s: s.partition("hours", (1,)),
        lambda s: s.scan("nowhere"),
        lambda s: s.count("nowhere"),
        lambda s: s.create_tables([WideTable("bad name", ("a",), (), {"a": "text"})]),
        lambda s: s.create_tables([WideTable("bad", ("a",), (), {"b": "text"})]),
        lambda s: s.create_tables([WideTable("bad", ("a",), (), {"a": "colour"})]),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    store: WideStore, call: Callable[[WideStore], object]
) -> None:
    with pytest.raises(BadInput):
        call(store)
    assert store.count("events") == 0


def test_parallel_claims_have_one_winner_each(store: WideStore, make_wide_store: Make) -> None:
    clients = [store, make_wide_store()]
    together = threading.Barrier(4)

    def claim(client: WideStore) -> list[bool]:
        together.wait()
        return [
            new
            for start in range(0, 100, 10)
            for new in client.insert_if_absent(
                "events", [event(f"p{i}") for i in range(start, start + 10)]
            )
        ]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(claim, [*clients, *clients]))
    assert [sum(column) for column in zip(*answers, strict=True)] == [1] * 100


def test_parallel_claims_in_one_partition_have_one_winner_each(
    store: WideStore, make_wide_store: Make
) -> None:
    clients = [store, make_wide_store()]
    together = threading.Barrier(4)

    def claim(number: int) -> list[bool]:
        kinds = [f"type{i}" for i in range(60)]
        order = kinds if number % 2 else kinds[::-1]
        together.wait()
        new = {
            kind: won
            for start in range(0, 60, 15)
            for kind, won in zip(
                order[start : start + 15],
                clients[number // 2].insert_if_absent(
                    "events", [event("p", kind) for kind in order[start : start + 15]]
                ),
                strict=True,
            )
        }
        return [new[kind] for kind in kinds]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(claim, range(4)))
    assert [sum(column) for column in zip(*answers, strict=True)] == [1] * 60


def test_processes_claim_each_row_once(
    store: WideStore, start: Callable[..., subprocess.Popen[str]]
) -> None:
    said = [p.communicate()[0] for p in [start("claim", "events", "300") for _ in range(2)]]
    assert sum(map(int, said)) == 300 == store.count("events")


def test_what_was_acknowledged_survives_kill_9(
    store: WideStore, start: Callable[..., subprocess.Popen[str]]
) -> None:
    writer = start("write_on", "events")
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(300)]
    writer.kill()
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    stored = store.fetch("events", [(f"p{i}", "t") for i in range(len(acknowledged) + 2)])
    assert len(acknowledged) <= len(stored) <= len(acknowledged) + 1
    assert all(row["body"] == "x" * 500 for row in stored.values())
