"""The figures of every shard. Counting scans its tables, so they are kept for a while."""

from __future__ import annotations

import threading
from typing import Any

from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.core.events import rfc3339
from paytm_lab.ledger import queries
from paytm_lab.shard_manager.parts import Parts

KEPT_S_MIN = 1.0
# Counting takes at most this share of the time, however large the shards have become.
SHARE_MAX = 0.05


class Figures:
    """``read`` from any thread; one of them counts, the others get what was counted last."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._kept: dict[str, Any] = {}
        self._until_s = float("-inf")
        self._before: dict[int, tuple[float, int]] = {}  # shard -> when, and its payments then

    def read(self) -> dict[str, Any]:
        """As ``models.Analytics``."""
        # Only the very first ones have nothing to go by and wait.
        if not self._lock.acquire(blocking=not self._kept):
            return self._kept
        try:
            clock = self._parts.clock
            began_s = clock.monotonic_s()
            if began_s >= self._until_s:
                self._kept = self._counted()
                now_s = clock.monotonic_s()
                self._until_s = now_s + max(KEPT_S_MIN, (now_s - began_s) / SHARE_MAX)
            return self._kept
        finally:
            self._lock.release()

    def _counted(self) -> dict[str, Any]:
        parts = self._parts
        shards = [self._shard(shard) for shard in parts.databases]
        payments: dict[str, int] = {}
        for figures in shards:
            for status, count in figures.get("payments", {}).items():
                payments[status] = payments.get(status, 0) + count
        return {
            "as_of": rfc3339(parts.clock.now_us()),
            "complete": all(figures["state"] == "up" for figures in shards),
            "accounts": sum(figures.get("accounts", 0) for figures in shards),
            "balance_paise": sum(figures.get("balance_paise", 0) for figures in shards),
            "payments": payments,
            "in_flight": parts.engine.admission.in_flight,
            "shards": shards,
        }

    def _shard(self, shard: int) -> dict[str, Any]:
        parts = self._parts
        writer, database = parts.engine.writers[shard], parts.databases[shard]
        stats = writer.stats
        figures: dict[str, Any] = {
            "shard": shard,
            "state": "up",
            "queue_depth": writer.queue_depth(),
            "batches": stats.batches,
            "operations": stats.operations,
            "retries": stats.retries,
            "commit_ms_mean": round(stats.commit_s * 1e3 / max(1, stats.batches), 3),
        }
        try:
            total = queries.totals(database)
            oldest_us = queries.outbox_oldest_us(database)
        except (Unavailable, StoreError):
            return {**figures, "state": "down"}
        lag_us = 0 if oldest_us is None else max(0, parts.clock.now_us() - oldest_us)
        return figures | {
            "accounts": total.accounts,
            "balance_paise": total.balance_paise,
            "held_paise": total.held_paise,
            "payments": total.payments,
            "payments_per_s": self._rate(shard, sum(total.payments.values())),
            "entries": total.entries,
            "outbox_rows": total.outbox_rows,
            "outbox_lag_s": lag_us / 1e6,
        }

    def _rate(self, shard: int, payments: int) -> float | None:
        now_s = self._parts.clock.monotonic_s()
        before = self._before.get(shard)
        self._before[shard] = (now_s, payments)
        if before is None or now_s <= before[0]:
            return None
        return round((payments - before[1]) / (now_s - before[0]), 2)
