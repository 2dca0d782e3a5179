"""The factory that every service is made by: its documents, health, metrics and problems."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
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
    parts: dict[str, PartState] | None = Field(
        default=None, description="What it stands on, where this service shows it."
    )


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
    shown_in_health: Sequence[str] = (),
    around: Callable[[Application], Application] = lambda app: app,
) -> ASGIApp:
    """A service's ASGI application. ``summary``: one sentence; ``docs``: what a developer reads
    first at /docs. ``parts``: what /ready asks; ``shown_in_health``: those that /health shows too,
    though it stays 200 without them: a process that lives is not to be started again. ``around``:
    what sees a request before the framework does.
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

    app = FastAPI(
        title=f"paytm_lab {service}",
        summary=summary,
        description=docs,
        version="1",
        lifespan=life,
        exception_handlers={
            PaytmLabError: problems.on_lab_error,
            RequestValidationError: problems.on_invalid_request,
            HTTPException: problems.on_http_error,
            Exception: problems.on_any_error,
        },
        responses=problems.declared(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.INTERNAL_SERVER_ERROR,
        ),
    )
    for router in routers:
        app.include_router(router)
    app.include_router(_common(service, checks, metrics, shown_in_health))
    return Frame(around(app), service, metrics, body_bytes_max)


def _common(
    service: str, checks: Checks, metrics: Metrics, shown_in_health: Sequence[str]
) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/health", summary="Whether the process lives", response_model_exclude_none=True)
    async def health() -> Live:
        if not shown_in_health:
            return Live(service=service)
        states = await checks.ask()
        return Live(service=service, parts={name: states[name] for name in shown_in_health})

    @router.get(
        "/ready",
        summary="Whether it can do its work, part by part",
        responses={503: {"model": Readiness, "description": "A part is down"}},
    )
    async def ready(response: Response) -> Readiness:
        states = await checks.ask()
        down = [name for name, state in states.items() if state.state == "down"]
        if down:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response.headers["Retry-After"] = "1"
        return Readiness(service=service, status="not_ready" if down else "ready", parts=states)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
