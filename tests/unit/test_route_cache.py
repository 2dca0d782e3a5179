"""Routes for other readers: fixed keys and values, and a cache that fails harms nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from paytm_lab.core.errors import ConnectionLost, Unavailable
from paytm_lab.ports.cache import Hit
from paytm_lab.routing.route_cache import RouteCache
from paytm_lab.routing.shard_map import Router, ShardMap


class MemoryCache:
    """A cache in a dict; ``failure`` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls_s: set[float] = set()
        self.failure: Exception | None = None

    def _answer(self) -> None:
        if self.failure is not None:
            raise self.failure

    def get(self, key: str) -> bytes | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._answer()
        return [self.values.get(key) for key in keys]

    def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> None:
        self._answer()
        self.values.update(values)
        self.ttls_s.add(ttl_s)

    def delete(self, keys: Sequence[str]) -> None:
        self._answer()
        for key in keys:
            self.values.pop(key, None)

    def count_window(self, hits: Sequence[Hit], window_s: float) -> list[int]:
        raise NotImplementedError

    def reserve(self, hit: Hit, window_s: float, count_max: int) -> tuple[bool, int]:
        raise NotImplementedError

    def reserve_many(
        self, hits: Sequence[Hit], window_s: float, count_max: int
    ) -> list[tuple[bool, int]]:
        raise NotImplementedError

    def release(self, key: str, member: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


def test_keys_and_values_are_as_documented(cache: MemoryCache) -> None:
    routes = RouteCache(cache, ttl_s=60)
    assert routes.publish(Router(ShardMap.initial(4)), ["2", "alice"])
    assert cache.values == {
        "shard:route:2": b'{"shard_id":2}',
        "shard:route:alice": b'{"shard_id":1}',
    }
    assert cache.ttls_s == {60}
    assert routes.read(["alice", "bob", "2"]) == {"alice": 1, "2": 2}
    assert (routes.hits, routes.misses, routes.failures) == (2, 1, 0)
    assert routes.forget(["alice"])
    assert routes.read(["alice"]) == {}
    assert routes.publish(Router(ShardMap.initial(4)), [])


def test_a_moved_user_is_published_anew(cache: MemoryCache) -> None:
    routes = RouteCache(cache)
    router = Router(ShardMap.initial(4))
    routes.publish(router, ["2"])
    router.replace(router.map.move([2], 0))
    routes.publish(router, ["2"])
    assert routes.read(["2"]) == {"2": 0}


@pytest.mark.parametrize("failure", [Unavailable("gone"), ConnectionLost("cut")])
def test_a_failing_cache_is_counted_and_never_raises(
    cache: MemoryCache, failure: Exception
) -> None:
    routes = RouteCache(cache)
    router = Router(ShardMap.initial(4))
    cache.failure = failure
    assert not routes.publish(router, ["2"])
    assert routes.read(["2"]) == {}
    assert not routes.forget(["2"])
    assert routes.failures == 3
    assert router.locate("2") == (2, 2), "routing itself never asks the cache"
    cache.failure = None
    assert routes.publish(router, ["2"])
    assert routes.read(["2"]) == {"2": 2}
    assert routes.failures == 3


def test_a_programming_error_is_not_swallowed(cache: MemoryCache) -> None:
    cache.failure = TypeError("a mistake")
    with pytest.raises(TypeError):
        RouteCache(cache).read(["2"])


@pytest.mark.parametrize("value", [b"", b"2", b"{}", b'{"shard_id":"2"}', b"\xff"])
def test_a_strange_value_is_as_good_as_none(cache: MemoryCache, value: bytes) -> None:
    routes = RouteCache(cache)
    cache.values["shard:route:2"] = value
    assert routes.read(["2"]) == {}
    assert (routes.failures, routes.misses) == (1, 1)


def test_other_readers_fields_are_ignored(cache: MemoryCache) -> None:
    cache.values["shard:route:2"] = b'{"shard_id":3,"more":1}'
    assert RouteCache(cache).read(["2"]) == {"2": 3}
