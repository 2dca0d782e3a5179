"""Calls to different servers or files, which wait for different things: made at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Until all have ended. Then the error of the first, in their order, that failed is raised."""
    with ThreadPoolExecutor(max(1, len(calls)), thread_name_prefix="at once") as pool:
        running = [pool.submit(call) for call in calls]
    for ended in running:
        ended.result()
