"""Another process for the coordination contract: does what its arguments say, tells it on stdout,
and stays alive until its stdin ends or it is killed.

    python coordination_process.py PROFILE WHERE COMMAND ARGUMENT...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.backends.servers.coordination import ZooKeeperCoordination
from paytm_lab.core.errors import Conflict
from paytm_lab.ports.coordination import Coordination

SESSION_TIMEOUT_S = 2.0  # so long tests wait for the end of what was killed


def open_coordination(profile: str, where: str) -> Coordination:
    """``where`` is a folder, or servers and chroot as in "host:port,host:port/chroot"."""
    if profile == "embedded":
        return EmbeddedCoordination(Path(where))
    servers, _, chroot = where.partition("/")
    return ZooKeeperCoordination(servers, f"/{chroot}", session_timeout_s=SESSION_TIMEOUT_S)


def remove(where: str) -> None:
    """The chroot of one test."""
    servers, _, chroot = where.partition("/")
    client = ZooKeeperCoordination(servers, f"/{chroot}")
    client.drop()
    client.close()


def say(text: object) -> None:
    os.write(sys.stdout.fileno(), f"{text}\n".encode())  # one piece, also when two processes say


def stay() -> None:
    sys.stdin.read()


def lead(coordination: Coordination, name: str) -> None:
    leadership = coordination.try_lead(name)
    say("leader" if leadership is not None and leadership.held() else "nobody")
    stay()


def lead_and_tell(coordination: Coordination, name: str) -> None:
    """Lead; for each line on stdin say whether it still does."""
    leadership = coordination.try_lead(name)
    if leadership is None:
        raise SystemExit("somebody leads already")
    say(leadership.held())
    for _ in sys.stdin:
        say(leadership.held())


def lead_and_fork(coordination: Coordination, name: str) -> None:
    leadership = coordination.try_lead(name)
    if leadership is None:
        raise SystemExit("somebody leads already")
    child = os.fork()
    if child == 0:
        say(f"child {os.getpid()} holds {leadership.held()}")
        stay()
        os._exit(0)
    say(f"parent holds {leadership.held()}")
    stay()


def race(coordination: Coordination, *names: str) -> None:
    """Try each name when the parent says so."""
    won = [name for name in names if sys.stdin.readline() and coordination.try_lead(name)]
    say(" ".join(won))
    stay()


def count(coordination: Coordination, name: str, times: str) -> None:
    for _ in range(int(times)):
        while True:
            found = coordination.read_document(name)
            body, version = found if found is not None else (b"0", None)
            try:
                coordination.write_document(name, b"%d" % (int(body) + 1), version)
                break
            except Conflict:
                continue
    say("counted")


def write_on(coordination: Coordination, name: str) -> None:
    """Replace a document without end; say each number once it is written."""
    found = coordination.read_document(name)
    number, version = (int(found[0][:12]), found[1]) if found is not None else (0, None)
    while True:
        number += 1
        version = coordination.write_document(name, b"%012d" % number * 5000, version)
        say(number)


def register(coordination: Coordination, service: str, instance: str, address: str) -> None:
    coordination.register(service, instance, address)
    say("registered")
    stay()


COMMANDS = (lead, lead_and_tell, lead_and_fork, race, count, write_on, register)

if __name__ == "__main__":
    profile, where, command, *arguments = sys.argv[1:]
    commands = {f.__name__: f for f in COMMANDS}
    commands[command](open_coordination(profile, where), *arguments)
