"""Quiet hours: a time of the day, in a user's own zone, in which nothing but alerts is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from paytm_lab.core.errors import BadInput

DAY_MINUTES = 1_440
ZONE = "Asia/Kolkata"


class QuietHours(NamedTuple):
    """From one minute of the day to another (0..1439, over midnight where the second is smaller),
    by the clocks of ``zone`` (IANA).
    """

    from_minute: int
    to_minute: int
    zone: str = ZONE


@lru_cache(256)
def zone_of(name: str) -> ZoneInfo:
    """BadInput for a zone that there is not."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a name that is a path, a folder
        raise BadInput(
            f"{name!r:.80} is not a time zone",
            place="quiet_hours.zone",
            remedy=f"Give an IANA name, such as {ZONE}.",
        ) from None


def require_quiet_hours(hours: QuietHours) -> QuietHours:
    """The same, if they are such; BadInput otherwise."""
    if not all(0 <= minute < DAY_MINUTES for minute in hours[:2]) or hours[0] == hours[1]:
        raise BadInput(
            f"{text_of(hours.from_minute)} to {text_of(hours.to_minute)} are no quiet hours",
            place="quiet_hours",
            remedy="Give two different times of the day.",
        )
    zone_of(hours.zone)
    return hours


def quiet_until_us(hours: QuietHours, now_us: int) -> int:
    """When the quiet hours that it is now end, microseconds since 1970 UTC; 0 outside of them.

    Where the clocks are changed meanwhile, what the new clock says counts.
    """
    zone = zone_of(hours.zone)
    here = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone(zone)
    minute = here.hour * 60 + here.minute
    start, end, _ = hours
    over_midnight = start > end
    if over_midnight:
        if end <= minute < start:
            return 0
    elif not start <= minute < end:
        return 0
    day = here.date()
    if over_midnight and minute >= start:
        day += timedelta(days=1)
    ends = datetime(day.year, day.month, day.day, end // 60, end % 60, tzinfo=zone)
    # In an hour that the clocks pass twice this may be past already: then it is over.
    return max(now_us + 1, round(ends.timestamp() * 1e6))


def text_of(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def minute_of(text: str) -> int:
    """'22:30' -> 1350. BadInput for what is no time of the day."""
    hours, _, minutes = text.partition(":")
    if len(text) == 5 and text.isascii() and hours.isdigit() and minutes.isdigit():
        minute = int(hours) * 60 + int(minutes)
        if int(minutes) < 60 and minute < DAY_MINUTES:
            return minute
    raise BadInput(f"{text!r:.20} is not a time of the day", remedy="Write it as HH:MM.")
