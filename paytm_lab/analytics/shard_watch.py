"""One shard as it is now, without walking its tables each time: what was counted is kept, and only
what is new is counted.

A row id may become visible after a later one (another process's transaction that took longer). So
what is newer than ``SETTLED_S`` is counted anew each time, and only what is older is kept.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from sqlalchemy import Connection

from paytm_lab.analytics.checks import EntryChecks, Finding
from paytm_lab.analytics.seldom import Seldom
from paytm_lab.core.clock import Clock
from paytm_lab.ledger import queries, watching
from paytm_lab.ledger.watching import Heads, OpenRow, PaymentKind, SystemEntry, UserSums
from paytm_lab.ports.shard_database import ShardDatabase

SETTLED_S = 3.0
# Of the time, for each of the walks below, on one shard.
SUMS_SHARE = 0.004
OPEN_SHARE = 0.004
REVIEWS_SHARE = 0.003
# Catching up with a store that was there before: rows that the database counts, and that it hands
# out, at a time.
ROWS_COUNTED, ROWS_HANDED = 40_000, 10_000
STEP_S_MAX = 0.05
RATE_S = 5.0
LISTED_MAX = 20

Counts = dict[PaymentKind, tuple[int, int]]


class Waiting(NamedTuple):
    """A review that waits for a person."""

    payment_id: str
    from_user: str
    to_user: str
    amount_paise: int
    rule: str
    created_at_us: int


class ShardNow(NamedTuple):
    """A reading. ``counted``: 0..1, how much of the shard has been gone through; below 1 the
    figures are of that part. ``payments``: (number, paise) of those that its users sent. ``new``:
    system accounts' entries that were not handed out before. ``sums_at_entry``: the last entry that
    ``sums`` covers, 0 where they are older than this reading.
    """

    shard: int
    at_us: int
    counted: float
    heads: Heads
    sums: UserSums
    sums_fresh: bool
    payments: Counts
    open: list[OpenRow]
    entries: int
    payments_per_s: float | None
    outbox_rows: int
    outbox_oldest_us: int | None
    reviews_open: int
    reviews: list[Waiting]
    new: list[SystemEntry]
    caught_up: bool
    findings: list[Finding]
    read_ms: float


class ShardWatch:
    """``read`` from one thread at a time. Raises Unavailable or StoreError where the shard does."""

    def __init__(self, database: ShardDatabase, clock: Clock) -> None:
        self.shard = database.shard_id
        self._database = database
        self._clock = clock
        self._heads: deque[tuple[float, Heads]] = deque()
        self._counted = Heads(0, 0, 0)  # what is kept reaches so far
        self._ended: Counter[PaymentKind] = Counter()
        self._ended_paise: Counter[PaymentKind] = Counter()
        self._entries = 0
        self._watched: dict[int, OpenRow] = {}  # counted when it was open
        self._open: list[OpenRow] = []
        self._tail: Counts = {}
        self._tail_entries = 0
        self._share = 0.0
        self._followed = 0  # system entries are handed out up to here
        self._handed: set[int] = set()  # of those beyond it
        self._sums = UserSums(0, 0, 0)
        self._sums_seldom = Seldom(SUMS_SHARE)
        self._open_seldom = Seldom(OPEN_SHARE)
        self._reviews_seldom = Seldom(REVIEWS_SHARE)
        self._reviews: tuple[int, list[Waiting]] = (0, [])
        self._totals: deque[tuple[float, int]] = deque()
        self.checks = EntryChecks(database.shard_id)

    def restart_following(self) -> None:
        """Hand out the system accounts' entries from the first on."""
        self._followed, self._handed = 0, set()

    def read(self) -> ShardNow:
        began_s = self._clock.monotonic_s()
        outbox_rows = self._database.outbox_rows()
        oldest_us = queries.outbox_oldest_us(self._database) if outbox_rows else None
        if self._reviews_seldom.due():
            with self._reviews_seldom.taking():
                self._reviews = self._read_reviews()
        with self._database.read() as connection:
            heads = watching.heads(connection)
            settled = self._settled(began_s, heads)
            new, caught_up = self._follow(connection, heads, settled, began_s)
            fresh = self._sums_seldom.due()
            if fresh:
                with self._sums_seldom.taking():
                    self._sums = watching.user_sums(connection)
            if self._share < 1 or self._open_seldom.due():
                self._count(connection, heads, settled, began_s)
            findings = self.checks.step(connection, heads)
        payments = self._payments()
        return ShardNow(
            self.shard, self._clock.now_us(), self._share, heads, self._sums, fresh, payments,
            self._open, self._entries + self._tail_entries, self._rate(began_s, payments),
            outbox_rows, oldest_us,
            *self._reviews, new, caught_up, findings,
            round((self._clock.monotonic_s() - began_s) * 1e3, 3),
        )  # fmt: skip

    # -- following --------------------------------------------------------------------------------

    def _settled(self, now_s: float, heads: Heads) -> Heads:
        """The heads of SETTLED_S ago: nothing older can still appear."""
        self._heads.append((now_s, heads))
        while len(self._heads) > 1 and self._heads[1][0] <= now_s - SETTLED_S:
            self._heads.popleft()
        at_s, oldest = self._heads[0]
        if now_s - at_s >= SETTLED_S:
            return oldest
        # Just begun. What is so far back was there long before.
        return Heads(*(max(0, head - watching.NEAR) for head in oldest))

    def _follow(
        self, connection: Connection, heads: Heads, settled: Heads, began_s: float
    ) -> tuple[list[SystemEntry], bool]:
        new: list[SystemEntry] = []
        while True:
            rows = watching.system_entries(connection, self._followed, heads.entry, ROWS_HANDED)
            new += [row for row in rows if row.id not in self._handed]
            whole = len(rows) < ROWS_HANDED
            reached = heads.entry if whole else rows[-1].id
            if not whole or reached - self._followed > ROWS_HANDED:
                self._followed, self._handed = reached, set()  # old rows: they are all there
            else:
                self._handed |= {row.id for row in rows}
                if settled.entry > self._followed:
                    self._followed = settled.entry
                    self._handed = {id_ for id_ in self._handed if id_ > self._followed}
            if whole or self._clock.monotonic_s() - began_s > STEP_S_MAX:
                return new, whole

    def _count(self, connection: Connection, heads: Heads, settled: Heads, began_s: float) -> None:
        """What has not ended, what has settled (kept, a part at a time) and the tail after it: all
        of one snapshot, so that each payment counts once.
        """
        with self._open_seldom.taking():
            self._open = watching.open_rows(connection)
        ended = self._watched.keys() - {row.row for row in self._open}
        for row in watching.rows_of(connection, ended):
            self._ended[row.what] += 1
            self._ended_paise[row.what] += row.amount_paise
            del self._watched[row.row]
        while self._counted.payment < settled.payment or self._counted.entry < settled.entry:
            payment = min(settled.payment, self._counted.payment + ROWS_COUNTED)
            entry = min(settled.entry, self._counted.entry + ROWS_COUNTED)
            kept = watching.ended_payments(connection, self._counted.payment, payment)
            for what, (number, paise) in kept.items():
                self._ended[what] += number
                self._ended_paise[what] += paise
            self._watched |= {
                row.row: row for row in self._open if self._counted.payment < row.row <= payment
            }
            self._entries += watching.entries_between(connection, self._counted.entry, entry)
            self._counted = Heads(entry, payment, settled.account)
            if self._clock.monotonic_s() - began_s > STEP_S_MAX:
                break
        behind = heads.payment + heads.entry - self._counted.payment - self._counted.entry
        whole = behind <= 4 * watching.NEAR
        counted = self._counted.payment + self._counted.entry
        self._share = 1.0 if whole else round(counted / max(1, heads.payment + heads.entry), 4)
        self._tail, self._tail_entries = {}, 0
        if whole:
            self._tail = watching.ended_payments(connection, self._counted.payment, heads.payment)
            self._tail_entries = watching.entries_between(
                connection, self._counted.entry, heads.entry
            )

    # -- figures ----------------------------------------------------------------------------------

    def _payments(self) -> Counts:
        number, paise = Counter(self._ended), Counter(self._ended_paise)
        for what, (more, amount) in self._tail.items():
            number[what] += more
            paise[what] += amount
        for row in self._open:
            number[row.what] += 1
            paise[row.what] += row.amount_paise
        return {what: (number[what], paise[what]) for what in number}

    def _rate(self, now_s: float, payments: Counts) -> float | None:
        self._totals.append((now_s, sum(number for number, _ in payments.values())))
        while len(self._totals) > 2 and self._totals[1][0] <= now_s - RATE_S:
            self._totals.popleft()
        (then_s, then), (_, now) = self._totals[0], self._totals[-1]
        return None if now_s <= then_s else round(max(0, now - then) / (now_s - then_s), 2)

    def _read_reviews(self) -> tuple[int, list[Waiting]]:
        with self._database.read() as connection:
            number = watching.open_reviews(connection)
        rows = queries.list_reviews(self._database, "open", LISTED_MAX) if number else []
        return number, [
            Waiting(
                r.payment, r.from_user_id, r.to_user_id, r.amount_paise, r.rule, r.created_at_us
            )
            for r in rows
        ]
