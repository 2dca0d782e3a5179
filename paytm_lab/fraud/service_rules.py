"""Rules and thresholds over HTTP: read, changed, and who changed them."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from paytm_lab.core.errors import BadInput
from paytm_lab.core.money import parse_rupees, require_payable
from paytm_lab.fraud import models, reading
from paytm_lab.fraud.service_common import Service
from paytm_lab.web.problems import declared
from paytm_lab.web.tokens import Caller

HISTORY_MAX = 500
_READ = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def make_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/rules", tags=["rules"])
    parts = service.parts
    staff, admin = service.staff(), service.admin()

    @router.get(
        "", response_model=models.RulesNow, responses=_READ, summary="The rules that are in force"
    )
    async def rules(response: Response, caller: Caller = staff) -> Response:
        def now() -> reading.Json:
            return reading.rules_now(parts, parts.book.read())

        return await service.said(now, dict(response.headers))

    @router.put(
        "",
        response_model=models.RulesNow,
        responses=_READ | declared(HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT),
        summary="Change rules, all or some of them",
    )
    async def change(body: models.RulesBody, caller: Caller = admin) -> Response:
        """`version` is the one that this is a change of: 409 where somebody else was faster. Every
        scorer has the new rules within a second. What changes nothing makes no new version.
        """
        values = _values(body.rules)

        def changed() -> reading.Json:
            made = parts.book.change(body.version, values, caller.user_id, body.reason)
            return reading.rules_now(parts, made)

        return await service.said(changed)

    @router.get(
        "/history",
        response_model=models.RulesHistory,
        responses=_READ,
        summary="Every version of the rules: who made it, when and why",
    )
    async def history(
        response: Response,
        before: Annotated[
            int | None,
            Query(ge=1, le=models.VERSION_MAX, description="Only versions below this one."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 50,
        caller: Caller = staff,
    ) -> Response:
        return await service.said(
            partial(reading.rules_history, parts, before, limit), dict(response.headers)
        )

    return router


def _values(rules: models.RuleValues) -> dict[str, Any]:
    """What was given, under the names of ``RuleSettings``."""
    given = {name: getattr(rules, name) for name in rules.model_fields_set}
    if not given:
        raise BadInput(
            "no rule is named", place="body.rules", remedy="Name those that are to change."
        )
    amount = given.pop("certain_amount", None)
    if amount is not None:
        given["certain_paise"] = require_payable(parse_rupees(amount))
    return given
