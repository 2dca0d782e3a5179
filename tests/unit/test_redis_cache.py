"""How the Redis cache meets servers that are away, silent, or say no: the real client against
sockets that behave so.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from paytm_lab.backends.servers.cache import RedisCache
from paytm_lab.core.errors import BadInput, MissingPart, Unavailable
from paytm_lab.ports.cache import Hit

CALLS: list[Callable[[RedisCache], object]] = [
    lambda c: c.get("k"),
    lambda c: c.get_many(["k", "l"]),
    lambda c: c.set_many({"k": b"v"}, 5),
    lambda c: c.delete(["k"]),
    lambda c: c.count_window([Hit("k", "m", 1)], 60.0),
    lambda c: c.reserve(Hit("k", "m", 1), 60.0, 3),
    lambda c: c.reserve_many([Hit("k", "m", 1)], 60.0, 3),
    lambda c: c.release("k", "m"),
]


class Server:
    """Says ``answer`` to each command after the greeting, or nothing; counts the commands."""

    def __init__(self, greeting: bytes, answer: bytes) -> None:
        self.commands: list[bytes] = []
        self.connections = 0
        self._greeting, self._answer = greeting, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65_536):
                    if any(word in data for word in (b"HELLO", b"CLIENT", b"AUTH")):
                        client.sendall(self._greeting * data.count(b"*"))
                        continue
                    self.commands.append(data)
                    client.sendall(self._answer)
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def _cache(port: int, password: str = "") -> Iterator[RedisCache]:
    with closing(RedisCache("127.0.0.1", port, password, timeout_s=0.2)) as cache:
        yield cache


HELLO = b"%1\r\n+proto\r\n:3\r\n"


@pytest.mark.parametrize("call", CALLS)
def test_where_no_server_is_every_call_says_so_at_once(
    call: Callable[[RedisCache], object],
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        began = time.monotonic()
        with _cache(port) as cache, pytest.raises(Unavailable, match=f":{port}"):
            call(cache)
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_got_no_answer_is_never_sent_twice(
    call: Callable[[RedisCache], object],
) -> None:
    with closing(Server(HELLO, b"")) as server, _cache(server.port) as cache:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            call(cache)
        assert 0.1 < time.monotonic() - began < 2
        assert len(server.commands) == 1


def test_a_refused_password_names_its_setting() -> None:
    no = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    with (
        closing(Server(no, b"")) as server,
        _cache(server.port, "wrong") as cache,
        pytest.raises(MissingPart) as caught,
    ):
        cache.get("k")
    assert "PAYTM_LAB_REDIS_PASSWORD" in caught.value.remedy


@pytest.mark.parametrize("call", CALLS)
def test_a_full_server_is_unavailable(call: Callable[[RedisCache], object]) -> None:
    answer = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    with (
        closing(Server(HELLO, answer)) as server,
        _cache(server.port) as cache,
        pytest.raises(Unavailable),
    ):
        call(cache)


@pytest.mark.parametrize("call", CALLS)
def test_switched_off_or_closed_it_is_unavailable(call: Callable[[RedisCache], object]) -> None:
    with closing(Server(HELLO, b"+OK\r\n")) as server, _cache(server.port) as cache:
        cache.available = False
        with pytest.raises(Unavailable):
            call(cache)
        cache.available = True
        cache.close()
        with pytest.raises(Unavailable):
            call(cache)
        assert server.connections == 0


def test_what_cannot_be_is_refused_before_it_is_sent() -> None:
    with closing(Server(HELLO, b"+OK\r\n")) as server, _cache(server.port) as cache:
        for ttl_s in (0, -1, float("nan")):
            with pytest.raises(BadInput):
                cache.set_many({"k": b"v"}, ttl_s)
        for at_us in (-1, 2**53 + 1):
            with pytest.raises(BadInput):
                cache.count_window([Hit("k", "m", at_us)], 60.0)
        assert cache.get_many([]) == []
        assert cache.count_window([], 60.0) == []
        assert cache.reserve_many([], 60.0, 3) == []
        cache.set_many({}, 5)
        cache.delete([])
        assert server.connections == 0
