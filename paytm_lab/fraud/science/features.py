"""Features of payments as of the moment they were made: nothing later is looked at, and labels
only once they were known (the label delay).

``HANDBOOK`` are the 15 of the Fraud-Detection-Handbook, re-implemented from its description (Le
Borgne et al., 2022, chapter 3, "Baseline feature transformation"). ``OURS`` adds what its
generator, and most fraud, leaves in the data: how unlike the payer's own amounts this one is, and
what is known of the payee.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.science.payments import DAY_S, Flags, Floats, Payments

WINDOWS_DAYS = (1, 7, 30)
DELAY_DAYS = 7
NIGHT_HOUR_LAST = 6
HISTORY_DAYS = max(WINDOWS_DAYS) + DELAY_DAYS

HANDBOOK: tuple[str, ...] = (
    "amount",
    "weekend",
    "night",
    *(f"payer_{what}_{days}d" for what in ("count", "mean") for days in WINDOWS_DAYS),
    *(f"payee_{what}_{days}d" for what in ("count", "risk") for days in WINDOWS_DAYS),
)
_ADDED = (
    "amount_over_mean_30d",
    "amount_over_max_30d",
    "large_share_14d",
    "payee_frauds_21d",
    "payee_fraud_last_days",
    "payee_fraud_first_days",
    "payer_frauds_14d",
)
OURS: tuple[str, ...] = (*HANDBOOK, *_ADDED)
OFFLINE = "offline"
NEVER_DAYS = 60.0  # in place of a time that never was


@dataclass(frozen=True)
class FeatureTable:
    """``values[row, feature]`` of the payments ``rows`` (numbers in the data they were made of).
    ``made_by``: OFFLINE, or live_features.ONLINE; windows here and decaying sums there share names.
    """

    names: tuple[str, ...]
    values: Floats
    rows: NDArray[np.int64]
    made_by: str = ""

    def columns(self, names: tuple[str, ...]) -> Floats:
        missing = set(names) - set(self.names)
        if missing:
            raise BadInput(f"there is no feature {', '.join(sorted(missing))}", place="features")
        return self.values[:, [self.names.index(name) for name in names]]


class _Timeline:
    """Payments by one side's number and time, for sums over windows of time by two searches."""

    def __init__(self, who: NDArray[np.int64], time_s: NDArray[np.int64], back_s: int) -> None:
        # A window never reaches into the timeline of somebody else: there is room before each.
        self._first_s = int(time_s[0]) - back_s if len(time_s) else 0
        self._span = (int(time_s[-1]) - self._first_s + 1) if len(time_s) else 1
        small = who.astype(np.uint16) if len(who) and who.max() < 2**16 else who
        self.order = np.argsort(small, kind="stable")
        self._key = (who * self._span + (time_s - self._first_s))[self.order]
        self._place = np.empty(len(who), np.int64)
        self._place[self.order] = np.arange(len(who))
        self._who, self._time_s = who, time_s

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Running sums for ``between``."""
        return np.concatenate([[0.0], np.cumsum(values[self.order].astype(np.float64))])

    def until(self, rows: NDArray[np.int64], ago_s: int) -> NDArray[np.int64]:
        """Place after the last entry of the row's own that is at least ``ago_s`` old."""
        wanted = self._who[rows] * self._span + (self._time_s[rows] - ago_s - self._first_s)
        return np.searchsorted(self._key, wanted, side="right")

    def own(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._place[rows]

    def starts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of the first entry of the row's own."""
        return np.searchsorted(self._key, self._who[rows] * self._span)

    def time_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._time_s[self.order[places]]


def make_features(
    data: Payments,
    rows: NDArray[np.int64] | None = None,
    names: tuple[str, ...] = HANDBOOK,
    *,
    delay_days: int = DELAY_DAYS,
) -> FeatureTable:
    """Features of ``rows`` (None: all), from all that came before each of them.

    Counts and means of the payer include the payment itself, as published. What is said of the
    payee is as of ``delay_days`` ago: its payments and known frauds in the window that ended then.
    """
    if delay_days < 0:
        raise BadInput(f"delay_days={delay_days!r}", place="features", remedy="Give 0 or more.")
    which = np.arange(len(data)) if rows is None else np.asarray(rows, np.int64)
    columns = _handbook_columns(data, which, delay_days)
    if set(names) & set(_ADDED):
        columns |= _added_columns(data, which, delay_days, columns)
    missing = set(names) - columns.keys()
    if missing:
        raise BadInput(
            f"there is no feature {', '.join(sorted(missing))}",
            place="features",
            remedy=f"There are {', '.join(OURS)}.",
        )
    values = np.column_stack([columns[name] for name in names]).astype(np.float64)
    return FeatureTable(names, values, which, OFFLINE)


def _handbook_columns(
    data: Payments, which: NDArray[np.int64], delay_days: int
) -> dict[str, Floats]:
    time_s = data.time_s[which]
    columns: dict[str, Floats] = {
        "amount": data.amount[which],
        "weekend": (((time_s // DAY_S) + 3) % 7 >= 5).astype(np.float64),  # day 0: a Thursday
        "night": ((time_s % DAY_S) // 3600 <= NIGHT_HOUR_LAST).astype(np.float64),
    }
    payer = _Timeline(data.payer, data.time_s, HISTORY_DAYS * DAY_S)
    amounts = payer.sums(data.amount)
    here = payer.own(which)
    for days in WINDOWS_DAYS:
        low = payer.until(which, days * DAY_S)
        count = here + 1 - low
        columns[f"payer_count_{days}d"] = count.astype(np.float64)
        columns[f"payer_mean_{days}d"] = (amounts[here + 1] - amounts[low]) / count
    payee = _Timeline(data.payee, data.time_s, (HISTORY_DAYS + delay_days) * DAY_S)
    frauds = payee.sums(data.fraud)
    # With no delay a payment's own label is not known either: only what came before it counts.
    high = np.minimum(payee.until(which, delay_days * DAY_S), payee.own(which))
    for days in WINDOWS_DAYS:
        low = np.minimum(payee.until(which, (delay_days + days) * DAY_S), high)
        count = high - low
        columns[f"payee_count_{days}d"] = count.astype(np.float64)
        columns[f"payee_risk_{days}d"] = (frauds[high] - frauds[low]) / np.maximum(count, 1)
    return columns


def _added_columns(
    data: Payments, which: NDArray[np.int64], delay_days: int, columns: dict[str, Floats]
) -> dict[str, Floats]:
    payer = _Timeline(data.payer, data.time_s, HISTORY_DAYS * DAY_S)
    amounts, here = payer.sums(data.amount), payer.own(which)
    low = payer.until(which, 30 * DAY_S)
    before = here - low
    # The mean without the payment itself; of one who never paid, this payment is all there is.
    mean = np.where(
        before > 0, (amounts[here] - amounts[low]) / np.maximum(before, 1), columns["amount"]
    )
    ratio = columns["amount"] / np.maximum(mean, 0.01)
    # In order of the timeline: how much of the payer's recent money is far above their mean.
    added = {"amount_over_mean_30d": ratio}
    added["amount_over_max_30d"] = columns["amount"] / np.maximum(
        _max_before(payer, data, which, 30), 0.01
    )
    all_ratio = _ratio_of_all(payer, data, amounts)
    large = np.concatenate([[0.0], np.cumsum(all_ratio > 2.5)])
    low = payer.until(which, 14 * DAY_S)
    added["large_share_14d"] = (large[here] - large[low]) / np.maximum(here - low, 1)

    payee = _Timeline(data.payee, data.time_s, (HISTORY_DAYS + delay_days) * DAY_S)
    frauds = payee.sums(data.fraud)
    high = np.minimum(payee.until(which, delay_days * DAY_S), payee.own(which))
    low = np.minimum(payee.until(which, (delay_days + 21) * DAY_S), high)
    added["payee_frauds_21d"] = frauds[high] - frauds[low]
    added |= _fraud_ages(payee, data, which, frauds, low, high)
    known = payer.sums(data.fraud)
    high = np.minimum(payer.until(which, delay_days * DAY_S), here)
    low = np.minimum(payer.until(which, (delay_days + 14) * DAY_S), high)
    added["payer_frauds_14d"] = known[high] - known[low]
    return added


def _max_before(payer: _Timeline, data: Payments, which: NDArray[np.int64], days: int) -> Floats:
    """The payer's largest of the last eight payments before this one, within ``days``."""
    ordered, here = data.amount[payer.order], payer.own(which)
    low = payer.until(which, days * DAY_S)
    largest = np.zeros(len(which))
    for back in range(1, 9):
        place = here - back
        inside = place >= low
        largest = np.maximum(largest, np.where(inside, ordered[np.maximum(place, 0)], 0.0))
    return np.where(largest > 0, largest, data.amount[which])


def _ratio_of_all(payer: _Timeline, data: Payments, amounts: Floats) -> Floats:
    """Every payment's amount over the payer's mean of 30 days before it, in timeline order."""
    order = payer.order
    low = payer.until(order, 30 * DAY_S)
    here = np.arange(len(order))
    before = here - low
    mean = (amounts[here] - amounts[low]) / np.maximum(before, 1)
    ordered = data.amount[order]
    return np.where(before > 0, ordered / np.maximum(mean, 0.01), 1.0)


def _fraud_ages(
    payee: _Timeline,
    data: Payments,
    which: NDArray[np.int64],
    frauds: Floats,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> dict[str, Floats]:
    """Days since the last and the first known fraud at the payee within the known 21 days."""
    places = np.flatnonzero(data.fraud[payee.order])
    some = frauds[high] > frauds[low]
    last = places[np.maximum(frauds[high].astype(np.int64) - 1, 0)] if len(places) else high
    first = (
        places[np.minimum(frauds[low].astype(np.int64), max(len(places) - 1, 0))]
        if len(places)
        else high
    )
    now_s = data.time_s[which]
    found = {}
    for name, place in (("last", last), ("first", first)):
        safe = np.where(some, place, 0)
        age = (now_s - payee.time_at(safe)) / DAY_S if len(data) else np.zeros(0)
        found[f"payee_fraud_{name}_days"] = np.where(some, age, NEVER_DAYS)
    return found


def label_is_later_than(data: Payments, rows: NDArray[np.int64], delay_days: int) -> Flags:
    """Which of ``rows`` had no known label yet at the end of the data."""
    if not len(data):
        return np.zeros(0, np.bool_)
    return np.asarray(data.time_s[rows] > data.time_s[-1] - delay_days * DAY_S)
