from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.core.errors import BadInput
from paytm_lab.notifications.quiet import (
    DAY_MINUTES,
    QuietHours,
    minute_of,
    quiet_until_us,
    require_quiet_hours,
    text_of,
)

ZONES = ["Asia/Kolkata", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"]


def us(text: str, zone: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-01T21:59:59", None),
        ("2026-03-01T22:00:00", "2026-03-02T07:00:00"),
        ("2026-03-01T23:59:59", "2026-03-02T07:00:00"),
        ("2026-03-02T00:00:00", "2026-03-02T07:00:00"),
        ("2026-03-02T06:59:59", "2026-03-02T07:00:00"),
        ("2026-03-02T07:00:00", None),
        ("2026-12-31T23:00:00", "2027-01-01T07:00:00"),
    ],
)
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Europe/Berlin"])
def test_over_midnight(now: str, until: str | None, zone: str) -> None:
    hours = QuietHours(22 * 60, 7 * 60, zone)
    assert quiet_until_us(hours, us(now, zone)) == (us(until, zone) if until else 0)


def test_within_a_day() -> None:
    hours = QuietHours(13 * 60, 14 * 60 + 30)
    assert quiet_until_us(hours, us("2026-03-01T12:59:00", "Asia/Kolkata")) == 0
    noon = us("2026-03-01T13:00:00", "Asia/Kolkata")
    assert quiet_until_us(hours, noon) - noon == 90 * 60_000_000


def test_the_night_in_which_clocks_change_ends_by_the_new_one() -> None:
    hours = QuietHours(22 * 60, 7 * 60, "Europe/Berlin")
    evening = us("2026-03-28T22:00:00", "Europe/Berlin")
    assert quiet_until_us(hours, evening) - evening == 8 * 3_600_000_000
    evening = us("2026-10-24T22:00:00", "Europe/Berlin")
    assert quiet_until_us(hours, evening) - evening == 10 * 3_600_000_000


@given(
    st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1), st.sampled_from(ZONES),
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)),
)  # fmt: skip
def test_they_end_within_a_day_and_are_over_then(
    start: int, end: int, zone: str, when: datetime
) -> None:
    if start == end:
        return
    hours = QuietHours(start, end, zone)
    now_us = round(when.replace(tzinfo=UTC).timestamp() * 1e6)
    until_us = quiet_until_us(hours, now_us)
    here = datetime.fromtimestamp(now_us / 1e6, ZoneInfo(zone))
    minute = here.hour * 60 + here.minute
    inside = start <= minute < end if start < end else minute >= start or minute < end
    assert bool(until_us) is inside
    if inside:
        assert now_us < until_us <= now_us + timedelta(hours=26) / timedelta(microseconds=1)


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Asia", "\0"]
)
def test_a_zone_that_there_is_not(zone: str) -> None:
    with pytest.raises(BadInput, match="time zone"):
        require_quiet_hours(QuietHours(1, 2, zone))


def test_hours_that_are_none() -> None:
    for start, end in ((5, 5), (-1, 5), (5, 1_440)):
        with pytest.raises(BadInput, match="quiet hours"):
            require_quiet_hours(QuietHours(start, end))


def test_times_of_the_day() -> None:
    assert all(minute_of(text_of(minute)) == minute for minute in range(DAY_MINUTES))
    for text in ("24:00", "7:00", "07:60", "0700", "", "07:00 ", "٠٧:٠٠", "-1:00"):
        with pytest.raises(BadInput):
            minute_of(text)
