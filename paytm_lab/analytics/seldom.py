"""How often something is done that takes time: never more than a share of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Seldom:
    """``share``: of the time that it may take; ``pause_s``: at least between two times. What counts
    is the shorter of the last two times, so that one that was held up (a cold cache, a busy
    machine) puts off nothing.
    """

    def __init__(
        self, share: float, pause_s: float = 0.0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._pause_s, self._now_s = share, pause_s, now_s
        self._due_s = float("-inf")
        self.last_s = 0.0

    def due(self) -> bool:
        return self._now_s() >= self._due_s

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Around the doing, whether it succeeds or not."""
        began_s = self._now_s()
        try:
            yield
        finally:
            ended_s = self._now_s()
            before_s, self.last_s = self.last_s, ended_s - began_s
            counts_s = min(before_s, self.last_s)
            self._due_s = ended_s + max(self._pause_s, counts_s / self._share)
