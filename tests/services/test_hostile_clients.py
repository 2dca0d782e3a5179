"""Clients that send bytes no library would: over a real socket, to the server that users run."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from fastapi import APIRouter, Request

from paytm_lab.web import protocol, server
from paytm_lab.web.app import make_app
from paytm_lab.web.metrics import Metrics
from tests.ports import free_port
from tests.waiting import until

BODY_BYTES_MAX = 4_096
READ_S_MAX = 1.0


def make_service() -> Any:
    router = APIRouter()

    @router.post("/length")
    async def length(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    return make_app(
        "test", "A test.", [router], {}, metrics=Metrics("test"), body_bytes_max=BODY_BYTES_MAX
    )


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A service on a real port, in a thread, as patient as a test."""
    port = free_port()
    patience, protocol.READ_S_MAX = protocol.READ_S_MAX, READ_S_MAX
    serving = server.server_of(server.Listening("test", make_service(), "127.0.0.1", port))
    place = socket.create_server(("127.0.0.1", port), backlog=512)
    thread = threading.Thread(target=asyncio.run, args=(serving.serve([place]),))
    thread.start()
    until(lambda: answer(port, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200)
    yield port
    serving.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    protocol.READ_S_MAX = patience


def read(connection: socket.socket) -> tuple[int, Any]:
    """The status and the JSON of one answer, then the end of the connection is not waited for."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = connection.recv(65_536)
        assert more, f"closed after {got!r}"
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    size = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
    while len(body) < size:
        body += connection.recv(65_536)
    return int(head.split()[1]), json.loads(body)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answer(port: int, data: bytes) -> tuple[int, Any]:
    with closing(connect(port)) as connection:
        connection.sendall(data)
        return read(connection)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /live HT",
        b"GET /live HTTP/1.1\r\nHost: x\r\nX-Slow: a",
        b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12",
    ],
)
def test_who_does_not_finish_is_cut_off(port: int, begun: bytes) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(begun)
        began = time.monotonic()
        if b"Content-Length" in begun:  # its application waits for the rest
            assert is_closed(connection)
        else:
            status, problem = read(connection)
            assert (status, problem["code"]) == (408, "request_timeout")
            assert is_closed(connection)
        assert READ_S_MAX / 2 < time.monotonic() - began < READ_S_MAX + 5


def test_a_byte_now_and_then_is_no_reason_to_wait(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.settimeout(READ_S_MAX / 10)
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        until_s = time.monotonic() + READ_S_MAX + 5
        while time.monotonic() < until_s:
            try:
                said = connection.recv(65_536)
            except TimeoutError:
                connection.sendall(b"a")
                continue
            break
        else:
            pytest.fail("it was let go on")
        assert said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "flood",
    [
        b"X-Many: 1\r\n" * 100_000,
        b"X-Long: " + b"a" * 1_000_000,
        b"X-" + b"n" * 1_000_000 + b": 1\r\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_flood_of_headers(port: int, flood: bytes, at_once: bool) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n")
        try:
            if at_once:
                connection.sendall(flood + b"\r\n\r\n")
            else:
                for start in range(0, len(flood), 4_096):
                    connection.sendall(flood[start : start + 4_096])
            status, problem = read(connection)
        except ConnectionError:
            return  # it was closed before all was sent, so the answer was lost on the way
        assert (status, problem["code"]) == (431, "head_too_large")


def test_a_long_address(port: int) -> None:
    status, problem = answer(port, b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, problem["code"]) == (431, "head_too_large")


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"HELLO\r\n\r\n", b"\0" * 99]
)
def test_what_is_no_http(port: int, nonsense: bytes) -> None:
    status, problem = answer(port, nonsense)
    assert (status, problem["code"]) == (400, "no_http")


def test_a_body_without_a_length_is_bounded_too(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(
            b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"400\r\n" + b"a" * 0x400 + b"\r\n"
        for _ in range(BODY_BYTES_MAX // 0x400 + 1):
            connection.sendall(chunk)
        status, problem = read(connection)
        assert (status, problem["code"]) == (413, "body_too_large")


def test_others_are_answered_meanwhile_and_afterwards(port: int) -> None:
    slow = [connect(port) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"GET /live HTTP/1.1\r\n")
    for _ in range(20):
        status, said = answer(port, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, said["status"]) == (200, "live")
    for connection in slow:
        assert read(connection)[0] == 408
        connection.close()


def test_requests_one_after_the_other_and_in_a_row(port: int) -> None:
    request = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    with closing(connect(port)) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert read(connection) == (200, {"length": 3})
        with closing(connect(port)) as later:
            assert read(later)[0] == 408, "so much time has passed"
        connection.sendall(request)  # one that idles after an answer is nobody's burden
        assert read(connection) == (200, {"length": 3})


def test_half_a_request_behind_a_whole_one_is_cut_off_too(port: int) -> None:
    whole = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    half = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12"
    with closing(connect(port)) as connection:
        connection.sendall(whole + half)
        assert read(connection)[0] == 200
        assert is_closed(connection)
