"""Accounts over HTTP: made, looked at, frozen; statements page by page."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from paytm_lab.core.errors import Conflict, Overloaded, PaytmLabError
from paytm_lab.core.ids import require_user_id
from paytm_lab.core.money import format_rupees, parse_rupees
from paytm_lab.ledger.operations import SetAccountState
from paytm_lab.shard_manager import models, reading
from paytm_lab.shard_manager.access import require_account_read
from paytm_lab.shard_manager.service_common import Key, Service, answered
from paytm_lab.web.paths import Segment
from paytm_lab.web.problems import declared
from paytm_lab.web.scopes import ACCOUNT_CREATE, ADMIN, REVIEW
from paytm_lab.web.tokens import Caller

STATEMENT_ROWS_MAX = 200
_logger = logging.getLogger(__name__)
_AsOf = Annotated[
    str | None,
    Query(
        max_length=64,
        description="A time past (RFC 3339, with an offset): the answer never changes.",
        examples=["2026-01-31T23:59:59Z"],
    ),
]
_FOUND = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
_CHANGED = declared(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT,
    HTTPStatus.GATEWAY_TIMEOUT,
)  # fmt: skip


def make_router(service: Service) -> APIRouter:
    router = APIRouter(tags=["accounts"])
    creator: Any = Depends(service.callers.who(ACCOUNT_CREATE, moves_money=True))
    parts = service.parts

    @router.post(
        "/create_account/{user_id}/{balance}",
        status_code=201,
        response_model=models.Created,
        responses={
            200: {"model": models.Created, "description": "Made before, under the same key"},
            **_CHANGED,
        },
        summary="Make an account with an opening balance",
    )
    async def create_account(
        user_id: Segment, balance: Segment, key: Key = None, caller: Caller = creator
    ) -> Response:
        """The opening balance (rupees, may be 0) is a payment from `system:funding`. An account
        that exists is a 409, unless the same caller made it with the same key and balance.
        """
        paise = parse_rupees(balance)

        def start(done: Any) -> None:
            parts.engine.submit_account(user_id, paise, done, key=key or "", subject=caller.user_id)

        outcome = await service.answers.of(start)
        with suppress(Overloaded):  # others find the route without it
            await service.work.run(parts.routes.publish, parts.engine.router, [user_id])
        body = {
            "user_id": user_id,
            "balance": format_rupees(outcome.amount),
            "balance_paise": outcome.amount,
            "shard": outcome.from_shard,
            "repeated": outcome.repeated,
        }
        status = HTTPStatus.OK if outcome.repeated else HTTPStatus.CREATED
        return answered(body, status)

    _add_reads(router, service)
    _add_freezing(router, service)
    return router


def _add_reads(router: APIRouter, service: Service) -> None:
    reader: Any = Depends(service.callers.who())
    parts = service.parts

    def checked(user_id: str, caller: Caller, as_of: str | None) -> int | None:
        require_user_id(user_id)
        require_account_read(caller, user_id)
        return None if as_of is None else reading.parse_time(as_of, parts.clock.now_us())

    @router.get(
        "/accounts/{user_id}",
        response_model=models.Account,
        responses=_FOUND,
        summary="An account: balance, held, available",
    )
    async def account(
        user_id: Segment, response: Response, as_of: _AsOf = None, caller: Caller = reader
    ) -> Response:
        """Your own, or anybody's for those who may see all; to others it does not exist."""
        stamp_us = checked(user_id, caller, as_of)
        found = await service.reads_of_user(user_id).run(reading.account, parts, user_id, stamp_us)
        return answered(found, headers=dict(response.headers))

    @router.get(
        "/accounts/{user_id}/statement",
        response_model=models.Statement,
        responses=_FOUND,
        summary="An account's entries, a page at a time",
    )
    async def statement(
        user_id: Segment,
        response: Response,
        as_of: _AsOf = None,
        cursor: Annotated[str, Query(max_length=40, description="Of the page before.")] = "",
        limit: Annotated[int, Query(ge=1, le=STATEMENT_ROWS_MAX)] = 50,
        caller: Caller = reader,
    ) -> Response:
        """Oldest first, each with the balance after it. Pages do not shift while payments go on."""
        stamp_us = checked(user_id, caller, as_of)
        reading.require_cursor(cursor)
        found = await service.reads_of_user(user_id).run(
            reading.statement, parts, user_id, stamp_us, cursor, limit
        )
        return answered(found, headers=dict(response.headers))


def _add_freezing(router: APIRouter, service: Service) -> None:
    keeper: Any = Depends(service.callers.who(ADMIN, REVIEW, moves_money=True))
    parts = service.parts

    async def set_state(user_id: str, state: str, caller: Caller) -> Response:
        require_user_id(user_id)
        # An account that is not there is a 404, as everywhere.
        await service.reads_of_user(user_id).run(reading.account_view, parts, user_id)
        writer = parts.engine.writers[parts.engine.router.locate(user_id)[1]]
        writer.require_up()
        change = SetAccountState(user_id, state)
        outcome = await service.answers.of(partial(writer.put, change))
        if outcome.reason:
            raise Conflict(f"the account is {outcome.status} for good", place=user_id)
        try:
            await service.work.run(parts.on_state, user_id, state, caller.user_id)
        except PaytmLabError as error:
            # The ledger is the authority, and it knows; the scorer learns of it with the next.
            _logger.warning("the fraud side was not told of a freeze: %s", error)
        return answered(await service.reads_of_user(user_id).run(reading.account, parts, user_id))

    @router.post(
        "/accounts/{user_id}/freeze",
        response_model=models.Account,
        responses={**_FOUND, **_CHANGED},
        summary="Refuse an account's debits",
    )
    async def freeze(
        user_id: Segment, body: models.FreezeBody | None = None, caller: Caller = keeper
    ) -> Response:
        """Debits and captures (with `credits_too`, credits) are refused; refunds still apply."""
        both = body is not None and body.credits_too
        return await set_state(user_id, "frozen_all" if both else "frozen", caller)

    @router.post(
        "/accounts/{user_id}/unfreeze",
        response_model=models.Account,
        responses={**_FOUND, **_CHANGED},
        summary="Let a frozen account pay again",
    )
    async def unfreeze(user_id: Segment, caller: Caller = keeper) -> Response:
        return await set_state(user_id, "active", caller)
