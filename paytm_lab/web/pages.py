"""Pages for people: server-rendered, escaped, under a strict content security policy.

A browser cannot be told to send an access token by hand. So a page takes it from a cookie that
``POST /session`` sets: read by pages alone and for GET alone (``Callers.who(..., page=True)``),
out of reach of scripts, never sent along by another site's page, gone when the token is. Cookies
know no ports: whatever else listens on this machine's name gets it too, from this browser.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Coroutine, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from paytm_lab.core.errors import BadInput, Forbidden, PaytmLabError, Unauthenticated
from paytm_lab.web.callers import PAGE_COOKIE, Callers
from paytm_lab.web.problems import status_of

TOKEN_CHARACTERS_MAX = 3_900  # browsers drop a cookie of more than 4,096 bytes
_TEMPLATES = Path(__file__).parent / "templates"
_FORM = "application/x-www-form-urlencoded"
_SELF, _NONE = "'self'", "'none'"


class Pages:
    """Renders the templates in ``folder`` (a service's own), which extend ``page.html``.

    ``service``: what the page is called at its top. ``scripts``, ``styles``: more sources of them
    for the content security policy, as it writes them; without, no script runs at all and only the
    style of ``page.html`` counts.
    """

    def __init__(self, folder: Path, service: str, *, scripts: str = "", styles: str = "") -> None:
        # S701: autoescape is on, whatever a template is called.
        self._environment = Environment(
            loader=FileSystemLoader([folder, _TEMPLATES]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["service"] = service
        style = (_TEMPLATES / "page.css").read_text()
        self._environment.globals["style"] = style
        own = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._policy = "; ".join(
            (
                "default-src 'none'",
                f"style-src 'sha256-{own}' {styles}".rstrip(),
                f"script-src {scripts or _NONE}",
                f"connect-src {_SELF if scripts else _NONE}",
                "img-src 'self' data:",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    @property
    def globals(self) -> MutableMapping[str, Any]:
        """What every template knows."""
        return self._environment.globals

    def template(self, name: str) -> Template:
        return self._environment.get_template(name)

    def page(
        self, template: str, status: HTTPStatus = HTTPStatus.OK, **values: Any
    ) -> HTMLResponse:
        """A template, filled; everything in ``values`` is shown as text."""
        body = self._environment.get_template(template).render(**values)
        return HTMLResponse(body, status, headers=self.headers())

    def headers(self) -> dict[str, str]:
        """What goes with every page. A form's ``Origin`` is its page's only by this referrer
        policy.
        """
        return {"Content-Security-Policy": self._policy, "Referrer-Policy": "same-origin"}

    def sign_in(self, status: HTTPStatus, then: str, said: str = "") -> HTMLResponse:
        return self.page("sign_in.html", status, then=_own_path(then), said=said, signed_in="")

    def failed(self, request: Request, error: PaytmLabError) -> Response:
        """An error as a page; one that a sign-in helps against has its form."""
        if isinstance(error, Unauthenticated):
            came = PAGE_COOKIE in request.cookies
            then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return self.sign_in(HTTPStatus.UNAUTHORIZED, then, error.message if came else "")
        status = status_of(error)
        return self.page("problem.html", status, title=status.phrase, error=error, signed_in="")

    def router(self) -> APIRouter:
        """For routes that answer pages: what they raise becomes a page, too."""
        pages = self

        class PageRoute(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                handle = super().get_route_handler()

                async def handle_page(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except PaytmLabError as error:
                        return pages.failed(request, error)
                    except RequestValidationError as error:
                        place = ".".join(map(str, error.errors()[0]["loc"]))
                        wrong = BadInput("the address is not as described", place=place)
                        return pages.failed(request, wrong)

                return handle_page

        return APIRouter(
            route_class=PageRoute,
            tags=["pages"],
            default_response_class=HTMLResponse,
            responses=shown(
                HTTPStatus.UNAUTHORIZED,
                HTTPStatus.FORBIDDEN,
                HTTPStatus.NOT_FOUND,
                HTTPStatus.UNPROCESSABLE_ENTITY,
                HTTPStatus.SERVICE_UNAVAILABLE,
            ),
        )


def shown(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route: errors that it shows as pages."""
    return {
        int(status): {"description": status.phrase, "content": {"text/html": {}}}
        for status in statuses
    }


class SessionBody(msgspec.Struct, forbid_unknown_fields=True):
    access_token: str
    then: str = "/"


def session_router(pages: Pages, callers: Callers, home: str) -> APIRouter:
    """``GET /sign-in``, ``POST /session``, ``POST /sign-out``. ``home``: the page that a sign-in
    leads to where no other was asked for.
    """
    router = pages.router()

    @router.get("/sign-in", summary="A form for an access token")
    async def sign_in() -> HTMLResponse:
        return pages.sign_in(HTTPStatus.OK, home)

    @router.post(
        "/session",
        summary="Hand an access token to this browser",
        status_code=HTTPStatus.SEE_OTHER,
        response_class=Response,
        openapi_extra=_DESCRIBED,
        responses={
            204: {"description": "Signed in (to a JSON body)"},
            303: {"description": "Signed in; on to the page (to a form)"},
        },
    )
    async def begin(request: Request) -> Response:
        """Sets a cookie that this service's pages take in place of the Authorization header. It
        lasts as long as the token.
        """
        _require_own(request)
        as_json = request.headers.get("content-type", "").startswith("application/json")
        body = _read(await request.body(), as_json)
        token = body.access_token.strip()
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise Unauthenticated("the access token is too long", remedy="Log in.")
        caller = await callers.caller_of_token(token)
        answer = (
            Response(status_code=HTTPStatus.NO_CONTENT)
            if as_json
            else RedirectResponse(_own_path(body.then, home), HTTPStatus.SEE_OTHER)
        )
        answer.set_cookie(
            PAGE_COOKIE, token, max(0, int(caller.expires_s - time.time())),
            secure=request.url.scheme == "https", httponly=True, samesite="strict",
        )  # fmt: skip
        return answer

    @router.post(
        "/sign-out",
        summary="Take the access token from this browser",
        status_code=HTTPStatus.SEE_OTHER,
        response_class=Response,
        responses={303: {"description": "Signed out; on to the sign-in"}},
    )
    async def end(request: Request) -> Response:
        """The session itself ends by `POST /logout` of the auth service."""
        _require_own(request)
        answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(PAGE_COOKIE, httponly=True, samesite="strict")
        return answer

    return router


_FIELDS = {
    "type": "object",
    "properties": {
        "access_token": {"type": "string", "maxLength": TOKEN_CHARACTERS_MAX},
        "then": {"type": "string", "description": "A path of this service to go on to."},
    },
    "required": ["access_token"],
    "additionalProperties": False,
}
_DESCRIBED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": _FIELDS} for kind in ("application/json", _FORM)},
    }
}


def _read(body: bytes, as_json: bool) -> SessionBody:
    """BadInput for what is not as described; never says what it was, as it may be a token."""
    try:
        if as_json:
            return msgspec.json.decode(body, type=SessionBody)
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=8, errors="strict")
        if fields.keys() - {"access_token", "then"} or any(len(v) != 1 for v in fields.values()):
            raise ValueError
        return SessionBody(fields["access_token"][0], fields.get("then", ["/"])[0])
    except (msgspec.MsgspecError, ValueError, KeyError):
        raise BadInput(
            "the form is not as described", place="body", remedy="Send the field access_token."
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


def _own_path(path: str, otherwise: str = "/") -> str:
    """The path if it surely stays on this site."""
    sound = path.startswith("/") and not path.startswith("//")
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if sound and plain and len(path) <= 2_000 and path != "/" else otherwise
