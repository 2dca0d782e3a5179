"""What an economy should look like: the target that a generated one is calibrated to and held to.

The amounts of ``UPI_LIKE`` follow NPCI's published breakdown of UPI payments for February 2022: of
payments between persons 59 % are up to 500 rupees, 20 % up to 2,000, 21 % more; of payments to
merchants 78 %, 15 %, 7 %; 263 of 452 crore payments were between persons. Two points fix a
log-normal law. Hours, weekdays and the shares of top-ups and cash-outs are our own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.payments import HOURLY_WEIGHTS
from paytm_lab.simulation.population import F64

# Amounts are given, drawn and compared at these quantiles; between them log-linearly.
QUANTILES = (0.001, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99, 0.999)
BAND_EDGES_RUPEES = (500.0, 2000.0)
AMOUNT_RUPEES_MAX = 100_000.0  # UPI's usual limit of one lakh a payment
MIX = ("top_up", "peer", "merchant", "cash_out")  # by count; salaries go by the calendar
DRAWN = ("peer", "merchant", "salary")  # whose amounts are drawn; the others follow from balances
_WEEKDAYS = (1.0, 0.98, 0.98, 1.0, 1.08, 1.22, 1.12)


def lognormal_quantiles(median_rupees: float, sigma: float) -> tuple[float, ...]:
    """Rupees at QUANTILES of a log-normal law, ``median * exp(sigma * z)`` (Johnson, Kotz,
    Balakrishnan, Continuous Univariate Distributions I, chapter 14), capped at one lakh.
    """
    normal = NormalDist()
    return tuple(
        min(AMOUNT_RUPEES_MAX, max(1.0, median_rupees * math.exp(sigma * normal.inv_cdf(q))))
        for q in QUANTILES
    )


def lognormal_of_bands(up_to_500: float, up_to_2000: float) -> tuple[float, float]:
    """(median in rupees, sigma) of the log-normal law with these cumulative shares at
    BAND_EDGES_RUPEES.
    """
    low, high = BAND_EDGES_RUPEES
    z_low, z_high = NormalDist().inv_cdf(up_to_500), NormalDist().inv_cdf(up_to_2000)
    sigma = math.log(high / low) / (z_high - z_low)
    return low * math.exp(-sigma * z_low), sigma


@dataclass(frozen=True)
class Profile:
    """``mix``: shares of MIX among payments without salaries, sum 1. ``payments_per_user_day``:
    peer and merchant payments together. ``hourly`` (24), ``weekly`` (7, from Monday): relative
    weights. ``amounts_rupees``: kind -> rupees at QUANTILES, for each of DRAWN.
    ``contact_exponent``: of the tail of the number of contacts, ``p(k) ~ k ** -exponent``.

    Raises InvalidSetting for what is no profile.
    """

    name: str
    mix: Mapping[str, float]
    payments_per_user_day: float
    hourly: Sequence[float]
    weekly: Sequence[float]
    amounts_rupees: Mapping[str, Sequence[float]]
    contact_exponent: float = 2.5

    def __post_init__(self) -> None:
        _need("mix", set(self.mix) == set(MIX), f"Give a share for each of {', '.join(MIX)}.")
        shares = _numbers("mix", list(self.mix.values()), len(MIX))
        _need("mix", abs(shares.sum() - 1) < 1e-6 and shares.min() > 0, "Shares > 0 that sum to 1.")
        for name, count in (("hourly", 24), ("weekly", 7)):
            weights = _numbers(name, getattr(self, name), count)
            _need(name, weights.min() >= 0 and weights.sum() > 0, "Weights >= 0, not all zero.")
        rate = self.payments_per_user_day
        _need("payments_per_user_day", 0 < rate <= 100, "Give a number above 0, at most 100.")
        exponent = self.contact_exponent
        _need("contact_exponent", 2 < exponent <= 5, "Give a number above 2, at most 5.")
        known = set(self.amounts_rupees) == set(DRAWN)
        _need("amounts_rupees", known, f"Give amounts for each of {', '.join(DRAWN)}.")
        for kind, amounts in self.amounts_rupees.items():
            rupees = _numbers(f"amounts_rupees[{kind}]", amounts, len(QUANTILES))
            rising = rupees.min() >= 1 and bool(np.all(np.diff(rupees) >= 0))
            _need(f"amounts_rupees[{kind}]", rising, "Rupees from 1 up, never falling.")

    def hour_shares(self) -> F64:
        return _shares(self.hourly)

    def weekday_factors(self) -> F64:
        """Shape (7,), from Monday, mean 1."""
        return 7 * _shares(self.weekly)


def _shares(weights: Sequence[float]) -> F64:
    values = np.asarray(weights, dtype=np.float64)
    return np.asarray(values / values.sum(), dtype=np.float64)


def _numbers(name: str, values: Sequence[float], count: int) -> F64:
    try:
        held = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        held = np.full(1, np.nan)
    _need(name, held.shape == (count,), f"Give {count} numbers.")
    _need(name, bool(np.isfinite(held).all()), "Give finite numbers.")
    return held


def _need(name: str, is_true: bool, remedy: str) -> None:
    if not is_true:
        raise InvalidSetting(f"the profile's {name} cannot be used", place=name, remedy=remedy)


UPI_LIKE = Profile(
    name="upi_like",
    mix={"top_up": 0.14, "peer": 0.47, "merchant": 0.34, "cash_out": 0.05},
    payments_per_user_day=2.0,
    hourly=HOURLY_WEIGHTS,
    weekly=_WEEKDAYS,
    amounts_rupees={
        "peer": lognormal_quantiles(*lognormal_of_bands(0.59, 0.79)),
        "merchant": lognormal_quantiles(*lognormal_of_bands(0.78, 0.93)),
        "salary": lognormal_quantiles(22_000, 0.55),
    },
)
