"""What ports.cache promises."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paytm_lab.core.clock import SimulatedClock
from paytm_lab.ports.cache import Cache, Hit

Make = Callable[[], Cache]
SECOND = 1_000_000
NOON = 1_767_225_600 * SECOND


@pytest.fixture
def cache(make_cache: Make) -> Cache:
    return make_cache()


def test_what_was_set_is_there_until_its_time_is_over(cache: Cache, clock: SimulatedClock) -> None:
    cache.set_many({"a": b"1", "b": b""}, ttl_s=10)
    cache.set_many({"c": b"3"}, ttl_s=20)
    assert cache.get("a") == b"1"
    assert cache.get_many(["c", "nobody", "a", "b"]) == [b"3", None, b"1", b""]
    clock.advance(10.5)
    assert (cache.get("a"), cache.get("c")) == (None, b"3")
    assert cache.get_many(["a", "b", "c"]) == [None, None, b"3"]
    clock.advance(10)
    assert cache.get("c") is None


def test_setting_again_starts_its_time_anew(cache: Cache, clock: SimulatedClock) -> None:
    cache.set_many({"a": b"1"}, ttl_s=10)
    clock.advance(9)
    cache.set_many({"a": b"2"}, ttl_s=10)
    clock.advance(9)
    assert cache.get("a") == b"2"
    cache.set_many({"a": b"3"}, ttl_s=1)
    clock.advance(1.5)
    assert cache.get("a") is None


def test_deleted_is_gone_and_absent_is_no_error(cache: Cache) -> None:
    cache.set_many({"a": b"1", "b": b"2"}, ttl_s=10)
    cache.delete(["a", "never"])
    cache.delete([])
    assert cache.get_many(["a", "b"]) == [None, b"2"]


def test_a_window_counts_members_up_to_its_length_ago(cache: Cache) -> None:
    times_s = [0, 10, 59.999999, 60, 60.000001, 130]
    hits = [Hit("u", f"p{i}", NOON + round(t * SECOND)) for i, t in enumerate(times_s)]
    # (at - 60 s, at]: at 60 s the first is just out.
    assert cache.count_window(hits, 60.0) == [1, 2, 3, 3, 4, 1]


def test_keys_are_counted_apart_and_members_once(cache: Cache) -> None:
    hits = [Hit("u", "p1", NOON), Hit("v", "p1", NOON), Hit("u", "p1", NOON), Hit("u", "p2", NOON)]
    assert cache.count_window(hits, 60.0) == [1, 1, 1, 2]


def test_a_repeated_call_returns_the_same_numbers(cache: Cache) -> None:
    hits = [Hit("u", f"p{i}", NOON + i % 3 * SECOND) for i in range(10)]
    first = cache.count_window(hits, 60.0)
    cache.count_window([Hit("u", "later", NOON)], 60.0)
    assert cache.count_window(hits, 60.0) == first
    assert cache.count_window(hits[::-1], 60.0) == first[::-1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("u", 1, 0), ("u", 0, 52), ("u", 1, 27), ("u", 2, 27)], 26)
@given(
    st.lists(
        st.tuples(st.sampled_from("uv"), st.integers(0, 30), st.integers(0, 200)), max_size=60
    ),
    st.integers(1, 60),
)
def test_counts_are_those_of_the_definition(
    make_cache: Make, arrivals: list[tuple[str, int, int]], window_s: int
) -> None:
    """Against the definition, for hits that are at most one window late."""
    cache = make_cache()
    known: dict[tuple[str, str], tuple[int, int]] = {}
    latest: dict[str, int] = {}
    for key, number, at_s in arrivals:
        member = f"{key}{number}"
        if at_s <= latest.get(key, 0) - window_s:
            continue
        latest[key] = max(latest.get(key, 0), at_s)
        (count,) = cache.count_window([Hit(key, member, at_s * SECOND)], float(window_s))
        if (key, member) in known:
            if known[key, member][0] > latest[key] - window_s:
                assert count == known[key, member][1]
            continue
        inside = [t for (k, _), (t, _) in known.items() if k == key and at_s - window_s < t <= at_s]
        assert count == len(inside) + 1
        known[key, member] = (at_s, count)
        # What is two windows old is forgotten: its member may come again as a new one.
        last = max(t for (k, _), (t, _) in known.items() if k == key)
        for old in [m for m, (t, _) in known.items() if m[0] == key and t <= last - 2 * window_s]:
            del known[old]


def test_arrivals_are_the_members_later_than_a_time(cache: Cache) -> None:
    cache.count_window([Hit("r", f"s{i}é", NOON + i) for i in (3, 1, 2)], 60)
    cache.count_window([Hit("other", "x", NOON + 9)], 60)
    assert cache.arrivals("r", -1) == [Hit("r", f"s{i}é", NOON + i) for i in (1, 2, 3)]
    assert cache.arrivals("r", NOON + 1) == [Hit("r", f"s{i}é", NOON + i) for i in (2, 3)]
    assert cache.arrivals("r", NOON + 3) == cache.arrivals("nobody", 0) == []
    cache.delete(["r"])
    assert cache.arrivals("r", -1) == []


def test_a_reservation_passes_below_the_limit_only(cache: Cache) -> None:
    answers = [cache.reserve(Hit("u", f"p{i}", NOON + i), 60.0, 3) for i in range(5)]
    assert answers == [(True, 1), (True, 2), (True, 3), (False, 3), (False, 3)]
    assert cache.reserve(Hit("v", "p0", NOON), 60.0, 3) == (True, 1)
    assert cache.reserve(Hit("u", "p1", NOON + 1), 60.0, 3) == (True, 3), "recorded before"
    assert cache.reserve(Hit("u", "p9", NOON + 61 * SECOND), 60.0, 3) == (True, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("uv"), st.integers(0, 9), st.integers(0, 100)), max_size=40),
    st.integers(1, 4),
)
def test_many_reservations_are_answered_as_one_by_one(
    make_cache: Make, arrivals: list[tuple[str, int, int]], count_max: int
) -> None:
    hits = [Hit(key, f"p{number}", NOON + at_s * SECOND) for key, number, at_s in arrivals]
    alone, together = make_cache(), make_cache()
    one_by_one = [alone.reserve(hit, 20.0, count_max) for hit in hits]
    assert together.reserve_many(hits, 20.0, count_max) == one_by_one
    for key in "uv":
        assert together.arrivals(key, 0) == alone.arrivals(key, 0)


def test_more_reservations_than_a_script_takes(cache: Cache) -> None:
    hits = [Hit("u", f"p{i}", NOON) for i in range(250)]
    expected = [(True, i + 1) for i in range(120)] + [(False, 120)] * 130
    assert cache.reserve_many(hits, 60.0, 120) == expected


def test_a_released_reservation_makes_room(cache: Cache) -> None:
    for i in range(2):
        cache.reserve(Hit("u", f"p{i}", NOON), 60.0, 2)
    assert cache.reserve(Hit("u", "p2", NOON), 60.0, 2) == (False, 2)
    cache.release("u", "p0")
    cache.release("u", "never")
    cache.release("nobody", "p0")
    assert cache.reserve(Hit("u", "p2", NOON), 60.0, 2) == (True, 2)
    assert cache.reserve(Hit("u", "p0", NOON), 60.0, 2) == (False, 2)


@pytest.mark.parametrize("seed", range(5))
def test_of_fifty_parallel_reservations_exactly_five_pass(cache: Cache, seed: int) -> None:
    """Whatever times they drew before they got here."""
    rng = random.Random(seed)
    hits = [Hit("u", f"p{i}", NOON + rng.randrange(5 * SECOND)) for i in range(50)]
    together = threading.Barrier(10)

    def reserve(part: list[Hit]) -> list[bool]:
        together.wait()
        return [cache.reserve(hit, 60.0, 5)[0] for hit in part]

    with ThreadPoolExecutor(10) as pool:
        passed = [ok for part in pool.map(reserve, [hits[i::10] for i in range(10)]) for ok in part]
    assert sum(passed) == 5


def test_close_is_harmless_twice(cache: Cache) -> None:
    cache.close()
    cache.close()
