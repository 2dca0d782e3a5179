"""How many keys a second each strategy places, on arrays; and one by one through the router."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paytm_lab.routing.hashing import user_numbers
from paytm_lab.routing.shard_map import Router, ShardMap
from paytm_lab.routing.strategies import STRATEGIES, make

SHARDS = 4
SEED = 7
_ROUNDS = 5


def run(data_dir: Path, quick: bool = False) -> list[dict[str, Any]]:
    """Rows ``strategy``, ``keys_per_s`` (best of five), ``keys``. Beside the strategies on numpy
    arrays of user numbers: ``user_numbers_of_text`` turns text ids into numbers, ``router`` is the
    hot path's ``Router.locate`` of a known user, called in a Python loop. ``data_dir`` is not used.
    """
    keys = 200_000 if quick else 2_000_000
    numbers = np.random.default_rng(SEED).integers(0, 10**9, keys).astype(np.uint64)
    rows = []
    for name in STRATEGIES:
        rows.append(_row(name, keys, partial(make(name, SHARDS).shards_of, numbers)))
    texts = numbers[: keys // 4].astype(np.str_)
    rows.append(_row("user_numbers_of_text", len(texts), partial(user_numbers, texts)))
    router = Router(ShardMap.initial(SHARDS))
    users = [str(number) for number in range(10_000)]
    repeats = keys // len(users)

    def locate_all() -> None:
        locate = router.locate
        for _ in range(repeats):
            for user in users:
                locate(user)

    rows.append(_row("router", repeats * len(users), locate_all))
    return rows


def _row(strategy: str, keys: int, place: Callable[[], object]) -> dict[str, Any]:
    place()  # the first run pays for memory that later ones reuse
    best_s = min(_seconds(place) for _ in range(_ROUNDS))
    return {"strategy": strategy, "keys_per_s": round(keys / best_s), "keys": keys}


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s
