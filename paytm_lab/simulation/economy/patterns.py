"""Eight ways to cheat, a ring at a time: who pays whom, how much, how soon after one another.

Each function draws one ring as a Script from its cast and times. What it must look like stands in
its docstring; tests hold it to that. Sources: the typologies of Altman et al., "Realistic Synthetic
Financial Transactions for Anti-Money Laundering Models" (NeurIPS 2023): fan-in, fan-out, cycle;
FATF's reports on professional money laundering (2018) for structuring and mules; card testing,
bust-out and collusion as card networks describe them. Amounts and times are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from paytm_lab.simulation.economy.batch import (
    BANK,
    CARDS,
    CASH_OUT,
    MERCHANT,
    PEER,
    TOP_UP,
    Accounts,
)
from paytm_lab.simulation.payments import HOUR_US
from paytm_lab.simulation.population import I64

MINUTE_US = 60_000_000
SECOND_US = 1_000_000
NO_VICTIM = -1


class Cast(NamedTuple):
    """``members``: users of the ring, each in no other ring. ``shops``: merchants' accounts.
    ``start_us``, ``span_us``: from the run's start, the ring's first moment and the longest it may
    last. ``threshold_paise``: what must be reported.
    """

    rng: np.random.Generator
    accounts: Accounts
    members: I64
    shops: I64
    start_us: int
    span_us: int
    threshold_paise: int


@dataclass
class Script:
    """Rows in order of time. For a drain, payer NO_VICTIM stands for the account to be chosen
    among ``victims``, and ``amounts_of`` turns what that account holds into all amounts.
    """

    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    victims: I64 | None = None
    amounts_of: Callable[[int], list[int]] | None = None

    def add(self, at_us: float, payer: int, payee: int, paise: float, kind: int) -> None:
        self.rows.append((int(at_us), int(payer), int(payee), int(paise), kind))


def _rupees(rng: np.random.Generator, low: float, high: float, step: int = 1) -> int:
    """Paise of a uniform draw in whole multiples of ``step`` rupees."""
    return int(rng.uniform(low, high) // step) * step * 100


def account_drain(cast: Cast) -> Script:
    """A stolen account is emptied to the last paisa within minutes, in shares to mules; they pass
    it on to a collector, who cashes out. All within two hours of one day.
    """
    rng, members = cast.rng, cast.members.tolist()
    mules = members[1 : 1 + int(rng.integers(2, 5))]
    collector, script = members[0], Script(victims=cast.members[5:])
    first = cast.start_us
    times = first + np.cumsum(rng.uniform(20, 120, len(mules)) * SECOND_US)
    on = times[-1] + np.sort(rng.uniform(5, 40, len(mules))) * MINUTE_US
    cut = np.sort(rng.uniform(0.2, 0.8, len(mules) - 1)) if len(mules) > 1 else np.empty(0)
    kept = rng.uniform(0.02, 0.08, len(mules) + 1)
    for mule, at_us in zip(mules, times, strict=True):
        script.add(at_us, NO_VICTIM, mule, 0, PEER)
    for mule, at_us in zip(mules, on, strict=True):
        script.add(at_us, mule, collector, 0, PEER)
    bank = cast.accounts.outside(BANK)
    script.add(on[-1] + rng.uniform(5, 20) * MINUTE_US, collector, bank, 0, CASH_OUT)

    def amounts_of(held_paise: int) -> list[int]:
        edges = [0, *(int(held_paise * part) for part in cut), held_paise]
        taken = [b - a for a, b in pairwise(edges)]
        passed = [int(paise * (1 - keep)) for paise, keep in zip(taken, kept[:-1], strict=True)]
        return [*taken, *passed, int(sum(passed) * (1 - kept[-1]))]

    script.amounts_of = amounts_of
    return script


def card_testing(cast: Cast) -> Script:
    """Dozens of top-ups of 1 to 20 rupees, seconds apart, each by another stolen card; then the
    cards that work pay for a few purchases a hundred times as large, within the hour.
    """
    rng, script = cast.rng, Script()
    tester, cards = int(cast.members[0]), cast.accounts.outside(CARDS)
    at_us = float(cast.start_us)
    for _ in range(int(rng.integers(25, 61))):
        at_us += rng.exponential(5) * SECOND_US
        script.add(at_us, cards, tester, _rupees(rng, 1, 21), TOP_UP)
    for shop in cast.shops[: int(rng.integers(1, 4))]:
        at_us += rng.uniform(3, 12) * MINUTE_US
        paise = _rupees(rng, 5_000, 30_000, 10)
        script.add(at_us, cards, tester, paise, TOP_UP)
        script.add(at_us + 30 * SECOND_US, tester, int(shop), paise, MERCHANT)
    return script


def structuring(cast: Cast) -> Script:
    """A sum of several times the threshold in parts of 85 to 99.9 % of it, each just below, within
    three days, from one account to a few.
    """
    rng, script = cast.rng, Script()
    payer, payees = int(cast.members[0]), cast.members[1 : 1 + int(rng.integers(1, 4))]
    parts = int(rng.integers(5, 13))
    times = cast.start_us + np.sort(rng.uniform(0, cast.span_us, parts))
    for at_us in times:
        part = int(cast.threshold_paise * rng.uniform(0.85, 0.999))
        script.add(at_us, payer, int(rng.choice(payees)), part // 10_000 * 10_000 or part, PEER)
    return script


def fan_in(cast: Cast) -> Script:
    """Ten or more senders pay like sums to one account within hours, which then cashes out."""
    rng, script = cast.rng, Script()
    collector = int(cast.members[0])
    senders = cast.members[1 : 1 + int(rng.integers(10, 21))]
    typical = rng.uniform(4_000, 15_000)
    times = cast.start_us + np.sort(rng.uniform(0, 6 * HOUR_US, len(senders)))
    total = 0
    for sender, at_us in zip(senders, times, strict=True):
        paise = _rupees(rng, 0.7 * typical, 1.3 * typical, 50)
        total += paise
        script.add(at_us, int(sender), collector, paise, PEER)
    bank = cast.accounts.outside(BANK)
    at_us = times[-1] + rng.uniform(10, 60) * MINUTE_US
    script.add(at_us, collector, bank, int(total * rng.uniform(0.9, 0.98)), CASH_OUT)
    return script


def fan_out(cast: Cast) -> Script:
    """One account pays like sums to ten or more others within hours."""
    rng, script = cast.rng, Script()
    payees = cast.members[1 : 1 + int(rng.integers(10, 21))]
    typical = rng.uniform(4_000, 15_000)
    times = cast.start_us + np.sort(rng.uniform(0, 4 * HOUR_US, len(payees)))
    for payee, at_us in zip(payees, times, strict=True):
        paise = _rupees(rng, 0.7 * typical, 1.3 * typical, 50)
        script.add(at_us, int(cast.members[0]), int(payee), paise, PEER)
    return script


def cycle(cast: Cast) -> Script:
    """A sum goes round three to seven accounts and comes back to the first, a little less at each
    hop, each hop later than the one before.
    """
    rng, script = cast.rng, Script()
    ring = cast.members[: int(rng.integers(3, 8))].tolist()
    paise = _rupees(rng, 20_000, 90_000, 100)
    gaps = rng.uniform(0.2, 1, len(ring))
    times = cast.start_us + np.cumsum(gaps) / gaps.sum() * cast.span_us * rng.uniform(0.3, 0.95)
    for payer, payee, at_us in zip(ring, [*ring[1:], ring[0]], times, strict=True):
        script.add(at_us, payer, payee, paise, PEER)
        paise = int(paise * rng.uniform(0.98, 0.999)) // 100 * 100
    return script


def merchant_collusion(cast: Cast) -> Script:
    """The same few customers pay a merchant round sums day after day, and within the hour most of
    each comes back: goods never moved.
    """
    rng, script = cast.rng, Script()
    shop, customers = int(cast.shops[0]), cast.members[: int(rng.integers(4, 9))]
    sales = []
    for _ in range(int(rng.integers(3, 7))):
        for customer in customers.tolist():
            at_us = cast.start_us + rng.uniform(0, cast.span_us)
            paise = _rupees(rng, 5_000, 20_000, 500)
            back = int(paise * rng.uniform(0.92, 0.98)) // 100 * 100
            sales.append((at_us, customer, shop, paise, MERCHANT))
            sales.append((at_us + rng.uniform(5, 50) * MINUTE_US, shop, customer, back, PEER))
    for row in sorted(sales):
        script.add(*row)
    return script


def bust_out(cast: Cast) -> Script:
    """A new account behaves for days with small purchases, then spends at once, on cards that will
    not be honoured, more than ten times all it ever did; after that nothing.
    """
    rng, script = cast.rng, Script()
    account, cards = int(cast.members[0]), cast.accounts.outside(CARDS)
    end_us = cast.start_us + cast.span_us
    burst_us = end_us - 3 * HOUR_US
    small = np.sort(rng.uniform(cast.start_us, burst_us - HOUR_US, int(rng.integers(8, 16))))
    spent = 0
    for at_us in small:
        paise = _rupees(rng, 50, 400, 10)
        spent += paise
        script.add(at_us, account, int(rng.choice(cast.shops)), paise, MERCHANT)
    for at_us in np.sort(rng.uniform(burst_us, end_us - 10 * MINUTE_US, int(rng.integers(8, 16)))):
        paise = max(_rupees(rng, 10_000, 50_000, 100), 2 * spent // 1000 * 1000)
        script.add(at_us, cards, account, paise, TOP_UP)
        script.add(at_us + 45 * SECOND_US, account, int(rng.choice(cast.shops)), paise, MERCHANT)
    return script


class Kind(NamedTuple):
    """``members``, ``shops``: how many the cast holds. ``rows``: about how many a ring has.
    ``days``: the longest it lasts; 0: it must lie within one day.
    """

    draw: Callable[[Cast], Script]
    members: int
    shops: int
    rows: int
    days: int


# In the order of batch.PATTERNS, from 1.
KINDS_OF_RING = {
    "account_drain": Kind(account_drain, 5 + 12, 0, 7, 0),
    "card_testing": Kind(card_testing, 1, 3, 47, 0),
    "structuring": Kind(structuring, 4, 0, 17, 3),
    "fan_in": Kind(fan_in, 21, 0, 30, 0),
    "fan_out": Kind(fan_out, 21, 0, 20, 0),
    "cycle": Kind(cycle, 7, 0, 6, 2),
    "merchant_collusion": Kind(merchant_collusion, 8, 1, 75, 7),
    "bust_out": Kind(bust_out, 1, 6, 45, 12),
}
LONGEST_WITHIN_A_DAY_US = 8 * HOUR_US
MEMBERS_OF_ONE_EACH = sum(kind.members for kind in KINDS_OF_RING.values())
ROWS_OF_ONE_EACH = sum(kind.rows for kind in KINDS_OF_RING.values())
