"""The people of an economy: how active each is, whom they know, where they shop, what they earn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paytm_lab.simulation.economy.batch import Accounts
from paytm_lab.simulation.economy.contacts import Contacts, scale_free
from paytm_lab.simulation.economy.cycles import PAYDAY_WEIGHTS, PAYDAYS
from paytm_lab.simulation.economy.profile import QUANTILES
from paytm_lab.simulation.population import F64, I64, zipf_weights

if TYPE_CHECKING:
    from paytm_lab.simulation.economy.economy import Economy

FAVOURITES = 4
FAVOURITE_SHARE = 0.7
MERCHANT_ZIPF_S = 0.9
OPENING_MEDIAN_PAISE = 150_000
TOP_UP_UNITS_PAISE = np.array([10_000, 20_000, 50_000, 100_000, 200_000], dtype=np.int64)
TOP_UP_UNIT_WEIGHTS = np.array([0.2, 0.2, 0.3, 0.2, 0.1])
_TABLE = 1 << 16


@dataclass(slots=True)
class World:
    """Arrays by user, shape (users,), or by wallet, shape (users + merchants,).

    ``activity``: mean 1. ``joins_day``: the user's first day. ``payday``: day of the month, 0
    without a salary. ``favourites``: merchants' account numbers, shape (users, 4).
    ``any_merchant``: account numbers, each as often as it is visited. ``fallback``: whom to pay in
    place of a contact who has not joined yet. ``unit_paise``, ``opening_paise``: by wallet.
    """

    accounts: Accounts
    activity: F64
    joins_day: I64
    contacts: Contacts
    fallback: I64
    favourites: I64
    any_merchant: I64
    payday: I64
    salary_paise: I64
    unit_paise: I64
    opening_paise: I64

    @staticmethod
    def joining(economy: Economy, seed: int) -> I64:
        """``joins_day`` alone, which is drawn in a moment."""
        return _arriving(economy, _people(seed))[1]

    @classmethod
    def draw(cls, economy: Economy, seed: int) -> World:
        rng = _people(seed)
        users, accounts = economy.users, economy.accounts
        activity, joins_day = _arriving(economy, rng)
        contacts = scale_free(users, economy.mean_contacts, economy.target.contact_exponent, rng)
        there = np.flatnonzero(joins_day == 0)
        fallback = there[rng.integers(0, len(there), users)]
        fallback = np.where(fallback == np.arange(users), there[0], fallback)
        fallback[there[0]] = there[1]
        quantile = (np.arange(_TABLE) + 0.5) / _TABLE
        line = np.cumsum(zipf_weights(accounts.merchants, MERCHANT_ZIPF_S))
        rank = np.minimum(np.searchsorted(line, quantile * line[-1]), accounts.merchants - 1)
        any_merchant = users + rng.permutation(accounts.merchants)[rank]
        favourites = any_merchant[rng.integers(0, _TABLE, (users, FAVOURITES))]
        employed = rng.random(users) < economy.employed_share
        payday = np.where(employed, rng.choice(PAYDAYS, users, p=PAYDAY_WEIGHTS), 0)
        salary = drawn_paise(economy.target.amounts_rupees["salary"], rng.random(users))
        unit = np.ones(accounts.wallets, dtype=np.int64) * 10_000
        scale = economy.tuning.top_up_scale
        units = np.maximum(1, np.rint(TOP_UP_UNITS_PAISE * scale / 1_000)).astype(np.int64) * 1_000
        unit[:users] = rng.choice(units, users, p=TOP_UP_UNIT_WEIGHTS)
        opening = np.zeros(accounts.wallets, dtype=np.int64)
        drawn = np.exp(rng.standard_normal(users)) * OPENING_MEDIAN_PAISE
        opening[:users] = np.where(joins_day == 0, drawn, 0).astype(np.int64)
        return cls(
            accounts, activity / activity.mean(), joins_day, contacts, fallback, favourites,
            any_merchant, payday, salary // 100 * 100, unit, opening,
        )  # fmt: skip

    def shops(self, users: I64, rng: np.random.Generator) -> I64:
        """Where each of ``users`` pays: mostly a favourite, else any merchant by its popularity."""
        favourite = self.favourites[users, rng.integers(0, FAVOURITES, len(users))]
        other = self.any_merchant[rng.integers(0, _TABLE, len(users))]
        return np.where(rng.random(len(users)) < FAVOURITE_SHARE, favourite, other)


def _people(seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, 0)))


def _arriving(economy: Economy, rng: np.random.Generator) -> tuple[F64, I64]:
    """How active each user is, before it is scaled to mean 1, and its first day: drawn first."""
    users = economy.users
    activity = np.exp(economy.activity_sigma * rng.standard_normal(users))
    joins_day = np.where(
        rng.random(users) < economy.joining_share,
        rng.integers(1, max(2, economy.days), users),
        0,
    )
    joins_day[0:2] = 0  # so that there is always somebody to pay
    return activity, joins_day


def drawn_paise(rupees_at_quantiles: Sequence[float], uniform: F64) -> I64:
    """Draws 0..1 -> paise, whole rupees, by inverting the quantile table log-linearly."""
    log_rupees = np.interp(uniform, QUANTILES, np.log(rupees_at_quantiles))
    return np.maximum(1, np.rint(np.exp(log_rupees))).astype(np.int64) * 100
