"""The features of ``fraud.live_features``, from recorded payments: what the live scorer would have
known of each, all at once.

A decaying sum over one user's payments is a chain of steps s -> a s + b; such steps compose, so
they are done in rounds of doubling reach instead of one by one (Hillis and Steele, 1986, "Data
parallel algorithms").
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from paytm_lab.fraud.history import HALF_LIVES_US, PAYEES
from paytm_lab.fraud.live_features import (
    COUNT_MIN,
    IDLE_HOURS_MAX,
    LIVE,
    NIGHT_HOUR_LAST,
    ONLINE,
    RATIO_MAX,
)
from paytm_lab.fraud.science.features import FeatureTable
from paytm_lab.fraud.science.payments import DAY_S, Floats, Payments

VELOCITY_WINDOW_S = 60
_HALF_S = np.array(HALF_LIVES_US) / 1e6
_NONE = -1


class _Sums:
    """Counts and sums of one side after each payment, by half-life; and where to find them."""

    def __init__(self, who: NDArray[np.int64], time_s: NDArray[np.int64], amount: Floats) -> None:
        self.order = np.argsort(who, kind="stable")
        self.who = who[self.order]
        self.time_s = time_s[self.order]
        first = np.append(True, self.who[1:] != self.who[:-1]) if len(who) else np.zeros(0, bool)
        starts = np.flatnonzero(first)
        self.start = np.repeat(starts, np.diff(np.append(starts, len(who))))
        position = np.arange(len(who)) - self.start
        age_s = np.diff(self.time_s, prepend=self.time_s[:1]) * (position > 0)
        # Shape (half-lives, payments). A user's first payment forgets whatever came before it in
        # the array, so no step ever reaches over from somebody else.
        factor = np.exp2(-age_s / _HALF_S[:, None]) * (position > 0)
        self.counts = np.ones(factor.shape)
        self.sums = np.repeat(amount[self.order][None], len(_HALF_S), axis=0)
        reach, longest = 1, int(position.max()) if len(who) else 0
        while reach <= longest:
            self.counts[:, reach:] += factor[:, reach:] * self.counts[:, :-reach]
            self.sums[:, reach:] += factor[:, reach:] * self.sums[:, :-reach]
            factor[:, reach:] *= factor[:, :-reach].copy()
            factor[:, :reach] = 0.0
            reach *= 2

    def at(self, places: NDArray[np.int64], now_s: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Counts and sums after the payment at ``places`` (-1: none yet), as of ``now_s``; by
        half-life.
        """
        safe = np.maximum(places, 0)
        age_s = np.maximum(0, now_s - self.time_s[safe])
        factor = np.exp2(-age_s / _HALF_S[:, None]) * (places >= 0)
        return self.counts[:, safe] * factor, self.sums[:, safe] * factor

    def idle_hours(self, places: NDArray[np.int64], now_s: NDArray[np.int64]) -> Floats:
        hours = np.maximum(0, now_s - self.time_s[np.maximum(places, 0)]) / 3600
        return np.where(places >= 0, np.minimum(IDLE_HOURS_MAX, hours), IDLE_HOURS_MAX)

    def own_before(self) -> NDArray[np.int64]:
        """Place of the payment before each one, of the same user; in the payments' order."""
        places = np.arange(len(self.order))
        found = np.empty(len(self.order), np.int64)
        found[self.order] = np.where(places > self.start, places - 1, _NONE)
        return found

    def before(self, who: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of the last payment of ``who[i]`` on this side before payment i."""
        count = len(who)
        key = self.who * count + self.order
        place = np.searchsorted(key, who * count + np.arange(count)) - 1
        same = (place >= 0) & (self.who[np.maximum(place, 0)] == who)
        return np.where(same, place, _NONE)


def live_features(
    data: Payments, rows: NDArray[np.int64] | None = None, names: tuple[str, ...] = LIVE
) -> FeatureTable:
    """Shape (rows, names). All of ``data`` counts as history, so nothing may be left out before
    the rows; ``velocity_count`` is for a window of 60 seconds, as the rules have by default.
    """
    which = np.arange(len(data)) if rows is None else np.asarray(rows, np.int64)
    if not len(data):
        return FeatureTable(names, np.zeros((0, len(names))), which, ONLINE)
    paid = _Sums(data.payer, data.time_s, data.amount)
    received = _Sums(data.payee, data.time_s, data.amount)
    now_s, amount = data.time_s[which], data.amount[which]
    mine, theirs = paid.own_before()[which], received.own_before()[which]
    counts, sums = paid.at(mine, now_s)
    in_counts, in_sums = received.at(theirs, now_s)
    means, in_means = _mean(sums, counts), _mean(in_sums, in_counts)
    income = received.at(received.before(data.payer)[which], now_s)[1][1]
    columns = {
        "amount": amount,
        "log_amount": np.log1p(amount),
        "night": (now_s % DAY_S // 3600 <= NIGHT_HOUR_LAST).astype(np.float64),
        "weekend": ((now_s // DAY_S + 3) % 7 >= 5).astype(np.float64),
        "velocity_count": _velocity(data, paid)[which],
        "amount_over_payer_mean_30d": _ratio(amount, means[3]),
        "payer_idle_hours": paid.idle_hours(mine, now_s),
        "known_payee": _known_payee(data, paid)[which],
        "amount_over_payee_mean_30d": _ratio(amount, in_means[3]),
        "payee_idle_hours": received.idle_hours(theirs, now_s),
        "payer_received_1d": income,
        "amount_over_received_1d": np.minimum(RATIO_MAX, amount / (income + 1.0)),
    }
    for place, half in enumerate(("1h", "1d", "7d", "30d")):
        columns[f"payer_count_{half}"] = counts[place]
        columns[f"payer_mean_{half}"] = means[place]
        columns[f"payee_count_{half}"] = in_counts[place]
        columns[f"payee_mean_{half}"] = in_means[place]
    return FeatureTable(names, np.column_stack([columns[name] for name in names]), which, ONLINE)


def with_labels(scored: pd.DataFrame, data: Payments) -> pd.DataFrame:
    """Payments that a lab scored (``run.model_scores``), each with ``fraud`` and ``amount_rupees``
    of the recorded payment that it was: of the same payer, time and amount. Others are left out.
    """
    recorded = pd.DataFrame(
        {
            "user_id": data.payer.astype(str),
            "at_us": data.time_s * 1_000_000,
            "amount_paise": np.rint(data.amount * 100).astype(np.int64),
            "fraud": data.fraud,
            "amount_rupees": data.amount,
        }
    )
    same = ["user_id", "at_us", "amount_paise"]
    return scored.merge(recorded.drop_duplicates(same), on=same)


def _mean(sums: Floats, counts: Floats) -> Floats:
    return np.where(counts > COUNT_MIN, sums / np.maximum(counts, COUNT_MIN), 0.0)


def _ratio(amount: Floats, mean: Floats) -> Floats:
    some = mean > 0
    return np.where(some, np.minimum(RATIO_MAX, amount / np.where(some, mean, 1.0)), 1.0)


def _velocity(data: Payments, paid: _Sums) -> Floats:
    span = int(data.time_s[-1] - data.time_s[0]) + VELOCITY_WINDOW_S + 1
    key = paid.who * span + (paid.time_s - data.time_s[0])
    low = np.maximum(np.searchsorted(key, key - VELOCITY_WINDOW_S, side="right"), paid.start)
    found = np.empty(len(data))
    found[paid.order] = np.arange(len(data)) - low + 1
    return found


def _known_payee(data: Payments, paid: _Sums) -> Floats:
    payee = data.payee[paid.order]
    places = np.arange(len(payee))
    known = np.zeros(len(payee), np.bool_)
    for back in range(1, PAYEES + 1):
        place = places - back
        inside = place >= paid.start
        known |= inside & (payee[np.maximum(place, 0)] == payee)
    found = np.empty(len(payee))
    found[paid.order] = known
    return found
