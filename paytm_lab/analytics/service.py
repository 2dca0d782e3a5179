"""The analytics service over HTTP: live pages, their figures as JSON, one payment's way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from markupsafe import Markup
from starlette.types import ASGIApp

from paytm_lab.analytics import models, panels_payment, payment_trace
from paytm_lab.analytics.live import Live
from paytm_lab.analytics.observatory import Observatory
from paytm_lab.analytics.pages import PAGES, Renderer
from paytm_lab.analytics.parts import Parts
from paytm_lab.core.errors import PaytmLabError, Unauthenticated
from paytm_lab.core.ids import parse_payment_id, payment_id_text
from paytm_lab.web.app import make_app
from paytm_lab.web.assets import Assets, plotly_js, plotly_style_ids
from paytm_lab.web.callers import PAGE_COOKIE, Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.page_sessions import session_router
from paytm_lab.web.pages import Pages
from paytm_lab.web.paths import Segment
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.problems import declared
from paytm_lab.web.scopes import ADMIN, ANALYTICS_READ
from paytm_lab.web.tokens import Caller

NAME = "analytics"
HOME = "/overview"
WATCHED_S_MAX = 300.0  # then the browser asks again by itself
READ_THREADS, READS_WAITING_MAX, READ_S_MAX = 4, 64, 10.0
RENDER_THREADS, RENDERS_WAITING_MAX = 1, 64
_HERE = Path(__file__).parent
PageName = Literal["overview", "shards", "payments", "fraud", "system"]
_MODELS: dict[str, Any] = {
    "overview": models.Overview,
    "shards": models.Shards,
    "payments": models.Payments,
    "fraud": models.Fraud,
    "system": models.System,
}
_REFUSED = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_OF_PAYMENT = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
_DOCS = """
Pages for people at `/overview`, `/shards`, `/payments`, `/fraud`, `/system`; sign in with an access
token at `/sign-in`. The same figures as JSON at `/api/...`. What is now is read from the shards,
what was from the analytics consumer's totals, which follow some seconds behind. Amounts are whole
paise, times RFC 3339 in UTC.
"""


class Service:
    """What the routes share."""

    def __init__(self, parts: Parts, callers: Callers) -> None:
        self.parts = parts
        self.callers = callers
        self.reads = BoundedPool("analytics", READ_THREADS, READS_WAITING_MAX, READ_S_MAX)
        self._rendering = BoundedPool("render", RENDER_THREADS, RENDERS_WAITING_MAX, READ_S_MAX)
        self.observatory = Observatory(parts)
        plotly = plotly_js()
        self.assets = Assets(
            {
                "plotly": plotly,
                "script": _HERE / "static" / "dashboard.js",
                "style": _HERE / "static" / "dashboard.css",
                "plotly_style": _HERE / "static" / "plotly.css",
            },
            self.reads,
        )
        self.pages = Pages(
            _HERE / "templates", "paytm_lab analytics", scripts="'self'", styles="'self'"
        )
        for name in ("dashboard.html", "payment.html", "sign_in.html"):
            self.pages.template(name)  # compiled now, not while the first reader waits
        self.pages.globals.update(
            assets=self.assets.url_of, nav=list(PAGES), plotly_styles=plotly_style_ids(plotly)
        )
        self.live = Live(
            self.observatory, Renderer(self.pages.template("parts.html")), self._rendering
        )

    async def close(self) -> None:
        await self.live.close()
        await self.observatory.close()
        self.reads.close()
        self._rendering.close()

    async def payment(self, caller: Caller, payment_id: str) -> dict[str, Any]:
        raw = parse_payment_id(payment_id)
        return await self.reads.run(payment_trace.read, self.parts, caller, raw)


def make_service(parts: Parts, callers: Callers, metrics: Metrics, body_bytes_max: int) -> ASGIApp:
    """The ASGI application."""
    service = Service(parts, callers)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.observatory.begin()
        try:
            yield
        finally:
            await service.close()

    return make_app(
        NAME,
        "Live figures of shards, payments and fraud, and the health of all services.",
        [
            _api(service),
            _payment_api(service),
            _live(service),
            _pages(service),
            _payment_pages(service),
            session_router(service.pages, callers, HOME),
            service.assets.router(),
        ],
        parts.checks,
        metrics=metrics,
        body_bytes_max=body_bytes_max,
        lifespan=life,
        docs=_DOCS,
        on_stop=service.live.stop,
    )


def _api(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["figures"])
    reader: Any = Depends(service.callers.who(ANALYTICS_READ, ADMIN))

    def add(name: str) -> None:
        page = PAGES[name]

        async def figures(caller: Caller = reader) -> Any:
            """As of this second; of shards that answer."""
            return page.data(await service.observatory.look())

        router.add_api_route(
            f"/{name}", figures, response_model=_MODELS[name], responses=_REFUSED,
            summary=f"The figures of the page {page.title}", name=f"figures_{name}",
            response_model_exclude_unset=True,
        )  # fmt: skip

    for name in PAGES:
        add(name)
    return router


def _payment_api(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["figures"])
    anybody: Any = Depends(service.callers.who())

    @router.get(
        "/payments/{payment_id}",
        response_model=models.PaymentTrace,
        responses=_OF_PAYMENT,
        summary="One payment through every part",
    )
    async def payment(payment_id: Segment, caller: Caller = anybody) -> Any:
        """For those with `analytics:read` or `admin`, and for the payment's own users, who see less
        of it.
        """
        return await service.payment(caller, payment_id)

    return router


def _live(service: Service) -> APIRouter:
    router = APIRouter(tags=["pages"])
    watcher: Any = Depends(service.callers.who(ANALYTICS_READ, ADMIN, page=True))

    @router.get(
        "/watch/{page}",
        summary="A page's changes, a message a second",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "description": "Server-sent events: `page` (JSON), and `bye` when signed out",
            },
            **_REFUSED,
        },
    )
    async def watch(request: Request, page: PageName, caller: Caller = watcher) -> Response:
        """At most five minutes; the browser asks again by itself."""
        headers = service.pages.headers() | {"X-Accel-Buffering": "no"}
        return StreamingResponse(
            _events(service, page, token_of(request)), headers=headers,
            media_type="text/event-stream",
        )  # fmt: skip

    return router


def token_of(request: Request) -> str:
    """The token that came with a request which has been let in."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.cookies.get(PAGE_COOKIE, "")


async def _events(service: Service, page: str, token: str) -> AsyncIterator[bytes]:
    until_s = time.monotonic() + WATCHED_S_MAX
    try:
        with service.live.seat(page):
            async for message in service.live.watch(page):
                await service.callers.caller_of_token(token)
                yield b"event: page\ndata: " + message + b"\n\n"
                if time.monotonic() > until_s:
                    return
    except Unauthenticated:
        yield b"event: bye\ndata: {}\n\n"
    except PaytmLabError:
        yield b"retry: 5000\n\n"  # too many watch: the browser comes again


def _pages(service: Service) -> APIRouter:
    router = service.pages.router()
    reader: Any = Depends(service.callers.who(ANALYTICS_READ, ADMIN, page=True))

    @router.get(
        "/",
        summary="On to the overview",
        status_code=HTTPStatus.SEE_OTHER,
        response_class=RedirectResponse,
    )
    async def home() -> Response:
        return RedirectResponse(HOME, HTTPStatus.SEE_OTHER)

    def add(name: str) -> None:
        page = PAGES[name]

        async def shown(caller: Caller = reader) -> HTMLResponse:
            parts = await service.live.page(name)
            return service.pages.page(
                "dashboard.html", title=page.title, current=name, head=parts.head,
                panels=parts.panels, charts=_in_html(parts.charts),
                signed_in=caller.user_id, live=True, draws=page.charts,
            )  # fmt: skip

        router.add_api_route(
            f"/{name}", shown, summary=f"The page {page.title}", name=f"page_{name}",
        )  # fmt: skip

    for name in PAGES:
        add(name)
    return router


def _in_html(charts: Mapping[str, bytes]) -> Markup:
    """JSON that stands in a page and ends no element of it."""
    inside = b",".join(b'"%s":%s' % (name.encode(), body) for name, body in charts.items())
    text = (b"{%s}" % inside).decode().replace("<", "\\u003c")
    return Markup(text)  # noqa: S704 - nothing in it can end the script element


def _payment_pages(service: Service) -> APIRouter:
    router = service.pages.router()
    anybody: Any = Depends(service.callers.who(page=True))

    @router.get(
        "/find",
        summary="On to a payment's page",
        status_code=HTTPStatus.SEE_OTHER,
        response_class=RedirectResponse,
    )
    async def find(
        payment_id: Annotated[str, Query(max_length=100)] = "", caller: Caller = anybody
    ) -> Response:
        raw = parse_payment_id(payment_id.strip())
        return RedirectResponse(f"/payments/{quote(payment_id_text(raw))}", HTTPStatus.SEE_OTHER)

    @router.get(
        "/payments/{payment_id}",
        summary="One payment's page",
    )
    async def payment(payment_id: Segment, caller: Caller = anybody) -> HTMLResponse:
        data = await service.payment(caller, payment_id)
        return service.pages.page(
            "payment.html", title="Payment", current="", live=False, signed_in=caller.user_id,
            payment=data | {"steps": panels_payment.steps(data)},
            summary=panels_payment.summary(data), panels=panels_payment.panels(data),
        )  # fmt: skip

    return router
