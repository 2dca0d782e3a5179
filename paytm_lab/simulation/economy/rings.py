"""Which rings there are, when, and with whom: drawn before the first day, played day by day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paytm_lab.core.errors import InvalidSetting
from paytm_lab.simulation.economy.batch import DAY_US, PATTERNS
from paytm_lab.simulation.economy.cycles import SETTLEMENT_US
from paytm_lab.simulation.economy.patterns import (
    KINDS_OF_RING,
    LONGEST_WITHIN_A_DAY_US,
    NO_VICTIM,
    Cast,
    Kind,
    Script,
)
from paytm_lab.simulation.economy.wallets import Movements, running
from paytm_lab.simulation.economy.world import World
from paytm_lab.simulation.payments import HOUR_US
from paytm_lab.simulation.population import I64

if TYPE_CHECKING:
    from paytm_lab.simulation.economy.economy import Economy

_MORNING_US = 9 * HOUR_US


@dataclass(frozen=True, slots=True)
class Drain:
    """A ring whose amounts hang on what its victim holds at its first moment."""

    ring: int
    script: Script

    @property
    def first_us(self) -> int:
        return self.script.rows[0][0]

    @property
    def last_us(self) -> int:
        return self.script.rows[-1][0]

    @property
    def cast(self) -> set[int]:
        """All who take part, but for the victim."""
        return {account for row in self.script.rows for account in row[1:3]} - {NO_VICTIM}


@dataclass(frozen=True, slots=True)
class Plan:
    """``rows``: of all rings but drains, in order of time from the run's start. ``drains``: by day.
    ``pattern_of_ring``: place in PATTERNS by ring, from 1 (place 0 is unused).
    """

    rows: Movements
    drains: dict[int, list[Drain]]
    pattern_of_ring: I64

    def of_day(self, day: int) -> Movements:
        first, end = np.searchsorted(self.rows.at_us, (day * DAY_US, (day + 1) * DAY_US))
        return self.rows.take(np.arange(first, end))


def taking_part(economy: Economy, joins_day: I64) -> I64:
    """Users who may be in a ring: there from the first day on. InvalidSetting: not enough."""
    rings = economy.rings()
    pool = np.flatnonzero(joins_day == 0)[2:]
    need = sum(KINDS_OF_RING[name].members * count for name, count in rings.items())
    if need > len(pool):
        raise InvalidSetting(
            f"{sum(rings.values())} rings need {need} users, and {len(pool)} can take part",
            remedy="Use more users or fewer rings.",
        )
    return pool


def plan(economy: Economy, world: World, seed: int) -> Plan:
    """Draws every ring. Bust-out accounts become new ones in ``world`` that do nothing else.

    Raises InvalidSetting where there are too few users for so many rings.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3, 0)))
    wanted = [(name, KINDS_OF_RING[name]) for name, n in economy.rings().items() for _ in range(n)]
    pool = rng.permutation(taking_part(economy, world.joins_day))
    rows: list[tuple[int, ...]] = []
    drains: dict[int, list[Drain]] = {}
    patterns = [0]
    for ring, (name, kind) in enumerate(wanted, 1):
        members, pool = pool[: kind.members], pool[kind.members :]
        cast = _cast(economy, world, kind, members, rng)
        script = kind.draw(cast)
        pattern = PATTERNS.index(name)
        patterns.append(pattern)
        if name == "bust_out":
            world.joins_day[members] = cast.start_us // DAY_US
            world.activity[members] = 0
            world.payday[members] = 0
            world.opening_paise[members] = 0
        if script.victims is not None:
            drains.setdefault(cast.start_us // DAY_US, []).append(Drain(ring, script))
        else:
            rows += ((*row, pattern, ring) for row in script.rows)
    return Plan(_movements(rows), drains, np.array(patterns, dtype=np.int64))


def _cast(
    economy: Economy, world: World, kind: Kind, members: I64, rng: np.random.Generator
) -> Cast:
    merchants = np.arange(economy.users, economy.accounts.wallets)
    shops = rng.choice(merchants, min(max(1, kind.shops), len(merchants)), replace=False)
    if not kind.days:
        day, span_us = int(rng.integers(0, economy.days)), LONGEST_WITHIN_A_DAY_US
        start_us = day * DAY_US + int(rng.uniform(0, DAY_US - span_us))
    else:
        span_days = int(rng.integers(1, min(kind.days, economy.days) + 1))
        day = int(rng.integers(0, economy.days - span_days + 1))
        start_us = day * DAY_US + int(rng.uniform(0, _MORNING_US))
        span_us = span_days * DAY_US - _MORNING_US - HOUR_US
    return Cast(rng, economy.accounts, members, shops, start_us, span_us, economy.threshold_paise)


def _movements(rows: Sequence[tuple[int, ...]]) -> Movements:
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 7)
    at_us = table[:, 0] // DAY_US * DAY_US
    at_us += np.minimum(table[:, 0] - at_us, SETTLEMENT_US - 1)
    kind, pattern = table[:, 4].astype(np.int8), table[:, 5].astype(np.int8)
    return Movements(
        at_us, table[:, 1].copy(), table[:, 2].copy(), table[:, 3].copy(), kind, pattern,
        table[:, 6].astype(np.int32), np.zeros(len(table)),
    )  # fmt: skip


def play(
    drain: Drain, day: Movements, world: World, balance_paise: I64
) -> tuple[Movements, Movements]:
    """(the day without what the victim would do meanwhile, the drain's rows).

    The victim is the one of the shortlist who held most at the day's start. ``day``: all other
    rows, in order of time, with their amounts; ``balance_paise``: by account, at the day's start.
    """
    shortlist, amounts_of = drain.script.victims, drain.script.amounts_of
    if shortlist is None or amounts_of is None:
        raise InvalidSetting(f"ring {drain.ring} drains nobody")
    victim = int(shortlist[np.argmax(balance_paise[shortlist])])
    touches = (day.from_account == victim) | (day.to_account == victim)
    meanwhile = touches & (day.at_us >= drain.first_us) & (day.at_us <= drain.last_us)
    earlier = day.take(np.flatnonzero(touches & (day.at_us < drain.first_us)))
    wallets = world.accounts.wallets
    run = running(earlier, world.accounts, balance_paise[:wallets], world.unit_paise)
    own = np.flatnonzero(run.account == victim)
    held = int(run.balance_paise[own[-1]] if len(own) else balance_paise[victim])
    rows = [
        (at_us, victim if payer == NO_VICTIM else payer, payee, paise, kind, 1, drain.ring)
        for (at_us, payer, payee, _, kind), paise in zip(
            drain.script.rows, amounts_of(held), strict=True
        )
        if paise > 0
    ]
    return day.take(np.flatnonzero(~meanwhile)), _movements(rows)
