"""How many outbox rows a second go from a shard's file through the relay into the log, durably."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paytm_lab.core.clock import SystemClock
from paytm_lab.core.errors import IntegrityError
from paytm_lab.core.events import EventType, PaymentData, encode
from paytm_lab.core.ids import PaymentIds, event_id, payment_id_text
from paytm_lab.messaging.outbox_relay import OutboxRelay
from paytm_lab.messaging.topics import PARTITIONS
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase

BATCHES = (100, 1_000)
_FILL_ROWS = 2_000
_INITIATED = str(EventType.PAYMENT_INITIATED)
_COMPLETED = str(EventType.PAYMENT_COMPLETED)


def fill(database: ShardDatabase, payments: int) -> int:
    """Write the outbox rows of so many cross-shard payments; returns how many rows (two each)."""
    clock = SystemClock()
    ids = PaymentIds(clock)
    rows: list[tuple[Any, ...]] = []
    for number in range(payments):
        now_us = clock.now_us()
        payment_id = payment_id_text(ids.next(number % 1024))
        sides: tuple[tuple[str, dict[str, Any]], ...] = (
            (_INITIATED, {"from_balance_paise": 1_000_000 - number}),
            (_COMPLETED, {"to_balance_paise": 1_000_000 + number}),
        )
        for kind, balances in sides:
            data = PaymentData(
                payment_id=payment_id,
                from_user_id=str(number % 10_000),
                to_user_id=str((number + 1) % 10_000),
                amount_paise=100 + number,
                from_shard=0,
                to_shard=1,
                stamp_us=now_us,
                at_us=now_us,
                **balances,
            )
            rows.append(
                (event_id(payment_id, kind), kind, payment_id, encode(data).decode(), now_us, "")
            )
    for start in range(0, len(rows), _FILL_ROWS):
        transaction = database.begin()
        transaction.insert("outbox_events", rows[start : start + _FILL_ROWS])
        transaction.commit()
    return len(rows)


def measure(
    database: ShardDatabase, log: EventLog, payments: int, batch_rows_max: int
) -> dict[str, Any]:
    """Fill the outbox, then relay it to the end in this thread."""
    rows = fill(database, payments)
    relay = OutboxRelay(database, log, SystemClock(), batch_rows_max)
    started_s, cpu_started_s = time.perf_counter(), time.thread_time()
    while relay.step():
        pass
    took_s, cpu_s = time.perf_counter() - started_s, time.thread_time() - cpu_started_s
    return {
        "batch_rows_max": batch_rows_max,
        "rows": rows,
        "events": relay.events,
        "events_per_s": round(rows / took_s),
        "log_events_per_s": round(relay.events / took_s),
        "cpu_us_per_row": round(cpu_s / rows * 1e6, 2),
        "left_rows": database.outbox_rows(),
    }


def run(data_dir: Path, quick: bool, open_lab: Callable[..., Any]) -> list[dict[str, Any]]:
    """Rows, one for each batch size: ``events_per_s`` counts outbox rows relayed and deleted,
    ``log_events_per_s`` what the log took (a row that carries a balance makes two events),
    ``cpu_us_per_row`` the relay thread's processor time, writing log and outbox included.

    IntegrityError when a row is left, or when the log did not take exactly what was relayed.
    """
    payments = 2_000 if quick else 20_000
    rows = []
    with open_lab(data=data_dir / "outbox", seed=7, relay=False, consumers=()) as lab:
        system = lab.system
        for batch_rows_max in BATCHES:
            before = _events(system.log)
            row = measure(system.databases[0], system.log, payments, batch_rows_max)
            if row["left_rows"] or _events(system.log) - before != row["events"]:
                raise IntegrityError(f"the relay lost or doubled events: {row}")
            rows.append(row)
    return rows


def _events(log: EventLog) -> int:
    return sum(sum(log.end_offsets(topic)) for topic in PARTITIONS)
