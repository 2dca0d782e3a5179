"""The features of a payment that a live scorer knows at that moment, as one row of numbers.

The same numbers come from recorded payments by ``fraud.science.live``, for training; a test holds
the two together. All of them are finite. Rupees, hours and counts; times of day are UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p

import numpy as np
from numpy.typing import NDArray

from paytm_lab.fraud.history import EMPTY, History, mark
from paytm_lab.fraud.registry import ModelInput

LIVE: tuple[str, ...] = (
    "amount",
    "log_amount",
    "night",
    "weekend",
    "velocity_count",
    "payer_count_1h",
    "payer_count_1d",
    "payer_count_7d",
    "payer_count_30d",
    "payer_mean_1d",
    "payer_mean_7d",
    "payer_mean_30d",
    "amount_over_payer_mean_30d",
    "payer_idle_hours",
    "known_payee",
    "payee_count_1h",
    "payee_count_1d",
    "payee_count_7d",
    "payee_count_30d",
    "payee_mean_7d",
    "payee_mean_30d",
    "amount_over_payee_mean_30d",
    "payee_idle_hours",
    "payer_received_1d",
    "amount_over_received_1d",
)
WITHOUT_HISTORY = LIVE[:5]
ONLINE = "online"  # who makes them, as a model file says it
NIGHT_HOUR_LAST = 6
IDLE_HOURS_MAX = 2_160.0  # 90 days; also of who never paid
COUNT_MIN = 1e-9  # a sum of less weight says nothing
RATIO_MAX = 1_000.0
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000


def feature_rows(inputs: Sequence[ModelInput]) -> NDArray[np.float64]:
    """Shape (payments, features), in the order of ``LIVE``."""
    return np.array([_row(each) for each in inputs], np.float64).reshape(len(inputs), len(LIVE))


def _row(each: ModelInput) -> tuple[float, ...]:
    payment = each.candidate
    payer: History = each.payer or EMPTY
    payee: History = each.payee or EMPTY
    at_us, amount = payment.at_us, payment.amount_paise / 100
    counts, sums = _now(payer, at_us, paid=True)
    means = [_mean(s, c) for s, c in zip(sums, counts, strict=True)]
    in_counts, in_sums = _now(payee, at_us, paid=False)
    in_means = [_mean(s, c) for s, c in zip(in_sums, in_counts, strict=True)]
    received = _now(payer, at_us, paid=False)[1][1]
    return (
        amount,
        log1p(amount),
        float(at_us % _DAY_US // _HOUR_US <= NIGHT_HOUR_LAST),
        float((at_us // _DAY_US + 3) % 7 >= 5),  # day 0 was a Thursday
        float(each.velocity_count),
        *counts,
        *means[1:],
        _ratio(amount, means[3]),
        _idle_hours(payer.paid.last_us, at_us),
        float(mark(payment.to_user_id) in payer.payees),
        *in_counts,
        *in_means[2:],
        _ratio(amount, in_means[3]),
        _idle_hours(payee.received.last_us, at_us),
        received,
        min(RATIO_MAX, amount / (received + 1.0)),
    )


def _now(history: History, at_us: int, *, paid: bool) -> tuple[list[float], list[float]]:
    side = history.paid if paid else history.received
    decays = side.decays(at_us)
    return (
        [count * decay for count, decay in zip(side.counts, decays, strict=True)],
        [total * decay for total, decay in zip(side.sums, decays, strict=True)],
    )


def _mean(total: float, count: float) -> float:
    return total / count if count > COUNT_MIN else 0.0


def _ratio(amount: float, mean: float) -> float:
    """1 where there is nothing to compare with."""
    return min(RATIO_MAX, amount / mean) if mean > 0 else 1.0


def _idle_hours(last_us: float, at_us: int) -> float:
    return min(IDLE_HOURS_MAX, max(0.0, at_us - last_us) / _HOUR_US) if last_us else IDLE_HOURS_MAX
