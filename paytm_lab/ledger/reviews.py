"""Reviews: what the fraud side flagged, and what a person (or a test) decides about it.

Approving a HELD payment captures it; rejecting releases it. Rejecting a COMPLETED payment leaves
it COMPLETED and pays the money back by a new payment (``refund_of``), which takes what the receiver
has available, frozen or not, and the rest from ``system:receivable`` against an open debt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from paytm_lab.core.errors import (
    Conflict,
    OutcomeUnknown,
    PaytmLabError,
    StoreError,
    Unavailable,
)
from paytm_lab.core.ids import key_hash, payment_id_text
from paytm_lab.ledger import queries
from paytm_lab.ledger.batch import outcome_of
from paytm_lab.ledger.holds import Holds, source_row
from paytm_lab.ledger.operations import ApplyFraud, DecideReview, Outcome, PaymentRequest
from paytm_lab.ledger.queries import ReviewRow
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.messaging.worker import Trouble
from paytm_lab.ports.shard_database import ShardDatabase

SUBJECT = "system:reviews"


class Reviews:
    def __init__(
        self, engine: TransferEngine, databases: Mapping[int, ShardDatabase], holds: Holds
    ) -> None:
        self._engine = engine
        self._databases = databases
        self._holds = holds
        self._troubles = {shard: Trouble(f"a rejection on shard {shard}") for shard in databases}

    def list(self, state: str | None = "open", rows_max: int = 1_000) -> list[ReviewRow]:
        """Reviews of all shards, oldest first."""
        rows = [
            row
            for database in self._databases.values()
            for row in queries.list_reviews(database, state, rows_max)
        ]
        return sorted(rows, key=lambda row: row.created_at_us)[:rows_max]

    def apply_all(self, answers: Sequence[tuple[str, bytes, str, str]]) -> None:
        """Fraud answers reach the ledger, once per event id and in its own transaction. Durable
        when it returns; raises the first error otherwise.

        ``answers``: (event id, payment id, decision, rule) each.
        """
        starts = []
        for event_id, payment_id, decision, rule in answers:
            writer = self._engine.writers[self._engine.source_of(payment_id)]
            starts.append(partial(writer.put, ApplyFraud(event_id, payment_id, decision, rule)))
        for result in self._engine.wait_all(starts):
            if isinstance(result, PaytmLabError):
                raise result

    def approve(self, payment_id: bytes, decided_by: str) -> Outcome:
        """Let the payment stand; a HELD one is captured. Repeating it answers the same."""
        outcome = self._decide(payment_id, "approved", decided_by)
        return self._holds.capture(payment_id) if outcome.status == "HELD" else outcome

    def reject(self, payment_id: bytes, decided_by: str) -> Outcome:
        """Undo the payment; returns the outcome of the release or of the refund payment.

        Repeating it, also after a crash between its steps, makes no second refund: the refund's key
        is derived from the payment. Unavailable while the payment is still PENDING.
        """
        row = source_row(self._engine, self._databases, payment_id)
        if row.status == "PENDING":
            self._arrival(outcome_of(row))
        before = self._review_state(payment_id)
        if before != "rejected":
            try:
                self._decide(payment_id, "rejecting", decided_by)
            except Conflict:
                # Another rejection may have come from beginning to end since the state was read.
                if self._review_state(payment_id) != "rejected":
                    raise
        outcome = self._undo(payment_id, row.from_user_id, row.to_user_id)
        self._decide(payment_id, "rejected", decided_by)
        return outcome

    def resume_rejections(self, shard: int | None = None) -> int:
        """Finish rejections that a crash cut in two, of all shards or of one; how many it finished.
        One whose shards do not answer stays for the next time; one that cannot be finished at all
        is said once. Neither keeps others from it, or anybody from opening a lab.
        """
        finished = 0
        for of, database in self._databases.items():
            if shard is None or of == shard:
                unfinished: list[ReviewRow] = []
                with suppress(Unavailable, StoreError):
                    unfinished = queries.list_reviews(database, "rejecting")
                finished += self._resume(unfinished, self._troubles[of])
        return finished

    def _resume(self, unfinished: Sequence[ReviewRow], trouble: Trouble) -> int:
        finished = 0
        failed: PaytmLabError | None = None
        for review in unfinished:
            try:
                self.reject(review.payment_id, review.decided_by)
                finished += 1
            except (Unavailable, StoreError, OutcomeUnknown):
                continue
            except PaytmLabError as error:
                failed = failed or error
        if failed is not None:
            trouble.failed(failed)
        else:
            trouble.well()
        return finished

    def _review_state(self, payment_id: bytes) -> str | None:
        shard = self._engine.source_of(payment_id)
        return queries.review_state(self._databases[shard], payment_id)

    def _undo(self, payment_id: bytes, sender: str, receiver: str) -> Outcome:
        outcome = outcome_of(source_row(self._engine, self._databases, payment_id))
        if outcome.status == "HELD":
            # Or what a capture beside this one has just made of it.
            outcome = self._holds.release(payment_id, "rejected")
        if outcome.status == "PENDING":
            outcome = self._arrival(outcome)
        if outcome.status != "COMPLETED":
            return outcome
        request = PaymentRequest(receiver, sender, outcome.amount, subject=SUBJECT)
        key = key_hash(SUBJECT, receiver, f"refund:{payment_id_text(payment_id)}")
        return self._engine.wait(
            lambda done: self._engine.submit_payment(request, "refund", key, payment_id, done)
        )

    def _arrival(self, pending: Outcome) -> Outcome:
        """What becomes of a payment under way; Unavailable when it stays under way."""
        outcome = self._engine.wait(
            lambda done: self._engine.resume(pending, pending.from_shard, done)
        )
        if outcome.status == "PENDING":
            raise Unavailable(
                f"payment {payment_id_text(pending.payment_id)} is still on its way",
                remedy="Reject it again once it is completed.",
            )
        return outcome

    def _decide(self, payment_id: bytes, state: str, decided_by: str) -> Outcome:
        writer = self._engine.writers[self._engine.source_of(payment_id)]
        writer.require_up()
        operation = DecideReview(payment_id, state, decided_by)
        return self._engine.wait(lambda done: writer.put(operation, done))
