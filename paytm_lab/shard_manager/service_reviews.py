"""Reviews over HTTP: what the fraud side flagged, and what a person decides about it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response

from paytm_lab.core.errors import Forbidden, NotFound
from paytm_lab.core.ids import parse_payment_id, payment_id_text
from paytm_lab.ledger import queries
from paytm_lab.ledger.operations import Outcome
from paytm_lab.shard_manager import models, reading
from paytm_lab.shard_manager.reading import transfer_json
from paytm_lab.shard_manager.service_common import Service, answered
from paytm_lab.web.paths import Segment
from paytm_lab.web.problems import declared
from paytm_lab.web.scopes import REVIEW
from paytm_lab.web.tokens import Caller

REVIEWS_MAX = 1_000
_DECIDED = declared(
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT,
    HTTPStatus.GATEWAY_TIMEOUT,
)  # fmt: skip


def make_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/reviews", tags=["reviews"])
    reviewer: Any = Depends(service.callers.who(REVIEW))
    judge: Any = Depends(service.callers.who(REVIEW, moves_money=True))
    reviews = service.parts.reviews

    def listed(state: str, limit: int) -> dict[str, Any]:
        rows = reviews.list(None if state == "all" else state, limit)
        return {"reviews": [reading.review_json(row) for row in rows]}

    @router.get(
        "",
        response_model=models.Reviews,
        responses=declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
        summary="Reviews, oldest first",
    )
    async def list_reviews(
        response: Response,
        state: Literal["open", "approved", "rejecting", "rejected", "all"] = "open",
        limit: Annotated[int, Query(ge=1, le=REVIEWS_MAX)] = 100,
        caller: Caller = reviewer,
    ) -> Response:
        found = await service.work.run(listed, state, limit)
        return answered(found, headers=dict(response.headers))

    @router.post(
        "/{payment_id}/approve",
        response_model=models.Decided,
        responses=_DECIDED,
        summary="Let a payment stand",
    )
    async def approve(payment_id: Segment, caller: Caller = judge) -> Response:
        """One that is held is captured. Repeating it answers the same."""
        return await decide(payment_id, caller, "approved", reviews.approve)

    @router.post(
        "/{payment_id}/reject",
        response_model=models.Decided,
        responses=_DECIDED,
        summary="Undo a payment",
    )
    async def reject(payment_id: Segment, caller: Caller = judge) -> Response:
        """One that is held is cancelled. One that is completed stays so and is refunded by a new
        payment, which takes what its receiver has; the rest comes from `system:receivable`.
        """
        return await decide(payment_id, caller, "rejected", reviews.reject)

    async def decide(
        payment_id: str, caller: Caller, word: str, act: Callable[[bytes, str], Outcome]
    ) -> Response:
        raw = parse_payment_id(payment_id)

        def decided() -> Outcome:
            _require_review(service, caller, raw)
            return act(raw, caller.user_id)

        outcome = await service.work.run(decided)
        return answered(
            {
                "payment_id": payment_id_text(raw),
                "review": word,
                "transfer": transfer_json(outcome),
            }
        )

    return router


def _require_review(service: Service, caller: Caller, payment_id: bytes) -> None:
    """NotFound for a payment without review; Forbidden for one of the reviewer's own."""
    parts = service.parts
    payment = reading.payment(parts, caller, payment_id)
    shard = parts.engine.source_of(payment_id)
    if queries.review_state(parts.databases[shard], payment_id) is None:
        raise NotFound(
            f"payment {payment.payment} has no review", remedy="List the reviews: GET /reviews."
        )
    if caller.user_id in (payment.from_user_id, payment.to_user_id):
        raise Forbidden(
            "nobody decides about a payment of their own", remedy="Ask another reviewer."
        )
