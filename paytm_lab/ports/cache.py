"""Fast, shared, forgetful: values that may vanish at any time and never decide about money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Hit(NamedTuple):
    """One arrival in a sliding window: ``member`` arrived under ``key`` at ``at_us``."""

    key: str
    member: str
    at_us: int


class Cache(Protocol):
    """Every method raises core.errors.Unavailable when the cache is away; none tries twice."""

    def get(self, key: str) -> bytes | None:
        """The value, or None when it is absent or past its time to live."""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """One value (or None) per key, in order, in one round trip."""

    def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> None:
        """Set all, each for ``ttl_s`` seconds (> 0)."""

    def delete(self, keys: Sequence[str]) -> None:
        """Forget these keys; absent ones are no error."""

    def count_window(self, hits: Sequence[Hit], window_s: float) -> list[int]:
        """Record each hit, then count the members of its key within (at_us - window_s, at_us],
        itself included. In the order given; a member recorded before is not counted twice (a
        repeated call returns the same numbers while the window lasts).
        """

    def arrivals(self, key: str, after_us: int) -> list[Hit]:
        """The members of a window that arrived later than ``after_us``, in order of their times."""

    def reserve(self, hit: Hit, window_s: float, count_max: int) -> tuple[bool, int]:
        """Atomically: record the hit if its key's window holds fewer than ``count_max`` members.
        Returns (admitted, members in the window after). A member recorded before is admitted again.
        """

    def reserve_many(
        self, hits: Sequence[Hit], window_s: float, count_max: int
    ) -> list[tuple[bool, int]]:
        """``reserve`` for each, in the order given, in one round trip. Each is atomic, all of them
        together are not: others may reserve in between.
        """

    def release(self, key: str, member: str) -> None:
        """Take a reservation back."""

    def close(self) -> None:
        """Release connections. Harmless when called twice."""
