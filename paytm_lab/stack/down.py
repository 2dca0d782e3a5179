"""The whole stack, or parts of it, down: cleanly, in parallel, ZooKeeper after Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from paytm_lab.stack import zookeeper
from paytm_lab.stack.control import GRACE_S, Stack


def down(stack: Stack, names: Sequence[str] = (), grace_s: float = GRACE_S) -> list[str]:
    """Stop the named servers, all when none is named; a line about each that ran.

    SIGTERM, SIGKILL after the grace. Data stays. BadInput for a name that no server has.
    """
    stack.adopt()
    wanted = [stack.server(name).name for name in names] or [s.name for s in stack.servers()]
    first = [name for name in dict.fromkeys(wanted) if name != zookeeper.NAME]
    lines: list[str] = []
    with ThreadPoolExecutor(max(1, len(first))) as pool:
        for said in pool.map(lambda name: _stop(stack, name, grace_s), first):
            lines += said
    if zookeeper.NAME in wanted:  # Kafka tells it goodbye
        lines += _stop(stack, zookeeper.NAME, grace_s)
    return lines


def _stop(stack: Stack, name: str, grace_s: float) -> list[str]:
    pid = stack.pid(name)
    killed = stack.stop(name, grace_s)
    if pid is None:
        return []
    return [
        f"{name}: killed, it did not stop within {grace_s:g} s" if killed else f"{name}: stopped"
    ]
