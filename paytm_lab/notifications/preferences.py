"""Which channels a user wants for what. Most users never choose, so only choices are stored."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import require_user_id
from paytm_lab.notifications.tables import PREFERENCES
from paytm_lab.ports.wide_store import WideStore

REFRESH_S = 10.0


class ChannelKind(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"


class Occasion(StrEnum):
    """``paid``: the user's own payment ended; ``received``: money came; ``alert``: fraud."""

    PAID = "paid"
    RECEIVED = "received"
    ALERT = "alert"


DEFAULTS: dict[str, tuple[str, ...]] = {
    str(Occasion.PAID): (str(ChannelKind.EMAIL),),
    str(Occasion.RECEIVED): (str(ChannelKind.PUSH),),
    str(Occasion.ALERT): (str(ChannelKind.SMS),),
}


class Preferences:
    """Read from memory on the hot path; what other processes stored is seen after at most
    ``REFRESH_S``.
    """

    def __init__(self, wide_store: WideStore, clock: Clock) -> None:
        self._store = wide_store
        self._clock = clock
        self._chosen: dict[str, dict[str, tuple[str, ...]]] = {}
        self._read_at_s: float | None = None

    def channels(self, user_id: str, occasion: str) -> tuple[str, ...]:
        """The user's channels for this occasion, or the defaults."""
        chosen = self._chosen.get(user_id)
        return DEFAULTS[occasion] if chosen is None else chosen[occasion]

    def choose(self, user_id: str, occasion: str, channels: Iterable[str]) -> None:
        """Store a choice (none: tell nothing). BadInput for an unknown channel or occasion."""
        require_user_id(user_id)
        wanted = tuple(dict.fromkeys(str(c) for c in channels))
        unknown = [c for c in wanted if c not in set(ChannelKind)]
        if occasion not in DEFAULTS or unknown:
            raise BadInput(
                f"{unknown or occasion!r} cannot be chosen",
                remedy=f"Channels: {', '.join(ChannelKind)}; occasions: {', '.join(Occasion)}.",
            )
        self.refresh()
        choice = {**DEFAULTS, **self._chosen.get(user_id, {}), str(occasion): wanted}
        self._store.upsert(
            PREFERENCES, [{"user_id": user_id, **{o: ",".join(c) for o, c in choice.items()}}]
        )
        self._chosen = {**self._chosen, user_id: choice}

    def refresh_if_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._read_at_s is None or now_s - self._read_at_s >= REFRESH_S:
            self.refresh()
            self._read_at_s = now_s

    def refresh(self) -> None:
        """Read all choices from the store."""
        self._chosen = {
            row["user_id"]: {o: tuple(filter(None, (row[o] or "").split(","))) for o in DEFAULTS}
            for row in self._store.scan(PREFERENCES)
        }
