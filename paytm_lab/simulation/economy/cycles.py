"""Day, week, month and year: how much is paid when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.economy.batch import DAY_US
from paytm_lab.simulation.economy.profile import Profile
from paytm_lab.simulation.payments import HOUR_US
from paytm_lab.simulation.population import F64, I64

# The last minute of a day belongs to the merchants' settlement.
SETTLEMENT_US = DAY_US - 60_000_000
# Days of the month on which salaries are paid, and how often each is a user's.
PAYDAYS = (1, 5, 7, 28)
PAYDAY_WEIGHTS = (0.5, 0.2, 0.2, 0.1)


class Festival(NamedTuple):
    """``factor``: so many times the usual payments, on ``days`` days from ``first`` on."""

    name: str
    first: date
    days: int
    factor: float


FESTIVALS = (
    Festival("Pongal", date(2026, 1, 14), 2, 1.35),
    Festival("Holi", date(2026, 3, 3), 2, 1.3),
    Festival("Raksha Bandhan", date(2026, 8, 28), 1, 1.4),
    Festival("Dussehra", date(2026, 10, 19), 2, 1.5),
    Festival("Diwali", date(2026, 11, 6), 3, 1.9),
    Festival("New Year", date(2026, 12, 31), 2, 1.25),
)


def day_of(start_us: int, day: int) -> date:
    """The calendar day (UTC) that begins ``day`` days after ``start_us``."""
    return (
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start_us + day * DAY_US)
    ).date()


def day_factors(profile: Profile, start_us: int, days: int, festivals: tuple[Festival, ...]) -> F64:
    """Payments by day relative to a usual one, shape (days,): weekday times festival. Raises
    InvalidSetting for a festival that is none.
    """
    for festival in festivals:
        if not (festival.days >= 1 and 0 <= festival.factor <= 1000):
            raise InvalidSetting(
                f"the festival {festival} cannot be used",
                remedy="Give at least one day and a factor from 0 to 1000.",
            )
    weekdays = profile.weekday_factors()
    factors = np.empty(days)
    for day in range(days):
        on = day_of(start_us, day)
        factors[day] = weekdays[on.weekday()]
        for festival in festivals:
            if 0 <= (on - festival.first).days < festival.days:
                factors[day] *= festival.factor
    return factors


def times_of_day_us(profile: Profile, uniform: F64) -> I64:
    """Draws 0..1 -> microseconds of the day by the profile's hours, all before SETTLEMENT_US."""
    shares = np.concatenate(([0.0], np.cumsum(profile.hour_shares())))
    edges_us = np.arange(25) * HOUR_US
    edges_us[-1] = SETTLEMENT_US
    at = np.interp(uniform * shares[-1], shares, edges_us)
    return np.asarray(np.minimum(at, SETTLEMENT_US - 1), dtype=np.int64)
