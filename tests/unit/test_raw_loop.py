"""The raw loop is a fair measure only if it writes what the engine writes."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab
from paytm_lab.benchmarks.engine import plan, raw_accounts
from paytm_lab.benchmarks.raw_loop import Plan, RawLoop
from paytm_lab.simulation.driver import LoadDriver
from paytm_lab.simulation.payments import Transfer

USERS, PAYMENTS, SHARE = 40, 300, 0.75
TABLES = (
    "accounts",
    "transactions",
    "ledger_entries",
    "outbox_events",
    "holds",
    "reviews",
    "debts",
)
# What differs between any two runs: ids and times.
VOLATILE = {
    "id", "transaction_id", "payment_id", "event_id", "aggregate_id", "create_key", "stamp",
    "stamp_us", "occurred_at", "at_us", "created_at", "updated_at",
}  # fmt: skip


def tables(folder: Path) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """The rows of every table of every shard, as they lie on the disk."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for shard in range(4):
        connection = sqlite3.connect(folder / "shards" / f"shard-{shard}.sqlite")
        connection.row_factory = sqlite3.Row
        for table in TABLES:
            found[shard, table] = [
                dict(row) for row in connection.execute(f"SELECT * FROM {table}")
            ]
        connection.close()
    return found


def lasting(row: dict[str, Any]) -> str:
    """A row without ids and times, comparable."""
    kept = {name: value for name, value in row.items() if name not in VOLATILE}
    if "event_data" in kept:
        data = json.loads(kept["event_data"])
        kept["event_data"] = {k: v for k, v in data.items() if k not in VOLATILE}
    return json.dumps(kept, sort_keys=True)


def stored_bytes(row: dict[str, Any]) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def by_engine(folder: Path, todo: Plan, in_flight: int) -> None:
    with Lab(data=folder, seed=1, relay=False, consumers=()) as lab:
        lab.open_accounts({str(n): 10**9 for n in range(1, USERS + 1)})
        driver = LoadDriver(lab.system.engine, in_flight=in_flight)
        posted = driver.run([[Transfer(n, row[0], row[1], row[4]) for n, row in enumerate(todo)]])
        assert posted.answers["COMPLETED"] == len(todo)


def by_raw_loop(folder: Path, todo: Plan, in_flight: int) -> None:
    with Lab(data=folder, seed=1, relay=False, consumers=()) as lab:
        lab.open_accounts({str(n): 10**9 for n in range(1, USERS + 1)})
        loop = RawLoop(dict(lab.system.databases), raw_accounts(lab, USERS))
        loop.run(todo, None if in_flight == 1 else len(todo) // 8)


@pytest.fixture(scope="module", params=[1, 64])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[Any, Any], dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("raw_loop")
    todo = plan(SHARE, PAYMENTS, random.Random(request.param), users=USERS)
    by_engine(folder / "engine", todo, request.param)
    by_raw_loop(folder / "raw", todo, request.param)
    return request.param, tables(folder / "engine"), tables(folder / "raw")


def test_the_same_rows_by_table(both: tuple[int, dict[Any, Any], dict[Any, Any]]) -> None:
    _, engine, raw = both
    assert {key: len(rows) for key, rows in raw.items()} == {
        key: len(rows) for key, rows in engine.items()
    }
    assert sum(len(rows) for (_, table), rows in raw.items() if table == "transactions") > PAYMENTS


def test_the_same_values_apart_from_ids_and_times(
    both: tuple[int, dict[Any, Any], dict[Any, Any]],
) -> None:
    """The balances in events depend on the order of commits: compared with one in flight."""
    in_flight, engine, raw = both
    for key, rows in engine.items():
        if key[1] == "outbox_events" and in_flight > 1:
            continue
        assert Counter(map(lasting, raw[key])) == Counter(map(lasting, rows)), key


def test_as_many_bytes_a_payment(both: tuple[int, dict[Any, Any], dict[Any, Any]]) -> None:
    _, engine, raw = both
    for key, rows in engine.items():
        written, expected = sum(map(stored_bytes, raw[key])), sum(map(stored_bytes, rows))
        assert written == pytest.approx(expected, rel=0.01), key


def test_the_money_is_all_there(tmp_path: Path) -> None:
    """The raw loop's own ledger passes every check but those of events, which nobody relayed."""
    todo = plan(SHARE, PAYMENTS, random.Random(5), users=USERS)
    by_raw_loop(tmp_path, todo, 64)
    with Lab(data=tmp_path, read_only=True) as lab:
        report = lab.audit()
    states = Counter(check.state for check in report.checks)
    assert (states["failed"], states["passed"] > 8) == (0, True), str(report)
