"""The shard manager's HTTP service: payments, accounts, holds, reviews, figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from starlette.types import ASGIApp

from paytm_lab.config import Settings
from paytm_lab.shard_manager import (
    models,
    service_accounts,
    service_hot,
    service_reviews,
    service_transfers,
)
from paytm_lab.shard_manager.figures import Figures
from paytm_lab.shard_manager.parts import Parts
from paytm_lab.shard_manager.service_common import Service, answered
from paytm_lab.web.app import make_app
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.problems import declared
from paytm_lab.web.scopes import ANALYTICS_READ
from paytm_lab.web.tokens import Caller

NAME = "shard_manager"
_DOCS = """
Amounts are rupees as text (`"1250.75"`) and whole paise beside it; no float holds money.

**Pay safely.** Send an `Idempotency-Key` with every payment. After 504, 503, 429 or a lost
connection repeat the request with the same key: it never pays twice, and answers as the first did.

| status | a payment |
| --- | --- |
| 201 | is made (COMPLETED), or held as you asked |
| 200 | was made before, under the same key |
| 202 | is on its way to another shard (PENDING), or held for a review: ask for its `Location` |
| 409 | the key stands for another request |
| 422 | is refused; `code` says why (`insufficient_funds`, `unknown_receiver`, ...) |
| 429, 503 | was not tried; wait `Retry-After` seconds |
| 504 | may have been made (`outcome_unknown`): repeat with the same key |

What a 201 said can be read at once. Ids in a path are percent-encoded, `/` as `%2F`.
"""


def make_service(parts: Parts, callers: Callers, metrics: Metrics, settings: Settings) -> ASGIApp:
    """The ASGI application."""
    service = Service(parts, callers, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.close()

    return make_app(
        NAME,
        "Payments between users whose accounts lie on several shards.",
        [
            service_transfers.make_router(service),
            service_accounts.make_router(service),
            service_reviews.make_router(service),
            _figures(service),
        ],
        parts.checks,
        metrics=metrics,
        body_bytes_max=settings.body_bytes_max,
        lifespan=life,
        docs=_DOCS,
        around=lambda app: service_hot.HotTransfer(app, service),
    )


def _figures(service: Service) -> APIRouter:
    router = APIRouter(tags=["analytics"])
    figures = Figures(service.parts)
    reader: Any = Depends(service.callers.who(ANALYTICS_READ))

    @router.get(
        "/analytics",
        response_model=models.Analytics,
        responses=declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
        summary="Figures of every shard",
    )
    async def analytics(response: Response, caller: Caller = reader) -> Response:
        """Counted anew after a second; less often where counting takes long."""
        found = await service.work.run(figures.read)
        return answered(found, headers=dict(response.headers))

    return router
