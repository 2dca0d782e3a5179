"""A stack of a test module's own: of which only the servers run that it kills, or all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paytm_lab.stack import connection
from paytm_lab.stack.control import Stack
from paytm_lab.stack.down import down
from paytm_lab.stack.programs import places
from paytm_lab.stack.up import up
from tests import servers


def packages() -> Path:
    """Where the servers' programs were fetched to."""
    return places(Stack(Path(servers.settings().stack_dir)).layout).packages


@contextmanager
def part_of_a_stack(root: Path, port_offset: int, *names: str) -> Iterator[Stack]:
    """A new stack in ``root``, its servers not started; ``names`` are stopped at the end."""
    (root / "pkg").symlink_to(packages())
    stack = Stack(root)
    stack.layout.make(port_offset)
    ports = {server.name: server.port for server in stack.servers()}
    connection.write_connection(stack.layout, ports, connection.new_passwords())
    try:
        yield stack
    finally:
        for name in names:
            stack.stop(name)


@contextmanager
def whole_stack(root: Path, port_offset: int) -> Iterator[Stack]:
    """A new stack in ``root``, all eight servers up; they are stopped at the end."""
    (root / "pkg").symlink_to(packages())
    stack = Stack(root)
    try:
        up(root, port_offset=port_offset, fetch_missing=True)
        yield stack
    finally:
        down(stack)
