"""Card payments with labelled fraud: the generator of the Fraud-Detection-Handbook, re-implemented
from its description.

Source: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook" (2022), chapter 3. Customers and terminals lie on a square of
100 x 100; a customer pays at the terminals within a radius. Three kinds of fraud are laid over
their payments.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput
from paytm_lab.fraud.science.payments import Payments, payments

SIDE = 100.0
DAY_S = 86_400
FIRST_DAY = "2018-04-01"  # a Sunday
FIRST_DAY_S = 1_522_540_800  # the same, in seconds since 1970 UTC
NOON_S, NOON_SD_S = 43_200.0, 20_000.0
AMOUNT_MEAN_LOW, AMOUNT_MEAN_HIGH = 5.0, 100.0
PAYMENTS_A_DAY_MAX = 4.0
LARGE_AMOUNT = 220.0
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14
STOLEN_FACTOR, STOLEN_SHARE = 5.0, 3
PAYMENTS_MAX = 200_000_000
PROTOCOL_DAYS = 137

# Published for 5,000 customers, 10,000 terminals, 183 days, radius 5.
PUBLISHED_PAYMENTS, PUBLISHED_FRAUDS = 1_754_155, 14_681
PUBLISHED_SCENARIOS = (973, 9_077, 4_631)

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class HandbookWorld:
    """Payments in order of time; all arrays have one entry a payment.

    ``time_s``: seconds since the first day's midnight; ``amount``: in the world's currency, two
    decimals; ``scenario``: 0 genuine, 1 a large amount, 2 a compromised terminal, 3 stolen details
    of a card (the last that applies). ``customers``, ``terminals``: how many there are.
    """

    time_s: Ints
    customer: Ints
    terminal: Ints
    amount: Floats
    scenario: NDArray[np.int8]
    customers: int
    terminals: int
    days: int

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def day(self) -> NDArray[np.int32]:
        return self.time_s // np.int32(DAY_S)

    @property
    def fraud(self) -> NDArray[np.bool_]:
        return self.scenario > 0

    def payments(self) -> Payments:
        """As arrays for features and models: a terminal's number follows those of customers, as
        users of one lab have.
        """
        return payments(
            self.time_s.astype(np.int64) + FIRST_DAY_S,
            self.customer,
            self.terminal.astype(np.int64) + self.customers,
            self.amount,
            self.fraud,
        )

    def scenario_counts(self) -> tuple[int, int, int]:
        """Payments labelled 1, 2 and 3."""
        counts = np.bincount(self.scenario, minlength=4)
        return int(counts[1]), int(counts[2]), int(counts[3])


def handbook(
    seed: int,
    *,
    customers: int = 5_000,
    terminals: int = 10_000,
    days: int = 183,
    radius: float = 5.0,
) -> HandbookWorld:
    """A world of ``days`` days; the same seed gives the same bytes.

    The number of a customer's payments on a day is Poisson with a mean from U(0, 4); their time of
    day is N(43,200 s, 20,000 s), and what falls outside the day is dropped; the amount is N(m, m/2)
    with the customer's m from U(5, 100), a negative one drawn again from U(0, 2m). BadInput for a
    world that is empty or larger than memory.
    """
    _check(customers, terminals, days, radius)
    rng = np.random.default_rng(seed)
    starts, near = _terminals_near(rng, customers, terminals, radius)
    mean_amount = rng.uniform(AMOUNT_MEAN_LOW, AMOUNT_MEAN_HIGH, customers)
    a_day = rng.uniform(0.0, PAYMENTS_A_DAY_MAX, customers)
    a_day[np.diff(starts) == 0] = 0.0  # nowhere to pay

    # Poisson numbers on each day are a Poisson number in all, each on a day by chance.
    customer = np.repeat(np.arange(customers, dtype=np.int32), rng.poisson(a_day * days))
    of_day = rng.standard_normal(len(customer), dtype=np.float32) * NOON_SD_S + NOON_S
    inside = (of_day > 0) & (of_day < DAY_S)
    customer, of_day = customer[inside], of_day[inside]
    day = rng.integers(0, days, len(customer), dtype=np.int32)
    time_s = day * np.int32(DAY_S) + of_day.astype(np.int32)
    # No two keys are equal, so the order is the same on every machine.
    order = np.sort((time_s.astype(np.int64) << 32) | np.arange(len(time_s))) & 0xFFFFFFFF
    time_s, customer = time_s[order], customer[order]

    mean = mean_amount[customer]
    amount = mean * (1.0 + 0.5 * rng.standard_normal(len(customer)))
    negative = np.flatnonzero(amount < 0)
    amount[negative] = rng.random(len(negative)) * 2 * mean[negative]
    amount = np.round(amount, 2)
    wide = np.diff(starts)[customer]
    pick = (rng.random(len(customer)) * wide).astype(np.int64)
    terminal = near[starts[customer] + pick]

    scenario = (amount > LARGE_AMOUNT).astype(np.int8)
    world = HandbookWorld(time_s, customer, terminal, amount, scenario, customers, terminals, days)
    _compromise_terminals(world, rng)
    _steal_cards(world, rng)
    return world


def published_world(seed: int, days: int = PROTOCOL_DAYS) -> Payments:
    """Payments of a world of the published size, up to the last test day of its protocol."""
    return handbook(seed, days=days).payments()


def expected_payments(customers: int = 5_000, days: int = 183) -> tuple[float, float]:
    """Mean and standard deviation of the number of payments, over all worlds.

    A customer's number is Poisson(d p r) with r from U(0, 4), d days and p the share of N(43,200,
    20,000) inside the day: its variance is the Poisson one plus that of r (law of total variance).
    """
    inside = erf(NOON_S / NOON_SD_S / sqrt(2))
    mean = customers * days * inside * PAYMENTS_A_DAY_MAX / 2
    by_customer = (days * inside * PAYMENTS_A_DAY_MAX) ** 2 / 12
    return mean, sqrt(mean + customers * by_customer)


def _check(customers: int, terminals: int, days: int, radius: float) -> None:
    for name, value in (("customers", customers), ("terminals", terminals), ("days", days)):
        if value < 1 or value != int(value):
            raise BadInput(
                f"{name}={value!r} makes no world",
                place="handbook",
                remedy="Give a whole number from 1.",
            )
    if not 0 < radius < float("inf"):
        raise BadInput(f"radius={radius!r}", place="handbook", remedy="Give more than 0.")
    if customers * days * PAYMENTS_A_DAY_MAX / 2 > PAYMENTS_MAX or days > 20_000:
        raise BadInput(
            f"{customers:,} customers over {days:,} days do not fit",
            place="handbook",
            remedy=f"At most {PAYMENTS_MAX:,} payments, and 20,000 days; make several worlds.",
        )


def _terminals_near(
    rng: np.random.Generator, customers: int, terminals: int, radius: float
) -> tuple[NDArray[np.int64], Ints]:
    """The terminals within ``radius`` of each customer: those of customer c are
    ``near[starts[c]:starts[c + 1]]``. Only a strip of terminals is compared with each customer.
    """
    cx, cy = rng.random((2, customers)) * SIDE
    tx, ty = rng.random((2, terminals)) * SIDE
    by_x = np.argsort(tx)
    tx, ty = tx[by_x], ty[by_x]
    low, high = np.searchsorted(tx, cx - radius), np.searchsorted(tx, cx + radius, side="right")
    found, counts = [], np.zeros(customers, np.int64)
    step = max(1, 4_000_000 // max(1, int((high - low).max())))
    for first in range(0, customers, step):
        part = slice(first, min(first + step, customers))
        length = high[part] - low[part]
        who = np.repeat(np.arange(part.start, part.stop), length)
        ends = np.cumsum(length)
        which = np.arange(len(who)) - np.repeat(ends - length, length) + low[who]
        close = (tx[which] - cx[who]) ** 2 + (ty[which] - cy[who]) ** 2 < radius**2
        found.append(by_x[which[close]].astype(np.int32))
        counts += np.bincount(who[close], minlength=customers)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return starts, np.concatenate(found)


def _compromise_terminals(world: HandbookWorld, rng: np.random.Generator) -> None:
    """Scenario 2: two terminals a day; each of their payments in the 28 days from then on."""
    bad = np.zeros((world.terminals, world.days), np.bool_)
    for day in range(world.days):
        drawn = _draw(rng, world.terminals, TERMINALS_A_DAY)
        bad[drawn, day : day + TERMINAL_DAYS] = True
    world.scenario[bad[world.terminal, world.day]] = 2


def _steal_cards(world: HandbookWorld, rng: np.random.Generator) -> None:
    """Scenario 3: three customers a day; a third of their payments in 14 days, fivefold."""
    draws = np.stack([_draw(rng, world.customers, CUSTOMERS_A_DAY) for _ in range(world.days)])
    # Only the payments of customers who were drawn are looked through.
    is_drawn = np.zeros(world.customers, np.bool_)
    is_drawn[draws] = True
    rows = np.flatnonzero(is_drawn[world.customer])
    rows = rows[np.argsort(world.customer[rows], kind="stable")]  # by customer, then by time
    key = world.customer[rows].astype(np.int64) * (world.days + CUSTOMER_DAYS) + world.day[rows]
    for day, drawn in enumerate(draws):
        for customer in drawn:
            first = int(customer) * (world.days + CUSTOMER_DAYS) + day
            low, high = np.searchsorted(key, [first, first + CUSTOMER_DAYS])
            count = (high - low) // STOLEN_SHARE
            stolen = rows[low + rng.permutation(high - low)[:count]]
            world.amount[stolen] = np.round(world.amount[stolen] * STOLEN_FACTOR, 2)
            world.scenario[stolen] = 3


def _draw(rng: np.random.Generator, population: int, count: int) -> NDArray[np.int64]:
    return rng.choice(population, min(count, population), replace=False)


def write_csv(data: Payments, path: Path | str) -> Path:
    """A file of transfers under the Handbook's headers, for ``lab.run`` and ``paytm-lab run
    --transfers``; amounts that would be zero are left out there. The path.
    """
    with Path(path).open("w", encoding="ascii") as out:
        out.write("TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n")
        times = data.time_s.astype("datetime64[s]").astype(str)
        rows = zip(times, data.payer, data.payee, data.amount, data.fraud, strict=True)
        for number, (at, payer, payee, amount, fraud) in enumerate(rows):
            said = f"{number},{at.replace('T', ' ')},{payer},{payee},{amount:.2f},{int(fraud)}\n"
            out.write(said)
    return Path(path)


def day_file(data: Payments, day: int, folder: Path | str, rows_max: int = 100_000) -> Path:
    """The first payments of a day (days since 1970) as a file of transfers in ``folder``."""
    rows = np.flatnonzero(data.day == day)[:rows_max]
    if not len(rows):
        raise BadInput(f"there are no payments on day {day}", place="handbook")
    return write_csv(data.rows(rows), Path(folder) / f"day-{day}.csv")
