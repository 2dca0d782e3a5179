"""One payment on its way across shards; ``transfers`` draws the whole of it.

Each method is the callback of the step before it and starts the next one. It runs in the threads of
the shards' writers, never in two at a time for one payment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paytm_lab.core import errors
from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.core.ids import payment_id_text
from paytm_lab.core.money import CURRENCY
from paytm_lab.ledger.operations import (
    Capture,
    Complete,
    Credit,
    Done,
    GiveBack,
    Outcome,
    Pay,
    Result,
    Retarget,
)

if TYPE_CHECKING:
    from paytm_lab.ledger.transfers import TransferEngine

MOVES_MAX = 3


class Flow:
    """``operation`` is None for a payment that is PENDING already and is carried on."""

    __slots__ = (
        "candidate",
        "destination",
        "done",
        "engine",
        "moves",
        "operation",
        "pending",
        "rechecked",
        "source",
        "to_slot",
        "token",
    )

    def __init__(
        self,
        engine: TransferEngine,
        operation: Pay | Capture | None,
        source: int,
        to_slot: int,
        done: Done,
        destination: int | None = None,
    ) -> None:
        self.engine = engine
        self.operation = operation
        self.source = source
        self.to_slot = to_slot
        self.destination = operation.to_shard if operation is not None else destination
        self.token = (source, operation.to_shard) if operation is not None else None
        self.done = done
        self.moves = 0
        self.candidate: Candidate | None = None
        self.pending: Outcome | None = None
        self.rechecked = False

    @property
    def payment_id(self) -> bytes:
        """The id that it will have once it is started."""
        if self.operation is None:
            raise errors.IntegrityError("a payment that is PENDING was started before")
        return self.operation.payment_id

    def start(self) -> bytes:
        """Hand it to its source; the payment's id."""
        op = self.operation
        if op is None:
            raise errors.IntegrityError("a payment that is PENDING was started before")
        try:
            self.engine.writers[self.source].put(op, self.on_source)
        except BaseException:
            self.withdraw()
            self.engine.gate_rounds.not_begun(self)
            raise
        return op.payment_id

    def withdraw(self) -> None:
        """It will not be started: the next one may have its place."""
        if self.token is not None:
            self.engine.admission.release(*self.token)
            self.token = None

    def ask_about(self) -> Candidate | None:
        """What the gate is asked before posting; None where there is nothing to ask."""
        op = self.operation
        if not isinstance(op, Pay):
            return None
        self.candidate = Candidate(
            payment_id_text(op.payment_id),
            op.from_user_id,
            op.to_user_id,
            op.amount,
            op.occurred_at,
        )
        return self.candidate

    def judged(self, verdict: Verdict) -> None:
        """Before posting: a block refuses, a review holds."""
        op = self.operation
        if not isinstance(op, Pay):
            return
        op.fraud_decision, op.fraud_score, op.fraud_rule = (
            verdict.decision,
            verdict.score,
            verdict.rule,
        )
        if verdict.decision == Decision.BLOCK:
            op.refusal = "fraud_blocked"
        elif verdict.decision == Decision.REVIEW:
            op.hold = True

    def on_source(self, result: Result) -> None:
        """After leg (a), a same-shard payment, a hold or a capture."""
        if isinstance(result, errors.PaytmLabError):
            self.finish(result)
        elif result.moved:
            self.source_moved()
        elif result.status == "PENDING":
            if self.engine.faults:
                self.engine.reach("leg_a:committed")
            self.continue_from(result, recheck=result.repeated)
        else:
            self.finish(result)

    def source_moved(self) -> None:
        """The sender's slot is elsewhere now, or the receiver's no longer beside it: ask again."""
        op = self.operation
        self.engine.refresh_map()
        self.moves += 1
        if op is None or self.moves > MOVES_MAX:
            self.finish(
                errors.ShardUnavailable("the user's slot is moving", place=f"shard-{self.source}")
            )
            return
        self.source = self.engine.source_of(op.payment_id)
        self.destination = op.to_shard = self.engine.router.shard_of_slot(self.to_slot)
        op.map_version = self.engine.router.version
        self.engine.writers[self.source].put(op, self.on_source)

    def continue_from(self, pending: Outcome, recheck: bool) -> None:
        """Leg (b): ask the destination to credit."""
        self.pending = pending
        self.rechecked = recheck
        op = self.operation
        self.destination = pending.to_shard
        credit = Credit(
            pending.payment_id, pending.from_user_id, pending.to_user_id, pending.amount, CURRENCY,
            self.source, self.to_slot, self.engine.router.version, pending.stamp,
            pending.occurred_at, pending.kind, pending.refund_of, pending.receivable, None,
            pending.fraud_decision, pending.fraud_score, pending.fraud_rule, recheck=recheck,
        )  # fmt: skip
        if op is not None:
            credit.traceparent = op.traceparent
            if type(op) is Capture:
                credit.from_balance = pending.balance
        self.engine.writers[pending.to_shard].put(credit, self.on_destination)

    def on_destination(self, result: Result) -> None:
        pending = self.pending
        if pending is None:
            raise errors.IntegrityError("a credit answered a payment that was never pending")
        if isinstance(result, errors.IntegrityError):
            self.engine.integrity_errors.append(result)
            self.finish(result)
        elif isinstance(result, errors.PaytmLabError):
            self.finish(self.still_pending(result.code))
        elif result.moved and not self.rechecked:
            # Recovery may have had it credited there before the slot moved; its rows tell.
            self.continue_from(pending, recheck=True)
        elif result.moved:
            self.receiver_moved(pending)
        elif result.status == "COMPLETED":
            if self.engine.faults:
                self.engine.reach("leg_b:committed")
            self.engine.writers[self.source].put_lazy(
                Complete(pending.payment_id), self.on_completed
            )
            pending.status = "COMPLETED"
            self.finish(pending)
        else:
            self.engine.reach("leg_b:refused")
            self.engine.writers[self.source].put(
                GiveBack(pending.payment_id, result.reason), self.on_given_back
            )

    def receiver_moved(self, pending: Outcome) -> None:
        """The shard answered "moved", never "missing": re-target by entries and go on."""
        self.engine.refresh_map()
        self.moves += 1
        target = self.engine.router.shard_of_slot(self.to_slot)
        if self.moves > MOVES_MAX or target == pending.to_shard:
            self.finish(self.still_pending("receiver_moving"))
            return
        retarget = Retarget(pending.payment_id, target, self.engine.router.version)
        self.engine.writers[self.source].put(retarget, self.on_retargeted)

    def on_retargeted(self, result: Result) -> None:
        if isinstance(result, errors.PaytmLabError):
            self.finish(self.still_pending(result.code))
        elif result.moved and self.pending is not None:
            self.receiver_moved(self.pending)
        elif result.status == "PENDING":
            self.continue_from(result, recheck=True)
        else:
            self.finish(result)

    def on_completed(self, result: Result) -> None:
        # Nobody waits for leg (c): where it failed, the PENDING row stays and recovery repeats it.
        if self.engine.faults and not isinstance(result, errors.PaytmLabError):
            self.engine.reach("leg_c:committed")

    def on_given_back(self, result: Result) -> None:
        if isinstance(result, errors.PaytmLabError):
            self.finish(self.still_pending(result.code))
            return
        self.engine.reach("leg_c:given_back")
        if self.pending is not None:  # recovery may have been faster; the caller repeats nothing
            result.repeated = self.pending.repeated
        self.finish(result)

    def still_pending(self, reason: str) -> Outcome:
        """What the caller hears when the destination did not answer: recovery will complete it."""
        if self.pending is None:
            raise errors.IntegrityError("a payment cannot stay pending before its debit")
        self.pending.reason = reason
        return self.pending

    def finish(self, result: Result) -> None:
        self.withdraw()
        if self.candidate is not None and self.engine.gate is not None:
            self.engine.gate_rounds.settle(self.engine.gate, self.candidate, result)
        self.done(result)
