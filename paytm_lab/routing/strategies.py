"""Ways to choose a user's shard, behind one interface, so that they can be compared.

The system itself runs on the slot map; the others are here to be measured against it. Each has a
scalar form for one user and a vectorised form for arrays, which agree on every key.

Sources: ring: Karger et al. 1997; jump: Lamping and Veach 2014, arXiv 1406.2294; rendezvous: Thaler
and Ravishankar 1998; Maglev: Eisenbud et al., NSDI 2016, section 3.4.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.ids import SLOTS
from paytm_lab.routing.hashing import U64, mix64, mix64_array, text_hash, user_hash
from paytm_lab.routing.shard_map import ShardMap

Shards = npt.NDArray[np.int64]
POINTS_PER_SHARD = 128
MAGLEV_TABLE = 65_537  # prime, as the paper asks; far more than 100 entries a shard
_JUMP_MULTIPLIER = 2_862_933_555_777_941_757
_KEYS_PER_CHUNK = 16_384  # 128 KiB of keys, so that temporary arrays stay in the processor's cache


class Strategy(ABC):
    """Chooses a user's shard among 0..shards-1. ``name`` is one of ``STRATEGIES``."""

    name: ClassVar[str]

    def __init__(self, shards: int) -> None:
        if shards < 1:
            raise InvalidSetting(f"{shards} is not a number of shards")
        self.shards = shards

    def shard_of(self, user_id: str) -> int:
        return self.shard_of_number(user_hash(user_id))

    @abstractmethod
    def shard_of_number(self, number: int) -> int:
        """The shard of the user whose ``user_hash`` is ``number``."""

    def shards_of(self, numbers: U64) -> Shards:
        """The shard of each ``user_hash`` in ``numbers`` (uint64, shape (n,)); shape (n,)."""
        chosen = np.empty(len(numbers), dtype=np.int64)
        for start in range(0, len(numbers), _KEYS_PER_CHUNK):
            part = slice(start, start + _KEYS_PER_CHUNK)
            self._choose(numbers[part], chosen[part])
        return chosen

    @abstractmethod
    def _choose(self, numbers: U64, out: Shards) -> None:
        """Write the shard of each number into ``out``."""

    @abstractmethod
    def resized(self, shards: int) -> Strategy:
        """The same strategy after the number of shards became ``shards``."""

    def moved(self, other: Strategy, numbers: U64) -> float:
        """The share (0..1) of these users who are on another shard under ``other``."""
        if not len(numbers):
            return 0.0
        return float(np.count_nonzero(self.shards_of(numbers) != other.shards_of(numbers))) / len(
            numbers
        )


class Modulo(Strategy):
    """``user_hash % shards``: even and simple, and nearly everybody moves when a shard is added."""

    name = "modulo"

    def shard_of_number(self, number: int) -> int:
        return number % self.shards

    def _choose(self, numbers: U64, out: Shards) -> None:
        np.remainder(numbers, np.uint64(self.shards), out=out, casting="unsafe")

    def resized(self, shards: int) -> Modulo:
        return Modulo(shards)


class Ring(Strategy):
    """Each shard has ``points_per_shard`` points on a circle of 2^64; a user belongs to the next
    point. ``salt`` gives another circle of the same kind.
    """

    name = "ring"

    def __init__(
        self, shards: int, points_per_shard: int = POINTS_PER_SHARD, salt: str = ""
    ) -> None:
        super().__init__(shards)
        if points_per_shard < 1:
            raise InvalidSetting(f"{points_per_shard} is not a number of points")
        self.points_per_shard = points_per_shard
        self.salt = salt
        seeds = np.array([_shard_seed(shard, salt) for shard in range(shards)], dtype=np.uint64)
        steps = np.arange(points_per_shard, dtype=np.uint64)
        points = mix64_array(np.add.outer(seeds, steps).ravel())
        order = np.argsort(points, kind="stable")
        self._points = points[order]
        # One more owner at the end: past the last point the circle closes at the first.
        owners = order // points_per_shard
        self._owners = np.append(owners, owners[0])
        self._points_list: list[int] = []

    def shard_of_number(self, number: int) -> int:
        if not self._points_list:
            self._points_list = self._points.tolist()
        return int(self._owners[bisect.bisect_left(self._points_list, mix64(number))])

    def _choose(self, numbers: U64, out: Shards) -> None:
        np.take(self._owners, np.searchsorted(self._points, mix64_array(numbers)), out=out)

    def resized(self, shards: int) -> Ring:
        return Ring(shards, self.points_per_shard, self.salt)

    def shares(self) -> npt.NDArray[np.float64]:
        """The share of the circle that each shard owns, shape (shards,); the sum is 1."""
        # Unsigned differences wrap modulo 2^64, as the circle does.
        arcs = np.diff(self._points, prepend=self._points[-1:])
        if len(arcs) == 1:
            return np.ones(1)
        shares = np.bincount(self._owners[:-1], weights=arcs / 2.0**64, minlength=self.shards)
        return np.asarray(shares, dtype=np.float64)


def jump_hash(key: int, buckets: int) -> int:
    """The paper's function on a 64-bit key that looks random: 0..buckets-1."""
    bucket, after = -1, 0
    while after < buckets:
        bucket = after
        key = (key * _JUMP_MULTIPLIER + 1) & 0xFFFF_FFFF_FFFF_FFFF
        after = int((bucket + 1) * (float(1 << 31) / ((key >> 33) + 1)))
    return bucket


class Jump(Strategy):
    """Jump consistent hash: no table, even, and the least possible movement; only the last shard
    can leave.
    """

    name = "jump"

    def shard_of_number(self, number: int) -> int:
        return jump_hash(mix64(number), self.shards)

    def _choose(self, numbers: U64, out: Shards) -> None:
        out[:] = 0
        key = mix64_array(numbers)
        index = np.arange(len(key))
        jumps_from: npt.NDArray[np.float64] = np.ones(len(key))
        while len(key):
            key *= np.uint64(_JUMP_MULTIPLIER)
            key += np.uint64(1)
            after = float(1 << 31) / ((key >> np.uint64(33)) + np.uint64(1))
            after *= jumps_from
            # Most keys are done after a jump or two: only the others are carried on.
            on = np.flatnonzero(after < self.shards)
            key, index = key[on], index[on]
            shard = after[on].astype(np.int64)
            out[index] = shard
            jumps_from = (shard + 1).astype(np.float64)

    def resized(self, shards: int) -> Jump:
        return Jump(shards)


class Rendezvous(Strategy):
    """Every shard draws a number for the user, the highest wins: even, least movement, and any
    shard may leave; the work grows with the number of shards. ``salt`` gives other draws.
    """

    name = "rendezvous"

    def __init__(self, shards: int, salt: str = "") -> None:
        super().__init__(shards)
        self.salt = salt
        self._seeds = [_shard_seed(shard, salt) for shard in range(shards)]

    def shard_of_number(self, number: int) -> int:
        key = mix64(number)
        draws = [mix64(key ^ seed) for seed in self._seeds]
        return draws.index(max(draws))

    def _choose(self, numbers: U64, out: Shards) -> None:
        keys = mix64_array(numbers)
        best = mix64_array(keys ^ np.uint64(self._seeds[0]))
        out[:] = 0
        for shard, seed in enumerate(self._seeds[1:], start=1):
            draw = mix64_array(keys ^ np.uint64(seed))
            out[draw > best] = shard
            np.maximum(best, draw, out=best)

    def resized(self, shards: int) -> Rendezvous:
        return Rendezvous(shards, self.salt)


class Maglev(Strategy):
    """A table of ``table`` entries (a prime) that the shards fill in turns, each along its own
    permutation: as even as can be, one lookup, slightly more than the least movement.
    """

    name = "maglev"

    def __init__(self, shards: int, table: int = MAGLEV_TABLE) -> None:
        super().__init__(shards)
        if table < shards or not _is_prime(table):
            raise InvalidSetting(
                f"A Maglev table of {table} entries cannot hold {shards} shards",
                remedy="Its size is a prime, at least the number of shards.",
            )
        self.table = table
        self.owner = _maglev_table(shards, table)

    def shard_of_number(self, number: int) -> int:
        return int(self.owner[mix64(number) % self.table])

    def _choose(self, numbers: U64, out: Shards) -> None:
        entries = mix64_array(numbers)
        entries %= np.uint64(self.table)
        np.take(self.owner, entries.view(np.int64), out=out)

    def resized(self, shards: int) -> Maglev:
        return Maglev(shards, self.table)


class SlotMap(Strategy):
    """The system's own: 1,024 slots, slot to shard by a map (a ShardMap, or the first map of so
    many shards). Where the map is the first one and ``shards`` divides 1,024 it equals modulo.
    """

    name = "slot_map"

    def __init__(self, source: int | ShardMap) -> None:
        shard_map = source if isinstance(source, ShardMap) else ShardMap.initial(source)
        super().__init__(shard_map.shards)
        self.map = shard_map
        self._owner = np.array(shard_map.owner, dtype=np.int64)

    def shard_of_number(self, number: int) -> int:
        return self.map.owner[number % SLOTS]

    def _choose(self, numbers: U64, out: Shards) -> None:
        np.take(self._owner, (numbers & np.uint64(SLOTS - 1)).view(np.int64), out=out)

    def resized(self, shards: int) -> SlotMap:
        if shards == self.shards:
            return self
        return SlotMap(self.map.grow(shards) if shards > self.shards else self.map.shrink(shards))


_MAKERS: dict[str, Callable[[int], Strategy]] = {
    s.name: s for s in (Modulo, Ring, Jump, Rendezvous, Maglev, SlotMap)
}
STRATEGIES = tuple(_MAKERS)


def make(name: str, shards: int) -> Strategy:
    """The strategy of that name with its usual parameters; InvalidSetting for an unknown name."""
    try:
        maker = _MAKERS[name]
    except KeyError:
        raise InvalidSetting(
            f"{name!r:.40} is not a strategy", remedy=f"Use one of {', '.join(STRATEGIES)}."
        ) from None
    return maker(shards)


def ring_share_cv(shards: int, points_per_shard: int) -> float:
    """The coefficient of variation of a ring's shares over all circles: the shares are distributed
    Dirichlet(v, ..., v), hence sqrt((N - 1) / (N v + 1)).
    """
    return math.sqrt((shards - 1) / (shards * points_per_shard + 1))


def sampling_cv(shards: int, users: int) -> float:
    """The coefficient of variation of the shards' user counts that pure chance gives ``users``
    uniform keys under a perfect hash: sqrt((N - 1) / K). A spread of this size is noise.
    """
    return math.sqrt((shards - 1) / users)


def _shard_seed(shard: int, salt: str) -> int:
    return text_hash(f"{salt}shard-{shard}")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))


def _maglev_table(shards: int, table: int) -> Shards:
    # The entry that a shard would like next, and how it goes on from there.
    wanted = [text_hash(f"maglev-offset-{shard}") % table for shard in range(shards)]
    skips = [
        text_hash(f"maglev-skip-{shard}") % (table - 1) + 1 if table > 2 else 1
        for shard in range(shards)
    ]
    owner = [-1] * table
    for filled in range(table):
        shard = filled % shards
        entry, skip = wanted[shard], skips[shard]
        while owner[entry] >= 0:
            entry = (entry + skip) % table
        owner[entry] = shard
        wanted[shard] = (entry + skip) % table
    return np.array(owner, dtype=np.int64)
