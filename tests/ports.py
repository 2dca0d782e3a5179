"""Ports that are free until the test that asked for them has used them.

A port that the system handed out and took back is handed out again, to another test's worker before
the process that it was meant for listens there. So these lie below what the system hands out, and
each is one test process's, of all runs on the machine, until that process ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
from typing import IO

from tests.scratch import DISK

# Below what Linux (32768) and macOS (49152) hand out by default, and below and above the ports of
# the tests' own stacks (see PORT_OFFSET in tests/stack, TEST_PORTS in the Makefile).
PORTS = range(20_000, 22_000)
_claims: list[IO[bytes]] = []  # a lock each, which ends with this process and no sooner
_left = iter(PORTS)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and that no other call anywhere gives away."""
    folder = DISK / f"paytm-lab-tests-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for port in _left:
        claim = (folder / str(port)).open("wb")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:  # another test's, or anybody's
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise AssertionError(f"no port of {PORTS} is left")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]
