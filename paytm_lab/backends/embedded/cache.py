"""The cache as one process's dictionaries: a hit costs about a microsecond. Another process has
another cache.
"""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence

from paytm_lab.core.clock import Clock, SystemClock
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.ports.cache import Hit

ENTRIES_MAX = 200_000
WINDOWS_MAX = 100_000


class _Window:
    """The members of one key. ``times_us`` is sorted; ``counted``: what each member's count was."""

    __slots__ = ("at_us", "counted", "times_us")

    def __init__(self) -> None:
        self.times_us: list[int] = []
        self.at_us: dict[str, int] = {}
        self.counted: dict[str, int] = {}

    def add(self, member: str, at_us: int) -> None:
        self.at_us[member] = at_us
        insort(self.times_us, at_us)

    def discard(self, member: str) -> None:
        at_us = self.at_us.pop(member, None)
        self.counted.pop(member, None)
        if at_us is not None:
            del self.times_us[bisect_left(self.times_us, at_us)]

    def within(self, after_us: int, before_us: int) -> int:
        """Members with after_us < at <= before_us."""
        return bisect_right(self.times_us, before_us) - bisect_right(self.times_us, after_us)

    def forget(self, until_us: int) -> None:
        """Drop members at or before ``until_us``."""
        if self.times_us and self.times_us[0] <= until_us:
            for member in [m for m, at_us in self.at_us.items() if at_us <= until_us]:
                self.discard(member)


class EmbeddedCache:
    """A ``ports.cache.Cache``. Any number of threads may use it.

    It holds at most ``entries_max`` values; beyond that the one that would expire first goes.
    Windows are kept for ``windows_max`` keys; beyond that the one that was not touched for longest
    goes. ``available = False`` makes every call raise Unavailable, as a cache that is gone does;
    ``clear`` makes it forget everything.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        entries_max: int = ENTRIES_MAX,
        windows_max: int = WINDOWS_MAX,
    ) -> None:
        self.available = True
        self._now_s = (clock if clock is not None else SystemClock()).monotonic_s
        self._entries_max = entries_max
        self._windows_max = windows_max
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[bytes, float]] = {}
        self._expiries: list[tuple[float, str]] = []  # a heap; stale where the entry says otherwise
        self._windows: dict[str, _Window] = {}  # in order of the last touch

    def _require_available(self) -> None:
        if not self.available:
            raise Unavailable("the cache does not answer", place="cache")

    def get(self, key: str) -> bytes | None:
        # No lock: one look into a dictionary is atomic, and an entry is never changed in place.
        if not self.available:
            self._require_available()
        entry = self._entries.get(key)
        if entry is None or entry[1] <= self._now_s():
            return None
        return entry[0]

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._require_available()
        now_s = self._now_s()
        find = self._entries.get
        found = [find(key) for key in keys]
        return [e[0] if e is not None and e[1] > now_s else None for e in found]

    def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> None:
        self._require_available()
        if not ttl_s > 0:
            raise BadInput(f"a time to live of {ttl_s} s is not above 0", place="cache")
        expires_s = self._now_s() + ttl_s
        with self._lock:
            for key, value in values.items():
                self._entries[key] = (value, expires_s)
                heapq.heappush(self._expiries, (expires_s, key))
            self._evict()

    def _evict(self) -> None:
        entries, expiries = self._entries, self._expiries
        now_s = self._now_s()
        while expiries and (len(entries) > self._entries_max or expiries[0][0] <= now_s):
            expires_s, key = heapq.heappop(expiries)
            entry = entries.get(key)
            if entry is not None and entry[1] == expires_s:
                del entries[key]
        if len(expiries) > 2 * len(entries) + 1_000:  # mostly overwritten: start the heap anew
            self._expiries = [(entry[1], key) for key, entry in entries.items()]
            heapq.heapify(self._expiries)

    def delete(self, keys: Sequence[str]) -> None:
        self._require_available()
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._windows.pop(key, None)

    def _window(self, key: str) -> _Window:
        window = self._windows.pop(key, None)
        if window is None:
            window = _Window()
            if len(self._windows) >= self._windows_max:
                del self._windows[next(iter(self._windows))]
        self._windows[key] = window
        return window

    def count_window(self, hits: Sequence[Hit], window_s: float) -> list[int]:
        self._require_available()
        window_us = round(window_s * 1e6)
        counts = []
        with self._lock:
            for key, member, at_us in hits:
                window = self._window(key)
                count = window.counted.get(member)
                if count is None:
                    if member not in window.at_us:
                        window.add(member, at_us)
                    at_us = window.at_us[member]
                    count = window.within(at_us - window_us, at_us)
                    window.counted[member] = count
                    # Two windows are kept, for hits that arrive late.
                    window.forget(window.times_us[-1] - 2 * window_us)
                counts.append(count)
        return counts

    def arrivals(self, key: str, after_us: int) -> list[Hit]:
        self._require_available()
        with self._lock:
            window = self._windows.get(key)
            at_us = {} if window is None else dict(window.at_us)
        found = [Hit(key, member, at) for member, at in at_us.items() if at > after_us]
        return sorted(found, key=lambda hit: (hit.at_us, hit.member))

    def reserve(self, hit: Hit, window_s: float, count_max: int) -> tuple[bool, int]:
        """As the port says; members up to one window later count too. Parallel callers draw their
        times before they get here, in any order, and still only ``count_max`` of them pass.
        """
        self._require_available()
        with self._lock:
            return self._reserve(hit, round(window_s * 1e6), count_max)

    def reserve_many(
        self, hits: Sequence[Hit], window_s: float, count_max: int
    ) -> list[tuple[bool, int]]:
        self._require_available()
        window_us = round(window_s * 1e6)
        with self._lock:
            return [self._reserve(hit, window_us, count_max) for hit in hits]

    def _reserve(self, hit: Hit, window_us: int, count_max: int) -> tuple[bool, int]:
        key, member, at_us = hit
        window = self._window(key)
        known = member in window.at_us
        at_us = window.at_us.get(member, at_us)
        count = window.within(at_us - window_us, at_us + window_us - 1)
        if known:
            return True, count
        if count >= count_max:
            return False, count
        window.add(member, at_us)
        window.forget(window.times_us[-1] - 2 * window_us)
        return True, count + 1

    def release(self, key: str, member: str) -> None:
        self._require_available()
        with self._lock:
            window = self._windows.get(key)
            if window is not None:
                window.discard(member)
                if not window.at_us:
                    del self._windows[key]

    def clear(self) -> None:
        """Forget everything, as a cache that was restarted."""
        with self._lock:
            self._entries.clear()
            self._expiries.clear()
            self._windows.clear()

    def close(self) -> None:
        self.clear()
