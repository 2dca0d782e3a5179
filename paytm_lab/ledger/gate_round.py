"""Before posting: payments that are admitted together are asked about together.

    admitted -> a known key? -- yes ------------------------------------> posted: the ledger answers
                  | no
                a key twice? -- the later ones: when the first is answered -> posted, likewise
                  | no
                  v
                gate.decide(the whole round) -> held, refused or as it is -> posted
                  | Unavailable
                  v
                each as `scorer_down` says, and counted ------------------> posted

One question costs hardly more for many payments than for one: one look for the keys a shard, one
round trip a step of the scorer, one call of a model's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
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


def _first_of_each_key(flows: Sequence[Flow]) -> tuple[list[Flow], dict[Flow, Flow]]:
    """Those that are the first of their key, or have none; the others, each with its first. A key
    is of one sender.
    """
    found: dict[bytes, Flow] = {}
    firsts: list[Flow] = []
    repeats: dict[Flow, Flow] = {}
    for flow in flows:
        op = flow.operation
        key = op.key_hash if isinstance(op, Pay) else None
        if key is None or found.setdefault(key, flow) is flow:
            firsts.append(flow)
        else:
            repeats[flow] = found[key]
    return firsts, repeats


def _answered(done: Done, later: Sequence[Flow], result: Result) -> None:
    """The first of a key has its outcome, which the ledger now repeats; unasked, so these are not
    posted where there is none: they hear its error too.
    """
    done(result)
    for flow in later:
        if isinstance(result, errors.PaytmLabError):
            flow.finish(result)
            continue
        try:
            flow.start()
        except errors.PaytmLabError as error:  # this is the writer's thread, which goes on
            flow.finish(error)


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

    def judge(self, gate: FraudGate, flows: Sequence[Flow]) -> dict[Flow, Begun]:
        """Ask about all of them, but for those whose key is known: they keep their first outcome.
        What is to be said of those that are not to be started now: the errors of those that cannot
        be judged, which hold no room any more; the ids of those that start by themselves.
        """
        try:
            known, failed = self._known(flows)
            waiting: dict[Flow, list[Flow]] = {}
            new = [flow for flow in flows if flow not in known and flow not in failed]
            while new:
                firsts, repeats = _first_of_each_key(new)
                failed |= self._judge(gate, firsts)
                new = []
                for flow, first in repeats.items():
                    # What is to repeat one that cannot be judged is the first of its key itself.
                    if first in failed:
                        new.append(flow)
                    else:
                        waiting.setdefault(first, []).append(flow)
        except BaseException:
            withdraw(flows)
            raise
        withdraw(failed)
        found: dict[Flow, Begun] = dict(failed)
        for first, later in waiting.items():
            first.done = partial(_answered, first.done, later)
            found.update((flow, flow.payment_id) for flow in later)
        return found

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
