"""The bank test: eight accounts, a fixed total, payments from many threads; every read across all
shards, while they run, sums to the total. And a hundred live audits under load without an alarm.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from paytm_lab.core.clock import SystemClock
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.ledger import as_of
from paytm_lab.ledger.operations import Outcome
from paytm_lab.ledger.replay import replay
from tests import scratch
from tests.unit.ledger_world import LedgerWorld

ACCOUNTS = 8
TOTAL_PAISE = 100
DEADLINE_S = 100.0


class Load:
    """Payments from ``threads`` threads until ``stop``; what the payers heard is kept."""

    def __init__(self, act: Callable[[random.Random], Outcome | None], threads: int) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: list[PaytmLabError] = []
        self._act = act
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed),))
            for seed in range(threads)
        ]

    def _run(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            try:
                outcome = self._act(rng)
            except PaytmLabError as error:
                self.errors.append(error)
                return
            if outcome is not None:
                self.statuses[outcome.status] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(DEADLINE_S)


@pytest.fixture
def world() -> Iterator[LedgerWorld]:
    with scratch.on_disk() as folder:
        world = LedgerWorld(folder, shards=4, clock=SystemClock(), threads=True)
        yield world
        world.close()


def test_every_read_of_a_busy_bank_sums_to_its_total(world: LedgerWorld) -> None:
    for user in range(ACCOUNTS):
        world.engine.create_account(str(user), 13 if user < 4 else 12)

    def act(rng: random.Random) -> Outcome:
        sender, receiver = rng.sample(range(ACCOUNTS), 2)
        return world.pay(str(sender), str(receiver), rng.randint(1, 5))

    load = Load(act, threads=6)
    reads: list[as_of.AsOf] = []
    until = time.monotonic() + DEADLINE_S
    with load.running():
        while len(reads) < 60 or load.statuses["COMPLETED"] < 600:
            assert time.monotonic() < until
            assert not load.errors
            closed = as_of.close_stamp(world.databases, world.clock.now_us())
            reads.append(as_of.ledger_as_of(world.databases, closed))
    for read in reads:
        total = read.users_paise + read.open_paise
        assert total == TOTAL_PAISE == read.funded_paise, (read.stamp_us, total)
        assert min(read.balances.values()) >= 0
        assert read.balances.keys() == {str(user) for user in range(ACCOUNTS)}
    assert len({tuple(sorted(read.balances.items())) for read in reads}) > 30  # money did move
    # What was read while everything ran is still true, word for word.
    assert [as_of.ledger_as_of(world.databases, read.stamp_us) for read in reads] == reads
    for user in ("0", "5"):
        database = world.databases[world.shard_of(user)]
        for read in reads[::10]:
            page = as_of.statement(database, user, read.stamp_us, rows_max=100_000)
            assert page.rows[-1].balance_paise == read.balances[user]


def test_a_hundred_live_audits_under_load_raise_no_alarm(world: LedgerWorld) -> None:
    """Local and cross-shard payments, refusals and give-backs, holds, captures and releases, with
    relays running; the log is replayed beside it as of the same stamps.
    """
    world.open_accounts(16, 1000)
    world.set_state("7", "frozen_all")

    def act(rng: random.Random) -> Outcome | None:
        sender, receiver = rng.sample(range(16), 2)
        kind = rng.random()
        if kind < 0.7:
            return world.pay(str(sender), str(receiver), rng.randint(1, 300))
        if kind < 0.75:
            return world.pay(str(sender), "nobody", 1)
        held = world.pay(str(sender), str(receiver), rng.randint(1, 300), hold=True)
        if held.status != "HELD":
            return held
        if kind < 0.9:
            return world.holds.capture(held.payment_id, rng.randint(1, held.amount))
        return world.holds.release(held.payment_id)

    def relay(_: random.Random) -> None:
        # Small steps, so that at most moments some events are in an outbox and some in the log.
        for one in world.relays:
            one.step()

    load, relays = Load(act, threads=6), Load(relay, threads=1)
    alarms: list[str] = []
    audits = 0
    until = time.monotonic() + DEADLINE_S
    with load.running(), relays.running():
        while audits < 100 or load.statuses["COMPLETED"] < 300:
            assert time.monotonic() < until
            assert not load.errors and not relays.errors
            report = world.audit("live", help=None)
            if report.verdict != "passed":
                alarms.append(str(report))
            audits += 1
            if audits % 10 == 0:
                replayed = replay(world.log, world.databases, report.stamp_us)
                if replayed.verdict != "passed":
                    alarms.append(str(replayed))
    assert alarms == []
    assert {"COMPLETED", "FAILED", "CANCELLED"} <= load.statuses.keys()
    assert world.audit("live", help=None).verdict == "passed"


def test_a_live_audit_under_load_sees_a_real_loss(world: LedgerWorld) -> None:
    """No false calm either: one paisa taken while payments run is found and named."""
    world.open_accounts(8, 1000)

    def act(rng: random.Random) -> Outcome:
        sender, receiver = rng.sample(range(8), 2)
        return world.pay(str(sender), str(receiver), rng.randint(1, 5))

    load = Load(act, threads=3)
    with load.running():
        assert world.audit("live", help=None).verdict == "passed"
        tx = world.databases[2].begin()
        (account,) = tx.lock_accounts(["2"])
        tx.update("accounts", ("id",), ("balance",), [(account.id, account.balance - 1)])
        tx.commit()
        report = world.audit("live", help=None)
    assert report.verdict == "failed"
    assert report.check("balances_equal_entries").offenders == ("2",)
    assert [check.name for check in report.not_passed()] == ["balances_equal_entries"]
