"""A browser's session at the pages of a service: sign-in, renewal, sign-out.

The access token lies in a cookie: read by pages alone and for GET alone (``Callers.who(...,
page=True)``), out of reach of scripts, never sent along by another site's page, gone when the token
is. Who signs in by password also gets a cookie with the refresh token, by which the page gets the
next access token from the auth service, so that a dashboard stays open for as long as the session.
Cookies know no ports: whatever else listens on this machine's name gets them too, from this
browser; the one with the refresh token has the service's name, as such a token is used once
(``renewals``).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from paytm_lab.core.errors import (
    BadInput,
    Forbidden,
    Overloaded,
    PaytmLabError,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from paytm_lab.web.auth_client import USUAL_PLACE, Signed
from paytm_lab.web.callers import PAGE_COOKIE, Callers, address_of
from paytm_lab.web.pages import Pages, own_path, shown
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.sign_ins import SignIns

TOKEN_CHARACTERS_MAX = 3_900  # browsers drop a cookie of more than 4,096 bytes
RENEWALS_MAX = 1_000  # at once
OTHERS_WAIT_S_MAX = 6.0  # for another process that renews: the auth service answers within 5 s
LOOK_AGAIN_S = 0.05
_FORM = "application/x-www-form-urlencoded"
_LOG = logging.getLogger(__name__)


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    access_token: str
    then: str = "/"


class PasswordBody(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str
    password: str
    then: str = "/"


class PageSessions:
    """Sets and renews the cookies of one service's pages."""

    def __init__(self, pages: Pages, sign_ins: SignIns, pool: BoundedPool) -> None:
        self.auth = sign_ins.renewals.auth
        self.refresh_cookie = re.sub(r"\W+", "_", pages.service.lower()) + "_refresh"
        self._renewals, self._guesses = sign_ins
        self._pool = pool
        self._under_way: dict[str, asyncio.Task[Signed]] = {}

    async def login(self, body: PasswordBody, address: str) -> Signed:
        """RateLimited for an address that failed too often."""
        return await self._pool.run(self._login, body, address)

    def _login(self, body: PasswordBody, address: str) -> Signed:
        self._guesses.require_few(address)
        try:
            return self.auth.login(body.user_id, body.password)
        except (Unauthenticated, RateLimited):
            self._guesses.count(address)
            raise

    async def renewed(self, request: Request) -> Signed | None:
        """The tokens that follow; None where there is nothing to renew, or not any more. A token
        is used once, so requests that come with the same one share what it brought, whichever
        process they come to.
        """
        token = request.cookies.get(self.refresh_cookie)
        if not token or len(token) > TOKEN_CHARACTERS_MAX:
            return None
        if token not in self._under_way:
            if len(self._under_way) >= RENEWALS_MAX:
                raise Overloaded(
                    f"{RENEWALS_MAX} sessions are being renewed",
                    place="page sessions",
                    remedy="Load the page again in a moment.",
                )
            task = asyncio.create_task(self._renew(token))
            self._under_way[token] = task
            task.add_done_callback(partial(self._ended, token))
        try:
            return await asyncio.shield(self._under_way[token])
        except Unauthenticated:
            return None

    async def _renew(self, token: str) -> Signed:
        """Unavailable where another process is at it for too long: it may have died, and its claim
        ends by itself.
        """
        until_s = time.monotonic() + OTHERS_WAIT_S_MAX
        while True:
            signed = await self._pool.run(self._renewals.renew, token)
            if signed is not None:
                return signed
            if time.monotonic() >= until_s:
                raise Unavailable(
                    "this session is being renewed, and that takes long",
                    place="page sessions",
                    remedy="Load the page again in a moment.",
                    retry_after_s=OTHERS_WAIT_S_MAX,
                )
            await asyncio.sleep(LOOK_AGAIN_S)

    def _ended(self, token: str, task: asyncio.Task[Signed]) -> None:
        del self._under_way[token]
        if not task.cancelled():
            task.exception()  # whoever waited may have gone; it is no news then

    async def end(self, request: Request) -> None:
        """End the session at the auth service, if it was begun here and that can be reached."""
        if self.refresh_cookie not in request.cookies:
            return  # the token was handed over: its session is its owner's
        try:
            signed = await self.renewed(request)  # what the browser holds may end at any moment
            if signed is not None:
                await self._pool.run(self.auth.logout, signed.access_token)
            used = request.cookies[self.refresh_cookie]
            await self._pool.run(self._renewals.forget, used)
        except PaytmLabError as error:
            _LOG.warning("a session that was signed out goes on until its end: %s", error)

    def set(self, request: Request, answer: Response, signed: Signed) -> Response:
        set_cookie(request, answer, PAGE_COOKIE, signed.access_token, signed.access_expires_s)
        set_cookie(
            request, answer, self.refresh_cookie, signed.refresh_token, signed.session_expires_s
        )
        return answer


def set_cookie(request: Request, answer: Response, name: str, value: str, until_s: float) -> None:
    answer.set_cookie(
        name, value, max(0, int(until_s - time.time())),
        secure=request.url.scheme == "https", httponly=True, samesite="strict",
    )  # fmt: skip


def session_router(pages: Pages, callers: Callers, home: str) -> APIRouter:
    """``GET /sign-in``, ``POST /session``, ``POST /session/renew``, ``POST /sign-out``. ``home``:
    the page that a sign-in leads to where no other was asked for. By password where ``callers``
    know an auth service.
    """
    router = pages.router()
    sessions: PageSessions | None = None
    pages.globals["auth_place"] = USUAL_PLACE
    if callers.sign_ins is not None:
        pages.globals["auth_place"] = callers.sign_ins.renewals.auth.usual_place
        sessions = PageSessions(pages, callers.sign_ins, callers.pool)
        pages.globals["by_password"] = True
        pages.renew = _renewal(sessions, home)

    @router.get("/sign-in", summary="A form for user and password, or an access token")
    async def sign_in() -> HTMLResponse:
        return pages.sign_in(HTTPStatus.OK, home)

    @router.post(
        "/session",
        summary="Sign this browser in",
        status_code=HTTPStatus.SEE_OTHER,
        response_class=Response,
        openapi_extra=_DESCRIBED,
        responses={
            204: {"description": "Signed in (to a JSON body)"},
            303: {"description": "Signed in; on to the page (to a form)"},
            **shown(HTTPStatus.TOO_MANY_REQUESTS),
        },
    )
    async def begin(request: Request) -> Response:
        """By user and password, which the auth service checks, or by an access token, which lasts
        for its few minutes. Sets cookies that this service's pages take in place of the
        Authorization header.
        """
        _require_own(request)
        as_json = request.headers.get("content-type", "").startswith("application/json")
        body = _read(await request.body(), as_json)
        answer = (
            Response(status_code=HTTPStatus.NO_CONTENT)
            if as_json
            else RedirectResponse(own_path(body.then, home), HTTPStatus.SEE_OTHER)
        )
        try:
            if isinstance(body, PasswordBody):
                if sessions is None:
                    raise Unauthenticated("no auth service is known here", remedy="Use a token.")
                return sessions.set(
                    request, answer, await sessions.login(body, address_of(request))
                )
            token = body.access_token.strip()
            if len(token) > TOKEN_CHARACTERS_MAX:
                raise Unauthenticated("the access token is too long", remedy="Log in.")
            caller = await callers.caller_of_token(token)
        except Unauthenticated as error:
            return pages.sign_in(HTTPStatus.UNAUTHORIZED, body.then, error.message)
        set_cookie(request, answer, PAGE_COOKIE, token, caller.expires_s)
        return answer

    _add_sign_out(router, sessions)
    _add_renewal(router, sessions)
    return router


def _renewal(sessions: PageSessions, home: str) -> Any:
    async def renew(request: Request) -> Response | None:
        """Back to the same page, with new cookies."""
        signed = await sessions.renewed(request)
        if signed is None:
            return None
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        answer = RedirectResponse(own_path(here, home), HTTPStatus.SEE_OTHER)
        return sessions.set(request, answer, signed)

    return renew


def _add_sign_out(router: APIRouter, sessions: PageSessions | None) -> None:
    @router.post(
        "/sign-out",
        summary="Take the access token from this browser",
        status_code=HTTPStatus.SEE_OTHER,
        response_class=Response,
        responses={303: {"description": "Signed out; on to the sign-in"}},
    )
    async def end(request: Request) -> Response:
        """A session begun here by password ends; one whose token was handed over goes on until
        `POST /logout` of the auth service.
        """
        _require_own(request)
        answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(PAGE_COOKIE, httponly=True, samesite="strict")
        if sessions is not None:
            await sessions.end(request)
            answer.delete_cookie(sessions.refresh_cookie, httponly=True, samesite="strict")
        return answer


def _add_renewal(router: APIRouter, sessions: PageSessions | None) -> None:
    @router.post(
        "/session/renew",
        summary="Go on with this browser's session",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
    )
    async def renew(request: Request) -> Response:
        """What an open page asks when its access token has ended."""
        _require_own(request)
        signed = None if sessions is None else await sessions.renewed(request)
        if sessions is None or signed is None:
            raise Unauthenticated("this browser's session has ended", remedy="Sign in.")
        return sessions.set(request, Response(status_code=HTTPStatus.NO_CONTENT), signed)


_THEN = {"type": "string", "description": "A path of this service to go on to."}
_FIELDS = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "user_id": {"type": "string"},
                "password": {"type": "string", "format": "password"},
                "then": _THEN,
            },
            "required": ["user_id", "password"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "access_token": {"type": "string", "maxLength": TOKEN_CHARACTERS_MAX},
                "then": _THEN,
            },
            "required": ["access_token"],
            "additionalProperties": False,
        },
    ]
}
_DESCRIBED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": _FIELDS} for kind in ("application/json", _FORM)},
    }
}


def _read(body: bytes, as_json: bool) -> TokenBody | PasswordBody:
    """BadInput for what is not as described; never says what it was, as it may be a secret."""
    try:
        if as_json:
            given: Any = msgspec.json.decode(body)
        else:
            text = body.decode()
            parsed = parse_qs(text, keep_blank_values=True, max_num_fields=8, errors="strict")
            if any(len(values) != 1 for values in parsed.values()):
                raise ValueError
            given = {name: values[0] for name, values in parsed.items()}
        if "password" in given:
            return msgspec.convert(given, PasswordBody)
        return msgspec.convert(given, TokenBody)
    except (msgspec.MsgspecError, ValueError, TypeError):
        raise BadInput(
            "the form is not as described",
            place="body",
            remedy="Send the fields user_id and password, or access_token.",
        ) from None


def _require_own(request: Request) -> None:
    """Forbidden for a form that another site's page sends: it would sign its reader in as somebody
    else.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden(
            "another site's page sent this form", place="header.Origin", remedy="Use /sign-in."
        )
