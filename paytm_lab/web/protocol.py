"""HTTP as uvicorn reads it, for clients that are slow, talk without end, or talk nonsense."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from paytm_lab.web.problems import MEDIA_TYPE

READ_S_MAX = 20.0  # from a connection's or a request's first byte to the request's last
HEAD_BYTES_MAX = 32_768


class GuardedProtocol(HttpToolsProtocol):
    """A request that takes longer than ``READ_S_MAX`` to come in is answered 408, a head of more
    than ``HEAD_BYTES_MAX`` 431, and what is no HTTP 400; then the connection is closed.
    """

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # what was refused goes on sending
            return
        if self._timer is None:
            self._wait()
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        if self._timer is None:  # it came in one piece with the end of the request before it
            self._wait()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        said = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if said > HEAD_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._done()
        self._in_head = True
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "no_http")

    def _wait(self) -> None:
        self._timer = self.loop.call_later(READ_S_MAX, self._too_slow)

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout")

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        """Say why and close; where an answer is under way already, only close."""
        self._done()
        if self.transport.is_closing():
            return
        answering = bool(self.cycle) and not self.cycle.response_complete
        if not answering:
            detail = {
                "no_http": "this is no HTTP request",
                "head_too_large": f"a request's head may have {HEAD_BYTES_MAX} bytes",
                "request_timeout": f"the request did not come in within {READ_S_MAX:g} s",
            }[code]
            body = msgspec.json.encode(
                {
                    "type": "about:blank", "title": status.phrase, "status": int(status),
                    "code": code, "detail": detail,
                }
            )  # fmt: skip
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
