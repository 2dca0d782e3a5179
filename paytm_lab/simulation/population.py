"""Who pays and who is paid: users '1'..'N', some far busier than others, and what they start with.

Activity follows Zipf's law: the user of rank r sends a share proportional to ``r ** -s``. Senders
and receivers get their ranks from two independent permutations, so the busiest payer is rarely the
busiest payee. User '17' is row 16 of every array here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

# So many standard deviations of a user's own cash flow, and never less than this: with these two
# about 1 % of the payments meet too little money (measured 0.4-2 % from 200 to 50,000 users, s from
# 0 to 1.2).
CUSHION_SD = 1.25
OPENING_RUPEES_MIN = 10_000.0


def zipf_weights(users: int, zipf_s: float) -> F64:
    """Shares by rank, shape (users,), descending, sum 1: ``r ** -s / sum(r ** -s)``."""
    weights = np.arange(1, users + 1, dtype=np.float64) ** -zipf_s
    return np.asarray(weights / weights.sum(), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Population:
    """``sender_of_rank`` and ``receiver_of_rank``: user rows by descending activity, shape
    (users,). ``weights``: the share of each rank.
    """

    weights: F64
    sender_of_rank: I64
    receiver_of_rank: I64

    @classmethod
    def draw(cls, users: int, zipf_s: float, seed: int) -> Population:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
        return cls(zipf_weights(users, zipf_s), rng.permutation(users), rng.permutation(users))

    @property
    def sender_weights(self) -> F64:
        """The share of all payments that each user sends; shape (users,), by user row."""
        return _by_row(self.weights, self.sender_of_rank)

    @property
    def receiver_weights(self) -> F64:
        """The share of all payments that each user receives; shape (users,), by user row."""
        return _by_row(self.weights, self.receiver_of_rank)

    def openings_paise(self, payments: int, mean_rupees: float, mean_square_rupees: float) -> I64:
        """What each user starts with, whole rupees in paise, shape (users,).

        A user who sends n and receives m of the payments expects to end ``(n - m) * mean`` poorer,
        with a standard deviation of ``sqrt((n + m) * mean_square)`` (sums of Poisson numbers of
        amounts).
        """
        sent = payments * self.sender_weights
        received = payments * self.receiver_weights
        expected = mean_rupees * (sent - received)
        cushion = CUSHION_SD * np.sqrt(mean_square_rupees * (sent + received))
        rupees = np.maximum(OPENING_RUPEES_MIN, expected + cushion)
        return np.ceil(rupees).astype(np.int64) * 100


def _by_row(weights: F64, row_of_rank: I64) -> F64:
    out = np.empty_like(weights)
    out[row_of_rank] = weights
    return out


class ReceiverSampler:
    """Draws receivers for given senders, by activity, never the sender, on the sender's shard or
    off it.

    Users lie sorted by shard on a line, each as long as its share. One draw is one point: on the
    whole line, on the sender's shard's stretch, or on the rest; with the sender's own piece cut
    out. So each draw is exact and none has to be repeated.
    """

    def __init__(self, weights: F64, shard_of_row: I64) -> None:
        self._row_at = np.argsort(shard_of_row, kind="stable")
        self._place_of_row = np.empty_like(self._row_at)
        self._place_of_row[self._row_at] = np.arange(len(weights))
        self._line = np.concatenate(([0.0], np.cumsum(weights[self._row_at])))
        shards = int(shard_of_row.max()) + 1
        self._first = np.searchsorted(shard_of_row[self._row_at], np.arange(shards + 1))
        self._shard_of_row = shard_of_row

    def anywhere(self, senders: I64, uniform: F64) -> I64:
        """Receiver rows, same shape as ``senders`` (user rows) and ``uniform`` (0..1)."""
        whole = np.zeros_like(senders)
        return self._within(senders, uniform, whole, np.full_like(senders, len(self._row_at)))

    def same_shard(self, senders: I64, uniform: F64) -> I64:
        shard = self._shard_of_row[senders]
        return self._within(senders, uniform, self._first[shard], self._first[shard + 1])

    def other_shard(self, senders: I64, uniform: F64) -> I64:
        shard = self._shard_of_row[senders]
        first, end = self._first[shard], self._first[shard + 1]
        start, stop = self._line[first], self._line[end]
        point = uniform * (self._line[-1] - (stop - start))
        point += np.where(point >= start, stop - start, 0.0)
        place = self._place(point)
        # Rounding can put a point on the edge of the stretch that was cut out: step over it.
        beside = np.where(end < len(self._row_at), end, first - 1)
        return np.asarray(self._row_at[np.where((place >= first) & (place < end), beside, place)])

    def _within(self, senders: I64, uniform: F64, first: I64, end: I64) -> I64:
        own = self._place_of_row[senders]
        own_start = self._line[own]
        own_length = self._line[own + 1] - own_start
        start = self._line[first]
        point = start + uniform * (self._line[end] - start - own_length)
        point += np.where(point >= own_start, own_length, 0.0)
        place = np.clip(self._place(point), first, end - 1)
        after = np.where(
            own + 1 < end, own + 1, first
        )  # rounding again, or no weight but the sender's
        return np.asarray(self._row_at[np.where(place == own, after, place)])

    def _place(self, point: F64) -> I64:
        place = np.searchsorted(self._line, point, side="right") - 1
        return np.asarray(np.minimum(place, len(self._row_at) - 1), dtype=np.int64)


def lognormal_moment(median: float, sigma: float, cap: float, power: int) -> float:
    """E[min(X, cap) ** power] of a log-normal X with this median; Johnson, Kotz, Balakrishnan,
    Continuous Univariate Distributions I, chapter 14 (partial expectation), plus the capped tail.
    """
    mu = math.log(median)
    if sigma == 0:
        return min(median, cap) ** power
    body = math.exp(power * mu + 0.5 * (power * sigma) ** 2)
    body *= _normal_cdf((math.log(cap) - mu - power * sigma**2) / sigma)
    return body + cap**power * _normal_cdf((mu - math.log(cap)) / sigma)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
