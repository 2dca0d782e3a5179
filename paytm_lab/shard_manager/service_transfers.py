"""Payments over HTTP: one by one, in bulk, their state and timeline, holds."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Response

from paytm_lab.core.errors import OutcomeUnknown, Overloaded, PaytmLabError
from paytm_lab.core.ids import parse_payment_id, payment_id_text
from paytm_lab.core.money import parse_rupees
from paytm_lab.ledger.gate_round import ROUND_MAX
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Release, Result
from paytm_lab.shard_manager import models, reading
from paytm_lab.shard_manager.access import reads_all, require_debit
from paytm_lab.shard_manager.answers import Answer
from paytm_lab.shard_manager.reading import transfer_json
from paytm_lab.shard_manager.service_common import (
    Key,
    Service,
    answered,
    payment_request,
    refusal,
    said,
    status_of,
)
from paytm_lab.web import problems
from paytm_lab.web.paths import Segment
from paytm_lab.web.problems import declared
from paytm_lab.web.scopes import TRANSFER_ANY, TRANSFER_OWN
from paytm_lab.web.tokens import Caller

# One of a bulk is quick, but a thousand are not: others get their turn in between.
ITEMS_AT_ONCE = 50
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": models.Transfer, "description": "Made before, under the same key"},
    202: {"model": models.Transfer, "description": "On its way, or held for a review"},
}
_REFUSED = declared(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.GATEWAY_TIMEOUT,
)  # fmt: skip
_LOOKED_UP = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def make_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["transfers"])
    payer: Any = Depends(service.callers.who(TRANSFER_OWN, TRANSFER_ANY, moves_money=True))

    @router.post(
        "/transfer/{from_user}/{to_user}/{amount}",
        status_code=201,
        response_model=models.Transfer,
        responses={**_ACCEPTED, **_REFUSED},
        summary="Pay",
    )
    async def transfer(
        from_user: Segment, to_user: Segment, amount: Segment, key: Key = None,
        caller: Caller = payer,
    ) -> Response:  # fmt: skip
        """`amount`: rupees, digits with at most two decimals. A refusal is a 422 whose `code` says
        why, with the id of the payment that failed.
        """
        await service.admit(caller)
        request = payment_request(caller, from_user, to_user, amount, False, key)
        return said(await service.pay(request))

    @router.post(
        "/transfers",
        status_code=201,
        response_model=models.Transfer,
        responses={**_ACCEPTED, **_REFUSED},
        summary="Pay, or hold",
    )
    async def transfers(
        body: models.TransferBody, key: Key = None, caller: Caller = payer
    ) -> Response:
        """As `POST /transfer/...`; with `hold`, the amount is only reserved (status HELD) until it
        is captured, released or expires.
        """
        await service.admit(caller)
        request = payment_request(caller, body.from_user, body.to_user, body.amount, body.hold, key)
        return said(await service.pay(request), body.hold)

    @router.post(
        "/transfers/bulk",
        response_model=models.BulkAnswer,
        responses=_REFUSED,
        summary="Pay up to 1,000 at once, each with its own outcome",
    )
    async def bulk(body: models.BulkBody, key: Key = None, caller: Caller = payer) -> Response:
        """Each payment stands alone: one that is refused keeps no other from being made. An
        `Idempotency-Key` header gives each item without a key of its own one by its place, so that
        the whole bulk may be repeated.
        """
        await service.admit(caller, len(body.transfers))
        return answered({"outcomes": await _bulk(service, caller, body.transfers, key)})

    _add_reads(router, service)
    _add_holds(router, service, payer)
    return router


def _add_reads(router: APIRouter, service: Service) -> None:
    reader: Any = Depends(service.callers.who())

    @router.get(
        "/transfers/{payment_id}",
        response_model=models.Transfer,
        responses=_LOOKED_UP,
        summary="A payment as it stands",
    )
    async def read(payment_id: Segment, response: Response, caller: Caller = reader) -> Any:
        """Of its sender, its receiver, or anybody for those who may see all; to others it does not
        exist.
        """
        outcome = await service.payment(caller, parse_payment_id(payment_id))
        return answered(transfer_json(outcome), headers=dict(response.headers))

    @router.get(
        "/transfers/{payment_id}/timeline",
        response_model=models.Timeline,
        responses=_LOOKED_UP,
        summary="Every step of a payment",
    )
    async def timeline(payment_id: Segment, response: Response, caller: Caller = reader) -> Any:
        """Both shards, the events and where they lie in the log, the fraud side, notifications,
        with their times.
        """
        raw = parse_payment_id(payment_id)
        found = await service.work.run(
            reading.timeline, service.parts, caller, raw, reads_all(caller)
        )
        return answered(found, headers=dict(response.headers))


def _add_holds(router: APIRouter, service: Service, payer: Any) -> None:
    engine = service.parts.engine

    async def held(payment_id: str, caller: Caller) -> Outcome:
        await service.admit(caller)
        outcome = await service.payment(caller, parse_payment_id(payment_id))
        require_debit(caller, outcome.from_user_id)
        return outcome

    @router.post(
        "/transfers/{payment_id}/capture",
        response_model=models.Transfer,
        responses={202: _ACCEPTED[202], **_LOOKED_UP, **_REFUSED},
        summary="Pay what is held, all or a part",
    )
    async def capture(
        payment_id: Segment, body: models.CaptureBody | None = None, caller: Caller = payer
    ) -> Response:
        """The rest is released with it. A payment that is not held any more answers as it stands;
        one that cannot be captured now (frozen, under review) stays HELD and says why.
        """
        amount = None if body is None or body.amount is None else parse_rupees(body.amount)
        hold = await held(payment_id, caller)

        def start(done: Any) -> bytes:
            engine.capture(hold.payment_id, hold.to_user_id, amount, done)
            return hold.payment_id

        return _changed(await service.answers.of(start))

    @router.post(
        "/transfers/{payment_id}/release",
        response_model=models.Transfer,
        responses={**_LOOKED_UP, **_REFUSED},
        summary="Let a hold go",
    )
    async def release(payment_id: Segment, caller: Caller = payer) -> Response:
        """The payment becomes CANCELLED; one that is not held any more answers as it stands."""
        hold = await held(payment_id, caller)
        writer = engine.writers[engine.source_of(hold.payment_id)]
        writer.require_up()
        operation = Release(hold.payment_id, "released")
        return _changed(await service.answers.of(partial(writer.put, operation)))


def _changed(outcome: Outcome) -> Response:
    """A payment after a capture or a release: 200, or 202 while it is on its way."""
    if outcome.status == "FAILED" and not outcome.repeated:
        return problems.response(**refusal(outcome))
    status = HTTPStatus.ACCEPTED if outcome.status == "PENDING" else HTTPStatus.OK
    return answered(transfer_json(outcome), status)


async def _bulk(
    service: Service, caller: Caller, items: list[models.BulkItem], key: str | None
) -> list[dict[str, Any]]:
    requests: list[PaymentRequest | PaytmLabError] = []
    for place, item in enumerate(items):
        # No key of a caller's holds a line break, so these are nobody else's.
        item_key = item.idempotency_key or (f"{key}\n{place}" if key else None)
        try:
            request = payment_request(
                caller, item.from_user, item.to_user, item.amount, item.hold, item_key
            )
        except PaytmLabError as error:
            requests.append(error)
        else:
            requests.append(request)
        if place % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1:
            await asyncio.sleep(0)
    started = iter(await _started(service, [r for r in requests if isinstance(r, PaymentRequest)]))
    starts = [next(started) if isinstance(r, PaymentRequest) else r for r in requests]
    await service.answers.settled(*(each[0] for each in starts if isinstance(each, tuple)))
    outcomes = []
    for item, start in zip(items, starts, strict=True):
        outcomes.append(_item(start, item.hold))
        if len(outcomes) % ITEMS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return outcomes


async def _started(
    service: Service, requests: list[PaymentRequest]
) -> list[tuple[Answer, bytes] | PaytmLabError]:
    """Submit all, in order and in rounds; where no admission token is free, wait for one of this
    very bulk to come back.
    """
    started: list[tuple[Answer, bytes] | PaytmLabError] = []
    open_answers: deque[Answer] = deque()
    while len(started) < len(requests):
        size = ROUND_MAX if service.may_block() else ITEMS_AT_ONCE
        part = requests[len(started) : len(started) + size]
        expected = [service.answers.expected() for _ in part]
        try:
            begun = await service.submit_many(part, [done for _, done in expected])
        except Overloaded as error:
            while open_answers and open_answers[0].done():
                open_answers.popleft()
            if open_answers:
                await service.answers.settled(open_answers.popleft())
            else:
                started.append(error)
            continue
        for (answer, _), each in zip(expected, begun, strict=False):  # those that found room
            if isinstance(each, PaytmLabError):
                started.append(each)
            else:
                started.append((answer, each))
                open_answers.append(answer)
        await asyncio.sleep(0)
    return started


def _item(start: tuple[Answer, bytes] | PaytmLabError, hold: bool) -> dict[str, Any]:
    """As ``models.BulkOutcome``: what this payment alone would have been answered."""
    result: Result
    if isinstance(start, PaytmLabError):
        result = start
    elif start[0].done():
        result = start[0].result()
    else:
        result = OutcomeUnknown("no answer in time", payment_id=payment_id_text(start[1]))
    if isinstance(result, PaytmLabError):
        body = problems.of(result)
        return {"status_code": body.status, "problem": body.model_dump(exclude_none=True)}
    status = status_of(result, hold)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        body = problems.Problem(title=status.phrase, **refusal(result))
        return {"status_code": int(status), "problem": body.model_dump(exclude_none=True)}
    return {"status_code": int(status), "transfer": transfer_json(result)}
