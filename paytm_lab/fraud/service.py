"""The fraud service's HTTP: scores, decisions, rules, lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import Discriminator, Tag
from starlette.types import ASGIApp

from paytm_lab.core.ids import parse_payment_id, require_user_id
from paytm_lab.fraud import models, reading, service_lists, service_rules
from paytm_lab.fraud.parts import Parts
from paytm_lab.fraud.service_common import THREADS, WAITING_MAX, WITHIN_S, PaymentId, Service
from paytm_lab.web.app import make_app
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.problems import declared
from paytm_lab.web.tokens import Caller

NAME = "fraud"
FLAGGED_MAX = 500
_DOCS = """
Payments are scored as they are posted (gate `after`), or before (gate `before`): `allow`, `review`
or `block`, once each. `POST /score` says what would be decided about a payment that nobody makes:
it posts nothing and counts nothing.

A score is 0 to 1; the amount's is the amount over `certain_amount`. Rules and lists may be changed
while payments go on: every process judges by the new ones within a second. Each change has its
author and reason in a history that is only added to. Reviews are decided at the shard manager
(`/reviews`).
"""


_ONE, _SEVERAL = "a payment", "payments"


def _shape(body: Any) -> str:
    if isinstance(body, dict):
        return _SEVERAL if "payments" in body else _ONE
    return _SEVERAL if isinstance(body, models.Payments) else _ONE


ScoreBody = Annotated[
    Annotated[models.Payment, Tag(_ONE)] | Annotated[models.Payments, Tag(_SEVERAL)],
    Discriminator(_shape),
]


class _OfEitherShape(APIRoute):
    """Errors name the place in the body as it was sent, without the shape that it was taken for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                found = [{**each, "loc": _sent_at(each["loc"])} for each in error.errors()]
                raise RequestValidationError(found, body=error.body) from None

        return handled


def _sent_at(place: tuple[Any, ...]) -> tuple[Any, ...]:
    shaped = len(place) > 1 and place[1] in (_ONE, _SEVERAL)
    return (place[0], *place[2:]) if shaped else place


def make_service(parts: Parts, callers: Callers, metrics: Metrics, body_bytes_max: int) -> ASGIApp:
    """The ASGI application."""
    service = Service(parts, callers, BoundedPool(NAME, THREADS, WAITING_MAX, WITHIN_S))

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.pool.close()

    return make_app(
        NAME,
        "Which payments pass, which a person looks at, which are blocked, and why.",
        [
            _scores(service),
            _decisions(service),
            service_rules.make_router(service),
            service_lists.make_router(service),
        ],
        parts.checks,
        metrics=metrics,
        body_bytes_max=body_bytes_max,
        lifespan=life,
        docs=_DOCS,
    )


def _scores(service: Service) -> APIRouter:
    router = APIRouter(tags=["scores"], route_class=_OfEitherShape)
    parts = service.parts
    staff = service.staff()

    @router.post(
        "/score",
        response_model=models.Scores,
        responses=declared(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
        summary="What would be decided about payments, if they were made now",
    )
    async def score(body: ScoreBody, response: Response, caller: Caller = staff) -> Response:
        """One payment, or up to 500 as `{"payments": [...]}`; each as if it alone were made.
        Nothing is posted, and nothing counts for the velocity window. 503 while the scorer cannot
        judge.
        """
        payments = body.payments if isinstance(body, models.Payments) else [body]
        asked = [(each.from_user, each.to_user, each.amount) for each in payments]

        def scored() -> reading.Json:
            return reading.scores(parts, reading.candidates(asked, parts.clock.now_us()))

        return await service.said(scored, dict(response.headers))

    return router


def _decisions(service: Service) -> APIRouter:
    router = APIRouter(prefix="/decisions", tags=["decisions"])
    parts = service.parts
    somebody = service.somebody()
    found = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)

    @router.get(
        "/{payment_id}",
        response_model=models.Decision,
        responses=found,
        summary="What was decided about a payment",
    )
    async def of_payment(
        payment_id: PaymentId, response: Response, caller: Caller = somebody
    ) -> Response:
        """For reviewers and admins; its payer learns the decision and the score."""
        raw = parse_payment_id(payment_id)
        return await service.said(
            partial(reading.decision, parts, caller, raw), dict(response.headers)
        )

    @router.get(
        "",
        response_model=models.UserDecisions,
        responses=found,
        summary="A user's last score, and what was flagged of theirs",
    )
    async def of_user(
        user: Annotated[
            str, Query(max_length=256, json_schema_extra=dict(models.PATTERN_OF_USER_ID))
        ],
        response: Response,
        limit: Annotated[int, Query(ge=1, le=FLAGGED_MAX)] = 50,
        caller: Caller = somebody,
    ) -> Response:
        """Your own, or anybody's for reviewers and admins; to others the user does not exist."""
        require_user_id(user)
        return await service.said(
            partial(reading.user_decisions, parts, caller, user, limit),
            dict(response.headers),
        )

    return router
