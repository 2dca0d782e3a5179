"""Hot keys: however even the hash, the busiest user's payments all meet on one shard.

The load is Zipf's: rank r has a share ``r ** -s / sum(r ** -s)``. Keys are placed uniformly at
random, as a perfect hash would, once for each replication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paytm_lab.simulation.given import real, whole
from paytm_lab.simulation.population import F64, zipf_weights
from paytm_lab.simulation.queueing.estimates import REPLICATIONS_MIN, interval
from paytm_lab.simulation.sharding.strategies import require
from paytm_lab.simulation.simulate import max_over_mean

REPLICATIONS_MAX = 10_000


def hot_keys(
    users: int,
    shards: int,
    zipf_s: float,
    seed: int,
    *,
    split_keys: int = 0,
    parts: int = 1,
    replications: int = 50,
) -> dict[str, Any]:
    """How uneven the load of ``shards`` is: ``load_max_over_mean`` (mean of the replications, with
    ``..._half_width`` of its 95 % interval), ``top_share`` of the busiest key, ``least_possible``:
    below it no placement comes, as one part of the busiest key lies somewhere.

    The busiest ``split_keys`` may be split into ``parts`` each (a merchant's sub-accounts), which
    lie on neighbouring shards. Raises InvalidSetting.
    """
    require(users, shards)
    whole("split_keys", split_keys, 0, users)
    whole("parts", parts, 1, shards)
    whole("replications", replications, REPLICATIONS_MIN, REPLICATIONS_MAX)
    real("zipf_s", zipf_s, 0, 10)
    weights = zipf_weights(users, zipf_s)
    rng = np.random.default_rng(seed)
    loads = [
        max_over_mean(_load(weights, shards, split_keys, parts, rng)) for _ in range(replications)
    ]
    found = interval(loads)
    largest = np.concatenate((weights[:split_keys] / parts, weights[split_keys:]))[
        [0, min(split_keys, users - 1)]
    ].max()
    return {
        "users": users,
        "shards": shards,
        "zipf_s": zipf_s,
        "split_keys": split_keys,
        "parts": parts,
        "top_share": float(weights[0]),
        "load_max_over_mean": found.value,
        "load_max_over_mean_half_width": found.high - found.value,
        "least_possible": max(1.0, float(largest) * shards),
    }


def sweep(
    users: int,
    shards: Sequence[int],
    zipf_s: Sequence[float],
    seed: int,
    split: tuple[int, int] = (20, 4),
) -> list[dict[str, Any]]:
    """``hot_keys`` for each number of shards and exponent, without and with the busiest split:
    ``split`` says how many of them, and into how many parts.
    """
    split_keys, parts = split
    return [
        hot_keys(users, count, s, seed, split_keys=keys, parts=min(into, count))
        for count in shards
        for keys, into in ((0, 1), (min(split_keys, users), parts))
        for s in zipf_s
    ]


def _load(weights: F64, shards: int, split_keys: int, parts: int, rng: np.random.Generator) -> F64:
    home = rng.integers(0, shards, len(weights), dtype=np.int16)
    load = np.bincount(home[split_keys:], weights=weights[split_keys:], minlength=shards)
    for part in range(parts):
        there = (home[:split_keys] + part) % shards
        load += np.bincount(there, weights=weights[:split_keys] / parts, minlength=shards)
    return np.asarray(load, dtype=np.float64)
