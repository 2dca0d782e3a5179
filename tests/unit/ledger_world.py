"""A small ledger to test against: real embedded shards and log, the real engine, no threads.

Nothing moves unless it is stepped, so a test decides which legs of a payment happen. ``crash``
loses everything that is only in memory.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.shard_database import EmbeddedShardDatabase
from paytm_lab.core.clock import Clock, SimulatedClock
from paytm_lab.core.events import Topic
from paytm_lab.core.ids import PaymentIds
from paytm_lab.ledger import schema
from paytm_lab.ledger.admission import Admission
from paytm_lab.ledger.audit import AuditReport, audit
from paytm_lab.ledger.holds import Holds
from paytm_lab.ledger.operations import (
    Outcome,
    PaymentRequest,
    Result,
    SetAccountState,
)
from paytm_lab.ledger.recovery import Recovery
from paytm_lab.ledger.reviews import Reviews
from paytm_lab.ledger.shard_writer import ShardWriter
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.messaging.outbox_relay import OutboxRelay
from paytm_lab.ports.shard_database import ShardMeta
from paytm_lab.routing.shard_map import Router, ShardMap

IDLE_STEPS_MAX = 200


class Submitted:
    """A payment under way; ``result`` is None until the engine answered."""

    def __init__(self) -> None:
        self.payment_id = b""
        self.result: Result | None = None

    def __call__(self, result: Result) -> None:
        self.result = result


class LedgerWorld:
    """Users '0', '1', .. lie on shard ``int(user) % shards``. With ``threads`` the writers run."""

    def __init__(
        self,
        folder: Path,
        shards: int = 3,
        seed: int = 1,
        clock: Clock | None = None,
        threads: bool = False,
    ) -> None:
        self.folder = folder
        self.clock: Any = clock if clock is not None else SimulatedClock()
        self.rng = random.Random(seed)
        self.map = ShardMap.initial(shards)
        self.threads = threads
        self.databases: dict[int, EmbeddedShardDatabase] = {}
        for shard in range(shards):
            self.reopen(shard).create(
                schema.system_accounts(shards),
                ShardMeta(0, self.map.version, self.map.owned_slots(shard)),
                schema.FIRST_USER_ACCOUNT_ID,
                self.clock.now_us(),
            )
        self.log = EmbeddedEventLog(folder / "log", self.clock)
        self.log.create_topics({str(topic): 2 for topic in Topic})
        self.router = Router(self.map)
        self.relays = [OutboxRelay(db, self.log, self.clock) for db in self.databases.values()]
        self._start()

    def reopen(self, shard: int) -> EmbeddedShardDatabase:
        """Open a shard's file (again), with nothing of it in memory."""
        path = self.folder / f"shard-{shard}.sqlite"
        self.databases[shard] = EmbeddedShardDatabase(
            path, shard, schema.metadata, schema.INSERT_COLUMNS
        )
        return self.databases[shard]

    def _start(self) -> None:
        self.writers = {
            shard: ShardWriter(database, self.clock) for shard, database in self.databases.items()
        }
        ids = PaymentIds(self.clock, random.Random(self.rng.getrandbits(64)))
        drive = None if self.threads else self.drive
        self.engine = TransferEngine(
            self.router, self.writers, ids, self.clock, Admission(1000, 1000), drive=drive
        )
        self.holds = Holds(self.engine, self.databases)
        self.reviews = Reviews(self.engine, self.databases, self.holds)
        self.recovery = Recovery(self.engine, self.databases)
        if self.threads:
            for writer in self.writers.values():
                writer.start()

    # -- stepping ---------------------------------------------------------------------------------

    def step(self, shard: int) -> int:
        """One batch of one shard's writer."""
        self.clock.advance(0.001)
        return self.writers[shard].step()

    def settle(self) -> None:
        """Step writers until none has anything left (lazy work included)."""
        while sum(self.step(shard) for shard in self.writers):
            pass

    def drive(self, is_true: Callable[[], bool]) -> None:
        idle = 0
        while not is_true():
            moved = [
                self.step(shard)
                for shard in self.rng.sample(sorted(self.writers), len(self.writers))
            ]
            idle = 0 if any(moved) else idle + 1
            if idle > IDLE_STEPS_MAX:
                raise RuntimeError("nothing moves any more")

    def relay(self) -> None:
        """Relay every outbox to its end."""
        while sum(relay.step() for relay in self.relays):
            pass

    def crash(self) -> None:
        """Lose what is only in memory; what was committed stays, and nobody recovered it yet."""
        for writer in self.writers.values():
            writer.kill()
        self._start()

    def recover(self) -> None:
        self.recovery.run(age_us=0)
        self.settle()

    # -- payments ---------------------------------------------------------------------------------

    def open_accounts(self, users: int, opening_paise: int) -> None:
        for user in range(users):
            self.engine.create_account(str(user), opening_paise)

    def submit(
        self, sender: str, receiver: str, amount_paise: int, hold: bool = False
    ) -> Submitted:
        submitted = Submitted()
        request = PaymentRequest(sender, receiver, amount_paise, hold=hold)
        submitted.payment_id = self.engine.submit(request, submitted)
        return submitted

    def pay(self, sender: str, receiver: str, amount_paise: int, hold: bool = False) -> Outcome:
        return self.engine.transfer(PaymentRequest(sender, receiver, amount_paise, hold=hold))

    def half_paid(self, sender: str, receiver: str, amount_paise: int) -> bytes:
        """A cross-shard payment of which only leg (a) happened before a crash."""
        submitted = self.submit(sender, receiver, amount_paise)
        self.step(self.shard_of(sender))
        self.crash()
        return submitted.payment_id

    def set_state(self, user: str, state: str) -> Outcome:
        writer = self.writers[self.shard_of(user)]
        return self.engine.wait(lambda done: writer.put(SetAccountState(user, state), done))

    def refund(self, payment_id: bytes) -> Outcome:
        """Flag a payment and reject it: a refund, with a debt where the receiver has too little."""
        self.reviews.apply_all([(f"test.{payment_id.hex()}", payment_id, "review", "test")])
        return self.reviews.reject(payment_id, "test")

    def move_slot(self, user: str, shard: int) -> None:
        """Another shard owns the user's slot from now on; the user has an empty account there."""
        slot = self.router.locate(user)[0]
        self.map = self.map.move([slot], shard)
        for owner, database in self.databases.items():
            tx = database.begin()
            new = (1, self.map.version, self.map.owned_slots(owner))
            tx.update("shard_meta", ("id",), ("map_version", "owned_slots"), [new])
            tx.commit()
        self.router.replace(self.map)
        self.engine.create_account(user, 0)

    def shard_of(self, user: str) -> int:
        return self.router.locate(user)[1]

    # -- looking and breaking ---------------------------------------------------------------------

    def audit(self, mode: str = "quiescent", **arguments: Any) -> AuditReport:
        if mode == "live":
            arguments.setdefault("help", lambda _: self.settle())
        return audit(self.databases, self.log, mode=mode, clock=self.clock, **arguments)

    def query(self, shard: int, sql: str) -> list[Any]:
        with self.databases[shard].read() as connection:
            return list(connection.execute(text(sql)))

    def execute(self, shard: int, *statements: str) -> None:
        """Change a shard's file behind the ledger's back; its own CHECKs are off."""
        connection = sqlite3.connect(self.databases[shard].path)
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            changed = connection.execute(statement).rowcount
            if changed < 1:
                raise RuntimeError(f"nothing was changed by {statement}")
        connection.commit()
        connection.close()

    def close(self) -> None:
        if self.threads:
            for writer in self.writers.values():
                writer.stop()
        self.log.close()
        for database in self.databases.values():
            database.close()


def make_honest_ledger(folder: Path) -> None:
    """A ledger with every kind of payment in every end state, some events relayed, some waiting."""
    world = LedgerWorld(folder)
    world.open_accounts(9, 1000_00)
    world.pay("0", "3", 100_00)
    world.pay("0", "1", 200_00)
    world.pay("1", "2", 10_000_00)
    world.pay("1", "79", 5_00)
    captured = world.pay("2", "0", 30_00, hold=True)
    world.holds.capture(captured.payment_id, 10_00)
    released = world.pay("2", "0", 30_00, hold=True)
    world.holds.release(released.payment_id)
    world.settle()
    world.relay()
    paid = world.pay("4", "5", 500_00)
    world.pay("5", "0", 1300_00)
    world.refund(paid.payment_id)
    world.pay("6", "7", 800_00, hold=True)
    world.settle()
    world.close()
