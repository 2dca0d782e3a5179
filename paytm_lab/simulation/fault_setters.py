"""How named faults are set in this process: switches in front of the stores, points of the
protocol, workers that pause. Each function takes the lab's system and the fault's target, and
returns what heals it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from paytm_lab.core.errors import BadInput
from paytm_lab.ledger.shard_writer import SimulatedCrash
from paytm_lab.ports.event_log import Message

Heal = Callable[[], None]
SLOW_COMMIT_S = 0.05
SLOW_CONSUMER_S = 0.005


def shard_of(target: str, shards: Collection[int]) -> int:
    """Its number; BadInput where it is none of these."""
    number = target.removeprefix("shard-")
    if not number.isdecimal() or int(number) not in shards:
        raise BadInput(
            f"{target!r} is not a shard of this lab",
            remedy=f"Name one of {', '.join(f'shard-{n}' for n in shards)}.",
        )
    return int(number)


def switch_of(system: Any, target: str) -> Any:
    return system.switches[shard_of(target, system.switches)]


def shard_down(system: Any, target: str) -> Heal:
    switch = switch_of(system, target)
    switch.down = True
    return switch.heal  # type: ignore[no-any-return]


def shard_frozen(system: Any, target: str) -> Heal:
    switch = switch_of(system, target)
    switch.freeze()
    return switch.heal  # type: ignore[no-any-return]


def shard_slow(system: Any, target: str) -> Heal:
    switch = switch_of(system, target)
    switch.slow_s = SLOW_COMMIT_S
    return switch.heal  # type: ignore[no-any-return]


def lost_commit(system: Any, target: str) -> Heal:
    switch = switch_of(system, target)
    switch.lose_commits = 1
    return switch.heal  # type: ignore[no-any-return]


def lost_commit_down(system: Any, target: str) -> Heal:
    heal = lost_commit(system, target)
    switch_of(system, target).then_down = True
    return heal


def crash(point: str) -> Callable[[Any, str], Heal]:
    def set_fault(system: Any, target: str) -> Heal:
        def crash() -> None:
            system.fault_points.pop(point, None)
            system.crash(point)
            raise SimulatedCrash(point)

        system.fault_points[point] = crash

        def heal() -> None:
            system.fault_points.pop(point, None)

        return heal

    return set_fault


def relay_stopped(system: Any, target: str) -> Heal:
    relays = [leading.relay for leading in system.relays.values()]

    def pause(paused: bool) -> None:
        for relay in relays:
            relay.paused = paused

    pause(True)
    return lambda: pause(False)


def runner_of(system: Any, target: str) -> Any:
    name = target.removeprefix("consumer-")
    if name not in system.runners:
        raise BadInput(
            f"{target!r} is not a consumer of this lab",
            remedy=f"Name one of {', '.join(f'consumer-{n}' for n in system.runners)}.",
        )
    return system.runners[name]


def consumer_slow(system: Any, target: str) -> Heal:
    runner = runner_of(system, target)
    runner.slow_s_per_record = SLOW_CONSUMER_S

    def heal() -> None:
        runner.slow_s_per_record = 0.0

    return heal


def consumer_dead(system: Any, target: str) -> Heal:
    runner = runner_of(system, target)
    runner.paused = True

    def heal() -> None:
        runner.paused = False

    return heal


def poison(system: Any, target: str) -> Heal:
    system.log.append([Message(target, "poison", b'{"not": an event')])
    return nothing


def cache_gone(system: Any, target: str) -> Heal:
    return _off(system.cache)


def event_log_gone(system: Any, target: str) -> Heal:
    return _off(system.stores.switches["event-log"])


def coordination_gone(system: Any, target: str) -> Heal:
    return _off(system.stores.switches["coordination"])


def wide_store_gone(system: Any, target: str) -> Heal:
    return _off(system.stores.switches["wide-store"])


def _off(switch: Any) -> Heal:
    switch.available = False

    def heal() -> None:
        switch.available = True

    return heal


def nothing() -> None:
    """A poison message needs no healing: it is set aside."""
