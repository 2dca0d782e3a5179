"""Rows of `bench simulate`: the wallet economy, in memory and to files, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paytm_lab.simulation.economy import Economy, write_payments

SEED = 7
_ROUNDS = 3


def rows(data_dir: Path, quick: bool = False) -> list[dict[str, Any]]:
    """Rows ``what``, ``payments_per_s`` (best of three, by the wall's clock), the least
    ``cpu_us_per_payment`` (of all threads), ``payments``, ``users``; files also
    ``bytes_per_payment``.

    ``economy``: generated in memory, drawing its people included. ``economy_parquet`` and
    ``economy_csv``: the same payments written from memory; ``economy_to_parquet``: generated and
    written in one go.
    """
    users, days = (5_000, 4) if quick else (100_000, 10)
    economy = Economy(users=users, days=days)
    batches = list(economy.generate(SEED))
    payments = sum(map(len, batches))
    digest = economy.digest(SEED)

    def generate() -> None:
        for _ in economy.generate(SEED):
            pass

    def write(name: str, anew: bool) -> Callable[[], object]:
        held = economy.generate if anew else lambda _: batches
        return lambda: write_payments(data_dir / name, held(SEED), economy.accounts, digest)

    common = {"payments": payments, "users": users}
    made = [{"what": "economy", **_best(generate, payments), **common}]
    for what, name, anew in (
        ("economy_parquet", "economy.parquet", False),
        ("economy_to_parquet", "economy.parquet", True),
        ("economy_csv", "economy.csv", False),
    ):
        best = _best(write(name, anew), payments)
        size = (data_dir / name).stat().st_size
        made.append(
            {"what": what, **best, **common, "bytes_per_payment": round(size / payments, 1)}
        )
    return made


def _best(call: Callable[[], object], payments: int) -> dict[str, Any]:
    seconds, cpu_s = [], []
    for _ in range(_ROUNDS):
        started_s, cpu_started_s = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - started_s)
        cpu_s.append(time.process_time() - cpu_started_s)
    return {
        "payments_per_s": round(payments / min(seconds)),
        "cpu_us_per_payment": round(min(cpu_s) / payments * 1e6, 3),
    }
