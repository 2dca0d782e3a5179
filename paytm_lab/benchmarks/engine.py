"""In-process transfers, and a raw loop that writes the same rows, at several numbers in flight."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paytm_lab.benchmarks.raw_loop import Accounts, Plan, RawLoop
from paytm_lab.core.errors import IntegrityError
from paytm_lab.ledger.operations import PaymentRequest, Result
from paytm_lab.simulation.driver import LoadDriver
from paytm_lab.simulation.payments import Transfer

USERS = 10_000
OPENING_PAISE = 10**9
ROUNDS = 3
SEED = 7
IN_FLIGHT = {0.0: (1, 64, 1024), 0.75: (1, 64, 256, 1024, 4000), 1.0: (1, 64, 1024)}
PAYMENTS = {1: 1_500, 64: 8_000, 256: 16_000, 1024: 24_000, 4000: 40_000}
IN_FLIGHT_MAX = 2 * 4000
HOT_ACCOUNTS = 10
HOT_IN_FLIGHT = 256
HOT_ROUNDS = 3
OFFERED_PER_S = 400
OFFERED_S = 6.0


def run(data_dir: Path, quick: bool, open_lab: Callable[..., Any]) -> list[dict[str, Any]]:
    """Rows ``in_flight``, ``cross_shard_share``, ``transfers_per_s``, ``latency_ms_p50``,
    ``latency_ms_p99``, ``rows_per_payment``, ``bytes_per_payment`` (what tables and indexes grew
    by), ``payments_per_commit``, ``raw_per_s``, ``raw_ratio``. The two open loops after them have
    ``offered_per_s`` too, ``in_flight`` 0 (no bound), and nothing raw beside them. The last row has
    ``hot_ratio``: payments among ten accounts against payments among all, the median of three turns
    of each.

    Engine and raw loop take turns three times, each on its own files and in as many commits; the
    best turn of each counts. Ends in a full audit, events included: IntegrityError when it is not
    clean.
    """
    rows = []
    users = USERS // 10 if quick else USERS
    options = {
        "seed": SEED, "consumers": (), "outbox_rows_max": 10**8,
        "in_flight_max": IN_FLIGHT_MAX, "in_flight_per_shard_max": IN_FLIGHT_MAX,
    }  # fmt: skip
    with (
        open_lab(data=data_dir / "engine", relay=False, **options) as lab,
        open_lab(data=data_dir / "raw", relay=False, **options) as raw_lab,
    ):
        for each in (lab, raw_lab):
            each.open_accounts({str(n): OPENING_PAISE for n in range(1, users + 1)})
        raw = RawLoop(dict(raw_lab.system.databases), raw_accounts(raw_lab, users))
        slower = 5 if lab.profile == "servers" else 1  # one at a time they are
        for share, several in IN_FLIGHT.items():
            for in_flight in several:
                count = PAYMENTS[in_flight] // (slower if in_flight == 1 else 1)
                count //= 10 if quick else 1
                rounds = 1 if quick else ROUNDS
                rows.append(_row(lab, raw, in_flight, share, count, rounds, users))
        for share in (0.0, 1.0):
            rows.append(_offered(lab, share, 0.5 if quick else OFFERED_S, users))
        rows.append(_hot(lab, PAYMENTS[HOT_IN_FLIGHT] // (10 if quick else 1), users))
    with open_lab(data=data_dir / "engine", **options) as lab:
        lab.audit().require_clean()
    return rows


def raw_accounts(lab: Any, users: int = USERS) -> Accounts:
    """Ids and balances of users 1..N, read once: the raw loop keeps count by itself."""
    found: Accounts = {}
    for database in lab.system.databases.values():
        transaction = database.begin()
        for row in transaction.lock_accounts([str(n) for n in range(1, users + 1)]):
            found[row.user_id] = [row.id, row.balance]
        transaction.rollback()
    return found


def plan(share: float, count: int, rng: random.Random, shards: int = 4, users: int = USERS) -> Plan:
    """Uniform pairs of users 1..N, a ``share`` of them between two shards."""
    made: Plan = []
    for _ in range(count):
        source = rng.randrange(shards)
        destination = (
            (source + rng.randrange(1, shards)) % shards if rng.random() < share else source
        )
        sender = rng.randrange(users // shards) * shards + (source or shards)
        receiver = sender
        while receiver == sender:
            receiver = rng.randrange(users // shards) * shards + (destination or shards)
        made.append((str(sender), str(receiver), source, destination, rng.randrange(100, 100_000)))
    return made


def _row(
    lab: Any, raw: RawLoop, in_flight: int, share: float, count: int, rounds: int, users: int
) -> dict[str, Any]:
    rng = random.Random(f"{SEED}/{in_flight}/{share}")
    best_s, raw_s = float("inf"), float("inf")
    latency_ms: Any = np.zeros(1)
    commits = 0
    written, stored = -_rows_written(lab), -_bytes_stored(lab)
    for _ in range(rounds):
        todo = plan(share, count, rng, users=users)
        driver = LoadDriver(lab.system.engine, in_flight=in_flight)
        transfers = [Transfer(n, row[0], row[1], row[4]) for n, row in enumerate(todo, 1)]
        commits = -_commits(lab)
        posted = driver.run([transfers])
        commits += _commits(lab)
        raw_s = min(raw_s, raw.run(todo, None if in_flight == 1 else commits))
        if posted.answers["COMPLETED"] != count:
            raise IntegrityError(f"only {posted.answers} of {count} transfers completed")
        if posted.seconds < best_s:
            best_s, latency_ms = posted.seconds, np.asarray(posted.latency_ms)
    written, stored = written + _rows_written(lab), stored + _bytes_stored(lab)
    p50, p99 = np.quantile(latency_ms, (0.5, 0.99))
    return {
        "in_flight": in_flight,
        "cross_shard_share": share,
        "transfers_per_s": round(count / best_s, 1),
        "latency_ms_p50": round(float(p50), 3),
        "latency_ms_p99": round(float(p99), 3),
        "rows_per_payment": round(written / (count * rounds), 2),
        "bytes_per_payment": round(stored / (count * rounds)),
        "payments_per_commit": round(count / commits, 2),
        "raw_per_s": round(count / raw_s, 1),
        "raw_ratio": round(raw_s / best_s, 3),
    }


def _commits(lab: Any) -> int:
    return sum(writer.stats.batches for writer in lab.system.writers.values())


def _rows_written(lab: Any) -> int:
    return sum(writer.stats.rows for writer in lab.system.writers.values())


def _bytes_stored(lab: Any) -> int:
    return sum(database.stored_bytes() for database in lab.system.databases.values())


def _hot(lab: Any, count: int, users: int) -> dict[str, Any]:
    """Payments among ten accounts and among all, in turns: three of each."""
    rng = random.Random(f"{SEED}/hot")
    seconds: dict[int, list[float]] = {HOT_ACCOUNTS: [], users: []}
    latency_ms: dict[int, Any] = {}
    commits = dict.fromkeys(seconds, 0)
    for _ in range(HOT_ROUNDS):
        for accounts, taken in seconds.items():
            todo = _among(accounts, users, count, rng)
            commits[accounts] -= _commits(lab)
            posted = LoadDriver(lab.system.engine, in_flight=HOT_IN_FLIGHT).run([todo])
            commits[accounts] += _commits(lab)
            if posted.answers["COMPLETED"] != count:
                raise IntegrityError(f"only {posted.answers} of {count} transfers completed")
            taken.append(posted.seconds)
            latency_ms[accounts] = np.asarray(posted.latency_ms)
    hot_s, all_s = (statistics.median(taken) for taken in seconds.values())
    p50, p99 = np.quantile(latency_ms[HOT_ACCOUNTS], (0.5, 0.99))
    return {
        "in_flight": HOT_IN_FLIGHT,
        "cross_shard_share": 0.75,
        "transfers_per_s": round(count / hot_s, 1),
        "latency_ms_p50": round(float(p50), 3),
        "latency_ms_p99": round(float(p99), 3),
        "payments_per_commit": round(HOT_ROUNDS * count / commits[HOT_ACCOUNTS], 2),
        "hot_accounts": HOT_ACCOUNTS,
        "hot_ratio": round(all_s / hot_s, 3),
    }


def _among(accounts: int, users: int, count: int, rng: random.Random) -> list[Transfer]:
    """Payments among the first so many users, or all, with the same share between shards."""
    made = plan(0.75, count, rng, users=users)
    if accounts == users:
        return [Transfer(n, row[0], row[1], row[4]) for n, row in enumerate(made, 1)]
    found = []
    for number, (_, _, source, destination, amount) in enumerate(made, 1):
        of_source, of_destination = (
            [user for user in range(1, accounts + 1) if user % 4 == shard]
            for shard in (source, destination)
        )
        sender = rng.choice(of_source)
        receiver = rng.choice([user for user in of_destination if user != sender])
        found.append(Transfer(number, str(sender), str(receiver), amount))
    return found


def _offered(lab: Any, share: float, seconds: float, users: int) -> dict[str, Any]:
    """An open loop: payments start on time, whatever became of those before them; latency counts
    from the time a payment was due.
    """
    rng = random.Random(f"{SEED}/offered/{share}")
    todo = plan(share, int(OFFERED_PER_S * seconds), rng, users=users)
    latency_s: list[float] = []
    all_in = threading.Event()
    written = -_rows_written(lab)
    started = time.perf_counter() + 0.05

    def answered(due: float, _: Result) -> None:
        latency_s.append(time.perf_counter() - due)
        if len(latency_s) == len(todo):
            all_in.set()

    for number, row in enumerate(todo):
        due = started + number / OFFERED_PER_S
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        request = PaymentRequest(row[0], row[1], row[4])
        lab.system.engine.submit(request, partial(answered, due))
    if not all_in.wait(60):
        raise IntegrityError(f"{len(todo) - len(latency_s)} payments were never answered")
    answered_by = time.perf_counter()
    p50, p99 = np.quantile(np.asarray(latency_s) * 1e3, (0.5, 0.99))
    return {
        "in_flight": 0,
        "cross_shard_share": share,
        "transfers_per_s": round(len(todo) / (answered_by - started), 1),
        "latency_ms_p50": round(float(p50), 3),
        "latency_ms_p99": round(float(p99), 3),
        "rows_per_payment": round((written + _rows_written(lab)) / len(todo), 2),
        "bytes_per_payment": None,
        "payments_per_commit": None,
        "raw_per_s": None,
        "raw_ratio": None,
        "offered_per_s": OFFERED_PER_S,
    }
