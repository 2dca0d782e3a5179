"""What payments look like, and how far that is from a profile: the NRMSE table.

NRMSE is the root mean square error over the range of the target's values (their mean, where they
are all alike), as in Lopez-Rojas, Elmir and Axelsson, "PaySim: a financial mobile money simulator
for fraud detection" (2016). Chance alone makes it positive, so each limit is a fixed part, for the
generator's own deviations, and three times what chance is expected to add.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from paytm_lab.core.errors import BadInput, IntegrityError
from paytm_lab.simulation.economy.batch import (
    DAY_US,
    KINDS,
    ORDINARY,
    EconomyBatch,
)
from paytm_lab.simulation.economy.cycles import day_of
from paytm_lab.simulation.economy.profile import (
    BAND_EDGES_RUPEES,
    DRAWN,
    MIX,
    QUANTILES,
    UPI_LIKE,
    Profile,
)
from paytm_lab.simulation.payments import HOUR_US
from paytm_lab.simulation.population import F64, I64

# Amounts are counted in bins of a hundredth of a decade, from 0.01 rupees to 10 crore.
BINS_PER_DECADE, _DECADES, _FIRST_DECADE = 100, 10, -2
LIMIT_NRMSE = 0.03
_CHANCE = 3.0
_MIDDLE = slice(1, 20)  # 5 % to 95 %: beyond, the cap and the rounding decide


class Measured:
    """Counts of ordinary payments (fraud is left out), added up batch by batch.

    ``by_kind`` (by KINDS), ``by_hour`` (24,) and ``by_day`` (days,) of peer and merchant payments;
    ``amount_bins``: kind -> counts by log10 of rupees.
    """

    def __init__(self, start_us: int, days: int, users: int) -> None:
        self.start_us, self.days, self.users = start_us, days, users
        self.by_kind = np.zeros(len(KINDS), dtype=np.int64)
        self.by_hour = np.zeros(24, dtype=np.int64)
        self.by_day = np.zeros(days, dtype=np.int64)
        self.amount_bins: dict[str, I64] = {
            kind: np.zeros(BINS_PER_DECADE * _DECADES, dtype=np.int64) for kind in KINDS
        }
        self.up_to: dict[str, I64] = {kind: np.zeros(3, dtype=np.int64) for kind in KINDS}

    @classmethod
    def of(cls, batches: Iterable[EconomyBatch], start_us: int, days: int, users: int) -> Measured:
        made = cls(start_us, days, users)
        for batch in batches:
            made.add(batch)
        return made

    def add(self, batch: EconomyBatch) -> None:
        keep = np.flatnonzero(batch.pattern == ORDINARY)
        kind, since_us = batch.kind[keep], batch.at_us[keep] - self.start_us
        amount = batch.amount_paise[keep]
        self.by_kind += np.bincount(kind, minlength=len(KINDS))
        for code, name in enumerate(KINDS):
            rows = np.flatnonzero(kind == code)
            if name in ("peer", "merchant"):
                self.by_hour += np.bincount(since_us[rows] % DAY_US // HOUR_US, minlength=24)
                self.by_day += np.bincount(since_us[rows] // DAY_US, minlength=self.days)
            rupees = amount[rows] / 100
            place = (np.log10(np.maximum(rupees, 0.01)) - _FIRST_DECADE) * BINS_PER_DECADE
            place = np.clip(place.astype(np.int64), 0, BINS_PER_DECADE * _DECADES - 1)
            self.amount_bins[name] += np.bincount(place, minlength=BINS_PER_DECADE * _DECADES)
            band = np.searchsorted(BAND_EDGES_RUPEES, rupees)
            self.up_to[name] += np.bincount(band, minlength=3)

    def mix(self) -> F64:
        """Shares of MIX, shape (4,)."""
        counts = np.array([self.by_kind[KINDS.index(kind)] for kind in MIX], dtype=np.float64)
        return np.asarray(counts / max(1.0, counts.sum()))

    def log_rupees(self, kind: str) -> F64:
        """log10 of rupees at QUANTILES; within a bin evenly."""
        counts = self.amount_bins[kind]
        total = int(counts.sum())
        if not total:
            raise BadInput(f"there is no ordinary {kind} payment to measure")
        line = np.concatenate(([0.0], np.cumsum(counts) / total))
        edges = _FIRST_DECADE + np.arange(len(line)) / BINS_PER_DECADE
        rising = np.concatenate(([True], np.diff(line) > 0))
        rising[:-1] |= np.diff(line) > 0
        return np.asarray(np.interp(QUANTILES, line[rising], edges[rising]))

    def profile(self, name: str, contact_exponent: float = UPI_LIKE.contact_exponent) -> Profile:
        """What was measured as a target, so that an economy can be made like it. Weekdays need
        seven days; with fewer they are all alike. Raises BadInput where a kind of DRAWN is missing,
        InvalidSetting where what was measured is no profile (no top-ups, for example).
        """
        weekly = np.ones(7)
        if self.days >= 7:
            weekday = [day_of(self.start_us, day).weekday() for day in range(self.days)]
            weekly = np.bincount(weekday, self.by_day, 7) / np.bincount(weekday, minlength=7)
        mix = self.mix()
        return Profile(
            name=name,
            mix=dict(zip(MIX, mix.tolist(), strict=True)),
            payments_per_user_day=float(self.by_day.sum()) / (self.days * self.users),
            hourly=self.by_hour.tolist(),
            weekly=weekly.tolist(),
            amounts_rupees={
                kind: np.maximum(1.0, 10 ** self.log_rupees(kind)).tolist() for kind in DRAWN
            },
            contact_exponent=contact_exponent,
        )


def comparison(measured: Measured, target: Profile, day_factors: F64) -> list[dict[str, Any]]:
    """Rows ``series``, ``points``, ``samples``, ``nrmse``, ``limit``, ``state`` (passed, failed)
    and ``worst``, what differs most. ``day_factors``: payments by day as they should be, relative.
    """
    rows = []

    def shares(series: str, names: Sequence[str], counts: I64, wanted: F64) -> None:
        total = int(counts.sum())
        if not total:
            return
        chance = np.sqrt(wanted * (1 - wanted) / total)
        rows.append(_row(series, names, counts / total, wanted, chance, total))

    by_kind = np.array([measured.by_kind[KINDS.index(kind)] for kind in MIX])
    shares("mix of kinds", MIX, by_kind, np.array([target.mix[kind] for kind in MIX]))
    shares("hours", [f"{h:02d}:00" for h in range(24)], measured.by_hour, target.hour_shares())
    if measured.days > 1:
        days = [f"day {day + 1}" for day in range(measured.days)]
        shares("days", days, measured.by_day, day_factors / day_factors.sum())
    for kind in DRAWN:
        if measured.amount_bins[kind].sum():
            rows.append(_amounts(measured, target, kind))
    return rows


def _amounts(measured: Measured, target: Profile, kind: str) -> dict[str, Any]:
    """Quantiles, 5 to 95 %, on a logarithmic scale. Chance: the standard deviation of a sample
    quantile is ``sqrt(q (1 - q) / n) / density(q)`` (Mosteller 1946), the density taken from the
    target's own quantiles.
    """
    samples = int(measured.amount_bins[kind].sum())
    wanted = np.log10(np.asarray(target.amounts_rupees[kind]))
    q = np.asarray(QUANTILES)
    spread = np.gradient(wanted, q)
    chance = np.sqrt(q * (1 - q) / samples) * spread
    names = [f"{100 * level:g} %" for level in q[_MIDDLE]]
    found = measured.log_rupees(kind)[_MIDDLE]
    return _row(f"amounts: {kind}", names, found, wanted[_MIDDLE], chance[_MIDDLE], samples)


def _row(
    series: str, names: Sequence[str], found: F64, wanted: F64, chance: F64, samples: int
) -> dict[str, Any]:
    spread = float(wanted.max() - wanted.min()) or float(wanted.mean())
    nrmse = float(np.sqrt(np.mean((found - wanted) ** 2))) / spread
    limit = LIMIT_NRMSE + _CHANCE * float(np.sqrt(np.mean(chance**2))) / spread
    worst = int(np.argmax(np.abs(found - wanted)))
    return {
        "series": series,
        "points": len(wanted),
        "samples": samples,
        "nrmse": nrmse,
        "limit": limit,
        "state": "passed" if nrmse <= limit else "failed",
        "worst": f"{names[worst]}: {found[worst]:.3g} for {wanted[worst]:.3g}",
    }


def require_close(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises IntegrityError naming every series that is off its target."""
    off = [f"{row['series']} ({row['nrmse']:.3f} > {row['limit']:.3f})" for row in rows
           if row["state"] != "passed"]  # fmt: skip
    if off or not rows:
        raise IntegrityError(
            f"off the target profile: {', '.join(off) or 'nothing was measured'}",
            remedy="Calibrate the economy to the profile, or give the profile that is meant.",
        )
