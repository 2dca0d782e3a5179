"""Who used the processors between two moments: the lab by its threads, the servers by process."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil


class CpuTable:
    """Counts from when it is made. ``pids``: the servers' processes on this machine, by name."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._servers = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._began = self._used_s()

    def rows(self, payments: int) -> list[dict[str, Any]]:
        """``process``, ``cpu_ms_per_payment``, ``cpu_share`` (of all that is in the table); the
        largest first.
        """
        used = self._used_s()
        spent = {name: used[name] - self._began.get(name, 0.0) for name in used}
        total_s = sum(spent.values()) or 1.0
        return [
            {
                "process": name,
                "cpu_ms_per_payment": round(spent_s * 1e3 / payments, 3),
                "cpu_share": round(spent_s / total_s, 3),
            }
            for name, spent_s in sorted(spent.items(), key=lambda item: -item[1])
            if spent_s > 0
        ]

    def _used_s(self) -> dict[str, float]:
        found = Counter[str]()
        names = {
            thread.native_id: re.sub(r"[\W_]*\d+$", "", thread.name)
            for thread in threading.enumerate()
        }
        own = psutil.Process()
        for each in own.threads():
            found[f"lab: {names.get(each.id, 'other threads')}"] += (
                each.user_time + each.system_time
            )
        for name, process in self._servers.items():
            times = process.cpu_times()
            found[name] += times.user + times.system
        return dict(found)
