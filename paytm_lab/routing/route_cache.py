"""Routes in the shared cache, for readers that do not follow the shard map.

``shard:route:{user_id}`` holds ``{"shard_id": 2}``. The system itself routes from memory and never
reads these. A route may be out of date for ``ttl_s`` after its slot moved; the shard that a reader
then asks answers that the user is not there, never with stale money.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import msgspec

from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.ports.cache import Cache
from paytm_lab.routing.shard_map import Router

ROUTE_TTL_S = 300.0


class Route(msgspec.Struct, frozen=True):
    shard_id: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Route).decode


def route_key(user_id: str) -> str:
    return f"shard:route:{user_id}"


class RouteCache:
    """Writes and reads routes. A cache that fails is counted in ``failures`` and never raises: a
    payment does not depend on it. Threads may share one.
    """

    def __init__(self, cache: Cache, ttl_s: float = ROUTE_TTL_S) -> None:
        self._cache = cache
        self._ttl_s = ttl_s
        self._counting = threading.Lock()
        self.failures = 0
        self.hits = 0
        self.misses = 0

    def publish(self, router: Router, user_ids: Sequence[str]) -> bool:
        """Write where these users are now; whether the cache took it."""
        places = zip(user_ids, router.locate_many(user_ids), strict=True)
        values = {route_key(user): _encode(Route(shard)) for user, (_slot, shard) in places}
        return not values or self._tried(lambda: self._cache.set_many(values, self._ttl_s))

    def forget(self, user_ids: Sequence[str]) -> bool:
        """Drop these users' routes; whether the cache took it."""
        return self._tried(lambda: self._cache.delete([route_key(user) for user in user_ids]))

    def read(self, user_ids: Sequence[str]) -> dict[str, int]:
        """The cached shard of each user that has a readable route; empty when the cache fails."""
        found: list[bytes | None] = []
        if not self._tried(
            lambda: found.extend(self._cache.get_many([route_key(user) for user in user_ids]))
        ):
            return {}
        routes = {}
        for user_id, value in zip(user_ids, found, strict=True):
            shard = None if value is None else self._shard_in(value)
            if shard is not None:
                routes[user_id] = shard
        with self._counting:
            self.hits += len(routes)
            self.misses += len(user_ids) - len(routes)
        return routes

    def _shard_in(self, value: bytes) -> int | None:
        try:
            return _decode(value).shard_id
        except msgspec.DecodeError:  # somebody else's value: as good as none
            with self._counting:
                self.failures += 1
            return None

    def _tried(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except (Unavailable, StoreError):
            with self._counting:
                self.failures += 1
            return False
        return True
