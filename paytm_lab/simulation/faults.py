"""Named faults: what breaks, what one will see, how it heals. The same names on both profiles.

lab.fault("shard-2", "down")        paytm-lab fault shard-2 down --profile servers

Those that have a ``signal`` stop a real server's process on the servers profile (stack/faults.py);
all others, and all on the embedded one, are set in this process (fault_setters.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation import fault_setters
from paytm_lab.simulation.fault_setters import SLOW_COMMIT_S, SLOW_CONSUMER_S, Heal

KILL, STOP = "SIGKILL", "SIGSTOP"


class _Crash(NamedTuple):
    """``point``: where the process dies; ``sight``: what is true of what reached the point."""

    kind: str
    point: str
    sight: str
    heals: str


_CRASHES = (
    _Crash(
        "crash-before-commit", "writer:before_commit",
        "the shard drops the whole batch, nothing of it happened",
        "what the batch would have done for a PENDING payment recovery does; a new payment in it"
        " never was and can be sent again",
    ),
    _Crash(
        "crash-after-commit", "writer:committed",
        "the whole batch stands, but nobody was told",
        "recovery completes or gives back what is PENDING; a repeat with the same key answers the"
        " first outcome",
    ),
    _Crash(
        "crash-after-leg-a", "leg_a:committed",
        "the sender is debited, the receiver not yet credited: the money is in transit, the payment"
        " PENDING",
        "recovery credits the receiver, or gives the money back where that is refused",
    ),
    _Crash(
        "crash-after-leg-b", "leg_b:committed",
        "the receiver has the money, but the sender's shard still says PENDING",
        "recovery finds the receiver's row and completes the sender's; nothing is credited twice",
    ),
    _Crash(
        "crash-after-leg-c", "leg_c:committed",
        "both shards say COMPLETED and the caller had that answer; at most its events still wait in"
        " the outbox",
        "nothing is left to do for the payment; the relay goes on with the outbox",
    ),
    _Crash(
        "crash-after-refusal", "leg_b:refused",
        "the receiver's shard has refused for good and the sender does not have the money back: it"
        " is in transit",
        "recovery finds the refusal and gives the money back: FAILED",
    ),
    _Crash(
        "crash-after-give-back", "leg_c:given_back",
        "the sender has the money back, the payment is FAILED, but nobody was told",
        "nothing is left to do for the payment; a repeat with the same key answers FAILED",
    ),
    _Crash(
        "crash-after-relay-ack", "relay:acked",
        "events are in the log and still in the outbox, too; no money is touched",
        "the relay sends them again, and every consumer counts them once",
    ),
    _Crash(
        "crash-after-consumer-handled", "consumer:handled",
        "a consumer has handled records and not stored how far it came; no money is touched",
        "it handles them again, which changes nothing: each counts once",
    ),
)  # fmt: skip
CRASH_POINTS = {crash.kind: crash.point for crash in _CRASHES}
_PATTERNS = {"shard": "shard-N", "consumer": "consumer-NAME"}


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
    """``target``: 'shard' stands for any 'shard-N', 'consumer' for any 'consumer-NAME'. ``set``:
    in this process. ``signal``: what the real server gets on the servers profile; '' where the
    fault is set in this process there too.
    """

    target: str
    kind: str
    sight: str
    heals: str
    set: Callable[[Any, str], Heal]
    signal: str = ""


FAULTS: tuple[FaultKind, ...] = (
    FaultKind(
        "shard", "down",
        "payments that touch the shard get 503 (shard_unavailable) at once; others go on; payments"
        " on their way to it stay PENDING",
        "when the shard answers again, recovery completes what was PENDING",
        fault_setters.shard_down,
        KILL,
    ),
    FaultKind(
        "shard", "frozen",
        "the shard takes connections and answers nothing: payments that touch it wait for a time"
        " limit of seconds, hear 503 or 504 (outcome_unknown), then 503 at once; others go on",
        "when it thaws, recovery completes what was PENDING; a repeat with the same key answers the"
        " first outcome",
        fault_setters.shard_frozen,
        STOP,
    ),
    FaultKind(
        "shard", "slow",
        f"every commit of the shard takes {SLOW_COMMIT_S * 1e3:.0f} ms longer: batches grow,"
        " latency of payments that touch it rises, the others keep theirs",
        "at once when the fault ends",
        fault_setters.shard_slow,
    ),
    FaultKind(
        "shard", "lost-commit",
        "one commit happens but its answer is lost: the writer looks which rows exist and answers"
        " from them; nobody notices, nothing is posted twice",
        "by itself: the batch runs again and finds its own rows",
        fault_setters.lost_commit,
    ),
    FaultKind(
        "shard", "lost-commit-down",
        "one commit's answer is lost and the shard stays away: callers hear 504 outcome_unknown"
        " with the payment id",
        "when the shard is back, a repeat with the same key answers the first outcome; recovery"
        " finishes the rest",
        fault_setters.lost_commit_down,
    ),
    *(
        FaultKind(
            "process", crash.kind,
            f"the process dies at {crash.point}, callers in flight hear nothing; {crash.sight}",
            f"by opening the lab again: {crash.heals}",
            fault_setters.crash(crash.point),
        )
        for crash in _CRASHES
    ),
    FaultKind(
        "relay", "stopped",
        "payments go on, outboxes grow, consumers see nothing new; past outbox_rows_max new"
        " payments get 503 (outbox_full)",
        "when the relay runs again the outboxes drain in order",
        fault_setters.relay_stopped,
    ),
    FaultKind(
        "consumer", "slow",
        f"its lag grows: {SLOW_CONSUMER_S * 1e3:.0f} ms a record; payments are not slowed",
        "when it is fast again it catches up",
        fault_setters.consumer_slow,
    ),
    FaultKind(
        "consumer", "dead",
        "its lag grows by every event; what it does (scores, dashboards, notifications) stands"
        " still; payments go on",
        "when it is back it continues at its committed offsets; nothing is handled twice in effect",
        fault_setters.consumer_dead,
    ),
    FaultKind(
        "payment_events", "poison",
        "one message that is no event: each consumer tries it a bounded number of times, then sets"
        " it aside in payment_events.dead_letter; the messages behind it are not held up for good",
        "by itself; the dead letter stays to be looked at",
        fault_setters.poison,
    ),
    FaultKind(
        "cache", "gone",
        "velocity counts and last scores are away: with the gate `after` payments are not touched,"
        " with `before` each becomes what scorer_down says (review); the cache never decides money",
        "when the cache is back counts start anew",
        fault_setters.cache_gone,
        KILL,
    ),
    FaultKind(
        "event-log", "gone",
        "payments go on, outboxes grow, consumers see nothing new; past outbox_rows_max new"
        " payments get 503 (outbox_full)",
        "when the log is back the outboxes drain in order and consumers go on at their committed"
        " offsets; what comes twice counts once",
        fault_setters.event_log_gone,
        KILL,
    ),
    FaultKind(
        "coordination", "gone",
        "payments go on by the shard map in memory; who led a relay or recovery no longer does, so"
        " that outboxes grow; no lab can be opened",
        "when it is back leaders are found anew and the outboxes drain",
        fault_setters.coordination_gone,
        KILL,
    ),
    FaultKind(
        "wide-store", "gone",
        "payments go on; fraud, analytics and notifications keep their batch and try it again, so"
        " that their lag grows: no features, totals or notifications are stored",
        "when it is back they catch up by themselves: features arrive late, none is missing",
        fault_setters.wide_store_gone,
        KILL,
    ),
)  # fmt: skip


def targets() -> list[str]:
    """What can have a fault, as one writes it: 'shard-N' and 'consumer-NAME' stand for each."""
    return list(dict.fromkeys(map(pattern, FAULTS)))


def kinds() -> list[str]:
    """The names of all faults, each once."""
    return list(dict.fromkeys(fault.kind for fault in FAULTS))


def find(target: str, kind: str) -> FaultKind:
    """The fault of that name; BadInput otherwise, which lists those of the target."""
    for fault in FAULTS:
        if fault.kind == kind and _is_of(fault, target):
            return fault
    raise _no_fault(f"{target} {kind}", [fault for fault in FAULTS if _is_of(fault, target)])


def require_target(system: Any, target: str) -> None:
    """BadInput where the lab has no such shard or consumer."""
    if target.startswith("shard"):
        fault_setters.switch_of(system, target)
    elif target.startswith("consumer"):
        fault_setters.runner_of(system, target)


def faults_of(target: str) -> list[FaultKind]:
    """The faults that ``target`` may have; BadInput where there is none."""
    found = [fault for fault in FAULTS if _is_of(fault, target)]
    if not found:
        raise _no_fault(target, [])
    return found


def pattern(fault: FaultKind) -> str:
    """Its target as one writes it: 'shard-N' for any shard."""
    return _PATTERNS.get(fault.target, fault.target)


def _is_of(fault: FaultKind, target: str) -> bool:
    return target == fault.target or target.startswith(f"{fault.target}-")


def _no_fault(words: str, of_target: list[FaultKind]) -> BadInput:
    """``of_target``: those that the target can have; where there are none, all are listed."""
    known = "; ".join(f"{pattern(fault)} {fault.kind}" for fault in of_target or FAULTS)
    return BadInput(f"{words} is not a fault", remedy=f"Known: {known}.")
