"""Before posting: payments that are admitted together are asked about together.

    admitted -> a key in flight? -- yes: when its first is answered ----> posted: the ledger answers
                  | no
                a known key? -- yes ------------------------------------> posted, likewise
                  | no
                  v
                gate.decide(the whole round) -> held, refused or as it is -> posted
                  | Unavailable
                  v
                each as `scorer_down` says, and counted ------------------> posted

One question costs hardly more for many payments than for one: one look for the keys a shard, one
round trip a step of the scorer, one call of a model's arrays.

A key is in flight from the look at it until its first payment is answered, whichever round that
came in. Asked about twice, it would count twice against its payer until the second is answered.
Whoever waits for a first holds a token of admission, as it does; so there are never more keys or
waiting payments than tokens, and they wait no longer than a payment does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from paytm_lab.core import errors
from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.ledger.flow import Flow
from paytm_lab.ledger.operations import Done, Outcome, Pay, Result
from paytm_lab.messaging.worker import Trouble
from paytm_lab.ports.fraud_gate import FraudGate

ROUND_MAX = 256  # past this a payment costs no less, and all of a round wait for its last
Begun = bytes | errors.PaytmLabError  # a payment's id, or why it was not begun
FindKeys = Callable[[int, Sequence[bytes]], Collection[bytes]]


def withdraw(admitted: Iterable[Flow | errors.PaytmLabError]) -> None:
    """None of these will be started: others may have their room."""
    for each in admitted:
        if isinstance(each, Flow):
            each.withdraw()


class _Key:
    """A key in flight: its first payment, and those that wait for the first one's answer."""

    __slots__ = ("first", "later")

    def __init__(self, first: Flow) -> None:
        self.first = first
        self.later: list[Flow] = []


def _key_of(flow: Flow) -> bytes | None:
    """A key is of one sender."""
    op = flow.operation
    return op.key_hash if isinstance(op, Pay) else None


def _begin(flow: Flow) -> None:
    """One that nobody else starts, as its round is over; in any thread, which goes on."""
    try:
        flow.start()
    except errors.PaytmLabError as error:
        flow.finish(error)


def _left_to_the_caller(
    flows: Sequence[Flow], mine: Collection[Flow], failed: Mapping[Flow, errors.PaytmLabError]
) -> list[Flow]:
    """Those of this round that can begin. Its others have no room any more; those of other rounds
    begin here, or have ended.
    """
    left = []
    for flow in flows:
        error = failed.get(flow)
        if flow in mine and error is None:
            left.append(flow)
        elif flow in mine:
            flow.withdraw()
        elif error is None:
            _begin(flow)
        else:
            flow.finish(error)
    return left


def _not_begun() -> errors.Unavailable:
    return errors.Unavailable(
        "the payment that this one repeats was not begun; nothing was changed",
        place="fraud gate",
        remedy="Repeat it with the same key.",
    )


class GateRounds:
    """``find_keys``: those of some keys under which a shard has a payment. ``unavailable``: how
    often the gate did not answer about a payment.
    """

    def __init__(self, scorer_down: str, find_keys: FindKeys | None) -> None:
        self.unavailable = 0
        self._instead = {"allow": Decision.ALLOW, "refuse": Decision.BLOCK}.get(
            scorer_down, Decision.REVIEW
        )
        self._find_keys = find_keys
        self._trouble = Trouble("fraud gate")
        self._lock = threading.Lock()
        self._in_flight: dict[bytes, _Key] = {}

    @property
    def keys_in_flight(self) -> int:
        return len(self._in_flight)

    def judge(self, gate: FraudGate, flows: Sequence[Flow]) -> dict[Flow, Begun]:
        """Ask about all of them, but for those whose key is known or in flight: they keep their
        first outcome. What is to be said of those that are not to be started now: the errors of
        those that cannot be judged, which hold no room any more; the ids of those that start by
        themselves.
        """
        mine = set(flows)
        said: dict[Flow, Begun] = {}
        unbegun: list[Flow] = []
        new = list(flows)
        try:
            while new:
                firsts, later = self._enter(new)
                unbegun += firsts
                said.update((flow, flow.payment_id) for flow in later if flow in mine)
                known, failed = self._known(firsts)
                failed |= self._judge(gate, [f for f in firsts if f not in known | failed.keys()])
                # What is to repeat one that cannot be judged is the first of its key itself; what
                # is to repeat one that is stored has nothing to wait for.
                new = [flow for first in failed for flow in self.leave(first)]
                free = [flow for first in known for flow in self.leave(first)]
                for flow in (*new, *free):
                    said.pop(flow, None)
                said.update((flow, error) for flow, error in failed.items() if flow in mine)
                unbegun = _left_to_the_caller([*unbegun, *free], mine, failed)
        except BaseException:
            self._give_up(mine, said, unbegun)
            raise
        return said

    def _enter(self, flows: Sequence[Flow]) -> tuple[list[Flow], list[Flow]]:
        """The first ones of their keys, which are in flight from now on, and those without a key;
        the others, which wait for the first of theirs.
        """
        firsts, later = [], []
        with self._lock:
            for flow in flows:
                key = _key_of(flow)
                if key is None:
                    firsts.append(flow)
                elif (entry := self._in_flight.get(key)) is not None:
                    entry.later.append(flow)
                    later.append(flow)
                else:
                    self._in_flight[key] = _Key(flow)
                    flow.done = partial(self._answered, flow, flow.done)
                    firsts.append(flow)
        return firsts, later

    def leave(self, first: Flow) -> list[Flow]:
        """Its key is not in flight any more, if it was the first of one; those that waited."""
        key = _key_of(first)
        with self._lock:
            entry = None if key is None else self._in_flight.get(key)
            if key is None or entry is None or entry.first is not first:
                return []
            del self._in_flight[key]
        return entry.later

    def not_begun(self, first: Flow) -> None:
        """It will have no answer: those that waited for it are told."""
        for flow in self.leave(first):
            flow.finish(_not_begun())

    def _answered(self, first: Flow, done: Done, result: Result) -> None:
        """The first of a key has its outcome, which the ledger now repeats; unasked, so the others
        are not posted where there is none: they hear its error too. In the writer's thread.
        """
        later = self.leave(first)
        done(result)
        for flow in later:
            if isinstance(result, errors.PaytmLabError):
                flow.finish(result)
            else:
                _begin(flow)

    def _give_up(
        self, mine: Collection[Flow], said: Mapping[Flow, Begun], unbegun: Iterable[Flow]
    ) -> None:
        """A round that broke begins none of its own, and leaves none of another one waiting."""
        stranded = [each for first in unbegun for each in (first, *self.leave(first))]
        with self._lock:
            for flow in mine:
                entry = self._in_flight.get(_key_of(flow) or b"")
                # Else the first of its key was answered just now, and has begun it.
                if isinstance(said.get(flow), bytes) and entry and flow in entry.later:
                    entry.later.remove(flow)
                    stranded.append(flow)
        withdraw(flow for flow in mine if flow not in said)
        for flow in stranded:
            if flow in mine:
                flow.withdraw()
            else:
                flow.candidate = None  # what broke is not asked to take a count back
                flow.finish(_not_begun())

    def _judge(self, gate: FraudGate, flows: Sequence[Flow]) -> dict[Flow, errors.PaytmLabError]:
        failed: dict[Flow, errors.PaytmLabError] = {}
        asked, candidates = [], []
        for flow in flows:
            candidate = flow.ask_about()
            if candidate is not None:
                asked.append(flow)
                candidates.append(candidate)
        for flow, said in zip(asked, self._ask(gate, candidates), strict=True):
            if isinstance(said, errors.PaytmLabError):
                failed[flow] = said
            else:
                flow.judged(said)
        return failed

    def settle(self, gate: FraudGate, candidate: Candidate, result: Result) -> None:
        """Give the reserved count back when the candidate was not the payment that was made."""
        made = (
            isinstance(result, Outcome)
            and result.payment == candidate.payment_id
            and result.status != "FAILED"
        )
        if not made and not isinstance(result, errors.OutcomeUnknown):
            try:
                gate.cancel(candidate)
            except errors.Unavailable:
                self.unavailable += 1

    def key_exists(self, shard: int, key: bytes | None) -> bool:
        return (
            key is not None and self._find_keys is not None and key in self._find_keys(shard, [key])
        )

    def _known(self, flows: Sequence[Flow]) -> tuple[set[Flow], dict[Flow, errors.PaytmLabError]]:
        """Flows whose key is known, and those of shards that could not be asked; one look each."""
        keyed: dict[int, dict[bytes, list[Flow]]] = {}
        for flow in flows:
            op = flow.operation
            if isinstance(op, Pay) and op.key_hash is not None:
                keyed.setdefault(flow.source, {}).setdefault(op.key_hash, []).append(flow)
        known: set[Flow] = set()
        failed: dict[Flow, errors.PaytmLabError] = {}
        if self._find_keys is None:
            return known, failed
        for shard, keys in keyed.items():
            try:
                for key in self._find_keys(shard, list(keys)):
                    known.update(keys[key])
            except errors.PaytmLabError as error:
                failed.update((flow, error) for those in keys.values() for flow in those)
        return known, failed

    def _ask(
        self, gate: FraudGate, candidates: Sequence[Candidate]
    ) -> Sequence[Verdict | errors.PaytmLabError]:
        if not candidates:
            return []
        try:
            verdicts = gate.decide(candidates)
        except errors.Unavailable as error:
            self.unavailable += len(candidates)
            self._trouble.failed(error)
            return [Verdict(0.0, self._instead, "scorer_down", "none")] * len(candidates)
        except errors.PaytmLabError as error:
            if len(candidates) == 1:
                return [error]
            # It is about one of them: asked alone, and again, the others hear what they would have.
            return [said for each in candidates for said in self._ask(gate, [each])]
        self._trouble.well()
        return verdicts
