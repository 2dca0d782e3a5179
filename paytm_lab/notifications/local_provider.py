"""A provider of SMS and push for the lab: takes what is signed, once, and keeps it to be looked at.

It sends nothing anywhere. What a real provider promises it keeps: a signature that does not fit is
refused, and the same Idempotency-Key is taken once. What it took lies in the cache, so that all
processes that serve it are one provider. While the cache is away it takes nothing, and who sends
tries again; what the cache forgets was only there to be looked at.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.notifications.webhook import IDEMPOTENCY_KEY, Notice, require_signed
from paytm_lab.ports.cache import Cache, Hit

KEPT_MAX = 1_000
KEPT_S = 86_400.0
_NEWEST = "provider:messages"


class Taken(NamedTuple):
    """``at_us``: microseconds since 1970 UTC."""

    notice: Notice
    at_us: int


_read = msgspec.json.Decoder(Notice).decode
_write = msgspec.json.Encoder().encode


class LocalProvider:
    """Keeps the last ``kept_max`` of a day; any thread may ask.

    Raises Unavailable while the cache is away.
    """

    def __init__(self, secret: bytes, clock: Clock, cache: Cache, kept_max: int = KEPT_MAX) -> None:
        self._secret = secret
        self._clock = clock
        self._cache = cache
        self._kept_max = kept_max

    def take(self, channel: str, signed: str, key: str, body: bytes) -> bool:
        """Whether it was new. Unauthenticated without the secret's signature; BadInput for a body
        that is no notice, or of another channel or key than it came with.
        """
        now_us = self._clock.now_us()
        require_signed(self._secret, signed, body, now_us // 1_000_000)
        try:
            notice = _read(body)
        except msgspec.MsgspecError as error:
            raise BadInput(f"the body is no notice: {error}", place="body") from None
        if notice.channel != channel or notice.notification_id != key:
            raise BadInput(
                "the body tells of another notification than the path and the key",
                place=f"header.{IDEMPOTENCY_KEY}",
                remedy="Send the notification's id as the key, and its channel in the path.",
            )
        first = Hit(_first(key), secrets.token_hex(8), now_us)
        new, _ = self._cache.reserve(first, KEPT_S, 1)
        if not new and self._cache.get(_message(key)) is not None:
            return False
        # Also where the one that was first died here: it is kept, but was taken before.
        self._cache.set_many({_message(key): _write(notice)}, KEPT_S)
        (count,) = self._cache.count_window([Hit(_NEWEST, key, now_us)], KEPT_S)
        if count > self._kept_max + self._kept_max // 10:
            self._forget_oldest()
        return new

    def messages(self, limit: int = KEPT_MAX) -> list[Taken]:
        """The newest first."""
        day_ago_us = self._clock.now_us() - round(KEPT_S * 1e6)
        hits = self._cache.arrivals(_NEWEST, day_ago_us)[-min(limit, self._kept_max) :][::-1]
        found = self._cache.get_many([_message(hit.member) for hit in hits])
        return [
            Taken(_read(value), hit.at_us)
            for hit, value in zip(hits, found, strict=True)
            if value is not None
        ]

    def _forget_oldest(self) -> None:
        old = [hit.member for hit in self._cache.arrivals(_NEWEST, -1)[: -self._kept_max]]
        self._cache.delete([name for key in old for name in (_first(key), _message(key))])
        for key in old:
            self._cache.release(_NEWEST, key)


def _message(key: str) -> str:
    return f"provider:message:{key}"


def _first(key: str) -> str:
    return f"provider:first:{key}"
