"""Time as an argument: the system's clock, and one that only moves when told."""

from __future__ import annotations

import time
from typing import Protocol

from paytm_lab.core.errors import BadInput

TIME_US_MAX = 253_402_300_799_999_999  # the last microsecond of the year 9999


class Clock(Protocol):
    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


def require_time_us(time_us: int) -> int:
    """The same number, if it is a time from 1970 to the year 9999; BadInput otherwise."""
    if type(time_us) is not int or not 0 <= time_us <= TIME_US_MAX:
        raise BadInput(
            f"{time_us!r:.80} is not a time",
            remedy=f"Give microseconds since 1970 UTC, 0..{TIME_US_MAX}.",
        )
    return time_us


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


class SimulatedClock:
    """Stands still until ``advance``; two runs with the same calls read the same times."""

    def __init__(self, start_us: int = 1_767_225_600_000_000) -> None:  # 2026-01-01T00:00:00Z
        self._start_us = self._now_us = start_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return (self._now_us - self._start_us) / 1e6

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._now_us += round(seconds * 1e6)
