"""Failed sign-ins at pages, by address, counted by all processes together.

To the auth service all who sign in at a page come from that page's address; so whoever guesses
there is stopped there, by the address they come from, and keeps nobody else out.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import RateLimited
from paytm_lab.ports.cache import Cache, Hit
from paytm_lab.web.renewals import Renewals

GUESSES_MAX, GUESSES_S = 10, 300.0  # failed sign-ins of one address


class Guesses:
    """Failed sign-ins by address, within a window. Every method raises Unavailable where the cache
    is away: nobody signs in without it, here as at the auth service.
    """

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock

    def require_few(self, address: str) -> None:
        """RateLimited until the oldest of too many is long enough ago."""
        after_us = self._clock.now_us() - round(GUESSES_S * 1e6)
        failed = self._cache.arrivals(_key(address), after_us)
        if len(failed) >= GUESSES_MAX:
            raise RateLimited(
                f"{GUESSES_MAX} sign-ins from this address failed"
                f" within {GUESSES_S / 60:g} minutes",
                remedy="Wait, or sign in with an access token.",
                retry_after_s=max(1.0, (failed[-GUESSES_MAX].at_us - after_us) / 1e6),
            )

    def count(self, address: str) -> None:
        """One more failed."""
        hit = Hit(_key(address), secrets.token_hex(8), self._clock.now_us())
        # More than too many, from one who asks many times at once, are not worth their room.
        self._cache.reserve(hit, GUESSES_S, 2 * GUESSES_MAX)


class SignIns(NamedTuple):
    """What the processes of one service's pages share of those who sign in by password."""

    renewals: Renewals
    guesses: Guesses


def _key(address: str) -> str:
    return f"rate_limit:{address}:sign_in_address"
