"""Locality: people pay whom they know, so a placement that keeps circles together crosses less.

Users belong to communities (a town, a campus) whose sizes are uneven; a payment stays inside with
a given probability. Compared are placements that know nothing (the hash), that know the community,
and one that learns it from past payments alone: label propagation by balanced swaps, after Ugander
and Backstrom, "Balanced label propagation for partitioning massive graphs", WSDM 2013. Each round
asks of every user which shard holds most of their partners; between each two shards as many users
change one way as the other, those with the most to gain first, so the shards stay as full as they
were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.extras import need
from paytm_lab.routing.strategies import make
from paytm_lab.simulation.given import real, whole
from paytm_lab.simulation.population import I64, zipf_weights
from paytm_lab.simulation.sharding.strategies import require
from paytm_lab.simulation.simulate import max_over_mean

ROUNDS = 40
PLACEMENTS = ("hash", "community by number", "community, largest first", "learned")


@dataclass(frozen=True)
class Circles:
    """``inside_share``: of payments that stay in the payer's community; ``size_s``: Zipf's exponent
    of the communities' sizes. Raises InvalidSetting.
    """

    users: int = 100_000
    payments: int = 1_000_000
    communities: int = 500
    inside_share: float = 0.8
    size_s: float = 0.6

    def __post_init__(self) -> None:
        require(self.users, 1)
        whole("communities", self.communities, 1, self.users // 2)
        whole("payments", self.payments, 2, 100_000_000)
        real("inside_share", self.inside_share, 0, 1)
        real("size_s", self.size_s, 0, 3)

    def draw(self, seed: int) -> tuple[I64, I64, I64]:
        """``community`` of each user (users,), ``payer`` and ``payee`` rows (payments,), in order
        of time. A payer never pays themselves.
        """
        rng = np.random.default_rng(seed)
        weights = zipf_weights(self.communities, self.size_s)
        # Two of each first, so that everybody has somebody inside.
        sizes = 2 + rng.multinomial(self.users - 2 * self.communities, weights)
        by_community = rng.permutation(self.users)  # user rows, one community after the other
        first = np.concatenate(([0], np.cumsum(sizes)))
        community = np.empty(self.users, dtype=np.int64)
        community[by_community] = np.repeat(np.arange(self.communities), sizes)
        place = np.empty(self.users, dtype=np.int64)
        place[by_community] = np.arange(self.users)
        payer = rng.integers(0, self.users, self.payments)
        inside = rng.random(self.payments) < self.inside_share
        low = np.where(inside, first[community[payer]], 0)
        size = np.where(inside, sizes[community[payer]], self.users)
        step = 1 + (rng.random(self.payments) * (size - 1)).astype(np.int64)
        payee = by_community[low + (place[payer] - low + step) % size]
        return community, payer, payee


def locality(circles: Circles, shards: int, seed: int) -> list[dict[str, Any]]:
    """One row for each of PLACEMENTS: ``cross_shard_share`` (of the second half of the payments;
    the learned one has seen the first), ``users_max_over_mean``, ``load_max_over_mean`` (legs).
    """
    need("scipy")
    require(circles.users, shards)
    community, payer, payee = circles.draw(seed)
    half = circles.payments // 2
    by_hash = make("slot_map", shards).shards_of(np.arange(1, circles.users + 1, dtype=np.uint64))
    sizes = np.bincount(community, minlength=circles.communities)
    placements = (
        by_hash,
        community % shards,
        _largest_first(sizes, shards)[community],
        learn(payer[:half], payee[:half], by_hash, shards),
    )
    return [
        {"placement": name, "shards": shards, "inside_share": circles.inside_share}
        | _measured(place, payer[half:], payee[half:], shards)
        for name, place in zip(PLACEMENTS, placements, strict=True)
    ]


def expected_cross_share(inside_share: float, shards: int, *, keeps_circles: bool) -> float:
    """On even shards: of payments to anybody ``1 - 1 / N`` cross; a placement that keeps circles
    together crosses only with those that leave one.
    """
    return (1 - inside_share if keeps_circles else 1) * (1 - 1 / shards)


def learn(payer: I64, payee: I64, start: I64, shards: int, rounds: int = ROUNDS) -> I64:
    """A placement as full as ``start`` on every shard, with partners together; shape (users,)."""
    from scipy.sparse import csr_matrix

    users = len(start)
    one = np.ones(2 * len(payer), dtype=np.float32)
    ends = (np.concatenate((payer, payee)), np.concatenate((payee, payer)))
    graph = csr_matrix((one, ends), shape=(users, users))
    place = start.copy()
    row = np.arange(users)
    for _ in range(rounds):
        known = np.zeros((users, shards), dtype=np.float32)
        known[row, place] = 1
        partners = graph @ known
        here = partners[row, place]
        partners[row, place] = -1
        best = partners.argmax(axis=1)
        gain = partners[row, best] - here
        if not _swap(place, best, gain, shards):
            break
    return place


def _swap(place: I64, best: I64, gain: npt.NDArray[np.float32], shards: int) -> bool:
    """Between each two shards, as many each way, while the two together gain; whether any."""
    moved = False
    willing: dict[tuple[int, int], I64] = {}
    for a in range(shards):
        for b in range(shards):
            if a != b:
                there = np.flatnonzero((place == a) & (best == b))
                willing[a, b] = there[np.argsort(-gain[there], kind="stable")]
    for a in range(shards):
        for b in range(a + 1, shards):
            count = min(len(willing[a, b]), len(willing[b, a]))
            out, back = willing[a, b][:count], willing[b, a][:count]
            # Half of them at a time: partners who change at once would miss each other.
            worth = int(np.count_nonzero(gain[out] + gain[back] > 0))
            worth = (worth + 1) // 2
            place[out[:worth]] = b
            place[back[:worth]] = a
            moved = moved or worth > 0
    return moved


def _largest_first(sizes: I64, shards: int) -> I64:
    """The shard of each community: the largest first, each to the shard with the fewest users
    (Graham's longest processing time rule, 1969).
    """
    filled = np.zeros(shards, dtype=np.int64)
    shard = np.empty(len(sizes), dtype=np.int64)
    for community in np.argsort(-sizes, kind="stable"):
        shard[community] = filled.argmin()
        filled[shard[community]] += sizes[community]
    return shard


def _measured(place: I64, payer: I64, payee: I64, shards: int) -> dict[str, float]:
    source, target = place[payer], place[payee]
    crosses = source != target
    legs = np.bincount(source, minlength=shards)
    legs += np.bincount(target[crosses], minlength=shards)
    return {
        "cross_shard_share": float(crosses.mean()),
        "users_max_over_mean": max_over_mean(np.bincount(place, minlength=shards)),
        "load_max_over_mean": max_over_mean(legs),
    }
