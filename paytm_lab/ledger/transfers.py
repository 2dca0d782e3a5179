"""The life of a payment across shards, on one screen.

    submit -> source shard: leg (a) debit ----> destination shard: leg (b) credit, or a refusal
                 |                                   |                     |
                 | same shard: done                  | COMPLETED           | FAILED
                 v                                   v                     v
              COMPLETED / FAILED / HELD        leg (c) complete      leg (c) give back
                                               (rides along)         (at once), then FAILED

No lock is held across shards: the source's PENDING row is the durable record, and every leg may be
repeated. ``flow.Flow`` is one payment on this way. The engine has no thread of its own; it runs in
the callbacks of the shards' writers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from paytm_lab.core import errors
from paytm_lab.core.clock import Clock, require_time_us
from paytm_lab.core.ids import (
    PaymentIds,
    key_hash,
    payment_id_text,
    require_traceparent,
    require_user_id,
    slot_of_payment,
)
from paytm_lab.core.money import require_amount, require_currency, require_payable
from paytm_lab.ledger.admission import Admission
from paytm_lab.ledger.flow import Flow
from paytm_lab.ledger.gate_round import ROUND_MAX, Begun, FindKeys, GateRounds, withdraw
from paytm_lab.ledger.operations import (
    Capture,
    CreateAccount,
    Credential,
    Done,
    Outcome,
    Pay,
    PaymentRequest,
    Result,
)
from paytm_lab.ledger.shard_writer import ShardWriter, helping
from paytm_lab.ports.fraud_gate import FraudGate
from paytm_lab.routing.shard_map import Router

KNOWN_USERS_MAX = 200_000
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
        find_keys: FindKeys | None = None,
        refresh_map: Callable[[], None] | None = None,
        faults: dict[str, Callable[[], None]] | None = None,
    ) -> None:
        self.router = router
        self.writers = writers
        self.clock = clock
        self.admission = admission
        self.gate = gate
        self.hold_ttl_us = round(hold_ttl_s * 1e6)
        self.gate_rounds = GateRounds(scorer_down, find_keys)
        self.integrity_errors: list[errors.IntegrityError] = []
        self._abandoned = False
        self._waiting: set[threading.Event] = set()
        self._ids = ids
        self._deadline_s = deadline_s
        self._drive = drive
        self._refresh_map = refresh_map
        self.faults = {} if faults is None else faults
        self._known: set[str] = set()

    def set_drive(self, drive: Drive) -> None:
        """From now on a waiting call steps the lab instead of waiting for threads."""
        self._drive = drive

    # -- what callers use -------------------------------------------------------------------------

    def submit(self, request: PaymentRequest, done: Done) -> bytes:
        """Start a payment; ``done(Outcome | PaytmLabError)`` is called once, in a writer's thread.

        Returns the payment id (16 bytes). Raises BadInput for a malformed request and Unavailable
        when it cannot be admitted; then nothing was written and ``done`` is never called.
        """
        flow = self._admit(request, "transfer", self._checked(request), None, done)
        if self.gate is not None:
            said = self.gate_rounds.judge(self.gate, [flow]).get(flow)
            if isinstance(said, errors.PaytmLabError):
                raise said
            if said is not None:  # it repeats one in flight, and begins when that is answered
                return said
        return flow.start()

    def submit_many(
        self, requests: Sequence[PaymentRequest], answers: Sequence[Done]
    ) -> list[Begun]:
        """``submit`` for each, in order, with one of ``answers`` each; the gate is asked about
        them together, ``ROUND_MAX`` at a time.

        For each its payment id, or the error that ``submit`` would have raised. Where one finds no
        room it ends before that one, so the list may be shorter than ``requests``; Overloaded where
        the first finds none.
        """
        begun: list[Begun] = []
        for first in range(0, len(requests), ROUND_MAX):
            end = first + ROUND_MAX
            admitted, full = self._admit_all(requests[first:end], answers[first:end])
            said: Mapping[Flow, Begun] = {}
            if self.gate is not None:
                flows = [each for each in admitted if isinstance(each, Flow)]
                said = self.gate_rounds.judge(self.gate, flows)
            begun += [
                each if isinstance(each, errors.PaytmLabError) else said.get(each) or each.start()
                for each in admitted
            ]
            if full is not None:
                if not begun:
                    raise full
                break
        return begun

    def _admit_all(
        self, requests: Sequence[PaymentRequest], answers: Sequence[Done]
    ) -> tuple[list[Flow | errors.PaytmLabError], errors.Overloaded | None]:
        """In order, up to the first that finds no room; why it found none."""
        admitted: list[Flow | errors.PaytmLabError] = []
        try:
            for request, done in zip(requests, answers, strict=True):
                try:
                    key = self._checked(request)
                    admitted.append(self._admit(request, "transfer", key, None, done))
                except errors.Overloaded as error:
                    return admitted, error
                except errors.PaytmLabError as error:
                    admitted.append(error)
        except BaseException:
            withdraw(admitted)
            raise
        return admitted, None

    def _checked(self, request: PaymentRequest) -> bytes | None:
        """The request's words are in order; its key as the ledger knows it."""
        sender, receiver = request.from_user_id, request.to_user_id
        known = self._known
        if sender not in known or receiver not in known:
            self._know(sender, receiver)
        if sender == receiver:
            raise errors.SameAccount(
                f"{sender!r} cannot pay itself", remedy="Name two different users."
            )
        require_payable(request.amount_paise)
        require_currency(request.currency)
        if request.at_us is not None:
            require_time_us(request.at_us)
        if request.traceparent:
            require_traceparent(request.traceparent)
        if not request.idempotency_key:
            return None
        return key_hash(request.subject, sender, request.idempotency_key)

    def _know(self, *user_ids: str) -> None:
        """Check ids once; those that passed are remembered, and forgotten all at once when many."""
        for user_id in user_ids:
            require_user_id(user_id)
        if len(self._known) >= KNOWN_USERS_MAX:
            self._known.clear()
        self._known.update(user_ids)

    def submit_payment(
        self,
        request: PaymentRequest,
        kind: str,
        key: bytes | None,
        refund_of: bytes | None,
        done: Done,
    ) -> bytes:
        """``submit`` for the ledger's own payments (refunds): trusted, and no gate is asked."""
        return self._admit(request, kind, key, refund_of, done).start()

    def _admit(
        self,
        request: PaymentRequest,
        kind: str,
        key: bytes | None,
        refund_of: bytes | None,
        done: Done,
    ) -> Flow:
        """Route it and take a token for it."""
        router = self.router
        slot, source = router.locate(request.from_user_id)
        to_slot, destination = router.locate(request.to_user_id)
        writer = self.writers[source]
        if writer.is_down or self.writers[destination].is_down:
            self._require_up(source, destination, key)
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
                router.version,
                now_us if request.at_us is None else request.at_us,
                kind,
                key,
                hold=request.hold,
                expires_at=now_us + self.hold_ttl_us,
                refund_of=refund_of,
                traceparent=request.traceparent,
            )
            return Flow(self, operation, source, to_slot, done)
        except BaseException:
            self.admission.release(source, destination)
            raise

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
        credential: Credential | None = None,
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
        operation = CreateAccount(
            user_id, opening_paise, currency, slot, payment_id, create_key, credential
        )
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
        Flow(self, operation, source, to_slot, done).start()

    def resume(self, pending: Outcome, source: int, done: Done) -> None:
        """Carry a stored PENDING payment through legs (b) and (c); safe beside live writers."""
        to_slot, destination = self.router.locate(pending.to_user_id)
        flow = Flow(self, None, source, to_slot, done, destination=destination)
        flow.continue_from(pending, recheck=True)

    def _require_up(self, source: int, destination: int, key: bytes | None = None) -> None:
        self.writers[source].require_up()
        if destination != source:
            try:
                self.writers[destination].require_up()
            except errors.ShardUnavailable:
                # A known key is answered by its source alone.
                if not self.gate_rounds.key_exists(source, key):
                    raise

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

        if self._drive is None:
            with helping() as help_now:
                started = start(done)
                help_now()
        else:
            started = start(done)
        payment = payment_id_text(started) if isinstance(started, bytes) else ""
        self.await_condition(arrived, lambda: bool(answers), payment)
        if isinstance(answers[0], errors.PaytmLabError):
            raise answers[0]
        return answers[0]

    def wait_all(self, starts: Sequence[Callable[[Done], object]]) -> list[Result]:
        """Run every ``start(done)``, then wait for all results, which come in any order. An error
        on starting is a result too.
        """
        results: list[Result] = []
        arrived = threading.Event()

        def done(result: Result) -> None:
            results.append(result)
            if len(results) == len(starts):
                arrived.set()

        for start in starts:
            try:
                start(done)
            except errors.PaytmLabError as error:
                done(error)
        if starts:
            self.await_condition(arrived, lambda: len(results) == len(starts))
        return results

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

    @property
    def gate_unavailable(self) -> int:
        """How often the gate did not answer about a payment."""
        return self.gate_rounds.unavailable

    def refresh_map(self) -> None:
        if self._refresh_map is not None:
            self._refresh_map()

    def reach(self, point: str) -> None:
        """A named point between two steps; a fault may end the process here."""
        action = self.faults.get(point)
        if action is not None:
            action()
