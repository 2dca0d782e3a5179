"""A seeded workload: who pays whom, how much and when, as numpy batches.

The same workload, seed and shard map give the same bytes (on one numpy version; another CPU's
``exp`` may round a rare amount one paisa apart). A batch draws from its own stream, named by its
number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from operator import index

import msgspec
import numpy as np

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.ids import SLOTS
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.routing.shard_map import ShardMap
from paytm_lab.simulation.given import real, whole
from paytm_lab.simulation.population import I64, Population, ReceiverSampler, lognormal_moment

BATCH_ROWS = 65_536
USERS_MAX = 10_000_000
PAYMENTS_MAX = 1_000_000_000
HOUR_US = 3_600_000_000
AMOUNT_PAISE_MIN = 100
# Payments by hour of the day, relative: quiet nights, a peak at lunch and a higher one in the
# evening.
HOURLY_WEIGHTS = (
    *(0.9, 0.5, 0.3, 0.2, 0.3, 0.8, 1.8, 3.0, 4.2, 5.2, 6.0, 6.6),
    *(7.0, 6.5, 5.6, 5.2, 5.6, 6.6, 7.8, 8.6, 8.4, 6.6, 4.0, 2.0),
)


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """One payment to post. ``line``: where it stands in its source, from 1 (in a file the physical
    line). ``at_us``: when the payer asked, microseconds since 1970 UTC; None where a file does not
    say.
    """

    line: int
    from_user_id: str
    to_user_id: str
    amount_paise: int
    at_us: int | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class PaymentBatch:
    """Up to BATCH_ROWS payments in order of time; arrays of int64, shape (n,).

    ``from_user``, ``to_user``: user numbers 1..N (a user's id is the number as text);
    ``first_line``: the number of the batch's first payment, from 1.
    """

    first_line: int
    from_user: I64
    to_user: I64
    amount_paise: I64
    at_us: I64

    def __len__(self) -> int:
        return len(self.from_user)

    def rows(self, key_prefix: str = "") -> list[Transfer]:
        """The batch as records. With a prefix, payment n has the idempotency key '{prefix}:{n}'."""
        columns = zip(
            range(self.first_line, self.first_line + len(self)),
            map(str, self.from_user.tolist()),
            map(str, self.to_user.tolist()),
            self.amount_paise.tolist(),
            self.at_us.tolist(),
            strict=True,
        )
        if not key_prefix:
            return [Transfer(*row) for row in columns]
        return [Transfer(*row, f"{key_prefix}:{row[0]}") for row in columns]


@dataclass(frozen=True)
class Workload:
    """Payments between users '1'..'N'. Raises InvalidSetting for values that make no workload.

    ``zipf_s``: how unequal activity is (0: all alike). ``cross_shard_share``: the share of payments
    between two shards, 0..1; None leaves it to chance (3/4 on four even shards). Amounts are
    log-normal: with the defaults about 3 % are 7,000 rupees or more, which the default fraud rule
    sends to review; the upper end is UPI's usual limit of one lakh. ``opening_rupees``: every
    user's opening balance; None gives each about what the day will need, so that about 1 % of
    payments meet too little money. ``day_start_us``: microseconds since 1970 UTC; hours of the day
    count from there.
    """

    users: int = 10_000
    payments: int = 50_000
    zipf_s: float = 0.99
    cross_shard_share: float | None = None
    amount_median_rupees: float = 350.0
    amount_sigma: float = 1.593  # ln(7000 / 350) / 1.881, the normal quantile of 97 %
    amount_max_rupees: float = 100_000.0
    opening_rupees: float | None = None
    day_start_us: int = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
    days: int = 1
    hourly_weights: tuple[float, ...] = HOURLY_WEIGHTS

    def __post_init__(self) -> None:
        for name, low, high in _WHOLE:
            object.__setattr__(self, name, whole(name, getattr(self, name), low, high))
        for name, lowest, highest in _REAL:
            object.__setattr__(self, name, real(name, getattr(self, name), lowest, highest))
        if self.cross_shard_share is not None:
            share = real("cross_shard_share", self.cross_shard_share, 0, 1)
            object.__setattr__(self, "cross_shard_share", share)
        if self.opening_rupees is not None:
            opening = real("opening_rupees", self.opening_rupees, 0, AMOUNT_PAISE_MAX / 100)
            object.__setattr__(self, "opening_rupees", opening)
        weights = tuple(real("hourly_weights", w, 0, 1e9) for w in self.hourly_weights)
        if len(weights) != 24 or sum(weights) <= 0:
            raise InvalidSetting(
                f"hourly_weights = {self.hourly_weights!r:.120} is not a day",
                remedy="Give 24 numbers, one an hour, not all zero.",
            )
        object.__setattr__(self, "hourly_weights", weights)

    def generate(self, seed: int, shard_map: ShardMap | int = 4) -> Iterator[PaymentBatch]:
        """The payments in order of time. ``shard_map`` (or a number of shards) only matters to a
        chosen ``cross_shard_share``; InvalidSetting where that share cannot be had with it.
        """
        seed = whole("seed", seed, 0, 2**63 - 1)
        population = Population.draw(self.users, self.zipf_s, seed)
        owner = np.asarray(as_shard_map(shard_map).owner, dtype=np.int64)
        shard_of_row = owner[np.arange(1, self.users + 1) % SLOTS]
        self._require_share_possible(np.bincount(shard_of_row))
        return self._batches(seed, population, shard_of_row)

    def rows(
        self, seed: int, shard_map: ShardMap | int = 4, key_prefix: str = ""
    ) -> Iterator[list[Transfer]]:
        """``generate`` as records."""
        return (batch.rows(key_prefix) for batch in self.generate(seed, shard_map))

    def population(self, seed: int) -> Population:
        """Who is how active under this seed."""
        return Population.draw(self.users, self.zipf_s, whole("seed", seed, 0, 2**63 - 1))

    def openings_paise(self, seed: int) -> I64:
        """Opening balances, shape (users,), row i is user i + 1."""
        if self.opening_rupees is not None:
            return np.full(self.users, round(self.opening_rupees * 100), dtype=np.int64)
        shape = (self.amount_median_rupees, self.amount_sigma, self.amount_max_rupees)
        return self.population(seed).openings_paise(
            self.payments, lognormal_moment(*shape, 1), lognormal_moment(*shape, 2)
        )

    def openings(self, seed: int) -> dict[str, int]:
        """User id -> opening balance in paise, for all users."""
        return {str(i): paise for i, paise in enumerate(self.openings_paise(seed).tolist(), 1)}

    @property
    def opening_rule(self) -> str:
        """How opening balances come about, in words to print."""
        if self.opening_rupees is not None:
            return f"{self.opening_rupees:,.2f} rupees for every user"
        return "about what each user's payments will need"

    def digest(self, seed: int) -> str:
        """16 hex digits that stand for this workload under this seed."""
        text = msgspec.json.encode([asdict(self), index(seed)])
        return blake2b(text, digest_size=8).hexdigest()

    def _batches(
        self, seed: int, population: Population, shard_of_row: I64
    ) -> Iterator[PaymentBatch]:
        senders = np.cumsum(population.weights)
        receivers = ReceiverSampler(population.receiver_weights, shard_of_row)
        for number, first in enumerate(range(0, self.payments, BATCH_ROWS)):
            count = min(BATCH_ROWS, self.payments - first)
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, number)))
            rank = np.searchsorted(senders, rng.random(count) * senders[-1], side="right")
            from_row = population.sender_of_rank[np.minimum(rank, self.users - 1)]
            to_row = self._receivers(receivers, from_row, rng)
            yield PaymentBatch(
                first + 1,
                from_row + 1,
                to_row + 1,
                self._amounts(count, rng),
                self._times(first, count, rng),
            )

    def _receivers(
        self, receivers: ReceiverSampler, from_row: I64, rng: np.random.Generator
    ) -> I64:
        point = rng.random(len(from_row))
        if self.cross_shard_share is None:
            return receivers.anywhere(from_row, point)
        to_row = np.empty_like(from_row)
        crosses = rng.random(len(from_row)) < self.cross_shard_share
        stays = ~crosses
        to_row[crosses] = receivers.other_shard(from_row[crosses], point[crosses])
        to_row[stays] = receivers.same_shard(from_row[stays], point[stays])
        return to_row

    def _amounts(self, count: int, rng: np.random.Generator) -> I64:
        log_paise = rng.standard_normal(count)
        log_paise *= self.amount_sigma
        log_paise += math.log(self.amount_median_rupees * 100)
        paise = np.rint(np.exp(log_paise))
        highest = round(self.amount_max_rupees * 100)
        return np.asarray(np.clip(paise, AMOUNT_PAISE_MIN, highest), dtype=np.int64)

    def _times(self, first: int, count: int, rng: np.random.Generator) -> I64:
        """Payments ``first .. first + count`` of the run fall into that stretch of the day's curve;
        sums of exponential gaps, scaled, are sorted uniform draws without a sort.
        """
        gaps = np.cumsum(rng.standard_exponential(count + 1))
        quantile = (first + count * (gaps[:-1] / gaps[-1])) / self.payments
        curve = np.concatenate(([0.0], np.cumsum(self.hourly_weights * self.days)))
        edges_us = np.arange(len(curve)) * HOUR_US
        at = np.interp(quantile, curve / curve[-1], edges_us)
        return np.asarray(at, dtype=np.int64) + self.day_start_us

    def _require_share_possible(self, users_by_shard: I64) -> None:
        share = self.cross_shard_share
        if share is None:
            return
        populated = users_by_shard[users_by_shard > 0]
        if share > 0 and len(populated) < 2:
            raise InvalidSetting(
                f"cross_shard_share = {share} cannot be had: all users are on one shard",
                remedy="Use more shards or users, or cross_shard_share = 0.",
            )
        if share < 1 and populated.min() < 2:
            raise InvalidSetting(
                f"cross_shard_share = {share} cannot be had: a shard holds a single user",
                remedy="Use more users (two on each shard), or cross_shard_share = 1.",
            )


_WHOLE = (
    ("users", 2, USERS_MAX),
    ("payments", 1, PAYMENTS_MAX),
    ("day_start_us", 0, 10**16),
    ("days", 1, 3660),
)
_REAL = (
    ("zipf_s", 0, 10),
    ("amount_median_rupees", 0.01, 1e9),
    ("amount_sigma", 0, 5),
    ("amount_max_rupees", 1, AMOUNT_PAISE_MAX / 100),
)


def as_shard_map(shard_map: ShardMap | int) -> ShardMap:
    """A number of shards stands for the initial map of so many."""
    return shard_map if isinstance(shard_map, ShardMap) else ShardMap.initial(shard_map)
