"""The tests' own ports: no two processes get one, and a port that is listened on is passed over."""

from __future__ import annotations

import socket
import subprocess
import sys
from itertools import chain

import pytest

from tests import ports
from tests.faults.processes import ROOT

ASK = """
import sys
from tests import ports
print(*ports.free_ports(30), flush=True)
sys.stdin.read()
"""


def test_no_two_processes_get_one_port() -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    got: list[int] = ports.free_ports(30)
    for each in asking:
        assert each.stdout is not None
        got += map(int, each.stdout.readline().split())
    for each in asking:
        each.communicate(timeout=30)
    assert len(set(got)) == len(got) == 120
    assert set(got) <= set(ports.PORTS)


def test_a_port_that_somebody_listens_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free_port()
    with socket.create_server(("127.0.0.1", port)):
        ports._claims.pop().close()  # listened on, and claimed by nobody
        monkeypatch.setattr(ports, "_left", chain([port], ports._left))
        assert ports.free_port() > port
