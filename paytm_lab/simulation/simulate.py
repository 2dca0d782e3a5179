"""What a workload does to shards, on paper: no database, no clock, only who would be where.

Load follows users, and users are not alike: a strategy that spreads users evenly may still put much
more work on one shard, and none can split the busiest user. So balance is shown three ways: by
users, by payments sent and by legs (a payment between two shards is work on both).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.routing.shard_map import SHARDS_MAX, ShardMap
from paytm_lab.routing.strategies import Strategy, make
from paytm_lab.simulation.payments import PaymentBatch, Workload
from paytm_lab.simulation.population import F64, I64
from paytm_lab.simulation.whole_file import whole_file

STRATEGIES_SHOWN = ("modulo", "ring", "jump", "rendezvous", "slot_map")
# What of a row fits a terminal's width.
COLUMNS_SHOWN = (
    "strategy",
    "shards",
    "users_max_over_mean",
    "legs_max_over_mean",
    "cross_shard_share",
    "moved_users_share",
)
CSV_COLUMNS = ("id", "from_user", "to_user", "amount", "at_us", "opening", "opening_to")

# Up to SHARDS_MAX shards fit; half a dozen of these arrays with a million users each stay small.
_Shard16 = npt.NDArray[np.int16]


class _Tally:
    """Counts of one strategy with one number of shards."""

    def __init__(self, strategy: Strategy, users: int) -> None:
        numbers = np.arange(1, users + 1, dtype=np.uint64)
        self.strategy = strategy
        self.shard_of_user: _Shard16 = strategy.shards_of(numbers).astype(np.int16)
        self.users = np.bincount(self.shard_of_user, minlength=strategy.shards)
        self.sent = np.zeros(strategy.shards, dtype=np.int64)
        self.legs = np.zeros(strategy.shards, dtype=np.int64)
        self.moved_share = strategy.moved(strategy.resized(strategy.shards + 1), numbers)

    def add(self, batch: PaymentBatch) -> None:
        source = self.shard_of_user[batch.from_user - 1]
        target = self.shard_of_user[batch.to_user - 1]
        sent = np.bincount(source, minlength=self.strategy.shards)
        self.sent += sent
        self.legs += sent
        self.legs += np.bincount(target[target != source], minlength=self.strategy.shards)

    def row(self) -> dict[str, Any]:
        payments = int(self.sent.sum())
        return {
            "strategy": self.strategy.name,
            "shards": self.strategy.shards,
            "users_max_over_mean": max_over_mean(self.users),
            "users_cv": variation(self.users),
            "sent_max_over_mean": max_over_mean(self.sent),
            "sent_cv": variation(self.sent),
            "legs_max_over_mean": max_over_mean(self.legs),
            "legs_cv": variation(self.legs),
            "legs_per_payment": int(self.legs.sum()) / payments,
            "cross_shard_share": int(self.legs.sum()) / payments - 1,
            "moved_users_share": self.moved_share,
            "busiest_shard": int(self.legs.argmax()),
        }


def simulate(
    workload: Workload,
    seed: int,
    shards: Sequence[int] = (4, 5, 8),
    strategies: Sequence[str] = STRATEGIES_SHOWN,
    progress: Callable[[int], object] | None = None,
) -> list[dict[str, Any]]:
    """One row for each number of shards and strategy, the same payments for all of them.

    Shares are 0..1. ``*_max_over_mean``: the fullest shard over the mean, 1 is perfect; ``*_cv``:
    standard deviation over mean. ``moved_users_share``: who changes shard when one is added.
    ``hottest_user_share``: of all payments, sent by the one who sends most. A chosen
    ``cross_shard_share`` is left out, as it is a result here. ``progress`` is told the payments
    done.

    Raises InvalidSetting for an unknown strategy or an impossible number of shards.
    """
    for count in shards:
        if not 1 <= count < SHARDS_MAX:
            raise InvalidSetting(
                f"shards = {count} cannot be used",
                remedy=f"Give a number from 1 to {SHARDS_MAX - 1}.",
            )
    made = [make(name, count) for count in shards for name in strategies]
    tallies = [_Tally(strategy, workload.users) for strategy in made]
    sent_by_user = np.zeros(workload.users, dtype=np.int64)
    done = 0
    for batch in replace(workload, cross_shard_share=None).generate(seed):
        sent_by_user += np.bincount(batch.from_user - 1, minlength=workload.users)
        for tally in tallies:
            tally.add(batch)
        done += len(batch)
        if progress is not None:
            progress(done)
    hottest = int(sent_by_user.argmax())
    common = {
        "users": workload.users,
        "payments": workload.payments,
        "zipf_s": workload.zipf_s,
        "seed": seed,
        "hottest_user_id": str(hottest + 1),
        "hottest_user_share": int(sent_by_user[hottest]) / workload.payments,
    }
    return [tally.row() | common for tally in tallies]


def max_over_mean(counts: I64 | F64) -> float:
    """The largest over the mean; 1 is perfect balance."""
    return float(counts.max() / counts.mean())


def variation(counts: I64 | F64) -> float:
    """Coefficient of variation: (population) standard deviation over mean."""
    return float(counts.std() / counts.mean())


def write_csv(
    path: str | os.PathLike[str], workload: Workload, seed: int, shard_map: ShardMap | int = 4
) -> int:
    """Writes the workload as a file that ``--transfers`` reads back as the same payments, with the
    same opening balances; the number of payments. Columns: CSV_COLUMNS; amounts in rupees.

    The file appears whole or not at all. Raises InvalidSetting where it cannot be written,
    StorageFull.
    """
    with whole_file(Path(path)) as part, part.open("w", encoding="ascii", newline="") as file:
        file.write(",".join(CSV_COLUMNS) + "\n")
        for lines in _csv_lines(workload, seed, shard_map):
            file.writelines(lines)
    return workload.payments


def _csv_lines(workload: Workload, seed: int, shard_map: ShardMap | int) -> Iterator[Iterator[str]]:
    openings = [
        f"{paise // 100}.{paise % 100:02d}" for paise in workload.openings_paise(seed).tolist()
    ]
    prefix = workload.digest(seed)
    for batch in workload.generate(seed, shard_map):
        columns = zip(
            range(batch.first_line, batch.first_line + len(batch)),
            batch.from_user.tolist(),
            batch.to_user.tolist(),
            batch.amount_paise.tolist(),
            batch.at_us.tolist(),
            strict=True,
        )
        yield (
            f"{prefix}-{line},{payer},{payee},{paise // 100}.{paise % 100:02d},{at_us},"
            f"{openings[payer - 1]},{openings[payee - 1]}\n"
            for line, payer, payee, paise, at_us in columns
        )
