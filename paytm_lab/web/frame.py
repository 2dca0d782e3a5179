"""What surrounds every request of every service, as one plain ASGI layer: a trace, a bound on its
body, a log line, metrics, and a problem in place of whatever escaped. HEAD is answered as GET would
be, without the body.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paytm_lab.web import problems, tracing
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.paths import exact_path

_logger = logging.getLogger("paytm_lab.web")
_QUIET = ("/live", "/health", "/ready", "/metrics")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class _TooLarge(Exception):
    """More bytes came than a body may have."""


class _Exchange:
    """One request and its answer: counts what comes in, adds headers to what goes out.

    ``head_only``: nothing comes in and no body goes out; the answer is whole with its head, after
    which the application hears that nobody listens any more: an answer that goes on for long ends.
    """

    def __init__(
        self, receive: Receive, send: Send, traceparent: str, bytes_max: int, head_only: bool
    ) -> None:
        self._receive, self._send = receive, send
        self._traceparent = traceparent.encode()
        self._bytes_left = bytes_max
        self.status = 0
        self.too_large = self.began = self.ended = False
        self._head_only = head_only
        self._asked = False
        self._whole = asyncio.Event()

    async def receive(self) -> Message:
        if self._head_only:
            if not self._asked:
                self._asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._whole.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left < 0:
            self.too_large = True
            raise _TooLarge
        return message

    async def send_of_app(self, message: Message) -> None:
        """Drops what the framework says about a body that it could not read: it is a 413."""
        if self.began or not self.too_large:
            await self.send(message)

    async def send(self, message: Message) -> None:
        if self._head_only and self.began:
            return
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], True
            own = {name for name, _ in message["headers"]}
            more = [each for each in _HEADERS if each[0] not in own]
            message["headers"] = [
                *message["headers"], *more, (b"traceparent", self._traceparent),
            ]  # fmt: skip
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)
        if self._head_only:
            await self._send({"type": "http.response.body", "body": b""})
            self.ended = True
            self._whole.set()


class Frame:
    """``body_bytes_max``: a larger body gets 413, whatever length its head claimed. ``stop``: to be
    called when serving is about to end.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: str,
        metrics: Metrics,
        body_bytes_max: int,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._service = service
        self._metrics = metrics
        self._body_bytes_max = body_bytes_max
        self.stop = on_stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"traceparent")
        traceparent = tracing.continued(given.decode("latin-1") if given else None)
        token = tracing.current.set(traceparent)
        head_only = scope["method"] == "HEAD"
        # A copy, as the server looks into its own, and sends no body to a HEAD.
        asked = {**scope, "method": "GET"} if head_only else scope
        exchange = _Exchange(receive, send, traceparent, self._body_bytes_max, head_only)
        exchange.too_large = _claimed(headers) > self._body_bytes_max
        self._metrics.in_flight.inc()
        try:
            answer = await self._answered(asked, exchange)
            if answer is not None:
                await answer(asked, receive, exchange.send)
        finally:
            self._metrics.in_flight.dec()
            self._note(asked, scope["method"], exchange.status, time.perf_counter() - started)
            tracing.current.reset(token)

    async def _answered(self, scope: Scope, exchange: _Exchange) -> Response | None:
        """Let the application answer; what is to be said in its place, where it did not."""
        path = exact_path(scope)
        if path is None:
            return problems.response(
                HTTPStatus.BAD_REQUEST, "invalid_path", "the path is no UTF-8",
                remedy="Encode its characters as UTF-8, then as %XX.",
            )  # fmt: skip
        scope["path"] = path
        try:
            if not exchange.too_large:
                await self._app(scope, exchange.receive, exchange.send_of_app)
        except Exception as error:
            if not isinstance(error, _TooLarge):
                _logger.exception("a request failed", extra={"service": self._service})
            if exchange.began and not exchange.ended:
                raise  # the connection must not look as if the answer was whole
        if exchange.began:
            return None
        if exchange.too_large:
            return problems.response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body_too_large",
                f"a request's body may have {self._body_bytes_max} bytes",
                {"Connection": "close"},
            )
        return problems.internal_error()

    def _note(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        # The route's pattern, never the path: users' names are no labels.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.answered(route, method, status, seconds)
        if route not in _QUIET and _logger.isEnabledFor(logging.INFO):
            _logger.info(
                "%s %s %d", method, route, status,
                extra={
                    "service": self._service, "method": method, "route": route,
                    "status": status, "ms": round(seconds * 1e3, 2),
                },
            )  # fmt: skip


def _claimed(headers: dict[bytes, bytes]) -> int:
    """The length that a request's head says its body has; 0 where it says none."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else 0
