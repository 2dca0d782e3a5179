"""The lists of frozen users and mules over HTTP."""

from __future__ import annotations

from datetime import date
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import require_user_id
from paytm_lab.fraud import models, reading
from paytm_lab.fraud.lists import day_of
from paytm_lab.fraud.service_common import Service, UserId
from paytm_lab.web.problems import declared
from paytm_lab.web.tokens import Caller

PAGE_MAX = 1_000
_READ = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def make_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/lists", tags=["lists"])
    _add_reading(router, service)
    _add_users(router, service)
    return router


def _add_reading(router: APIRouter, service: Service) -> None:
    parts = service.parts
    staff = service.staff()

    @router.get(
        "/{list_name}",
        response_model=models.ListPage,
        responses=_READ,
        summary="The users on a list, a page at a time",
    )
    async def users(
        list_name: models.ListName,
        response: Response,
        after: Annotated[
            str, Query(max_length=256, description="Only ids that come after this one.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
        caller: Caller = staff,
    ) -> Response:
        """As this process judges by it; changes made elsewhere are there within seconds."""
        return await service.said(
            partial(reading.list_page, parts, list_name, after, limit),
            dict(response.headers),
        )

    @router.get(
        "/{list_name}/changes",
        response_model=models.ListChanges,
        responses=_READ,
        summary="Who was put on a list or taken off it, on one day",
    )
    async def changes(
        list_name: models.ListName,
        response: Response,
        day: Annotated[
            str,
            Query(
                max_length=32,
                description="In UTC, as 2026-01-31; today if left.",
                json_schema_extra={"format": "date"},
            ),
        ] = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
        caller: Caller = staff,
    ) -> Response:
        wanted = _day(day) if day else day_of(parts.clock.now_us())
        return await service.said(
            partial(reading.list_changes, parts, list_name, wanted, limit),
            dict(response.headers),
        )


def _add_users(router: APIRouter, service: Service) -> None:
    parts = service.parts
    staff, admin = service.staff(), service.admin()

    @router.get(
        "/{list_name}/users/{user_id}",
        response_model=models.Listed,
        responses=_READ,
        summary="Whether a user is on a list, and who put them there",
    )
    async def user(
        list_name: models.ListName, user_id: UserId, response: Response, caller: Caller = staff
    ) -> Response:
        require_user_id(user_id)
        return await service.said(
            partial(reading.listed, parts, list_name, user_id), dict(response.headers)
        )

    @router.put(
        "/{list_name}/users/{user_id}",
        response_model=models.Listed,
        responses=_READ | declared(HTTPStatus.BAD_REQUEST),
        summary="Put a user on a list, or take them off",
    )
    async def change(
        list_name: models.ListName,
        user_id: UserId,
        body: models.ListedBody,
        caller: Caller = admin,
    ) -> Response:
        """The list `frozen` blocks a user's payments; to freeze the account itself, ask the shard
        manager (`POST /accounts/{user_id}/freeze`). The user need not have an account yet.
        """
        require_user_id(user_id)
        return await service.said(
            partial(
                reading.change_list, parts, list_name, user_id, body.listed, body.reason,
                caller.user_id,
            )
        )  # fmt: skip


def _day(text: str) -> str:
    """The same text, if it is a day as 2026-01-31; BadInput otherwise."""
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise BadInput(f"{text!r:.80} is not a day", place="day", remedy="Write it as 2026-01-31.")
