"""The map the system runs on: 1,024 slots, each owned by one shard; versioned, in coordination.

Slot s starts on shard ``s % shards``. With a number of shards that divides 1,024 this is the plain
``user_hash(user_id) % shards``; and a new shard takes only as many slots as it must.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from paytm_lab.core.errors import BadInput, Conflict, InvalidSetting, MissingPart, StorageCorrupt
from paytm_lab.core.ids import SLOTS, require_text
from paytm_lab.ports.coordination import Coordination
from paytm_lab.routing.hashing import slot_of

DOCUMENT = "shard_map"
SHARDS_MAX = 256
CACHED_USERS_MAX = 200_000
_PUBLISH_TRIES_MAX = 20


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    slots: int
    owner: list[int]


_decode = msgspec.json.Decoder(_Document).decode


@dataclass(frozen=True, slots=True)
class ShardMap:
    """``owner[slot]`` is the shard of each of the 1,024 slots; ``version`` counts up from 1."""

    version: int
    owner: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.version < 1:
            raise InvalidSetting(f"A shard map's version counts from 1, not {self.version}")
        if len(self.owner) != SLOTS:
            raise InvalidSetting(f"A shard map has {SLOTS} slots, not {len(self.owner)}")
        if not 0 <= min(self.owner) <= max(self.owner) < SHARDS_MAX:
            raise InvalidSetting(f"A slot's shard is outside 0..{SHARDS_MAX - 1}")

    @classmethod
    def initial(cls, shards: int) -> ShardMap:
        """Version 1: slot s on shard ``s % shards``."""
        _require_shards(shards)
        return cls(1, tuple(slot % shards for slot in range(SLOTS)))

    @property
    def shards(self) -> int:
        """One past the highest shard that owns a slot."""
        return max(self.owner) + 1

    @staticmethod
    def slot_of(user_id: str) -> int:
        """The user's slot, 0..1023; the same in every map."""
        return slot_of(user_id)

    def slots_of(self, shard: int) -> list[int]:
        """The slots that ``shard`` owns, ascending."""
        return [slot for slot, owner in enumerate(self.owner) if owner == shard]

    def owned_slots(self, shard: int) -> bytes:
        """128 bytes, as in ports.shard_database.ShardMeta: slot s is bit s % 8 of byte s // 8."""
        bits = sum(1 << slot for slot in self.slots_of(shard))
        return bits.to_bytes(SLOTS // 8, "little")

    def move(self, slots: Iterable[int], shard: int) -> ShardMap:
        """The next version, in which ``shard`` owns ``slots``."""
        owner = list(self.owner)
        for slot in slots:
            if not 0 <= slot < SLOTS:
                raise BadInput(f"{slot} is not a slot: slots are 0..{SLOTS - 1}")
            owner[slot] = shard
        return replace(self, version=self.version + 1, owner=tuple(owner))

    def grow(self, shards: int) -> ShardMap:
        """The next version with ``shards`` shards, each with its even share (floor or ceiling of
        1,024 / shards). New shards take slots; between old ones nothing moves.
        """
        _require_shards(shards)
        if shards <= self.shards:
            raise InvalidSetting(
                f"{shards} shards is not more than the {self.shards} there are",
                remedy="Use shrink to empty shards.",
            )
        owner = list(self.owner)
        for new in range(self.shards, shards):
            _fill(owner, new, SLOTS // (new + 1))
        return replace(self, version=self.version + 1, owner=tuple(owner))

    def shrink(self, shards: int) -> ShardMap:
        """The next version with ``shards`` shards; freed slots go to those with the fewest."""
        _require_shards(shards)
        if shards >= self.shards:
            raise InvalidSetting(f"{shards} shards is not fewer than the {self.shards} there are")
        owner = list(self.owner)
        counts = [owner.count(shard) for shard in range(shards)]
        for slot, shard in enumerate(owner):
            if shard >= shards:
                least = counts.index(min(counts))
                counts[least] += 1
                owner[slot] = least
        return replace(self, version=self.version + 1, owner=tuple(owner))

    def moved_slots(self, other: ShardMap) -> list[int]:
        """The slots whose owner differs in ``other``, ascending."""
        return [s for s, (a, b) in enumerate(zip(self.owner, other.owner, strict=True)) if a != b]

    def to_json(self) -> bytes:
        return msgspec.json.encode(_Document(self.version, SLOTS, list(self.owner)))

    @classmethod
    def from_json(cls, body: bytes) -> ShardMap:
        """The inverse of ``to_json``; StorageCorrupt for anything else."""
        try:
            document = _decode(body)
            if document.slots != SLOTS:
                raise InvalidSetting(f"the map has {document.slots} slots, the lab {SLOTS}")
            return cls(document.version, tuple(document.owner))
        except (msgspec.DecodeError, InvalidSetting) as error:
            raise StorageCorrupt(
                f"The shard map cannot be read: {error}", place=DOCUMENT
            ) from error


def _require_shards(shards: int) -> None:
    if not 1 <= shards <= SHARDS_MAX:
        raise InvalidSetting(f"{shards} is not a number of shards: 1..{SHARDS_MAX}")


def _fill(owner: list[int], new: int, slots_wanted: int) -> None:
    """Give ``new`` so many slots, taken from those who have the most; from each donor evenly over
    its slots, so that users with consecutive numbers meet the new shard too.
    """
    held = [[s for s, shard in enumerate(owner) if shard == donor] for donor in range(new)]
    take = [0] * new
    for _ in range(slots_wanted):
        richest = max(range(new), key=lambda d: (len(held[d]) - take[d], -d))
        take[richest] += 1
    for slots, count in zip(held, take, strict=True):
        for i in range(count):
            owner[slots[i * len(slots) // count]] = new


def load(coordination: Coordination) -> ShardMap | None:
    """The stored map, or None where there is none yet."""
    found = coordination.read_document(DOCUMENT)
    return None if found is None else ShardMap.from_json(found[0])


def load_or_create(coordination: Coordination, shards: int) -> ShardMap:
    """The stored map; stored now, as ``ShardMap.initial(shards)``, where there is none.

    Raises InvalidSetting when a stored map has another number of shards.
    """
    stored = load(coordination)
    if stored is None:
        created = ShardMap.initial(shards)
        try:
            coordination.write_document(DOCUMENT, created.to_json(), None)
            return created
        except Conflict:  # another process was first
            stored = load(coordination)
            if stored is None:
                raise
    if stored.shards != shards:
        raise InvalidSetting(
            f"The shard map has {stored.shards} shards, the setting says {shards}",
            place=DOCUMENT,
            remedy=f"Open the lab with {stored.shards} shards, or use another data folder.",
        )
    return stored


def publish(coordination: Coordination, change: Callable[[ShardMap], ShardMap]) -> ShardMap:
    """Store ``change(stored map)`` and return it; ``change`` runs again when another was faster.

    Raises MissingPart when no map is stored, Conflict when others stay faster.
    """
    for attempt in range(_PUBLISH_TRIES_MAX):
        found = coordination.read_document(DOCUMENT)
        if found is None:
            raise MissingPart("There is no shard map", place=DOCUMENT, remedy="Open the lab first.")
        stored = ShardMap.from_json(found[0])
        changed = change(stored)
        if changed.version <= stored.version:
            raise BadInput(f"Version {changed.version} does not follow version {stored.version}")
        try:
            coordination.write_document(DOCUMENT, changed.to_json(), found[1])
            return changed
        except Conflict:
            if attempt == _PUBLISH_TRIES_MAX - 1:
                raise
    raise Conflict("The shard map changes too fast", place=DOCUMENT)


class _Routes(dict[str, tuple[int, int]]):
    """Answers of one map by user id. Reading a known user is one dict lookup; an unknown one lands
    in ``__missing__``. When full it forgets everything, which costs a hash per user and no
    bookkeeping on the way there; single dict operations are atomic, so readers need no lock.
    """

    __slots__ = ("map", "places", "users_max")

    def __init__(self, shard_map: ShardMap, users_max: int) -> None:
        super().__init__()
        self.map = shard_map
        self.places = tuple(enumerate(shard_map.owner))
        self.users_max = users_max

    def __missing__(self, user_id: str) -> tuple[int, int]:
        place = self.places[slot_of(require_text(user_id))]
        if len(self) >= self.users_max:
            self.clear()
        self[user_id] = place
        return place


class Router:
    """Where a user is, from memory. Any number of threads may ask while another replaces the map:
    every answer comes whole from one map, the newest once ``replace`` has returned.

    ``Router(shard_map)`` stays as told; ``Router(coordination)`` reads the stored map (MissingPart
    where there is none) and follows its changes until ``close``.
    """

    def __init__(
        self, source: ShardMap | Coordination, *, users_cached_max: int = CACHED_USERS_MAX
    ) -> None:
        self._users_max = users_cached_max
        self._replacing = threading.Lock()
        self._end_watch: Callable[[], None] = _nothing
        if isinstance(source, ShardMap):
            self._routes = _Routes(source, users_cached_max)
            return
        stored = load(source)
        if stored is None:
            raise MissingPart("There is no shard map", place=DOCUMENT, remedy="Open the lab first.")
        self._routes = _Routes(stored, users_cached_max)
        self._end_watch = source.watch_document(DOCUMENT, self._on_change)
        newest = load(source)  # a change between the first read and the watch
        if newest is not None:
            self.replace(newest)

    def locate(self, user_id: str) -> tuple[int, int]:
        """(slot, shard) of the user."""
        return self._routes[user_id]

    def locate_many(self, user_ids: Sequence[str]) -> list[tuple[int, int]]:
        """(slot, shard) of each user, all from one map."""
        routes = self._routes
        return [routes[user_id] for user_id in user_ids]

    def shard_of_slot(self, slot: int) -> int:
        return self._routes.map.owner[slot]

    @property
    def version(self) -> int:
        """The version of the map in use."""
        return self._routes.map.version

    @property
    def map(self) -> ShardMap:
        """The map in use; take it once where several answers must agree."""
        return self._routes.map

    def replace(self, shard_map: ShardMap) -> bool:
        """Use ``shard_map`` from now on, if it is newer than the one in use; whether it was."""
        with self._replacing:
            if shard_map.version <= self.version:
                return False
            self._routes = _Routes(shard_map, self._users_max)
            return True

    def close(self) -> None:
        """End the watch. Harmless when called twice."""
        end_watch, self._end_watch = self._end_watch, _nothing
        end_watch()

    def _on_change(self, body: bytes, _document_version: int) -> None:
        self.replace(ShardMap.from_json(body))


def _nothing() -> None:
    return None
