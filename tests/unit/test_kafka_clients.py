"""One client for many threads, and what those hear who come while it cannot be made."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_clients import Admin, Servers, Shared
from paytm_lab.core.errors import Unavailable
from tests.waiting import until


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Servers(f"127.0.0.1:{listener.getsockname()[1]}")


class Attempts:
    """Attempts that fail when they are let go, one at a time."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = threading.Semaphore(0)

    def make(self) -> object:
        self.begun += 1
        assert self.go.acquire(timeout=30)
        raise kafka.KafkaTimeoutError(f"attempt {self.begun}")


def test_who_waits_for_an_attempt_does_not_wait_for_the_next(servers: Servers) -> None:
    attempts = Attempts()
    shared: Shared[object] = Shared(servers, attempts.make)
    heard: list[str] = []

    def once() -> None:
        with pytest.raises(Unavailable) as raised:
            shared.get()
        heard.append(raised.value.message)

    def again_and_again() -> None:
        for _ in range(2):
            once()

    busy = threading.Thread(target=again_and_again)
    busy.start()
    until(lambda: attempts.begun == 1)
    others = [threading.Thread(target=once) for _ in range(3)]
    for other in others:
        other.start()
    attempt: Any = shared._attempt
    until(lambda: len(attempt._condition._waiters) == 3, "all wait for the first attempt")
    attempts.go.release()
    until(lambda: attempts.begun == 2, "the next attempt begins, and is not let go")
    for other in others:
        other.join(10)
        assert not other.is_alive()
    assert len(heard) == 4 and all("attempt 1" in each for each in heard)
    attempts.go.release()
    busy.join(10)
    assert "attempt 2" in heard[-1]


def test_who_waits_for_an_attempt_that_is_interrupted_is_not_interrupted_itself(
    servers: Servers,
) -> None:
    """A worker's thread would end by it, and nobody would relay any more."""
    go = threading.Event()

    def make() -> object:
        assert go.wait(30)
        raise KeyboardInterrupt

    shared: Shared[object] = Shared(servers, make)
    heard: list[type[BaseException]] = []

    def ask() -> None:
        try:
            shared.get()
        except BaseException as error:
            heard.append(type(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: shared._attempt is not None)
    attempt: Any = shared._attempt
    until(lambda: len(attempt._condition._waiters) == 2, "two wait for the third one's attempt")
    go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(heard, key=str) == [KeyboardInterrupt, Unavailable, Unavailable]


def test_a_closed_one_is_not_made_any_more(servers: Servers) -> None:
    shared: Shared[str] = Shared(servers, lambda: "a client")
    assert shared.get() == ("a client", True)
    assert shared.get() == ("a client", False)
    assert shared.drop("a client") and not shared.drop("a client")
    assert shared.close() is None
    with pytest.raises(Unavailable, match="closed"):
        shared.get()


def test_a_controller_that_moves_is_waited_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = Admin(servers)
    monkeypatch.setattr(admin, "_client", Shared(servers, object))
    asked = 0

    def question(_: object) -> str:
        nonlocal asked
        asked += 1
        if asked < 3:  # the client's own words, for which it has no error
            raise RuntimeError("Failed to find active controller id!")
        return "answer"

    assert admin.ask("topics", question) == "answer"
    with pytest.raises(RuntimeError, match="another"):
        admin.ask("topics", lambda _: (_ for _ in ()).throw(RuntimeError("another")))
