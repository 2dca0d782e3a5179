"""How often one caller may ask, over all processes, without a round trip to the cache each time."""

from __future__ import annotations

import asyncio
import math
import secrets
from contextlib import suppress

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import RateLimited, StoreError, Unavailable
from paytm_lab.ports.cache import Cache, Hit
from paytm_lab.web.pool import BoundedPool

REMEMBERED_MAX = 100_000
REFUSED_S_MIN = 0.2


class _Tokens:
    __slots__ = ("lease", "left", "refused_until_s", "until_s")

    def __init__(self, left: int, until_s: float) -> None:
        self.left = left
        self.until_s = until_s
        self.refused_until_s = 0.0
        self.lease: asyncio.Future[None] | None = None


class RateLimiter:
    """At most ``requests_max`` requests of one user to one endpoint within ``window_s`` over all
    processes, and a ``block`` more in each: a process gives the first block of a window out by
    itself and leases every further one under ``rate_limit:{user}:{endpoint}``, so that who asks
    seldom costs no round trip. To be used in one event loop. A cache that is away limits nobody:
    what must not go on without it is refused elsewhere.
    """

    def __init__(
        self, cache: Cache, clock: Clock, pool: BoundedPool, window_s: float, block: int
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._pool = pool
        self._window_s = window_s
        self._block = block
        self._tokens: dict[tuple[str, str], _Tokens] = {}

    async def take(self, user_id: str, endpoint: str, requests_max: int, count: int = 1) -> None:
        """``count`` requests at once; RateLimited where they are too many, then none is counted."""
        now_s = self._clock.monotonic_s()
        tokens = self._tokens.get((user_id, endpoint))
        if tokens is None or tokens.until_s <= now_s:
            tokens = self._begin((user_id, endpoint), min(self._block, requests_max), now_s)
        while tokens.left < count:
            if now_s < tokens.refused_until_s:
                raise _refused(requests_max, self._window_s, tokens.refused_until_s - now_s)
            if tokens.lease is None:
                missing = math.ceil((count - tokens.left) / self._block)
                lease = self._leased(tokens, user_id, endpoint, requests_max, missing)
                tokens.lease = asyncio.ensure_future(lease)
            await asyncio.shield(tokens.lease)
            now_s = self._clock.monotonic_s()
        tokens.left -= count

    def _begin(self, key: tuple[str, str], left: int, now_s: float) -> _Tokens:
        if len(self._tokens) >= REMEMBERED_MAX:
            self._tokens = {k: t for k, t in self._tokens.items() if t.until_s > now_s}
            if len(self._tokens) >= REMEMBERED_MAX:
                self._tokens.clear()
        tokens = self._tokens[key] = _Tokens(left, now_s + self._window_s)
        return tokens

    async def _leased(
        self, tokens: _Tokens, user_id: str, endpoint: str, requests_max: int, blocks: int
    ) -> None:
        """Add blocks to the tokens, or note until when there are none."""
        key = f"rate_limit:{user_id}:{endpoint}"
        blocks_max = max(1, requests_max // self._block)
        try:
            wait_s = await self._pool.run(self._lease, key, blocks_max, blocks)
        except (Unavailable, StoreError):
            wait_s = 0.0
        finally:
            tokens.lease = None
        if wait_s:
            tokens.refused_until_s = self._clock.monotonic_s() + max(REFUSED_S_MIN, wait_s)
        else:
            tokens.left += blocks * self._block

    def _lease(self, key: str, blocks_max: int, blocks: int) -> float:
        """0 when all were had; else in how many seconds one comes back."""
        now_us = self._clock.now_us()
        taken: list[str] = []
        for _ in range(blocks):
            hit = Hit(key, secrets.token_hex(8), now_us)
            admitted, _count = self._cache.reserve(hit, self._window_s, blocks_max)
            if not admitted:
                break
            taken.append(hit.member)
        else:
            return 0.0
        with suppress(Unavailable):
            for member in taken:
                self._cache.release(key, member)
        after_us = now_us - round(self._window_s * 1e6)
        oldest = min((hit.at_us for hit in self._cache.arrivals(key, after_us)), default=now_us)
        return max(REFUSED_S_MIN, (oldest - after_us) / 1e6)


def _refused(requests_max: int, window_s: float, wait_s: float) -> RateLimited:
    return RateLimited(
        f"more than {requests_max} requests within {window_s:g} s",
        remedy="Wait as long as Retry-After says; the repeat may have the same key.",
        retry_after_s=wait_s,
    )
