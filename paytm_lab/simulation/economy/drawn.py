"""An economy under one seed: its people and rings, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paytm_lab.simulation.economy.batch import EconomyBatch
from paytm_lab.simulation.economy.day import draw_day
from paytm_lab.simulation.economy.rings import Plan
from paytm_lab.simulation.economy.world import World
from paytm_lab.simulation.population import F64, I64

if TYPE_CHECKING:
    from paytm_lab.simulation.economy.economy import Economy


@dataclass(frozen=True, slots=True)
class Drawn:
    """``world``: its people, the rings' new accounts among them. Nothing here changes it, so each
    of these may be asked any number of times, in any order.
    """

    economy: Economy
    seed: int
    world: World
    rings: Plan

    def opening_paise(self) -> I64:
        """What every account holds at the start, shape (accounts.count,); 0 outside."""
        return np.concatenate((self.world.opening_paise, np.zeros(3, dtype=np.int64)))

    def day_weights(self) -> F64:
        """Peer and merchant payments expected by day, relative: cycles times who has joined; shape
        (days,).
        """
        days, world = self.economy.days, self.world
        arrived = np.bincount(world.joins_day, world.activity, minlength=days)
        return np.asarray(self.economy.day_factors * np.cumsum(arrived)[:days])

    def generate(
        self, progress: Callable[[int, int], object] | None = None
    ) -> Iterator[EconomyBatch]:
        """The payments, a day at a time, in order of time. The same settings and seed give the same
        bytes (on one numpy version). ``progress`` is told (day, payments so far).
        """
        economy, balance_paise = self.economy, self.opening_paise()
        line = 1
        for day in range(economy.days):
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(4, day)))
            rows, from_after, to_after = draw_day(
                economy, self.world, self.rings, balance_paise, day, rng
            )
            batch = EconomyBatch(
                line, rows.at_us + economy.start_us, rows.from_account, rows.to_account,
                rows.amount_paise, rows.kind, rows.pattern, rows.ring, from_after, to_after,
            )  # fmt: skip
            line += len(batch)
            if progress is not None:
                progress(day + 1, line - 1)
            if len(batch):
                yield batch
