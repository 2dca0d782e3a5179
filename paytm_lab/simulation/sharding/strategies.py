"""All strategies side by side, on the axes on which they differ; and along a path of growth.

``monotone``: when shards are added, users move only to new ones (Karger et al. 1997 call it
monotonicity). A strategy that is not also carries users from one old shard to another, which is
work that buys nothing.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.routing.hashing import user_numbers
from paytm_lab.routing.shard_map import SHARDS_MAX
from paytm_lab.routing.strategies import STRATEGIES, Strategy, make, sampling_cv
from paytm_lab.simulation.given import whole
from paytm_lab.simulation.payments import USERS_MAX
from paytm_lab.simulation.population import F64, Population
from paytm_lab.simulation.simulate import max_over_mean, variation

SPEED_KEYS = 1_000_000
_ROUNDS = 3
_Places = npt.NDArray[np.int16]


def compare(
    users: int,
    shards: int,
    zipf_s: float = 0.99,
    seed: int = 0,
    strategies: Sequence[str] = STRATEGIES,
    progress: Callable[[int], object] | None = None,
) -> list[dict[str, Any]]:
    """One row a strategy, for users '1'..'N' whose activity follows Zipf's law.

    ``memory_bytes`` and ``build_ms``: what making it takes; ``lookup_keys_per_s``: users placed in
    an array, best of three, measured here. ``users_max_over_mean`` and ``users_cv`` (beside
    ``chance_cv``, what a perfect hash has): how evenly users lie; ``load_max_over_mean``: how
    evenly the payments they send do. ``moved_share``: who moves when one shard is added
    (``least_share``: the least there is); ``moved_between_old_share``: of all users, those whose
    move was for nothing; ``monotone``: there are none. ``left_share``: who moves when one is taken
    away.

    ``progress`` is told the strategies done. Raises InvalidSetting.
    """
    require(users, shards)
    numbers = np.arange(1, users + 1, dtype=np.uint64)
    weights = Population.draw(users, zipf_s, seed).sender_weights
    rows = []
    for done, name in enumerate(strategies, start=1):
        strategy, memory_bytes, build_ms = _made(name, shards)
        places = _places(strategy, numbers)
        row = {
            "strategy": name,
            "shards": shards,
            "users": users,
            "memory_bytes": memory_bytes,
            "build_ms": build_ms,
            "lookup_keys_per_s": _speed(strategy, numbers[:SPEED_KEYS]),
            **_balance(places, weights, shards),
            "chance_cv": sampling_cv(shards, users),
            **_move(strategy, places, numbers, shards + 1),
        }
        if shards > 1:
            fewer = _places(strategy.resized(shards - 1), numbers)
            row["left_share"] = float(np.mean(fewer != places))
        rows.append(row)
        if progress is not None:
            progress(done)
    return rows


def growth(
    path: Sequence[int] = (4, 5, 8),
    users: int = 100_000,
    zipf_s: float = 0.99,
    seed: int = 0,
    strategies: Sequence[str] = STRATEGIES,
) -> list[dict[str, Any]]:
    """One row for each step of ``path`` (numbers of shards) and strategy: ``moved_share``,
    ``least_share``, ``moved_between_old_share``, ``monotone``, and the balance after the step.
    Raises InvalidSetting for a path that does not grow.
    """
    if len(path) < 2 or any(b <= a for a, b in pairwise(path)):
        raise InvalidSetting(
            f"{list(path)!r:.60} is no path of growth", remedy="Give for example 4, 5, 8."
        )
    for shards in path:
        require(users, shards)
    numbers = np.arange(1, users + 1, dtype=np.uint64)
    weights = Population.draw(users, zipf_s, seed).sender_weights
    rows = []
    for name in strategies:
        strategy = make(name, path[0])
        places = _places(strategy, numbers)
        for before, after in pairwise(path):
            moved = _move(strategy, places, numbers, after)
            strategy = strategy.resized(after)
            places = _places(strategy, numbers)
            step = {"strategy": name, "step": f"{before} to {after}", "from": before, "to": after}
            rows.append(step | moved | _balance(places, weights, after))
    return rows


def strides(
    users: int, shards: int, step: int = 4_096, strategies: Sequence[str] = STRATEGIES
) -> list[dict[str, Any]]:
    """The fullest shard over the mean, a row a strategy: for ``users`` ids 1, 2, 3, ...
    (``consecutive``), for multiples of ``step`` (``stride``), and for those behind a letter, as
    'u4096' (``lettered``). An id of 1-18 digits is its own hash, which modulo and the slot map take
    as it is. Raises InvalidSetting.
    """
    require(users, shards)
    whole("step", step, 1, 10**9)
    counted = np.arange(1, users + 1, dtype=np.uint64)
    apart = counted * np.uint64(step)
    ids = {
        "consecutive": counted,
        "stride": apart,
        "lettered": user_numbers([f"u{number}" for number in apart.tolist()]),
    }
    rows = []
    for name in strategies:
        rule = make(name, shards)
        found = {
            kind: float(max_over_mean(np.bincount(_places(rule, numbers), minlength=shards)))
            for kind, numbers in ids.items()
        }
        rows.append({"strategy": name, **found})
    return rows


def require(users: int, shards: int) -> None:
    """InvalidSetting for numbers that cannot be simulated."""
    whole("users", users, 1, USERS_MAX)
    whole("shards", shards, 1, SHARDS_MAX - 1)


def _made(name: str, shards: int) -> tuple[Strategy, int, float]:
    make(name, 1)  # what is built once for all of its kind is not this one's
    tracemalloc.start()
    try:
        strategy = make(name, shards)
        memory_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    started_s = time.perf_counter()
    make(name, shards)
    return strategy, memory_bytes, 1000 * (time.perf_counter() - started_s)


def _places(strategy: Strategy, numbers: npt.NDArray[np.uint64]) -> _Places:
    places: _Places = strategy.shards_of(numbers).astype(np.int16)
    return places


def _speed(strategy: Strategy, numbers: npt.NDArray[np.uint64]) -> float:
    best_s = math.inf
    for _ in range(_ROUNDS):
        started_s = time.perf_counter()
        strategy.shards_of(numbers)
        best_s = min(best_s, time.perf_counter() - started_s)
    return len(numbers) / best_s


def _balance(places: _Places, weights: F64, shards: int) -> dict[str, Any]:
    counts = np.bincount(places, minlength=shards)
    load = np.bincount(places, weights=weights, minlength=shards)
    return {
        "users_max_over_mean": max_over_mean(counts),
        "users_cv": variation(counts),
        "load_max_over_mean": max_over_mean(load),
    }


def _move(
    strategy: Strategy, places: _Places, numbers: npt.NDArray[np.uint64], shards: int
) -> dict[str, Any]:
    after = _places(strategy.resized(shards), numbers)
    moved = after != places
    for_nothing = float(np.mean(moved & (after < strategy.shards)))
    return {
        "moved_share": float(moved.mean()),
        "least_share": 1 - strategy.shards / shards,
        "moved_between_old_share": for_nothing,
        "monotone": for_nothing == 0,
    }
