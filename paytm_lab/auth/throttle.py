"""Slows down who guesses passwords: failed logins are counted by user and by address."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import RateLimited
from paytm_lab.ports.cache import Cache, Hit

FREE = 3  # failures that cost no waiting
ADDRESS_TIMES = 10  # many users may share an address


class Attempt(NamedTuple):
    """A login that is under way; it counts as failed until it is taken back."""

    hits: tuple[Hit, ...]


class LoginThrottle:
    """At most ``attempts_max`` failures of one user within ``window_s``, and ten times so many of
    one address. After the third failure each next try must wait twice as long as the one before:
    1 s, 2 s, 4 s ... Unavailable when the cache is away: then nobody logs in.
    """

    def __init__(self, cache: Cache, clock: Clock, attempts_max: int, window_s: float) -> None:
        self._cache = cache
        self._clock = clock
        self._attempts_max = attempts_max
        self._window_s = window_s

    def begin(self, user_id: str, address: str) -> Attempt:
        """RateLimited where it is too early for another try."""
        now_us = self._clock.now_us()
        limits = (
            (f"rate_limit:{user_id}:login", self._attempts_max, FREE),
            (f"rate_limit:{address}:login_address", self._attempts_max * ADDRESS_TIMES,
             FREE * ADDRESS_TIMES),
        )  # fmt: skip
        for key, count_max, free in limits:
            self._require_patience(key, count_max, free, now_us)
        taken: list[Hit] = []
        for key, count_max, _ in limits:
            hit = Hit(key, secrets.token_hex(8), now_us)
            admitted, _ = self._cache.reserve(hit, self._window_s, count_max)
            if not admitted:
                self.succeeded(Attempt(tuple(taken)))
                raise _too_many(self._window_s)
            taken.append(hit)
        return Attempt(tuple(taken))

    def succeeded(self, attempt: Attempt) -> None:
        """The password was right: this try counts no more."""
        for hit in attempt.hits:
            self._cache.release(hit.key, hit.member)

    def _require_patience(self, key: str, count_max: int, free: int, now_us: int) -> None:
        after_us = now_us - round(self._window_s * 1e6)
        times_us = [hit.at_us for hit in self._cache.arrivals(key, after_us)]
        if len(times_us) >= count_max:
            raise _too_many((times_us[-count_max] - after_us) / 1e6)
        if len(times_us) >= free:
            pause_s = min(2.0 ** (len(times_us) - free), self._window_s)
            wait_s = (times_us[-1] - now_us) / 1e6 + pause_s
            if wait_s > 0:
                raise _too_many(wait_s)


def _too_many(wait_s: float) -> RateLimited:
    return RateLimited(
        "too many failed logins",
        remedy="Wait as long as Retry-After says.",
        retry_after_s=max(1.0, wait_s),
    )
