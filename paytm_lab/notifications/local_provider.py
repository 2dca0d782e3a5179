"""A provider of SMS and push for the lab: takes what is signed, once, and keeps it to be looked at.

It sends nothing anywhere. What a real provider promises it keeps: a signature that does not fit is
refused, and the same Idempotency-Key is taken once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.notifications.webhook import IDEMPOTENCY_KEY, Notice, require_signed

KEPT_MAX = 1_000


class Taken(NamedTuple):
    """``at_us``: microseconds since 1970 UTC."""

    notice: Notice
    at_us: int


_read = msgspec.json.Decoder(Notice).decode


class LocalProvider:
    """Keeps the last ``kept_max``; any thread may ask."""

    def __init__(self, secret: bytes, clock: Clock, kept_max: int = KEPT_MAX) -> None:
        self._secret = secret
        self._clock = clock
        self._kept_max = kept_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Taken] = OrderedDict()

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
        with self._lock:
            if key in self._kept:
                return False
            self._kept[key] = Taken(notice, now_us)
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return True

    def messages(self) -> list[Taken]:
        """The newest first."""
        with self._lock:
            return list(self._kept.values())[::-1]
