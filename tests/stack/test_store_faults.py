"""What callers of the cache and the wide store see when Redis and Cassandra are killed or frozen:
on servers of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from paytm_lab.backends.servers.cache import RedisCache
from paytm_lab.backends.servers.wide_store import CassandraWideStore
from paytm_lab.core.errors import MissingPart, Unavailable
from paytm_lab.ports.cache import Hit
from paytm_lab.ports.wide_store import WideTable
from paytm_lab.stack.control import Stack
from tests.stack.part import part_of_a_stack
from tests.waiting import answers, until

PORT_OFFSET = 23_500
DEADLINE_S = 60.0
EVENTS = WideTable("events", ("id",), ("type",), {"id": "text", "type": "text", "body": "text"})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of which only Redis and Cassandra run."""
    with part_of_a_stack(
        tmp_path_factory.mktemp("stack"), PORT_OFFSET, "redis", "cassandra"
    ) as stack:
        yield stack


@pytest.fixture
def cache(stack: Stack) -> Iterator[RedisCache]:
    stack.start("redis")
    stack.wait_ready("redis")
    port = stack.server("redis").port
    with closing(RedisCache("127.0.0.1", port, stack.passwords().redis)) as cache:
        yield cache
    if stack.pid("redis") is not None:
        stack.thaw("redis")


@pytest.fixture
def place(stack: Stack) -> Iterator[str]:
    stack.start("cassandra")
    stack.wait_ready("cassandra")
    yield f"127.0.0.1:{stack.server('cassandra').port}"
    if stack.pid("cassandra") is not None:
        stack.thaw("cassandra")


def test_redis_killed_is_away_at_once_and_back_with_the_same_client(
    stack: Stack, cache: RedisCache
) -> None:
    hit = Hit("window", "member", 1_767_225_600_000_000)
    assert cache.count_window([hit], 60.0) == [1]
    stack.kill("redis")
    began = time.monotonic()
    for call in (lambda: cache.get("k"), lambda: cache.count_window([hit], 60.0)):
        with pytest.raises(Unavailable, match="Start Redis"):
            call()
    assert time.monotonic() - began < 1
    stack.start("redis")
    until(lambda: answers(lambda: cache.get("k")), "redis answers again")
    # The scripts are gone from the server; nobody notices.
    assert cache.count_window([hit], 60.0) == [1]
    assert cache.reserve(hit, 60.0, 1) == (True, 1)
    cache.set_many({"k": b"v"}, 0.05)
    until(lambda: cache.get("k") is None, "a value past its time is gone")


def test_redis_frozen_costs_each_call_its_timeout_once(stack: Stack, cache: RedisCache) -> None:
    cache.set_many({"k": b"v"}, 60)
    stack.freeze("redis")
    began = time.monotonic()
    with pytest.raises(Unavailable, match="in time"):
        cache.get("other")
    assert 0.9 < time.monotonic() - began < 1.9
    stack.thaw("redis")
    assert cache.get("k") == b"v", "no answer of the frozen one is taken for another"


@pytest.mark.parametrize("password", ["", "wrong"])
def test_redis_without_its_password(stack: Stack, cache: RedisCache, password: str) -> None:
    with (
        closing(RedisCache("127.0.0.1", stack.server("redis").port, password)) as stranger,
        pytest.raises(MissingPart) as caught,
    ):
        stranger.get("k")
    assert "PAYTM_LAB_REDIS_PASSWORD" in caught.value.remedy


def test_a_client_knows_where_its_own_rows_lie_and_nothing_of_other_labs(place: str) -> None:
    for keyspace in ("other", "own"):
        with closing(CassandraWideStore(place, keyspace)) as store:
            store.create_tables([EVENTS])
    with closing(CassandraWideStore(place, "own")) as store:
        store.create_tables([EVENTS])
        metadata = store._session._cluster.metadata
        assert set(metadata.keyspaces) == {"own"}
        assert metadata.get_replicas("own", b"x") == list(metadata.all_hosts()) != []


def test_cassandra_killed_loses_nothing_acknowledged_and_the_same_client_goes_on(
    stack: Stack, place: str
) -> None:
    with closing(CassandraWideStore(place, "paytm_style_kill")) as store:
        store.create_tables([EVENTS])
        acknowledged: list[list[str]] = [[] for _ in range(3)]
        tried: set[str] = set()

        def write(number: int) -> None:
            for i in range(100_000):
                ids = [f"{number}-{i}-{j}" for j in range(20)]
                tried.update(ids)
                try:
                    store.upsert("events", [{"id": x, "type": "t", "body": "b" * 100} for x in ids])
                except Unavailable:
                    return
                acknowledged[number] += ids

        writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for writer in writers:
            writer.start()
        until(lambda: min(map(len, acknowledged)) >= 400, "some rows are stored")
        stack.kill("cassandra")
        for writer in writers:
            writer.join(DEADLINE_S)
            assert not writer.is_alive(), "who wrote while it died is told so"
        with pytest.raises(Unavailable, match="Start Cassandra"):
            store.fetch("events", [("0-0-0", "t")])
        with pytest.raises(Unavailable, match=place):
            CassandraWideStore(place, "paytm_style_kill")
        stack.start("cassandra")
        stack.wait_ready("cassandra")
        until(
            lambda: answers(lambda: store.fetch("events", [("0-0-0", "t")])),
            "the same client reads again",
            within_s=10,
        )
        wanted = [(x, "t") for ids in acknowledged for x in ids]
        assert store.fetch("events", wanted).keys() == set(wanted), "acknowledged is stored"
        assert {row["id"] for row in store.scan("events")} <= tried
        new = [{"id": "claim", "type": f"{i}", "body": ""} for i in range(3)]
        assert store.insert_if_absent("events", new) == [True] * 3
        store.drop()


def test_cassandra_frozen_costs_a_call_its_timeout_once(stack: Stack, place: str) -> None:
    with closing(CassandraWideStore(place, "paytm_style_freeze")) as store:
        store.create_tables([EVENTS])
        row = {"id": "p", "type": "t", "body": ""}
        store.upsert("events", [row])
        stack.freeze("cassandra")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            store.upsert("events", [{**row, "body": "frozen"}])
        assert time.monotonic() - began < 8
        stack.thaw("cassandra")
        until(
            lambda: answers(lambda: store.upsert("events", [{**row, "body": "thawed"}])),
            "it stores again",
            within_s=15,
        )
        assert store.fetch("events", [("p", "t")])["p", "t"]["body"] == "thawed"
        store.drop()
        stack.freeze("cassandra")
        began = time.monotonic()
    assert time.monotonic() - began < 8, "closing waits for nobody long"
