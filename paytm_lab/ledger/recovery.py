"""Recovery: roll every old PENDING payment through legs (b) and (c), beside live writers.

The source's PENDING row is the durable record; nothing else is needed. It runs when a lab opens,
before anything else, and then periodically.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.ledger import queries
from paytm_lab.ledger.batch import outcome_of
from paytm_lab.ledger.operations import Outcome
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.ports.shard_database import PaymentRow, ShardDatabase

ROUND_ROWS_MAX = 500
# Clocks of several machines differ by less. What was begun later than that from now was begun
# before a clock was set back: it would wait until that time comes again.
AHEAD_US_MAX = 60_000_000


class RecoveryReport(NamedTuple):
    """Payments found PENDING and what became of them. ``unreachable``: shards without an answer."""

    found: int
    completed: int
    failed: int
    still_pending: int
    unreachable: tuple[int, ...]
    seconds: float

    def __str__(self) -> str:
        if not self.found:
            return "recovery: nothing was pending"
        return (
            f"recovery: {self.found} pending payments: {self.completed} completed,"
            f" {self.failed} given back, {self.still_pending} still pending,"
            f" in {self.seconds:.2f} s"
        )


class Recovery:
    """``pending_age_s``: a payment this old is no longer left to the process that started it."""

    def __init__(
        self,
        engine: TransferEngine,
        databases: Mapping[int, ShardDatabase],
        pending_age_s: float = 1.0,
    ) -> None:
        self._engine = engine
        self._databases = databases
        self._pending_age_us = round(pending_age_s * 1e6)

    def run(self, age_us: int | None = None, shard: int | None = None) -> RecoveryReport:
        """One pass over all shards (or one). ``age_us`` 0: every pending payment, as on opening."""
        started = time.perf_counter()
        age_us = self._pending_age_us if age_us is None else age_us
        counts = {"COMPLETED": 0, "FAILED": 0, "PENDING": 0}
        found = 0
        unreachable: list[int] = []
        for source, database in self._databases.items():
            if shard is not None and source != shard:
                continue
            try:
                for rows in self._rounds(database, age_us):
                    found += len(rows)
                    for status in self._resume(source, rows):
                        counts[status] += 1
            except (Unavailable, StoreError):
                unreachable.append(source)
        return RecoveryReport(
            found, counts["COMPLETED"], counts["FAILED"], counts["PENDING"], tuple(unreachable),
            time.perf_counter() - started,
        )  # fmt: skip

    def _rounds(self, database: ShardDatabase, age_us: int) -> Iterator[list[PaymentRow]]:
        """The rows of a pass, some at a time; one that stays pending is not tried twice in it, and
        what is begun while it runs is left alone.
        """
        now_us = self._engine.clock.now_us
        before_us = now_us() - age_us
        seen: set[bytes] = set()
        most: int | None = None
        while most is None or len(seen) < most:
            # By our clock as it is now nobody can have begun one after it.
            after_us = now_us() + (AHEAD_US_MAX if age_us else 0)
            rows_max = ROUND_ROWS_MAX + len(seen)
            rows = queries.open_payments(database, before_us, rows_max, after_us)
            fresh = [row for row in rows if row.transaction_id not in seen]
            if most is None and len(fresh) >= ROUND_ROWS_MAX:
                # Whose clock is ahead of ours may go on for ever.
                most = len(fresh) + queries.open_counts(database).get("PENDING", 0)
            seen.update(row.transaction_id for row in fresh)
            if fresh:
                yield fresh
            if len(fresh) < ROUND_ROWS_MAX:
                return

    def _resume(self, source: int, rows: list[PaymentRow]) -> list[str]:
        results = self._engine.wait_all(
            [partial(self._engine.resume, outcome_of(row), source) for row in rows]
        )
        return [result.status if isinstance(result, Outcome) else "PENDING" for result in results]
