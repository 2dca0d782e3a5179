"""Which channels a user wants for what, and when not. Most users never choose, so only choices are
stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import SYSTEM_PREFIX, require_user_id
from paytm_lab.notifications.quiet import QuietHours, quiet_until_us, require_quiet_hours
from paytm_lab.notifications.tables import PREFERENCES
from paytm_lab.ports.wide_store import Row, WideStore

REFRESH_S = 10.0


class ChannelKind(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"


class Occasion(StrEnum):
    """``paid``: the user's own payment ended; ``received``: money came; ``alert``: fraud;
    ``system``: a part of the lab went down or came back.
    """

    PAID = "paid"
    RECEIVED = "received"
    ALERT = "alert"
    SYSTEM = "system"


DEFAULTS: dict[str, tuple[str, ...]] = {
    str(Occasion.PAID): (str(ChannelKind.EMAIL),),
    str(Occasion.RECEIVED): (str(ChannelKind.PUSH),),
    str(Occasion.ALERT): (str(ChannelKind.SMS),),
    str(Occasion.SYSTEM): (str(ChannelKind.EMAIL),),
}
PASS_QUIET_HOURS = frozenset({str(Occasion.ALERT), str(Occasion.SYSTEM)})


class Choice(NamedTuple):
    """``channels``: for each occasion, none of them to be told nothing."""

    channels: dict[str, tuple[str, ...]]
    quiet: QuietHours | None = None


class Preferences:
    """Read from memory on the hot path; what other processes stored is seen after at most
    ``REFRESH_S``.
    """

    def __init__(self, wide_store: WideStore, clock: Clock) -> None:
        self._store = wide_store
        self._clock = clock
        self._chosen: dict[str, Choice] = {}
        self._read_at_s: float | None = None

    def channels(self, user_id: str, occasion: str) -> tuple[str, ...]:
        """The user's channels for this occasion, or the defaults."""
        chosen = self._chosen.get(user_id)
        return DEFAULTS[occasion] if chosen is None else chosen.channels[occasion]

    def not_before_us(self, user_id: str, occasion: str, now_us: int) -> int:
        """When the user may be told, microseconds since 1970 UTC; 0: at once."""
        chosen = self._chosen.get(user_id)
        if chosen is None or chosen.quiet is None or occasion in PASS_QUIET_HOURS:
            return 0
        return quiet_until_us(chosen.quiet, now_us)

    def stored(self, user_id: str) -> Choice:
        """As the store has it now: what the user chose, or the defaults."""
        row = self._store.fetch(PREFERENCES, [(user_id,)]).get((user_id,))
        return Choice(dict(DEFAULTS)) if row is None else _choice_of(row)

    def store(self, user_id: str, choice: Choice) -> None:
        """In place of what was chosen before. BadInput for an unknown channel, occasion or zone, or
        hours that are none.
        """
        if not user_id.startswith(SYSTEM_PREFIX):
            require_user_id(user_id)
        for occasion, channels in choice.channels.items():
            _require_known(occasion, channels)
        if choice.quiet is not None:
            require_quiet_hours(choice.quiet)
        chosen = {**DEFAULTS, **choice.channels}
        quiet = choice.quiet
        row: Row = {
            "user_id": user_id,
            **{
                occasion: ",".join(dict.fromkeys(channels)) for occasion, channels in chosen.items()
            },
            "quiet_from": None if quiet is None else quiet.from_minute,
            "quiet_to": None if quiet is None else quiet.to_minute,
            "zone": None if quiet is None else quiet.zone,
        }
        self._store.upsert(PREFERENCES, [row])
        self._chosen = {**self._chosen, user_id: _choice_of(row)}

    def choose(self, user_id: str, occasion: str, channels: Iterable[str]) -> None:
        """Store a choice for one occasion (none: tell nothing). BadInput as for ``store``."""
        wanted = tuple(str(channel) for channel in channels)
        _require_known(occasion, wanted)
        now = self.stored(require_user_id(user_id))
        self.store(user_id, now._replace(channels={**now.channels, str(occasion): wanted}))

    def refresh_if_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._read_at_s is None or now_s - self._read_at_s >= REFRESH_S:
            self.refresh()
            self._read_at_s = now_s

    def refresh(self) -> None:
        """Read all choices from the store."""
        self._chosen = {row["user_id"]: _choice_of(row) for row in self._store.scan(PREFERENCES)}


def _require_known(occasion: str, channels: Iterable[str]) -> None:
    unknown = [channel for channel in channels if channel not in set(ChannelKind)]
    if occasion not in DEFAULTS or unknown:
        raise BadInput(
            f"{unknown or occasion!r} cannot be chosen",
            remedy=f"Channels: {', '.join(ChannelKind)}; occasions: {', '.join(Occasion)}.",
        )


def _choice_of(row: Row) -> Choice:
    channels = {
        # One that was stored before there was this occasion has nothing there.
        o: DEFAULTS[o] if row[o] is None else tuple(filter(None, row[o].split(",")))
        for o in DEFAULTS
    }
    quiet = None
    if row["zone"] is not None:
        quiet = QuietHours(row["quiet_from"], row["quiet_to"], row["zone"])
    return Choice(channels, quiet)
