"""What the routers of the shard manager share: the service's state, and how outcomes are said."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import Header, Response

from paytm_lab.config import Settings
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.core.ids import payment_id_text, require_user_id
from paytm_lab.core.money import parse_rupees
from paytm_lab.ledger.operations import Done, Outcome, PaymentRequest
from paytm_lab.shard_manager import reading
from paytm_lab.shard_manager.access import require_debit
from paytm_lab.shard_manager.answers import Answers
from paytm_lab.shard_manager.models import KEY_PATTERN
from paytm_lab.shard_manager.parts import Parts
from paytm_lab.shard_manager.reading import transfer_json
from paytm_lab.shard_manager.rounds import Rounds
from paytm_lab.web import problems, tracing
from paytm_lab.web.callers import Callers
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.rate_limit import RateLimiter
from paytm_lab.web.scopes import TRANSFER_ANY
from paytm_lab.web.tokens import Caller

# Of each shard, so that one that does not answer keeps no other from being read.
READ_THREADS, READS_WAITING_MAX, READ_S_MAX = 4, 256, 10.0
# What asks several shards, or waits for the ledger in its thread: reviews, figures, bulks behind a
# gate.
WORK_THREADS, WORK_WAITING_MAX = 16, 2_048
RATE_BLOCK = 100  # payments that a process may let pass before it asks the cache again
TRANSFER_ANY_TIMES = 100  # a till pays for many

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY_PATTERN,
        description="Any text of your own, 1-255 visible ASCII characters. A repeat with the same"
        " key answers as the first did, and never pays twice.",
    ),
]


class Service:
    """``answers`` is made when the event loop runs (``start``)."""

    def __init__(self, parts: Parts, callers: Callers, settings: Settings) -> None:
        self.parts = parts
        self.callers = callers
        self._reads = {
            shard: BoundedPool(f"shard-{shard}", READ_THREADS, READS_WAITING_MAX, READ_S_MAX)
            for shard in parts.databases
        }
        self.work = BoundedPool("work", WORK_THREADS, WORK_WAITING_MAX)
        self._rounds = {shard: Rounds(shard, parts.engine) for shard in parts.databases}
        self._deadline_s = settings.deadline_s
        self._payments_max = settings.payments_per_window_max
        self._limiter = RateLimiter(
            parts.cache, parts.clock, self.work, settings.rate_window_s,
            min(RATE_BLOCK, max(1, settings.payments_per_window_max // 10)),
        )  # fmt: skip
        self._answers: Answers | None = None

    @property
    def answers(self) -> Answers:
        if self._answers is None:
            self._answers = Answers(self._deadline_s)
        return self._answers

    def close(self) -> None:
        for pool in (*self._reads.values(), self.work):
            pool.close()
        for rounds in self._rounds.values():
            rounds.close()

    def reads_of_user(self, user_id: str) -> BoundedPool:
        """Where the user's shard is read."""
        return self._reads[self.parts.engine.router.locate(user_id)[1]]

    async def admit(self, caller: Caller, count: int = 1) -> None:
        """RateLimited where this caller has asked for too many payments."""
        times = TRANSFER_ANY_TIMES if TRANSFER_ANY in caller.scopes else 1
        await self._limiter.take(caller.user_id, "transfers", self._payments_max * times, count)

    async def payment(self, caller: Caller, payment_id: bytes) -> Outcome:
        """``reading.payment``, where the payment's source is read."""
        pool = self._reads[self.parts.engine.source_of(payment_id)]
        return await pool.run(reading.payment, self.parts, caller, payment_id)

    def may_block(self) -> bool:
        """Whether ``submit`` may look into a shard or ask the fraud gate before it returns."""
        engine = self.parts.engine
        if engine.gate is not None:
            return True
        for writer in engine.writers.values():  # noqa: SIM110 - asked for every payment
            if writer.is_down:
                return True
        return False

    async def submit(self, request: PaymentRequest, done: Done) -> bytes:
        """``engine.submit`` without ever blocking the event loop."""
        if self.parts.engine.gate is not None:
            shard = self.parts.engine.router.locate(request.from_user_id)[1]
            return await self._rounds[shard].submit(request, done)
        if self.may_block():
            return await self.work.run(self.parts.engine.submit, request, done)
        return self.parts.engine.submit(request, done)

    async def submit_many(
        self, requests: Sequence[PaymentRequest], answers: Sequence[Done]
    ) -> list[bytes | PaytmLabError]:
        """``engine.submit_many`` in the same way; no more at once than the loop may stand still
        for.
        """
        if self.may_block():
            return await self.work.run(self.parts.engine.submit_many, requests, answers)
        return self.parts.engine.submit_many(requests, answers)

    async def pay(self, request: PaymentRequest) -> Outcome:
        answers = self.answers
        answer, done = answers.expected()
        return await answers.wait(answer, await self.submit(request, done))


def payment_request(
    caller: Caller, from_user: str, to_user: str, amount: str, hold: bool, key: str | None
) -> PaymentRequest:
    """Checked: the ids, the amount, and that this caller may debit that user."""
    require_user_id(from_user)
    require_user_id(to_user)
    require_debit(caller, from_user)
    return PaymentRequest(
        from_user,
        to_user,
        parse_rupees(amount),
        idempotency_key=key or "",
        subject=caller.user_id,
        hold=hold,
        traceparent=tracing.current.get(),
    )


def status_of(outcome: Outcome, hold: bool) -> HTTPStatus:
    """201 made; 200 made before; 202 on its way, or held where no hold was asked for (a gate's
    review); 422 refused.
    """
    if outcome.status == "FAILED":
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if outcome.status == "PENDING" or (outcome.status == "HELD" and not hold):
        return HTTPStatus.ACCEPTED
    return HTTPStatus.OK if outcome.repeated else HTTPStatus.CREATED


def refusal(outcome: Outcome) -> dict[str, Any]:
    """What a FAILED outcome is as a problem."""
    return {
        "status": HTTPStatus.UNPROCESSABLE_ENTITY,
        "code": outcome.reason or "refused",
        "detail": f"the payment was refused: {(outcome.reason or 'refused').replace('_', ' ')}",
        "remedy": "A repeat with the same key answers the same; use a new key for a new try.",
        "payment_id": payment_id_text(outcome.payment_id),
    }


def said(outcome: Outcome, hold: bool = False) -> Response:
    """The answer to a payment that was asked for."""
    status = status_of(outcome, hold)
    headers = {"Location": f"/transfers/{payment_id_text(outcome.payment_id)}"}
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return problems.response(headers=headers, **refusal(outcome))
    if status == HTTPStatus.ACCEPTED:
        headers["Retry-After"] = "1"
    return answered(transfer_json(outcome), status, headers)


def answered(
    body: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return Response(msgspec.json.encode(body), status, headers, "application/json")
