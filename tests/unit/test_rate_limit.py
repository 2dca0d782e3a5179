"""Limits on one caller over several processes, by blocks leased from the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import RateLimited
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.rate_limit import RateLimiter

LIMIT, BLOCK, WINDOW_S = 100, 10, 60


@pytest.fixture
def pool() -> Iterator[BoundedPool]:
    pool = BoundedPool("test", 2, 100)
    yield pool
    pool.close()


def passed(limiters: list[RateLimiter], tries: int, user: str = "ann", count: int = 1) -> int:
    """How many of so many tries each got through."""

    async def all_of_them() -> int:
        got, waits_s = 0, [1.0]
        for _ in range(tries):
            for limiter in limiters:
                try:
                    await limiter.take(user, "transfers", LIMIT, count)
                except RateLimited as error:
                    waits_s.append(error.retry_after_s)
                else:
                    got += 1
        assert 0 < min(waits_s) <= max(waits_s) <= WINDOW_S
        return got

    return asyncio.run(all_of_them())


def test_two_processes_share_one_limit(pool: BoundedPool) -> None:
    clock = SimulatedClock()
    cache = EmbeddedCache(clock)
    limiters = [RateLimiter(cache, clock, pool, WINDOW_S, BLOCK) for _ in range(2)]
    assert passed(limiters, 200) == LIMIT + 2 * BLOCK
    assert passed(limiters, 1, "bob") == 2
    clock.advance(WINDOW_S + 1)
    assert passed(limiters, 200) == LIMIT + 2 * BLOCK


def test_who_asks_seldom_costs_no_round_trip(pool: BoundedPool) -> None:
    clock = SimulatedClock()
    cache = EmbeddedCache(clock)
    limiter = RateLimiter(cache, clock, pool, WINDOW_S, BLOCK)
    assert passed([limiter], BLOCK) == BLOCK
    assert cache.arrivals("rate_limit:ann:transfers", 0) == []
    assert passed([limiter], 1) == 1
    assert len(cache.arrivals("rate_limit:ann:transfers", 0)) == 1


def test_many_at_once_are_all_or_none(pool: BoundedPool) -> None:
    clock = SimulatedClock()
    limiter = RateLimiter(EmbeddedCache(clock), clock, pool, WINDOW_S, BLOCK)
    assert passed([limiter], 1, count=LIMIT + BLOCK + 1) == 0
    clock.advance(WINDOW_S + 1)
    assert passed([limiter], 3, count=55) == 2


def test_a_cache_that_is_away_limits_nobody(pool: BoundedPool) -> None:
    clock = SimulatedClock()
    cache = EmbeddedCache(clock)
    cache.available = False
    assert passed([RateLimiter(cache, clock, pool, WINDOW_S, BLOCK)], 500) == 500
