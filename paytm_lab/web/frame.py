"""What surrounds every request of every service, as one plain ASGI layer: a trace, a bound on its
body, a log line, metrics, and a problem in place of whatever escaped.
"""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paytm_lab.web import problems, tracing
from paytm_lab.web.metrics import Metrics

_logger = logging.getLogger("paytm_lab.web")
_QUIET = ("/health", "/ready", "/metrics")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class _TooLarge(Exception):
    """More bytes came than a body may have."""


class Frame:
    """``body_bytes_max``: a larger body gets 413, whatever length its head claimed."""

    def __init__(self, app: ASGIApp, service: str, metrics: Metrics, body_bytes_max: int) -> None:
        self._app = app
        self._service = service
        self._metrics = metrics
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"traceparent")
        traceparent = tracing.continued(given.decode("latin-1") if given else None)
        token = tracing.current.set(traceparent)
        status, began, taken = 0, False, 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes_max:
                raise _TooLarge
            return message

        async def framed(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], True
                own = {name for name, _ in message["headers"]}
                more = [each for each in _HEADERS if each[0] not in own]
                message["headers"] = [
                    *message["headers"], *more, (b"traceparent", traceparent.encode()),
                ]  # fmt: skip
            await send(message)

        self._metrics.in_flight.inc()
        try:
            if int(headers.get(b"content-length", b"0") or 0) > self._body_bytes_max:
                raise _TooLarge
            await self._app(scope, bounded, framed)
        except (_TooLarge, ValueError) as error:
            if began or not isinstance(error, _TooLarge):
                raise
            answer = problems.response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body_too_large",
                f"a request's body may have {self._body_bytes_max} bytes",
                {"Connection": "close"},
            )
            await answer(scope, receive, framed)
        except Exception:
            _logger.exception("a request failed", extra={"service": self._service})
            if began:
                raise
            answer = problems.response(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal_error",
                "something failed that should not",
                remedy=f"The service's log has it under trace {tracing.trace_id_of(traceparent)}.",
            )
            await answer(scope, receive, framed)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, status, time.perf_counter() - started)
            tracing.current.reset(token)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern, never the path: users' names are no labels.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, scope["method"], str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if route not in _QUIET:
            _logger.info(
                "%s %s %d", scope["method"], route, status,
                extra={
                    "service": self._service, "method": scope["method"], "route": route,
                    "status": status, "ms": round(seconds * 1e3, 2),
                },
            )  # fmt: skip
