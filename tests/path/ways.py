"""Small helpers that the tests of a payment's path share."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from paytm_lab import Lab
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.ledger import queries
from paytm_lab.ledger.shard_writer import SimulatedCrash
from paytm_lab.ports.shard_database import PaymentRow

DEADLINE_S = 60.0


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    """Ask again and again until it is true; fails after a deadline, saying what never came."""
    until = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not is_true():
        assert time.monotonic() < until, f"never: {what}"
        pause.wait(0.002)


def step_until(lab: Lab, is_true: Callable[[], bool], what: str) -> None:
    """Step a deterministic lab until it is true."""
    for _ in range(10_000):
        if is_true():
            return
        if lab.step() is None:
            lab.system.clock.advance(0.05)  # type: ignore[attr-defined]
    raise AssertionError(f"never: {what}")


def step_writer(lab: Lab, shard: int) -> int:
    """One batch of one shard's writer: its next leg and nothing else."""
    return lab.system.writers[shard].step()


def rows(lab: Lab, payment_id: str) -> list[PaymentRow]:
    """The payment's rows on all shards, source or local first."""
    raw = parse_payment_id(payment_id)
    found = [row for d in lab.system.databases.values() for row in queries.payment_rows(d, raw)]
    return sorted(found, key=lambda row: row.role == "destination")


def crash_at(lab: Lab, point: str, nth: int = 1) -> None:
    """The process dies when the point is reached for the n-th time from now on."""
    left = [nth]
    lock = threading.Lock()

    def reached() -> None:
        with lock:
            left[0] -= 1
            if left[0]:
                return
        lab.system.fault_points.pop(point)
        lab.system.crash(point)
        raise SimulatedCrash(point)

    lab.system.fault_points[point] = reached


def tables(lab: Lab) -> dict[str, list[Any]]:
    """Everything that the shards hold: to see that something changed nothing."""
    names = ("accounts", "transactions", "ledger_entries", "outbox_events", "holds", "reviews")
    return {
        f"shard-{shard} {name}": list(_select(lab, shard, f"SELECT * FROM {name} ORDER BY 1"))
        for shard in lab.system.databases
        for name in names
    }


def _select(lab: Lab, shard: int, sql: str) -> Iterator[Any]:
    with closing(sqlite3.connect(shard_path(lab, shard))) as connection:
        yield from connection.execute(sql)


def shard_path(lab: Lab, shard: int) -> Path:
    return lab.data / "shards" / f"shard-{shard}.sqlite"


def total_paise(lab: Lab) -> int:
    return sum(lab.balances().values())


def events_of(lab: Lab, payment_id: str) -> list[str]:
    """The types of the payment's events in the log, in any order; the lab is drained first."""
    from paytm_lab.core.events import Topic, unwrap

    lab.drain()
    return sorted(
        unwrap(record.value).type
        for record in lab.system.all_records()
        if record.topic == str(Topic.PAYMENT) and record.key == payment_id
    )
