"""The life of a payment across shards, on one screen.

    submit -> source shard: leg (a) debit ----> destination shard: leg (b) credit, or a refusal
                 |                                   |                     |
                 | same shard: done                  | COMPLETED           | FAILED
                 v                                   v                     v
              COMPLETED / FAILED / HELD        leg (c) complete      leg (c) give back
                                               (rides along)         (at once), then FAILED

No lock is held across shards: the source's PENDING row is the durable record, and every leg may be
repeated. The engine has no thread of its own; it runs in the callbacks of the shards' writers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from paytm_lab.core import errors
from paytm_lab.core.clock import Clock
from paytm_lab.core.fraud import Candidate, Decision, Verdict
from paytm_lab.core.ids import (
    PaymentIds,
    key_hash,
    payment_id_text,
    require_user_id,
    slot_of_payment,
)
from paytm_lab.core.money import CURRENCY, require_amount, require_currency, require_payable
from paytm_lab.ledger.admission import Admission
from paytm_lab.ledger.operations import (
    Capture,
    Complete,
    CreateAccount,
    Credit,
    Done,
    GiveBack,
    Outcome,
    Pay,
    PaymentRequest,
    Result,
    Retarget,
)
from paytm_lab.ledger.shard_writer import ShardWriter
from paytm_lab.ports.fraud_gate import FraudGate
from paytm_lab.routing.shard_map import Router

MOVES_MAX = 3
Drive = Callable[[Callable[[], bool]], None]


class TransferEngine:
    """Submits payments, accounts and captures. ``drive`` steps a deterministic lab until a
    condition holds; without it the writers have threads and a blocking call waits for them.
    """

    def __init__(
        self,
        router: Router,
        writers: Mapping[int, ShardWriter],
        ids: PaymentIds,
        clock: Clock,
        admission: Admission,
        *,
        gate: FraudGate | None = None,
        scorer_down: str = "review",
        hold_ttl_s: float = 86_400.0,
        deadline_s: float = 30.0,
        drive: Drive | None = None,
        find_key: Callable[[int, bytes], bool] | None = None,
        refresh_map: Callable[[], None] | None = None,
        fault: Callable[[str], None] | None = None,
    ) -> None:
        self.router = router
        self.writers = writers
        self.clock = clock
        self.admission = admission
        self.gate = gate
        self.hold_ttl_us = round(hold_ttl_s * 1e6)
        self.gate_unavailable = 0
        self.integrity_errors: list[errors.IntegrityError] = []
        self._abandoned = False
        self._waiting: set[threading.Event] = set()
        self._ids = ids
        self._scorer_down = scorer_down
        self._deadline_s = deadline_s
        self._drive = drive
        self._find_key = find_key
        self._refresh_map = refresh_map
        self.fault = fault

    def set_drive(self, drive: Drive) -> None:
        """From now on a waiting call steps the lab instead of waiting for threads."""
        self._drive = drive

    # -- what callers use -------------------------------------------------------------------------

    def submit(self, request: PaymentRequest, done: Done) -> bytes:
        """Start a payment; ``done(Outcome | PaytmLabError)`` is called once, in a writer's thread.

        Returns the payment id (16 bytes). Raises BadInput for a malformed request and Unavailable
        when it cannot be admitted; then nothing was written and ``done`` is never called.
        """
        sender, receiver = request.from_user_id, request.to_user_id
        require_user_id(sender)
        require_user_id(receiver)
        if sender == receiver:
            raise errors.SameAccount(
                f"{sender!r} cannot pay itself", remedy="Name two different users."
            )
        require_payable(request.amount_paise)
        require_currency(request.currency)
        key = (
            key_hash(request.subject, sender, request.idempotency_key)
            if request.idempotency_key
            else None
        )
        return self.submit_payment(request, "transfer", key, None, done)

    def submit_payment(
        self,
        request: PaymentRequest,
        kind: str,
        key: bytes | None,
        refund_of: bytes | None,
        done: Done,
    ) -> bytes:
        """``submit`` for the ledger's own payments too (refunds); the request is trusted."""
        slot, source = self.router.locate(request.from_user_id)
        to_slot, destination = self.router.locate(request.to_user_id)
        self._require_up(source, destination)
        self.admission.acquire(source, destination)
        try:
            now_us = self.clock.now_us()
            operation = Pay(
                self._ids.next(slot),
                request.from_user_id,
                request.to_user_id,
                request.amount_paise,
                request.currency,
                slot,
                destination,
                self.router.version,
                now_us if request.at_us is None else request.at_us,
                kind,
                key,
                hold=request.hold,
                expires_at=now_us + self.hold_ttl_us,
                refund_of=refund_of,
                traceparent=request.traceparent,
            )
            flow = _Flow(self, operation, source, to_slot, done)
            if self.gate is not None and kind == "transfer":
                flow.ask_gate(self.gate)
        except BaseException:
            self.admission.release(source, destination)
            raise
        self.writers[source].put(operation, flow.on_source)
        return operation.payment_id

    def transfer(self, request: PaymentRequest) -> Outcome:
        """``submit`` and wait. Refusals are outcomes (status FAILED and a reason), not errors."""
        return self.wait(lambda done: self.submit(request, done))

    def submit_account(
        self,
        user_id: str,
        opening_paise: int,
        done: Done,
        currency: str = "INR",
        key: str = "",
        subject: str = "lab",
    ) -> None:
        """Create an account. Same key and terms: the first answer; else AccountExists as result."""
        require_user_id(user_id)
        require_amount(opening_paise)
        require_currency(currency)
        slot, shard = self.router.locate(user_id)
        payment_id = self._ids.next(slot)
        # Without a key the id of this very call stands for it, so that a repeat after a lost commit
        # answer knows its own work.
        create_key = key_hash(subject, user_id, key) if key else payment_id
        operation = CreateAccount(user_id, opening_paise, currency, slot, payment_id, create_key)
        self.writers[shard].require_up()
        self.writers[shard].put(operation, done)

    def create_account(
        self,
        user_id: str,
        opening_paise: int = 0,
        currency: str = "INR",
        key: str = "",
        subject: str = "lab",
    ) -> Outcome:
        """Create an account and wait for the outcome."""
        return self.wait(
            lambda done: self.submit_account(user_id, opening_paise, done, currency, key, subject)
        )

    def capture(
        self, payment_id: bytes, to_user_id: str, amount_paise: int | None, done: Done
    ) -> None:
        """Post a hold (all of it, or a part) and carry it across shards like any payment."""
        if amount_paise is not None:
            require_payable(amount_paise)
        source = self.source_of(payment_id)
        to_slot, destination = self.router.locate(to_user_id)
        self._require_up(source, destination)
        self.admission.acquire(source, destination)
        operation = Capture(payment_id, amount_paise, destination, self.router.version)
        flow = _Flow(self, operation, source, to_slot, done)
        self.writers[source].put(operation, flow.on_source)

    def resume(self, pending: Outcome, source: int, done: Done) -> None:
        """Carry a stored PENDING payment through legs (b) and (c); safe beside live writers."""
        to_slot, destination = self.router.locate(pending.to_user_id)
        flow = _Flow(self, None, source, to_slot, done, destination=destination)
        flow.continue_from(pending, recheck=True)

    def _require_up(self, source: int, destination: int) -> None:
        self.writers[source].require_up()
        if destination != source:
            self.writers[destination].require_up()

    def source_of(self, payment_id: bytes) -> int:
        """The shard that holds a payment's source row, read off its id."""
        return self.router.shard_of_slot(slot_of_payment(payment_id))

    def wait(self, start: Callable[[Done], object]) -> Outcome:
        """Run ``start(done)`` and return the outcome, or raise the error that came back."""
        answers: list[Result] = []
        arrived = threading.Event()

        def done(result: Result) -> None:
            answers.append(result)
            arrived.set()

        started = start(done)
        payment = payment_id_text(started) if isinstance(started, bytes) else ""
        self.await_condition(arrived, lambda: bool(answers), payment)
        if isinstance(answers[0], errors.PaytmLabError):
            raise answers[0]
        return answers[0]

    def await_condition(
        self, arrived: threading.Event, is_true: Callable[[], bool], payment: str = ""
    ) -> None:
        """Until ``is_true``: step a deterministic lab, or wait for the writers' threads to say so.

        OutcomeUnknown when that takes longer than the deadline, or when the writers die before.
        """
        if self._drive is not None:
            self._drive(lambda: self._abandoned or is_true())
            in_time = True
        else:
            self._waiting.add(arrived)
            in_time = self._abandoned or arrived.wait(self._deadline_s)
            self._waiting.discard(arrived)
        if not is_true() and (self._abandoned or not in_time):
            why = "the process died" if in_time else f"no answer within {self._deadline_s} s"
            raise errors.OutcomeUnknown(why, payment_id=payment)

    def abandon(self) -> None:
        """The writers are dead: whoever waits, or will, hears OutcomeUnknown and not a deadline."""
        self._abandoned = True
        for waiting in tuple(self._waiting):
            waiting.set()

    # -- what a flow uses -------------------------------------------------------------------------

    def judge(self, gate: FraudGate, candidate: Candidate) -> Verdict:
        """Ask the gate; when it is down, the setting decides, counted."""
        try:
            return gate.decide([candidate])[0]
        except errors.Unavailable:
            self.gate_unavailable += 1
            decision = {"allow": Decision.ALLOW, "refuse": Decision.BLOCK}.get(
                self._scorer_down, Decision.REVIEW
            )
            return Verdict(0.0, decision, "scorer_down", "none")

    def key_exists(self, shard: int, key: bytes | None) -> bool:
        return key is not None and self._find_key is not None and self._find_key(shard, key)

    def refresh_map(self) -> None:
        if self._refresh_map is not None:
            self._refresh_map()

    def reach(self, point: str) -> None:
        """A named point between two steps; a fault may end the process here."""
        if self.fault is not None:
            self.fault(point)


class _Flow:
    """One payment on its way; each method is the callback of the step before it."""

    __slots__ = (
        "candidate",
        "destination",
        "done",
        "engine",
        "moves",
        "operation",
        "pending",
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

    def ask_gate(self, gate: FraudGate) -> None:
        """Before posting: a block refuses, a review holds. A known key keeps its first outcome, and
        the gate is not asked.
        """
        op = self.operation
        if not isinstance(op, Pay) or self.engine.key_exists(self.source, op.key_hash):
            return
        self.candidate = Candidate(
            payment_id_text(op.payment_id),
            op.from_user_id,
            op.to_user_id,
            op.amount,
            op.occurred_at,
        )
        verdict = self.engine.judge(gate, self.candidate)
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
        op = self.operation
        self.destination = pending.to_shard
        credit = Credit(
            pending.payment_id, pending.from_user_id, pending.to_user_id, pending.amount, CURRENCY,
            self.source, self.to_slot, self.engine.router.version, pending.stamp,
            pending.occurred_at, pending.kind, pending.refund_of, pending.receivable,
            recheck=recheck,
        )  # fmt: skip
        if type(op) is Pay:
            credit.fraud_decision, credit.fraud_score = op.fraud_decision, op.fraud_score
            credit.traceparent = op.traceparent
        elif op is not None:
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
        elif result.moved:
            self.receiver_moved(pending)
        elif result.status == "COMPLETED":
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
        if not isinstance(result, errors.PaytmLabError):
            self.engine.reach("leg_c:committed")

    def on_given_back(self, result: Result) -> None:
        if isinstance(result, errors.PaytmLabError):
            self.finish(self.still_pending(result.code))
            return
        self.engine.reach("leg_c:given_back")
        self.finish(result)

    def still_pending(self, reason: str) -> Outcome:
        """What the caller hears when the destination did not answer: recovery will complete it."""
        if self.pending is None:
            raise errors.IntegrityError("a payment cannot stay pending before its debit")
        self.pending.reason = reason
        return self.pending

    def finish(self, result: Result) -> None:
        if self.token is not None:
            self.engine.admission.release(*self.token)
            self.token = None
        if self.candidate is not None and self.engine.gate is not None:
            self._settle_gate(self.engine.gate, self.candidate, result)
        self.done(result)

    def _settle_gate(self, gate: FraudGate, candidate: Candidate, result: Result) -> None:
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
                self.engine.gate_unavailable += 1
