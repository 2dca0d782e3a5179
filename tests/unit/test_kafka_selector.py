"""The selector for Kafka's clients against the default one, step by step."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paytm_lab.backends.servers.kafka_clients import Servers
from paytm_lab.backends.servers.kafka_selector import CheapMisses

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
STEPS = st.tuples(
    st.sampled_from(["register", "modify", "unregister", "get_key", "close"]),
    st.integers(0, 2),
    st.sampled_from([READ, WRITE, READ | WRITE]),
    st.booleans(),
)


def outcome(step: Callable[[], Any]) -> Any:
    """What came of it, by which two selectors can be compared: the key, or the kind of error."""
    try:
        key = step()
    except (KeyError, ValueError, OSError) as error:
        return type(error)
    return key if key is None else (key.fd, key.events, key.data)


@given(st.lists(STEPS, max_size=30))
@example([("register", 0, READ, False), ("close", 0, READ, False), ("modify", 0, WRITE, False),
          ("get_key", 0, READ, False)])  # fmt: skip
def test_it_does_what_the_default_one_does(steps: list[tuple[str, int, int, bool]]) -> None:
    sockets = [socket.socket() for _ in range(3)]
    ours, default = CheapMisses(), selectors.DefaultSelector()
    try:
        for number, (what, which, events, by_number) in enumerate(steps):
            each = sockets[which]
            if what == "close":
                each.close()
                continue
            fileobj = each.fileno() if by_number and each.fileno() >= 0 else each
            arguments = (fileobj, events, number) if what in ("register", "modify") else (fileobj,)
            made = outcome(lambda: getattr(ours, what)(*arguments))  # noqa: B023
            assert made == outcome(lambda: getattr(default, what)(*arguments))  # noqa: B023
        assert len(ours.get_map()) == len(default.get_map())
    finally:
        ours.close()
        default.close()
        for each in sockets:
            each.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_it_wakes_who_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    with CheapMisses() as selector:
        key = selector.register(one, READ, "data")
        assert selector.select(0) == []
        other.send(b"!")
        assert selector.select(5) == [(key, READ)]
        selector.unregister(one)
        with pytest.raises(KeyError):
            selector.get_key(one)


def test_kafkas_clients_get_it() -> None:
    assert Servers("127.0.0.1:9092").options["selector"] is CheapMisses
