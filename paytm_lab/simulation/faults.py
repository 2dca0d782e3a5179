"""Named faults: what breaks, what one will see, how it heals. The same names on both profiles.

lab.fault("shard-2", "down")        paytm-lab fault shard-2 down
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from paytm_lab.core.errors import BadInput
from paytm_lab.ledger.shard_writer import SimulatedCrash
from paytm_lab.ports.event_log import Message

Heal = Callable[[], None]
SLOW_COMMIT_S = 0.05
SLOW_CONSUMER_S = 0.005
CRASH_POINTS = {
    "crash-before-commit": "writer:before_commit",
    "crash-after-commit": "writer:committed",
    "crash-after-leg-a": "leg_a:committed",
    "crash-after-leg-b": "leg_b:committed",
    "crash-after-leg-c": "leg_c:committed",
    "crash-after-refusal": "leg_b:refused",
    "crash-after-give-back": "leg_c:given_back",
    "crash-after-relay-ack": "relay:acked",
    "crash-after-consumer-handled": "consumer:handled",
}


def crash_at(
    text: str, die: Callable[[], None], acknowledged: Callable[[], int] = lambda: 0
) -> tuple[str, Callable[[], None]]:
    """``POINT[:N][@ACKS]`` -> the point, and what to call there: it calls ``die`` when the point is
    reached for the N-th time (the first) after ``ACKS`` payments (0) were ``acknowledged``.
    BadInput for what is not written so, or a point that there is not.
    """
    place, _, acks = text.partition("@")
    point, _, count = place.rpartition(":")
    if place in CRASH_POINTS.values():
        point, count = place, "1"
    numbers = (count, acks or "0")
    if point not in CRASH_POINTS.values() or not all(n.isdecimal() for n in numbers):
        raise BadInput(
            f"{text!r:.80} is not a point to crash at",
            remedy=f"Write POINT[:N][@ACKS]; points are {', '.join(CRASH_POINTS.values())}.",
        )
    left, acks_min = [int(count)], int(numbers[1])
    lock = threading.Lock()  # several writers may reach the same point at once

    def reached() -> None:
        with lock:
            left[0] -= acknowledged() >= acks_min
            if left[0] <= 0:
                die()

    return point, reached


class FaultKind(NamedTuple):
    """``target``: 'shard' stands for any 'shard-N', 'consumer' for any 'consumer-NAME'."""

    target: str
    kind: str
    sight: str
    heals: str
    set: Callable[[Any, str], Heal]


def _shard(system: Any, target: str) -> Any:
    number = target.removeprefix("shard-")
    if not number.isdecimal() or int(number) not in system.switches:
        raise BadInput(
            f"{target!r} is not a shard of this lab",
            remedy=f"Name one of {', '.join(f'shard-{n}' for n in system.switches)}.",
        )
    return system.switches[int(number)]


def _shard_down(system: Any, target: str) -> Heal:
    switch = _shard(system, target)
    switch.down = True
    return switch.heal  # type: ignore[no-any-return]


def _shard_slow(system: Any, target: str) -> Heal:
    switch = _shard(system, target)
    switch.slow_s = SLOW_COMMIT_S
    return switch.heal  # type: ignore[no-any-return]


def _lost_commit(system: Any, target: str) -> Heal:
    switch = _shard(system, target)
    switch.lose_commits = 1
    return switch.heal  # type: ignore[no-any-return]


def _lost_commit_down(system: Any, target: str) -> Heal:
    heal = _lost_commit(system, target)
    _shard(system, target).then_down = True
    return heal


def _crash(point: str) -> Callable[[Any, str], Heal]:
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


def _relay_stopped(system: Any, target: str) -> Heal:
    relays = [leading.relay for leading in system.relays.values()]

    def pause(paused: bool) -> None:
        for relay in relays:
            relay.paused = paused

    pause(True)
    return lambda: pause(False)


def _runner(system: Any, target: str) -> Any:
    name = target.removeprefix("consumer-")
    if name not in system.runners:
        raise BadInput(
            f"{target!r} is not a consumer of this lab",
            remedy=f"Name one of {', '.join(f'consumer-{n}' for n in system.runners)}.",
        )
    return system.runners[name]


def _consumer_slow(system: Any, target: str) -> Heal:
    runner = _runner(system, target)
    runner.slow_s_per_record = SLOW_CONSUMER_S

    def heal() -> None:
        runner.slow_s_per_record = 0.0

    return heal


def _consumer_dead(system: Any, target: str) -> Heal:
    runner = _runner(system, target)
    runner.paused = True

    def heal() -> None:
        runner.paused = False

    return heal


def _poison(system: Any, target: str) -> Heal:
    system.log.append([Message(target, "poison", b'{"not": an event')])
    return _nothing


def _cache_gone(system: Any, target: str) -> Heal:
    system.cache.available = False

    def heal() -> None:
        system.cache.available = True

    return heal


def _nothing() -> None:
    """A poison message needs no healing: it is set aside."""


FAULTS: tuple[FaultKind, ...] = (
    FaultKind(
        "shard", "down",
        "payments that touch the shard get 503 (shard_unavailable) at once; others go on; payments"
        " on their way to it stay PENDING",
        "when the shard answers again, recovery completes what was PENDING",
        _shard_down,
    ),
    FaultKind(
        "shard", "slow",
        f"every commit of the shard takes {SLOW_COMMIT_S * 1e3:.0f} ms longer: batches grow,"
        " latency of payments that touch it rises, the others keep theirs",
        "at once when the fault ends",
        _shard_slow,
    ),
    FaultKind(
        "shard", "lost-commit",
        "one commit happens but its answer is lost: the writer looks which rows exist and answers"
        " from them; nobody notices, nothing is posted twice",
        "by itself: the batch runs again and finds its own rows",
        _lost_commit,
    ),
    FaultKind(
        "shard", "lost-commit-down",
        "one commit's answer is lost and the shard stays away: callers hear 504 outcome_unknown"
        " with the payment id",
        "when the shard is back, a repeat with the same key answers the first outcome; recovery"
        " finishes the rest",
        _lost_commit_down,
    ),
    *(
        FaultKind(
            "process", kind,
            f"the process dies at {point}: callers in flight hear nothing, money may be in transit",
            "opening the lab again recovers: every PENDING payment is completed or given back",
            _crash(point),
        )
        for kind, point in CRASH_POINTS.items()
    ),
    FaultKind(
        "relay", "stopped",
        "payments go on, outboxes grow, consumers see nothing new; past outbox_rows_max new"
        " payments get 503 (outbox_full)",
        "when the relay runs again the outboxes drain in order",
        _relay_stopped,
    ),
    FaultKind(
        "consumer", "slow",
        f"its lag grows: {SLOW_CONSUMER_S * 1e3:.0f} ms a record; payments are not slowed",
        "when it is fast again it catches up",
        _consumer_slow,
    ),
    FaultKind(
        "consumer", "dead",
        "its lag grows by every event; what it does (scores, dashboards, notifications) stands"
        " still; payments go on",
        "when it is back it continues at its committed offsets; nothing is handled twice in effect",
        _consumer_dead,
    ),
    FaultKind(
        "payment_events", "poison",
        "one message that is no event: each consumer tries it a bounded number of times, then sets"
        " it aside in payment_events.dead_letter; the messages behind it are not held up for good",
        "by itself; the dead letter stays to be looked at",
        _poison,
    ),
    FaultKind(
        "cache", "gone",
        "velocity counts and last scores are away: with the gate `after` payments are not touched,"
        " with `before` each becomes what scorer_down says (review); the cache never decides money",
        "when the cache is back counts start anew",
        _cache_gone,
    ),
)  # fmt: skip


def find(target: str, kind: str) -> FaultKind:
    """The fault of that name; BadInput that lists the known ones otherwise."""
    for fault in FAULTS:
        if fault.kind == kind and _is_of(fault, target):
            return fault
    raise _no_fault(f"{target} {kind}")


def require_target(system: Any, target: str) -> None:
    """BadInput where the lab has no such shard or consumer."""
    if target.startswith("shard"):
        _shard(system, target)
    elif target.startswith("consumer"):
        _runner(system, target)


def faults_of(target: str) -> list[FaultKind]:
    """The faults that ``target`` may have; BadInput where there is none."""
    found = [fault for fault in FAULTS if _is_of(fault, target)]
    if not found:
        raise _no_fault(target)
    return found


def _is_of(fault: FaultKind, target: str) -> bool:
    return target == fault.target or target.startswith(f"{fault.target}-")


def _no_fault(words: str) -> BadInput:
    known = "; ".join(
        f"{f.target}{'-N' if f.target in ('shard', 'consumer') else ''} {f.kind}" for f in FAULTS
    )
    return BadInput(f"{words} is not a fault", remedy=f"Known: {known}.")
