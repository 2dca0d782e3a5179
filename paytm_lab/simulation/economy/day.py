"""One day: what people do of themselves, what rings do, and the merchants' settlement at night."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paytm_lab.simulation.economy.batch import (
    BANK,
    CASH_OUT,
    DAY_US,
    EMPLOYERS,
    MERCHANT,
    PEER,
    SALARY,
    SETTLEMENT,
    Accounts,
)
from paytm_lab.simulation.economy.cycles import SETTLEMENT_US, day_of, times_of_day_us
from paytm_lab.simulation.economy.rings import Plan, play
from paytm_lab.simulation.economy.wallets import Movements, laid_out, settled, together, with_shares
from paytm_lab.simulation.economy.world import World, drawn_paise
from paytm_lab.simulation.payments import HOUR_US
from paytm_lab.simulation.population import F64, I64

if TYPE_CHECKING:
    from paytm_lab.simulation.economy.economy import Economy

ROUND_PAISE = 1_000  # every other larger payment between people is of whole tens of rupees
SETTLED_PAISE_MIN = 10_000
_SETTLED_WITHIN_US = DAY_US - SETTLEMENT_US - 1


def draw_day(
    economy: Economy,
    world: World,
    rings: Plan,
    balance_paise: I64,
    day: int,
    rng: np.random.Generator,
) -> tuple[Movements, I64, I64]:
    """The day's payments from the run's start on (microseconds), and both balances after each.
    ``balance_paise`` (by account) is moved on to the day's end.
    """
    accounts, wallets = world.accounts, world.accounts.wallets
    drains = rings.drains.get(day, [])
    busy = np.array(sorted({account for drain in drains for account in drain.cast}), dtype=np.int64)
    parts = [
        _peers(economy, world, day, rng),
        _shopping(economy, world, day, rng),
        _salaries(economy, world, day, rng),
        _cash_outs(economy, world, day, rng, busy),
        rings.of_day(day),
    ]
    rows = together(parts)
    rows = with_shares(rows, accounts, balance_paise[:wallets], world.unit_paise)
    rows = rows.take(np.flatnonzero(rows.amount_paise > 0))
    for drain in drains:
        rest, drained = play(drain, rows, world, balance_paise)
        rows = together([rest, drained])
    rows, from_after, to_after = settled(rows, accounts, balance_paise, world.unit_paise)
    night = _settlement(accounts, day, balance_paise, rng)
    night, night_from, night_to = settled(night, accounts, balance_paise, world.unit_paise)
    return (
        laid_out([rows, night]),
        np.concatenate((from_after, night_from)),
        np.concatenate((to_after, night_to)),
    )


def _ordinary(
    at_us: I64, payer: I64, payee: I64, paise: I64, kind: int, share: F64 | None = None
) -> Movements:
    count = len(at_us)
    return Movements(
        at_us, payer, payee, paise, np.full(count, kind, dtype=np.int8),
        np.zeros(count, dtype=np.int8), np.zeros(count, dtype=np.int32),
        np.zeros(count) if share is None else share,
    )  # fmt: skip


def _payers(economy: Economy, world: World, day: int, rate: float, rng: np.random.Generator) -> I64:
    """Users, each as often as it pays today: a Poisson number with mean rate * activity * day."""
    mean = world.activity * (rate * economy.day_factors[day])
    mean[world.joins_day > day] = 0
    return np.repeat(np.arange(economy.users), rng.poisson(mean))


def _times(economy: Economy, day: int, count: int, rng: np.random.Generator) -> I64:
    return day * DAY_US + times_of_day_us(economy.target, rng.random(count))


def _peers(economy: Economy, world: World, day: int, rng: np.random.Generator) -> Movements:
    payer = _payers(economy, world, day, economy.tuning.peer, rng)
    payee = world.contacts.pick(payer, rng.random(len(payer)))
    payee = np.where(world.joins_day[payee] > day, world.fallback[payer], payee)
    paise = drawn_paise(economy.target.amounts_rupees["peer"], rng.random(len(payer)))
    tens = (rng.random(len(payer)) < 0.5) & (paise >= 10 * ROUND_PAISE)
    paise = np.where(tens, (paise + ROUND_PAISE // 2) // ROUND_PAISE * ROUND_PAISE, paise)
    return _ordinary(_times(economy, day, len(payer), rng), payer, payee, paise, PEER)


def _shopping(economy: Economy, world: World, day: int, rng: np.random.Generator) -> Movements:
    payer = _payers(economy, world, day, economy.tuning.merchant, rng)
    payee = world.shops(payer, rng)
    paise = drawn_paise(economy.target.amounts_rupees["merchant"], rng.random(len(payer)))
    return _ordinary(_times(economy, day, len(payer), rng), payer, payee, paise, MERCHANT)


def _salaries(economy: Economy, world: World, day: int, rng: np.random.Generator) -> Movements:
    today = world.payday == day_of(economy.start_us, day).day
    paid = np.flatnonzero(today & (world.joins_day <= day))
    at_us = day * DAY_US + 9 * HOUR_US + rng.integers(0, 2 * HOUR_US, len(paid))
    payer = np.full(len(paid), world.accounts.outside(EMPLOYERS))
    return _ordinary(at_us, payer, paid, world.salary_paise[paid], SALARY)


def _cash_outs(
    economy: Economy, world: World, day: int, rng: np.random.Generator, busy: I64
) -> Movements:
    """At most one a user and day; none by those whom a drain keeps busy, because what they hold
    hangs on it.
    """
    asks = rng.random(economy.users) < -np.expm1(-economy.tuning.cash_out * world.activity)
    asks &= world.joins_day <= day
    asks[busy[busy < economy.users]] = False
    payer = np.flatnonzero(asks)
    share = rng.uniform(0.2, 0.9, len(payer))
    payee = np.full(len(payer), world.accounts.outside(BANK))
    at_us = _times(economy, day, len(payer), rng)
    return _ordinary(at_us, payer, payee, np.zeros(len(payer), dtype=np.int64), CASH_OUT, share)


def _settlement(
    accounts: Accounts, day: int, balance_paise: I64, rng: np.random.Generator
) -> Movements:
    """Merchants get what they took, in the day's last minute."""
    held = balance_paise[accounts.users : accounts.wallets]
    payer = np.flatnonzero(held >= SETTLED_PAISE_MIN)
    at_us = day * DAY_US + SETTLEMENT_US + rng.integers(0, _SETTLED_WITHIN_US, len(payer))
    payee = np.full(len(payer), accounts.outside(BANK))
    rows = _ordinary(at_us, accounts.users + payer, payee, held[payer], SETTLEMENT)
    return together([rows])
