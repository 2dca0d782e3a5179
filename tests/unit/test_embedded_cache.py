"""What is the embedded cache's own: its bounds and its switch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.ports.cache import Hit


def test_beyond_its_bound_the_soonest_to_expire_goes() -> None:
    cache = EmbeddedCache(SimulatedClock(), entries_max=3)
    cache.set_many({"long": b"1"}, ttl_s=100)
    cache.set_many({"short": b"2"}, ttl_s=10)
    cache.set_many({"middle": b"3"}, ttl_s=50)
    cache.set_many({"short": b"4"}, ttl_s=80)  # no longer the shortest
    cache.set_many({"new": b"5"}, ttl_s=60)
    assert cache.get_many(["long", "short", "middle", "new"]) == [b"1", b"4", None, b"5"]


def test_overwriting_without_end_does_not_grow() -> None:
    cache = EmbeddedCache(SimulatedClock())
    for i in range(20_000):
        cache.set_many({f"k{i % 10}": b"x"}, ttl_s=60)
    assert len(cache._entries) == 10
    assert len(cache._expiries) < 2_000


def test_expired_entries_do_not_stay() -> None:
    clock = SimulatedClock()
    cache = EmbeddedCache(clock)
    for i in range(1_000):
        cache.set_many({f"k{i}": b"x"}, ttl_s=1)
        clock.advance(0.1)
    assert len(cache._entries) <= 11


def test_windows_are_bounded_by_the_last_touch() -> None:
    cache = EmbeddedCache(SimulatedClock(), windows_max=2)
    for key in ("a", "b", "a", "c"):
        cache.count_window([Hit(key, f"{key}1", 0)], 60.0)
    assert cache.count_window([Hit("a", "a2", 0)], 60.0) == [2]
    assert cache.count_window([Hit("b", "b2", 0)], 60.0) == [1], "b was forgotten"


def test_a_hot_windows_old_members_are_forgotten() -> None:
    cache = EmbeddedCache(SimulatedClock())
    for i in range(5_000):
        cache.count_window([Hit("u", str(i), i * 1_000_000)], 60.0)
    assert len(cache._windows["u"].at_us) <= 121


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get("a"),
        lambda c: c.get_many(["a"]),
        lambda c: c.set_many({"a": b""}, 1.0),
        lambda c: c.delete(["a"]),
        lambda c: c.count_window([Hit("a", "b", 0)], 1.0),
        lambda c: c.reserve(Hit("a", "b", 0), 1.0, 1),
        lambda c: c.reserve_many([Hit("a", "b", 0)], 1.0, 1),
        lambda c: c.release("a", "b"),
    ],
)
def test_a_cache_that_is_gone_says_so_and_heals(call: Callable[[EmbeddedCache], object]) -> None:
    cache = EmbeddedCache(SimulatedClock())
    cache.set_many({"kept": b"1"}, ttl_s=10)
    cache.available = False
    with pytest.raises(Unavailable, match="cache"):
        call(cache)
    cache.available = True
    call(cache)
    assert cache.get("kept") == b"1"
    cache.clear()
    assert cache.get("kept") is None


def test_a_time_to_live_is_above_zero() -> None:
    for ttl_s in (0.0, -1.0, float("nan")):
        with pytest.raises(BadInput):
            EmbeddedCache(SimulatedClock()).set_many({"a": b""}, ttl_s)
