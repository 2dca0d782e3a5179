"""The bank test: accounts that only pay each other, and reads of all of them in between.

Whatever is in flight, every read must sum to the total, show no negative balance and no account
that does not exist. Idea: Kyle Kingsbury, Jepsen, workload "bank" (8 accounts, total 100, transfers
of 1 to 5). Here the accounts lie on several shards. How it is read is apart from how it is checked:
``read_as_of`` and two ways that are wrong on purpose, ``check`` knows none of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from paytm_lab.core.errors import BadInput, PaytmLabError
from paytm_lab.core.money import format_rupees
from paytm_lab.ledger import as_of, queries
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result

RUPEE = 100
JOIN_S = 60.0
PACE_S = 0.002  # between transfers: a reader who closes a stamp needs the shards now and then
Between = Callable[[], None]


class Bank(NamedTuple):
    """``accounts`` users share ``total_rupees`` and pay each other 1 to ``rupees_max``; so many
    transfers are ``in_flight`` at once.
    """

    accounts: int = 8
    total_rupees: int = 100
    rupees_max: int = 5
    in_flight: int = 8

    @property
    def users(self) -> tuple[str, ...]:
        """'1', '2', ...: on four shards, two users on each."""
        return tuple(str(n) for n in range(1, self.accounts + 1))

    @property
    def total_paise(self) -> int:
        return self.total_rupees * RUPEE

    def openings(self) -> dict[str, int]:
        """An even start, in paise: nobody differs from another by more than a rupee."""
        each, more = divmod(self.total_rupees, self.accounts)
        return {user: (each + (place < more)) * RUPEE for place, user in enumerate(self.users)}


JEPSEN = Bank()


class Read(NamedTuple):
    """What one reader saw. ``open_paise``: money that it lists as under way. ``at``: seconds since
    the start, or steps. ``took_s``: how long it read.
    """

    reader: str
    at: float
    balances: Mapping[str, int]
    open_paise: int = 0
    took_s: float = 0.0

    @property
    def total_paise(self) -> int:
        return sum(self.balances.values()) + self.open_paise


class Violation(NamedTuple):
    """``kind``: wrong total | negative balance | unknown account | missing account. ``paise``: how
    far off (of a total: too much or, negative, too little; of a balance: the balance itself).
    """

    kind: str
    reader: str
    at: float
    paise: int
    what: str


class Verdict(NamedTuple):
    """``violations`` in the order of the reads."""

    reads: int
    violations: tuple[Violation, ...]

    @property
    def first(self) -> Violation | None:
        return self.violations[0] if self.violations else None

    @property
    def last(self) -> Violation | None:
        return self.violations[-1] if self.violations else None

    @property
    def worst(self) -> Violation | None:
        """The one that is furthest off, the earliest of equals."""
        return max(self.violations, key=lambda v: abs(v.paise), default=None)

    @property
    def passed(self) -> bool:
        return self.reads > 0 and not self.violations

    def rows(self) -> list[dict[str, Any]]:
        """First, worst and last, for a table; empty where nothing was violated."""
        named = (("first", self.first), ("worst", self.worst), ("last", self.last))
        return [{"which": which} | found._asdict() for which, found in named if found is not None]

    def __str__(self) -> str:
        if not self.reads:
            return "nobody read, so nothing is known"
        if not self.violations:
            return f"{self.reads} reads, all sum to the total"
        worst = self.worst
        off = format_rupees(abs(worst.paise)) if worst is not None else ""
        return f"{self.reads} reads, {len(self.violations)} violations, the worst {off} rupees off"


def check(reads: Iterable[Read], bank: Bank = JEPSEN) -> Verdict:
    """Judge reads by the bank's three rules; it knows nothing of who made them."""
    known = set(bank.users)
    found: list[Violation] = []
    number = 0
    for read in reads:
        number += 1
        off = read.total_paise - bank.total_paise
        if off:
            word = "too much" if off > 0 else "too little"
            found.append(Violation("wrong total", read.reader, read.at, off, word))
        for user, paise in sorted(read.balances.items()):
            if user not in known:
                found.append(Violation("unknown account", read.reader, read.at, paise, user))
            elif paise < 0:
                found.append(Violation("negative balance", read.reader, read.at, paise, user))
        for user in sorted(known - set(read.balances)):
            found.append(Violation("missing account", read.reader, read.at, 0, user))
    return Verdict(number, tuple(found))


# -- readers --------------------------------------------------------------------------------------


def read_as_of(lab: Any, between: Between) -> tuple[Mapping[str, int], int]:
    """As of a stamp that was closed for it: users and the payments under way as of then."""
    system = lab.system
    if lab.deterministic:  # nothing moves by waiting, only by steps

        def step(_: object) -> None:
            lab.step()

        closed = as_of.close_stamp(
            system.databases, system.clock.now_us(), step, wait=system.clock.advance
        )
    else:
        closed = as_of.close_stamp(system.databases, system.clock.now_us())
    seen = as_of.ledger_as_of(system.databases, closed)
    return seen.balances, seen.open_paise


def read_naively(lab: Any, between: Between) -> tuple[Mapping[str, int], int]:
    """Wrong on purpose: the balances of one shard after the other, as they are when it is asked."""
    found: dict[str, int] = {}
    for database in lab.system.databases.values():
        found.update(queries.balances(database))
        between()
    return found, 0


def read_unclosed(lab: Any, between: Between) -> tuple[Mapping[str, int], int]:
    """Wrong on purpose: as of the present time, which nobody has closed, shard by shard."""
    now_us = lab.system.clock.now_us()
    found: dict[str, int] = {}
    for shard, database in lab.system.databases.items():
        found.update(as_of.balances_as_of({shard: database}, now_us))
        between()
    return found, 0


AS_OF, NAIVE, UNCLOSED = "as of a closed stamp", "shard by shard", "as of an open stamp"
READERS: Mapping[str, Callable[[Any, Between], tuple[Mapping[str, int], int]]] = {
    AS_OF: read_as_of,
    NAIVE: read_naively,
    UNCLOSED: read_unclosed,
}


def reader_named(name: str) -> Callable[[Any, Between], tuple[Mapping[str, int], int]]:
    if name not in READERS:
        raise BadInput(f"{name!r} is no reader", remedy=f"Use one of {', '.join(READERS)}.")
    return READERS[name]


# -- running --------------------------------------------------------------------------------------


def open_bank(lab: Any, bank: Bank = JEPSEN) -> None:
    """The bank's accounts, and nobody else's. BadInput where the lab has other users, or where the
    bank has nobody to pay or nothing to pay with.
    """
    if bank.accounts < 2 or min(bank.total_rupees, bank.rupees_max, bank.in_flight) < 1:
        raise BadInput(
            f"{bank} is no bank", remedy="Take two accounts or more, and positive numbers."
        )
    lab.open_accounts(bank.openings())
    strange = lab.balances().keys() - set(bank.users)
    if strange or sum(lab.balances().values()) != bank.total_paise:
        raise BadInput(
            "the bank test needs a lab of its own", remedy="Open a fresh one: Lab(data=None)."
        )
    lab.drain()


def step_bank(
    lab: Any,
    steps: int = 160,
    bank: Bank = JEPSEN,
    readers: Sequence[str] = (AS_OF, NAIVE),
    closed_every: int = 4,
) -> list[Read]:
    """The test on a deterministic lab: at each step one part moves, then every reader reads; while
    one reads shard by shard a part moves between the shards. Closing a stamp moves many parts, so
    who does it reads at every ``closed_every``-th step. The same seed gives the same reads.

    Most of the time goes into commits; ``Lab(deterministic=True, relay=False, consumers=())`` has
    writers alone.
    """
    found = [(name, reader_named(name)) for name in readers]
    open_bank(lab, bank)
    rng = random.Random(lab.seed)
    tickets: list[Any] = []
    reads: list[Read] = []
    for step in range(steps):
        tickets = [ticket for ticket in tickets if not ticket.answered]
        while len(tickets) < bank.in_flight:
            sender, receiver = rng.sample(bank.users, 2)
            tickets.append(lab.submit(sender, receiver, rng.randint(1, bank.rupees_max)))
        lab.step()
        for name, reader in found:
            if name != AS_OF or step % closed_every == 0:
                balances, open_paise = reader(lab, lab.step)
                reads.append(Read(name, step, balances, open_paise))
    lab.drain()
    return reads


def run_bank(
    lab: Any, seconds: float = 3.0, bank: Bank = JEPSEN, readers: Sequence[str] = (AS_OF, NAIVE)
) -> list[Read]:
    """The test on a lab with threads, for so long: transfers are posted all along, and the readers
    take turns. ``at`` of a read is when it ended, in seconds.
    """
    found = [(name, reader_named(name)) for name in readers]
    open_bank(lab, bank)
    load = _Load(lab, bank)
    reads: list[Read] = []
    started = time.perf_counter()
    load.start()
    try:
        while time.perf_counter() - started < seconds:
            for name, reader in found:
                began = time.perf_counter()
                balances, open_paise = reader(lab, _nothing)
                now = time.perf_counter()
                reads.append(Read(name, now - started, balances, open_paise, now - began))
    finally:
        load.stop()
    lab.drain()
    return reads


def _nothing() -> None:
    """A lab with threads moves by itself."""


class _Load:
    """Transfers between random users of the bank, ``in_flight`` at a time, until it is stopped."""

    def __init__(self, lab: Any, bank: Bank) -> None:
        self._engine = lab.system.engine
        self._bank = bank
        self._rng = random.Random(lab.seed)
        self._free = threading.Semaphore(bank.in_flight)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._pay, name="bank", daemon=True)
        self.answered = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)

    def _pay(self) -> None:
        bank, rng = self._bank, self._rng
        while not self._stop.wait(PACE_S):
            if not self._free.acquire(timeout=0.05):
                continue
            sender, receiver = rng.sample(bank.users, 2)
            request = PaymentRequest(sender, receiver, rng.randint(1, bank.rupees_max) * RUPEE)
            try:
                self._engine.submit(request, self._done)
            except PaytmLabError as error:
                self._done(error)

    def _done(self, result: Result) -> None:
        self.answered += isinstance(result, Outcome)
        self._free.release()
