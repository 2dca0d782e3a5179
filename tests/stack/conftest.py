"""One stack of its own for these tests, on ports of its own: they kill and wipe it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paytm_lab.stack.control import Stack
from paytm_lab.stack.down import down
from paytm_lab.stack.up import up

PORT_OFFSET = 22_500  # below the ports that the system hands out


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    found = Stack(tmp_path_factory.mktemp("stack") / "servers")
    try:
        up(found.layout.root, port_offset=PORT_OFFSET, fetch_missing=True)
        yield found
    finally:
        if found.layout.marker.exists():
            down(found)


@pytest.fixture
def running(stack: Stack) -> Stack:
    """The stack, all of it up before the test."""
    up(stack.layout.root)
    return stack
