"""The notification service over HTTP: preferences, contacts, inboxes, dead letters, and the lab's
own provider of SMS and push.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.responses import HTMLResponse
from pydantic.json_schema import SkipJsonSchema
from starlette.types import ASGIApp

from paytm_lab.core.errors import NotFound
from paytm_lab.core.ids import require_user_id
from paytm_lab.notifications import models, reading
from paytm_lab.notifications.contacts import Contact
from paytm_lab.notifications.counting import count_into
from paytm_lab.notifications.dead_letters import DAYS_MAX, days_back
from paytm_lab.notifications.parts import Parts
from paytm_lab.notifications.quiet import ZONE
from paytm_lab.notifications.user_inbox import PLACE_CHARACTERS_MAX
from paytm_lab.notifications.webhook import IDEMPOTENCY_KEY, SIGNATURE
from paytm_lab.web.app import make_app
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.page_sessions import session_router
from paytm_lab.web.pages import Pages
from paytm_lab.web.paths import Segment
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.problems import declared
from paytm_lab.web.query import each_once
from paytm_lab.web.scopes import ADMIN
from paytm_lab.web.tokens import Caller

NAME = "notification"
THREADS, WAITING_MAX, ANSWER_S_MAX = 8, 512, 10.0
PAGE_DEFAULT, PAGE_MAX = 50, 200
_TEMPLATES = Path(__file__).parent / "templates_html"
_UNAUTHORIZED = declared(HTTPStatus.UNAUTHORIZED)
_OWN = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
_OWN_CHANGED = _OWN | declared(HTTPStatus.BAD_REQUEST)
_STAFF = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_DOCS = """
Who is told what, by which channel, and when not. Everybody reads and changes their own; with the
permission `admin` also others' (`user_id`). What one may not see answers like what is not there.

For people: [/inbox](/inbox), after [/sign-in](/sign-in).

SMS and push go to a provider by HTTP, one `POST` each, signed: `Paytm-Lab-Signature` is
`t=SECONDS,v1=HEX`, HMAC-SHA256 of `SECONDS.BODY` under the shared secret; `Idempotency-Key` is the
notification's id. `/provider/{channel}` is such a provider, for the lab.
"""

Channel = Literal["sms", "push"]
UserId = Annotated[
    str | SkipJsonSchema[None],
    Query(max_length=256, description="Somebody else's, with the permission admin."),
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Cursor = Annotated[
    str | SkipJsonSchema[None],
    Query(max_length=PLACE_CHARACTERS_MAX, description="`next_cursor` of the page before."),
]


class _Service:
    def __init__(self, parts: Parts, callers: Callers) -> None:
        self.parts = parts
        self.callers = callers
        self.pool = BoundedPool("notifications", THREADS, WAITING_MAX, ANSWER_S_MAX)
        self.pages = Pages(_TEMPLATES, "paytm_lab notifications")

    def whose(self, caller: Caller, user_id: str | None) -> str:
        """Whose things this is about. NotFound where they are none of the caller's business."""
        if user_id is None or user_id == caller.user_id:
            return caller.user_id
        if ADMIN not in caller.scopes:
            raise NotFound(
                f"there are no notifications of {user_id!r:.80}", remedy="Leave user_id out."
            )
        return user_id if user_id == self.parts.operators else require_user_id(user_id)


def make_service(parts: Parts, callers: Callers, metrics: Metrics, body_bytes_max: int) -> ASGIApp:
    """The ASGI application."""
    service = _Service(parts, callers)
    count_into(metrics.registry, parts.delivery)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.pool.close()

    return make_app(
        NAME,
        "Payment confirmations, fraud and system alerts by email, SMS and push.",
        [
            _inbox(service),
            _choices(service),
            _dead_letters(service),
            _provider(service),
            _pages(service),
            session_router(service.pages, callers, "/inbox"),
        ],
        parts.checks,
        metrics=metrics,
        body_bytes_max=body_bytes_max,
        lifespan=life,
        home="/inbox",
        docs=_DOCS,
    )


def _inbox(service: _Service) -> APIRouter:
    router = APIRouter(tags=["inbox"], dependencies=[Depends(each_once)])
    anybody: Any = Depends(service.callers.who())
    parts, pool = service.parts, service.pool

    @router.get("/notifications", responses=_OWN, summary="What was sent, the newest first")
    async def notifications(
        user_id: UserId = None,
        limit: Limit = PAGE_DEFAULT,
        cursor: Cursor = None,
        caller: Caller = anybody,
    ) -> models.Notifications:
        """Also what waits, and what could not be delivered. The last thirteen months."""
        user = service.whose(caller, user_id)
        page = await pool.run(parts.inbox.page, user, limit, cursor)
        return models.Notifications(
            user_id=user,
            notifications=[reading.notification(row) for row in page.rows],
            next_cursor=page.next_cursor,
        )

    return router


def _choices(service: _Service) -> APIRouter:
    router = APIRouter(tags=["choices"], dependencies=[Depends(each_once)])
    anybody: Any = Depends(service.callers.who())
    # What changes something is not done for a session that may have ended.
    writer: Any = Depends(service.callers.who(moves_money=True))
    parts, pool = service.parts, service.pool

    @router.get("/preferences", responses=_OWN, summary="By which channels one is told what")
    async def preferences(user_id: UserId = None, caller: Caller = anybody) -> models.Preferences:
        user = service.whose(caller, user_id)
        return reading.preferences(user, await pool.run(parts.preferences.stored, user))

    @router.put("/preferences", responses=_OWN_CHANGED, summary="Choose channels and quiet hours")
    async def choose(
        body: models.PreferencesBody, user_id: UserId = None, caller: Caller = writer
    ) -> models.Preferences:
        """In place of all that was chosen before. It counts within ten seconds."""
        user = service.whose(caller, user_id)
        choice = reading.choice_of(body)
        await pool.run(parts.preferences.store, user, choice)
        return reading.preferences(user, choice)

    @router.get("/contacts", responses=_OWN, summary="Where one is reached")
    async def contacts(user_id: UserId = None, caller: Caller = anybody) -> models.Contacts:
        user = service.whose(caller, user_id)
        found = (await pool.run(parts.contacts.of, [user])).get(user, Contact())
        return models.Contacts(user_id=user, **found._asdict())

    @router.put("/contacts", responses=_OWN_CHANGED, summary="Say where one is reached")
    async def reach(
        body: models.ContactsBody, user_id: UserId = None, caller: Caller = writer
    ) -> models.Contacts:
        """In place of all that was said before."""
        user = service.whose(caller, user_id)
        contact = Contact(body.email, body.phone, body.push_token)
        await pool.run(parts.contacts.store, user, contact)
        return models.Contacts(user_id=user, **contact._asdict())

    return router


def _dead_letters(service: _Service) -> APIRouter:
    router = APIRouter(tags=["dead letters"], dependencies=[Depends(each_once)])
    admin: Any = Depends(service.callers.who(ADMIN))
    writer: Any = Depends(service.callers.who(ADMIN, moves_money=True))
    parts, pool = service.parts, service.pool

    @router.get("/dead-letters", responses=_STAFF, summary="What was given up on a day")
    async def dead_letters(
        days_ago: Annotated[int, Query(ge=0, lt=DAYS_MAX, description="UTC days.")] = 0,
        limit: Limit = PAGE_DEFAULT,
        cursor: Cursor = None,
        caller: Caller = admin,
    ) -> models.DeadLetters:
        day = days_back(parts.clock.now_us(), days_ago + 1)[-1]
        found = await pool.run(parts.dead_letters.of_day, day, cursor or "", limit)
        last = found[-1].parcel.id if len(found) == limit else None
        letters = [reading.dead_letter(letter) for letter in found]
        return models.DeadLetters(day=day, dead_letters=letters, next_cursor=last)

    @router.post(
        "/dead-letters/{notification_id}/retry",
        status_code=HTTPStatus.ACCEPTED,
        responses=_STAFF | declared(HTTPStatus.NOT_FOUND),
        summary="Try it again",
    )
    async def retry(notification_id: Segment, caller: Caller = writer) -> models.Retried:
        """It is sent within seconds, by the rules of a new one; see the user's inbox."""
        await pool.run(parts.dead_letters.retry, notification_id)
        return models.Retried(notification_id=notification_id)

    return router


def _provider(service: _Service) -> APIRouter:
    router = APIRouter(tags=["the lab's provider"], dependencies=[Depends(each_once)])
    admin: Any = Depends(service.callers.who(ADMIN))
    provider, pool = service.parts.provider, service.pool

    @router.post(
        "/provider/{channel}",
        responses=_UNAUTHORIZED,
        summary="Take a signed SMS or push",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    )
    async def take(
        channel: Channel,
        request: Request,
        signed: Annotated[str, Header(alias=SIGNATURE, max_length=200)] = "",
        key: Annotated[str, Header(alias=IDEMPOTENCY_KEY, max_length=200)] = "",
    ) -> models.Taken:
        """Nothing leaves the lab: it is kept to be looked at."""
        new = await pool.run(provider.take, channel, signed, key, await request.body())
        return models.Taken(notification_id=key, repeated=not new)

    @router.get("/provider/messages", responses=_STAFF, summary="What the provider took last")
    async def messages(
        limit: Limit = PAGE_DEFAULT, caller: Caller = admin
    ) -> models.ProviderMessages:
        """Whichever process took it; of the last day, at most 1,000 are kept."""
        taken = await pool.run(provider.messages, limit)
        return models.ProviderMessages(messages=[reading.provider_message(each) for each in taken])

    return router


def _pages(service: _Service) -> APIRouter:
    router = service.pages.router()
    router.dependencies.append(Depends(each_once))
    reader: Any = Depends(service.callers.who(page=True))
    parts, pool = service.parts, service.pool

    @router.get("/inbox", summary="The inbox, for people")
    async def inbox(
        user_id: UserId = None, cursor: Cursor = None, caller: Caller = reader
    ) -> HTMLResponse:
        user = service.whose(caller, user_id)
        page = await pool.run(parts.inbox.page, user, PAGE_DEFAULT, cursor)
        choice = await pool.run(parts.preferences.stored, user)
        zone = choice.quiet.zone if choice.quiet else ZONE
        own = {} if user == caller.user_id else {"user_id": user}
        older = urlencode({**own, "cursor": page.next_cursor}) if page.next_cursor else ""
        return service.pages.page(
            "inbox.html",
            user_id=user,
            signed_in=caller.user_id,
            admin=ADMIN in caller.scopes,
            operators=parts.operators,
            rows=[reading.shown(row, zone) for row in page.rows],
            zone=zone,
            quiet=reading.preferences(user, choice).quiet_hours,
            later_page=cursor is not None,
            first_page=f"/inbox?{urlencode(own)}" if own else "/inbox",
            older=f"/inbox?{older}" if older else "",
        )

    return router
