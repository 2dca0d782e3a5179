"""A shard is added while payments go on: its slots come one after the other, on paper.

A slot's rows are copied while it goes on taking payments; then it is fenced for a moment (payments
that touch it are refused with Retry-After), what was written meanwhile follows, and the new shard
owns it. Copying is work on both shards, beside their legs of payments. Everything here is an
expected value, no chance: payers and payees are independent, so a shard whose users send the share
s of all payments and receive the share v works on ``s + v - s v`` of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.core.ids import SLOTS
from paytm_lab.routing.shard_map import ShardMap
from paytm_lab.simulation.given import real
from paytm_lab.simulation.population import F64, I64, Population
from paytm_lab.simulation.sharding.strategies import require


@dataclass(frozen=True)
class Growth:
    """``legs_per_s_max``: what one shard can do; ``rows_per_user``: what a user has stored;
    ``copy_rows_per_s``: how fast a slot is copied; ``rows_per_leg``: rows that cost as much to read
    or to write as one leg. Raises InvalidSetting.
    """

    users: int = 100_000
    payments_per_s: float = 2_000.0
    zipf_s: float = 0.8
    shards_before: int = 4
    shards_after: int = 5
    legs_per_s_max: float = 1_500.0
    rows_per_user: float = 60.0
    copy_rows_per_s: float = 5_000.0
    rows_per_leg: float = 20.0
    fence_s: float = 0.05

    def __post_init__(self) -> None:
        require(self.users, self.shards_after)
        require(self.users, self.shards_before)
        if self.shards_after <= self.shards_before:
            raise InvalidSetting(
                f"shards_after = {self.shards_after} is not more than {self.shards_before}",
                remedy="Give a larger number.",
            )
        for name in ("payments_per_s", "legs_per_s_max", "rows_per_user", "copy_rows_per_s",
                     "rows_per_leg"):  # fmt: skip
            real(name, getattr(self, name), 1e-9, 1e12)
        real("fence_s", self.fence_s, 0, 3_600)
        real("zipf_s", self.zipf_s, 0, 10)


@dataclass(frozen=True)
class Timeline:
    """``rows``: for each moment at which something changes and each shard ``at_s``, ``shard``,
    ``utilisation`` (work of legs and of copying, 1: all it can do), ``of_copying`` (the part that
    is copying), ``users``. ``refused_payments``: expected, over all fences.
    """

    rows: list[dict[str, Any]]
    slots_moved: int
    rows_moved: float
    duration_s: float
    refused_payments: float
    utilisation_max: float
    payments_during: float


def grow(growth: Growth, seed: int) -> Timeline:
    """What the shards do from the first slot's first row to the last slot's arrival."""
    slots = _Slots(growth, seed)
    before = ShardMap.initial(growth.shards_before)
    after = before.grow(growth.shards_after)
    owner = np.array(before.owner)
    goal = np.array(after.owner)
    copying = growth.copy_rows_per_s / growth.rows_per_leg / growth.legs_per_s_max
    rows: list[dict[str, Any]] = []
    at_s = refused = moved_rows = highest = 0.0
    moving = before.moved_slots(after)
    for slot in moving:
        source, target = int(owner[slot]), int(goal[slot])
        busy = slots.utilisation(owner)
        extra = np.zeros(growth.shards_after)
        extra[[source, target]] = copying
        highest = max(highest, float((busy + extra).max()))
        rows += _moment(at_s, busy, extra, slots.users_of(owner))
        count = float(slots.users[slot]) * growth.rows_per_user
        moved_rows += count
        at_s += count / growth.copy_rows_per_s + growth.fence_s
        refused += slots.payments_per_s(slot) * growth.fence_s
        owner[slot] = target
    busy = slots.utilisation(owner)
    rows += _moment(at_s, busy, np.zeros(growth.shards_after), slots.users_of(owner))
    return Timeline(
        rows,
        len(moving),
        moved_rows,
        at_s,
        refused,
        max(highest, float(busy.max())),
        at_s * growth.payments_per_s,
    )


def fastest_copy_rows_per_s(growth: Growth, seed: int, utilisation_max: float) -> float:
    """The largest ``copy_rows_per_s`` with which no shard is ever busier than that. InvalidSetting
    where payments alone keep one busier.
    """
    slots = _Slots(growth, seed)
    before = ShardMap.initial(growth.shards_before)
    after = before.grow(growth.shards_after)
    owner = np.array(before.owner)
    spare = np.inf
    for slot in before.moved_slots(after):
        busy = slots.utilisation(owner)
        target = after.owner[slot]
        spare = min(spare, utilisation_max - float(max(busy[owner[slot]], busy[target])))
        if busy.max() > utilisation_max:
            spare = min(spare, utilisation_max - float(busy.max()))
        owner[slot] = target
    if spare <= 0:
        raise InvalidSetting(
            f"utilisation_max = {utilisation_max:g}: payments alone keep a shard busier",
            remedy="Grow at a quieter hour, or allow more.",
        )
    return spare * growth.legs_per_s_max * growth.rows_per_leg


class _Slots:
    """What users, and shares of payments sent and received, lie in each slot; shape (1024,)."""

    def __init__(self, growth: Growth, seed: int) -> None:
        slot_of_row = np.arange(1, growth.users + 1) % SLOTS
        population = Population.draw(growth.users, growth.zipf_s, seed)
        self.growth = growth
        self.users = np.bincount(slot_of_row, minlength=SLOTS)
        self._sent = _summed(slot_of_row, population.sender_weights, SLOTS)
        self._received = _summed(slot_of_row, population.receiver_weights, SLOTS)

    def utilisation(self, owner: I64) -> F64:
        """Of each shard, by legs of payments alone; shape (shards_after,)."""
        shards = self.growth.shards_after
        sent = _summed(owner, self._sent, shards)
        received = _summed(owner, self._received, shards)
        legs_per_s = self.growth.payments_per_s * _touching(sent, received)
        return np.asarray(legs_per_s / self.growth.legs_per_s_max)

    def payments_per_s(self, slot: int) -> float:
        touched = _touching(self._sent[[slot]], self._received[[slot]])
        return float(self.growth.payments_per_s * touched[0])

    def users_of(self, owner: I64) -> F64:
        return _summed(owner, self.users.astype(np.float64), self.growth.shards_after)


def _summed(places: I64, weights: F64, length: int) -> F64:
    return np.bincount(places, weights=weights, minlength=length).astype(np.float64)


def _touching(sent: F64, received: F64) -> F64:
    return np.asarray(sent + received - sent * received)


def _moment(at_s: float, busy: F64, extra: F64, users: F64) -> list[dict[str, Any]]:
    return [
        {
            "at_s": at_s,
            "shard": shard,
            "utilisation": float(busy[shard] + extra[shard]),
            "of_copying": float(extra[shard]),
            "users": int(users[shard]),
        }
        for shard in range(len(busy))
    ]
