"""The slot map, its documents in coordination, and the router on the hot path."""

from __future__ import annotations

import sys
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.core.errors import BadInput, Conflict, InvalidSetting, MissingPart, StorageCorrupt
from paytm_lab.routing.hashing import user_hash
from paytm_lab.routing.shard_map import (
    DOCUMENT,
    Router,
    ShardMap,
    load,
    load_or_create,
    publish,
)

SHARDS = st.integers(1, 256)


@pytest.fixture
def coordination(tmp_path: Path) -> Iterator[EmbeddedCoordination]:
    client = EmbeddedCoordination(tmp_path, poll_interval_ms=5)
    yield client
    client.close()


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


# The map


def test_the_default_is_literally_the_users_number_modulo_4() -> None:
    router = Router(ShardMap.initial(4))
    for user_id in ("0", "1", "5", "1023", "1024", "123456789", "alice", "पेटीएम"):
        slot, shard = router.locate(user_id)
        assert slot == user_hash(user_id) % 1024 == ShardMap.slot_of(user_id)
        assert shard == user_hash(user_id) % 4 == router.shard_of_slot(slot)


def test_4_to_5_moves_204_or_205_slots_and_only_to_the_new_shard() -> None:
    four = ShardMap.initial(4)
    five = four.grow(5)
    moved = four.moved_slots(five)
    assert len(moved) in (204, 205)
    assert {five.owner[slot] for slot in moved} == {4}
    assert five.slots_of(4) == moved
    assert five.version == four.version + 1
    assert sorted(five.owner.count(shard) for shard in range(5)) == [204, 205, 205, 205, 205]


def test_a_new_shards_slots_lie_among_all_slots() -> None:
    """So that users 1, 2, 3 ... meet it: among any 40 slots in a row it has some."""
    slots = ShardMap.initial(4).grow(5).slots_of(4)
    assert max(b - a for a, b in pairwise([-1, *slots, 1024])) <= 40


@given(before=st.integers(1, 20), after=st.integers(2, 40))
def test_growing_moves_the_least_and_keeps_even(before: int, after: int) -> None:
    small = ShardMap.initial(before)
    if after <= before:
        with pytest.raises(InvalidSetting):
            small.grow(after)
        return
    large = small.grow(after)
    moved = small.moved_slots(large)
    assert all(large.owner[slot] >= before for slot in moved)
    counts = [large.owner.count(shard) for shard in range(after)]
    assert max(counts) - min(counts) <= 1
    assert large.shards == after
    assert len(moved) == sum(counts[before:])


@given(before=st.integers(2, 40), after=st.integers(1, 40))
def test_shrinking_moves_only_the_leaving_shards_slots(before: int, after: int) -> None:
    large = ShardMap.initial(before)
    if after >= before:
        with pytest.raises(InvalidSetting):
            large.shrink(after)
        return
    small = large.shrink(after)
    assert all(large.owner[slot] >= after for slot in large.moved_slots(small))
    counts = [small.owner.count(shard) for shard in range(after)]
    assert max(counts) - min(counts) <= 1
    assert (small.shards, small.version) == (after, 2)


@given(SHARDS)
def test_owned_slots_are_a_bitmap(shards: int) -> None:
    shard_map = ShardMap.initial(shards)
    for shard in {0, shards // 2, shards - 1}:
        bitmap = shard_map.owned_slots(shard)
        assert len(bitmap) == 128
        owned = [s for s in range(1024) if bitmap[s // 8] >> (s % 8) & 1]
        assert owned == shard_map.slots_of(shard)
    assert shard_map.owned_slots(255 if shards < 256 else 300) == bytes(128)


def test_moving_single_slots() -> None:
    shard_map = ShardMap.initial(4).move([3, 7], 0)
    assert (shard_map.owner[3], shard_map.owner[7], shard_map.version) == (0, 0, 2)
    assert ShardMap.initial(4).moved_slots(shard_map) == [3, 7]
    for slot in (-1, 1024):
        with pytest.raises(BadInput):
            shard_map.move([slot], 0)
    with pytest.raises(InvalidSetting):
        shard_map.move([0], 256)


@given(SHARDS, st.integers(1, 10**9))
def test_json_keeps_everything(shards: int, version: int) -> None:
    shard_map = ShardMap(version, ShardMap.initial(shards).owner)
    assert ShardMap.from_json(shard_map.to_json()) == shard_map


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"version":1,"slots":1024,"owner":[]}',
        b'{"version":0,"slots":1024,"owner":[' + b"0," * 1023 + b"0]}",
        b'{"version":1,"slots":512,"owner":[' + b"0," * 511 + b"0]}",
        b'{"version":1,"slots":1024,"owner":[' + b"0," * 1023 + b"-1]}",
        b'{"version":1,"slots":1024,"owner":[' + b"0," * 1023 + b"256]}",
        b'{"version":1,"slots":1024,"owner":[' + b"0," * 1023 + b'0],"more":1}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_map_is_refused(body: bytes) -> None:
    with pytest.raises(StorageCorrupt, match="shard map"):
        ShardMap.from_json(body)


@pytest.mark.parametrize("shards", [-1, 0, 257])
def test_numbers_of_shards_have_limits(shards: int) -> None:
    with pytest.raises(InvalidSetting):
        ShardMap.initial(shards)


# Its document


def test_the_first_to_ask_makes_the_map(coordination: EmbeddedCoordination) -> None:
    assert load(coordination) is None
    with pytest.raises(MissingPart):
        Router(coordination)
    with pytest.raises(MissingPart):
        publish(coordination, lambda stored: stored.grow(5))
    assert load_or_create(coordination, 4) == ShardMap.initial(4)
    assert load_or_create(coordination, 4) == load(coordination) == ShardMap.initial(4)
    with pytest.raises(InvalidSetting, match="4 shards, the setting says 5"):
        load_or_create(coordination, 5)


def test_who_comes_second_in_making_the_map_gets_the_firsts(tmp_path: Path) -> None:
    class Slow(EmbeddedCoordination):
        """Another process makes the map between this one's look and its write."""

        def write_document(self, name: str, body: bytes, expected_version: int | None) -> int:
            other = EmbeddedCoordination(tmp_path)
            load_or_create(other, 4)
            publish(other, lambda stored: stored.move([0], 3))
            return super().write_document(name, body, expected_version)

    assert load_or_create(Slow(tmp_path), 4) == ShardMap.initial(4).move([0], 3)


def test_changes_of_many_writers_all_land(tmp_path: Path) -> None:
    load_or_create(EmbeddedCoordination(tmp_path), 4)

    def move(slots: range) -> None:
        own = EmbeddedCoordination(tmp_path)
        for slot in slots:
            while True:
                try:
                    publish(own, lambda stored, slot=slot: stored.move([slot], 9))
                    break
                except Conflict:
                    continue

    threads = [threading.Thread(target=move, args=(range(i * 10, i * 10 + 10),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = load(EmbeddedCoordination(tmp_path))
    assert stored is not None
    assert (stored.slots_of(9), stored.version) == (list(range(40)), 41)


def test_a_change_that_does_not_count_up_is_refused(coordination: EmbeddedCoordination) -> None:
    load_or_create(coordination, 4)
    with pytest.raises(BadInput):
        publish(coordination, lambda stored: stored)
    assert load(coordination) == ShardMap.initial(4)


# The router


def test_a_router_follows_the_stored_map(
    coordination: EmbeddedCoordination, tmp_path: Path
) -> None:
    load_or_create(coordination, 4)
    router = Router(coordination)
    assert (router.version, router.locate("3")) == (1, (3, 3))
    publish(EmbeddedCoordination(tmp_path), lambda stored: stored.move([3], 1))
    until(lambda: router.version == 2)
    assert router.locate("3") == (3, 1)
    router.close()
    router.close()
    publish(coordination, lambda stored: stored.move([3], 2))
    follower = Router(coordination)
    publish(coordination, lambda stored: stored.move([3], 0))
    until(lambda: follower.version == 4)
    assert router.version == 2, "closed: it no longer follows"
    follower.close()


def test_a_damaged_document_leaves_the_router_as_it_was(
    coordination: EmbeddedCoordination,
) -> None:
    load_or_create(coordination, 4)
    router = Router(coordination)
    found = coordination.read_document(DOCUMENT)
    assert found is not None
    version = coordination.write_document(DOCUMENT, b"damaged", found[1])
    coordination.write_document(DOCUMENT, ShardMap.initial(4).move([3], 0).to_json(), version)
    until(lambda: router.version == 2)
    assert router.locate("3") == (3, 0)
    router.close()


def test_only_a_newer_map_replaces() -> None:
    first = ShardMap.initial(4)
    router = Router(first)
    second = first.grow(5)
    assert router.replace(second)
    assert not router.replace(second)
    assert not router.replace(first)
    assert router.map == second
    assert router.version == 2


@given(st.lists(st.text(max_size=5), max_size=50), st.integers(1, 5))
def test_a_bounded_memory_changes_no_answer(user_ids: list[str], users_cached_max: int) -> None:
    shard_map = ShardMap.initial(4)
    router = Router(shard_map, users_cached_max=users_cached_max)
    expected = [(s := user_hash(user_id) % 1024, shard_map.owner[s]) for user_id in user_ids]
    assert [router.locate(user_id) for user_id in user_ids] == expected
    assert router.locate_many(user_ids) == expected


def test_memory_is_bounded() -> None:
    router = Router(ShardMap.initial(4), users_cached_max=100)
    for i in range(10_000):
        router.locate(str(i))
        assert len(router._routes) <= 100


def test_answers_are_whole_while_the_map_is_replaced() -> None:
    """Map v puts every slot on shard v: once replace has returned no older answer appears, and no
    list of answers mixes two maps.
    """
    maps = [ShardMap(v, (v % 256,) * 1024) for v in range(1, 200)]
    router = Router(maps[0], users_cached_max=50)
    user_ids = [f"user-{i}" for i in range(80)]
    newest = [1]
    wrong: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            at_least = newest[0]
            shards = {shard for _slot, shard in router.locate_many(user_ids)}
            one = router.locate("user-7")[1]
            if len(shards) != 1 or min(shards) < at_least or one < min(shards):
                wrong.append((at_least, shards, one))

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for shard_map in maps[1:]:
            router.replace(shard_map)
            newest[0] = shard_map.version
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval_s)
    assert wrong == []


def test_a_known_user_costs_a_dictionary_lookup() -> None:
    """Compared with a plain dict in the same process, because this machine's speed is not known."""
    router = Router(ShardMap.initial(4))
    plain = {"12345": router.locate("12345")}
    scope = {"locate": router.locate, "plain": plain}
    located_s = min(timeit.repeat("locate('12345')", globals=scope, number=20_000, repeat=7))
    looked_up_s = min(timeit.repeat("plain['12345']", globals=scope, number=20_000, repeat=7))
    assert located_s < 15 * looked_up_s
