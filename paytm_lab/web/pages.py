"""Pages for people: server-rendered, escaped, under a strict content security policy.

A browser cannot be told to send an access token by hand; ``page_sessions`` keeps it in a cookie.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from paytm_lab.core.errors import BadInput, PaytmLabError, Unauthenticated
from paytm_lab.web.callers import PAGE_COOKIE
from paytm_lab.web.problems import status_of, when_to_retry

_TEMPLATES = Path(__file__).parent / "templates"
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
        self.service = service
        self._environment.globals["service"] = service
        self._environment.globals["by_password"] = False
        # What may still let a browser in whose token has ended (page_sessions).
        self.renew: Callable[[Request], Awaitable[Response | None]] | None = None
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
        return self.page("sign_in.html", status, then=own_path(then), said=said, signed_in="")

    async def failed(self, request: Request, error: PaytmLabError) -> Response:
        """An error as a page; one that a sign-in helps against has its form."""
        if isinstance(error, Unauthenticated):
            try:
                renewed = self.renew and request.method == "GET" and await self.renew(request)
            except PaytmLabError as unable:
                return self._problem(unable)
            if renewed:
                return renewed
            came = PAGE_COOKIE in request.cookies
            then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return self.sign_in(HTTPStatus.UNAUTHORIZED, then, error.message if came else "")
        return self._problem(error)

    def _problem(self, error: PaytmLabError) -> Response:
        status = status_of(error)
        page = self.page("problem.html", status, title=status.phrase, error=error, signed_in="")
        page.headers.update(when_to_retry(error))
        return page

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
                        return await pages.failed(request, error)
                    except RequestValidationError as error:
                        place = ".".join(map(str, error.errors()[0]["loc"]))
                        wrong = BadInput("the address is not as described", place=place)
                        return await pages.failed(request, wrong)

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


def own_path(path: str, otherwise: str = "/") -> str:
    """The path if it surely stays on this site."""
    sound = path.startswith("/") and not path.startswith("//")
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if sound and plain and len(path) <= 2_000 and path != "/" else otherwise
