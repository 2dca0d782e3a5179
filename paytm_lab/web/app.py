"""The factory that every service is made by: its documents, health, metrics and problems."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp

from paytm_lab.core.errors import PaytmLabError
from paytm_lab.web import problems
from paytm_lab.web.frame import Frame
from paytm_lab.web.metrics import Metrics

READY_S_MAX = 1.5  # a part that has not answered by then is down
CHECKS_MAX = 16
Check = Callable[[], object]
Application = ASGIApp
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class PartState(BaseModel):
    state: str = Field(description="up or down")
    latency_ms: float | None = None
    detail: str | None = None


class Live(BaseModel):
    """The process answers."""

    service: str
    status: str = "live"


class Readiness(BaseModel):
    """Whether the service can do its work, and what each part that it needs said."""

    service: str
    status: str = Field(description="ready or not_ready")
    parts: dict[str, PartState]


class Checks:
    """Asks the parts that a service needs, all at once. ``parts``: name -> a call that makes one
    round trip, or raises what is wrong. A call that hangs keeps its thread, and is not made again
    before it came back.
    """

    def __init__(self, parts: Mapping[str, Check]) -> None:
        self._parts = dict(parts)
        self._pool = ThreadPoolExecutor(
            max(1, min(CHECKS_MAX, len(self._parts))), thread_name_prefix="ready"
        )
        self._under_way: dict[str, asyncio.Future[PartState]] = {}

    async def ask(self) -> dict[str, PartState]:
        loop = asyncio.get_running_loop()
        for name, part in self._parts.items():
            if name not in self._under_way:
                self._under_way[name] = loop.run_in_executor(self._pool, partial(_asked, part))
        asked = dict(self._under_way)  # several may ask at once, and share what is under way
        if asked:
            await asyncio.wait(asked.values(), timeout=READY_S_MAX)
        states = {}
        for name, answer in asked.items():
            if answer.done():
                states[name] = answer.result()
                if self._under_way.get(name) is answer:
                    del self._under_way[name]
            else:
                detail = f"no answer within {READY_S_MAX:g} s"
                states[name] = PartState(state="down", detail=detail)
        return states

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _asked(part: Check) -> PartState:
    started = time.perf_counter()
    try:
        part()
    except PaytmLabError as error:
        return PartState(state="down", detail=str(error))
    return PartState(state="up", latency_ms=round((time.perf_counter() - started) * 1e3, 3))


def make_app(
    service: str,
    summary: str,
    routers: Sequence[APIRouter],
    parts: Mapping[str, Check],
    *,
    metrics: Metrics,
    body_bytes_max: int,
    lifespan: Lifespan | None = None,
    docs: str = "",
    home: str = "/docs",
    around: Callable[[Application], Application] = lambda app: app,
    on_stop: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """A service's ASGI application. ``summary``: one sentence; ``docs``: what a developer reads
    first at /docs. ``home``: where / leads, for who opens the service's address in a browser,
    unless a router has a / of its own. ``parts``: what /health and /ready ask. ``around``: what
    sees a request before the framework does. ``on_stop``: called when serving is about to end, so
    that answers that go on for long can end.
    """
    checks = Checks(parts)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            if lifespan is None:
                yield
            else:
                async with lifespan(app):
                    yield
        finally:
            checks.close()

    app = FastAPIOffline(  # its documents come from here, not from a network
        redoc_url=None,
        title=f"paytm_lab {service}",
        summary=summary,
        description=docs,
        version="1",
        lifespan=life,
        dependencies=[Depends(_known_query)],
        exception_handlers={
            PaytmLabError: problems.on_lab_error,
            RequestValidationError: problems.on_invalid_request,
            HTTPException: problems.on_http_error,
            Exception: problems.on_any_error,
        },
        responses=problems.declared(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.INTERNAL_SERVER_ERROR,
        ),
    )
    for router in routers:
        app.include_router(router)
    app.include_router(_common(service, home, checks, metrics))
    return Frame(around(app), service, metrics, body_bytes_max, on_stop)


async def _known_query(request: Request) -> None:
    """A parameter that is misspelt would be left out in silence, and the answer be another's."""
    if request.query_params:
        route = request.scope.get("route")
        known = _query_of(route.dependant) if isinstance(route, APIRoute) else frozenset()
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            which = f"known here: {', '.join(sorted(known)) or 'none'}"
            raise RequestValidationError(
                [
                    {"loc": ("query", name), "msg": f"there is no such parameter ({which})"}
                    for name in unknown
                ]
            )


def _query_of(dependant: Dependant) -> frozenset[str]:
    own = {field.alias for field in dependant.query_params}
    return frozenset(own).union(*(_query_of(each) for each in dependant.dependencies))


def _common(service: str, home: str, checks: Checks, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])
    down: dict[int | str, Any] = {503: {"model": Readiness, "description": "A part is down"}}

    async def asked(response: Response, well: str, unwell: str) -> Readiness:
        states = await checks.ask()
        is_down = any(state.state == "down" for state in states.values())
        if is_down:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response.headers["Retry-After"] = "1"
        return Readiness(service=service, status=unwell if is_down else well, parts=states)

    @router.get("/", include_in_schema=False)
    async def on_to_home() -> Response:
        return RedirectResponse(home, HTTPStatus.SEE_OTHER)

    @router.get("/live", summary="Whether the process answers")
    async def live() -> Live:
        """200 whatever it stands on: a process that answers this is not to be started again."""
        return Live(service=service)

    @router.get("/health", summary="How it is, part by part", responses=down)
    async def health(response: Response) -> Readiness:
        """The process lives if this answers at all; 503 names what it stands on and misses."""
        return await asked(response, "healthy", "degraded")

    @router.get("/ready", summary="Whether it can do its work, part by part", responses=down)
    async def ready(response: Response) -> Readiness:
        """For a balancer: send nothing here while it is 503."""
        return await asked(response, "ready", "not_ready")

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
