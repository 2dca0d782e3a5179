"""What the routers of the fraud service share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import Depends, Path, Response

from paytm_lab.fraud import models
from paytm_lab.fraud.parts import Parts
from paytm_lab.fraud.reading import Json
from paytm_lab.web.callers import Callers
from paytm_lab.web.paths import Segment
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.scopes import ADMIN, REVIEW

UserId = Annotated[Segment, Path(json_schema_extra=dict(models.PATTERN_OF_USER_ID))]
PaymentId = Annotated[Segment, Path(json_schema_extra=dict(models.PATTERN_OF_PAYMENT_ID))]
THREADS, WAITING_MAX, WITHIN_S = 8, 256, 10.0


class Service(NamedTuple):
    parts: Parts
    callers: Callers
    pool: BoundedPool

    async def said(
        self, call: Callable[[], Json], headers: Mapping[str, str] | None = None
    ) -> Response:
        """The answer of a call that blocks; written as JSON in its thread too."""
        body = await self.pool.run(lambda: msgspec.json.encode(call()))
        return Response(body, headers=headers, media_type="application/json")

    def staff(self) -> Any:
        return Depends(self.callers.who(REVIEW, ADMIN))

    def admin(self) -> Any:
        """Who changes what becomes of money: their session must be known not to have ended."""
        return Depends(self.callers.who(ADMIN, moves_money=True))

    def somebody(self) -> Any:
        return Depends(self.callers.who())
