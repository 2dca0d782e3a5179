"""The whole stack up: look, fetch, check, start in parallel, wait, prove that a payment crosses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, PaytmLabError, Unavailable
from paytm_lab.stack import connection, fetch, ports, processes, programs, zookeeper
from paytm_lab.stack import servers as description
from paytm_lab.stack.control import (
    DIED,
    FROZEN,
    READY,
    READY_WAIT_S,
    SILENT,
    STARTING,
    Stack,
    State,
)
from paytm_lab.stack.down import down
from paytm_lab.stack.servers import Server

LOOK_EVERY_S = 0.2
Say = Callable[[str], None]
Progress = Callable[[Sequence[State]], None]
Verify = Callable[[Settings], str]


class Up(NamedTuple):
    """``ready_s``: by server, from the start of all to its answer; 0 for one that was up before.
    ``verified``: what the check said; '' when none was asked for.
    """

    states: list[State]
    ready_s: dict[str, float]
    verified: str


def _nothing(_: object) -> None:
    pass


def up(
    stack_dir: str | Path,
    *,
    port_offset: int | None = None,
    reset: bool = False,
    fetch_missing: bool = False,
    verify: Verify | None = None,
    progress: Progress = _nothing,
    say: Say = _nothing,
    deadline_s: float = READY_WAIT_S,
) -> Up:
    """Start what does not run, leave alone what does, wait until all answer.

    ``port_offset`` None: the stack's own, 0 for a new one. Raises MissingPart, before anything is
    started, for missing programs and taken ports; Unavailable, with last log lines, for a server
    that dies or is late; what ``verify`` raises, with the log lines of what does not answer then.
    """
    stack = Stack(stack_dir)
    stack.layout.require_ours()
    if stack.layout.port_offset() is None:
        description.servers(stack.layout, port_offset or 0)  # refuses before anything is written
        stack.layout.make(port_offset or 0)
    with stack.locked():
        stack.adopt()
        if reset:
            _wipe(stack, say)
        _shift(stack, port_offset)
        _require_parts(stack, fetch_missing, say)
        servers = stack.servers()
        ports.require_free([server for server in servers if stack.pid(server.name) is None])
        _connect(stack, servers)
        ready_s = _start(stack, servers, deadline_s, progress, say)
        if verify:
            say("all eight answer; now a payment has to cross them")
        verified = _verified(stack, servers, verify) if verify else ""
    states = [stack.state(server) for server in servers]
    progress(states)
    return Up(states, ready_s, verified)


def settings_of(stack: Stack) -> Settings:
    """The lab's settings for these servers, whatever the environment says of others."""
    return Settings(
        profile="servers", stack_dir=stack.layout.root, **connection.settings(stack.layout)
    )


def _wipe(stack: Stack, say: Say) -> None:
    layout = stack.layout
    for line in down(stack):
        say(line)
    for folder in (layout.data, layout.conf, layout.logs):
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_blocks * 512 for path in files)
        shutil.rmtree(folder)
        say(f"wiped {folder}: {len(files):,} files, {size / 1e6:,.0f} MB")
    for file in (layout.connection, layout.admin):
        file.unlink(missing_ok=True)
        say(f"wiped {file}: new passwords are made")
    layout.make(stack.port_offset())


def _shift(stack: Stack, port_offset: int | None) -> None:
    """Other ports than before: only while nothing runs on the old ones."""
    old = stack.port_offset()
    if port_offset is None or port_offset == old:
        return
    description.servers(stack.layout, port_offset)
    running = [server.name for server in stack.servers() if stack.pid(server.name)]
    if running:
        raise BadInput(
            f"{', '.join(running)} run(s) with a port offset of {old}, not {port_offset}",
            remedy="Stop them first: paytm-lab stack down.",
        )
    stack.layout.make(port_offset)


def _require_parts(stack: Stack, fetch_missing: bool, say: Say) -> None:
    missing = description.missing(stack.parts())
    if missing and fetch_missing:
        fetch.fetch(programs.places(stack.layout).packages, missing, say)
        stack.parts(anew=True)
    programs.require(stack.parts())


def _connect(stack: Stack, servers: Sequence[Server]) -> None:
    """Passwords are made once, with the first data; the file follows the ports."""
    layout = stack.layout
    fresh = not layout.connection.exists() and not any(layout.data.iterdir())
    known = connection.new_passwords() if fresh else stack.passwords()
    connection.write_connection(layout, {s.name: s.port for s in servers}, known)


def _start(
    stack: Stack, servers: Sequence[Server], deadline_s: float, progress: Progress, say: Say
) -> dict[str, float]:
    began = time.monotonic()
    for server in servers:
        if stack.state(server).state == FROZEN:
            stack.thaw(server.name)
            say(f"{server.name} was frozen: thawed")
    stack.start(zookeeper.NAME)  # so that Kafka's start, beside it, may wait for its word
    with ThreadPoolExecutor(len(servers)) as pool:
        starts = {server.name: pool.submit(stack.start, server.name) for server in servers}
        return _wait(stack, servers, starts, began, deadline_s, progress)


def _wait(
    stack: Stack, servers: Sequence[Server], starts: Mapping[str, Future[int]], began: float,
    deadline_s: float, progress: Progress,
) -> dict[str, float]:  # fmt: skip
    """Until all are ready, or one of the starts failed, or one died."""
    ready_s: dict[str, float] = {}
    while True:
        under_way = {name for name, start in starts.items() if not start.done()}
        for name in starts.keys() - under_way:
            starts[name].result()  # raises what it raised
        states = [
            s._replace(state=STARTING) if s.state == SILENT or s.server in under_way else s
            for s in map(stack.state, servers)
        ]
        took = time.monotonic() - began
        ready_s |= {s.server: took for s in states if s.state == READY and s.server not in ready_s}
        progress(states)
        if len(ready_s) == len(servers):
            return ready_s
        dead = [server for server, s in zip(servers, states, strict=True) if s.state == DIED]
        late = [server for server in servers if server.name not in ready_s]
        if dead:
            raise stack.failure(dead, "died while starting")
        if took > deadline_s:
            raise stack.failure(late, f"not ready after {deadline_s:g} s")
        time.sleep(LOOK_EVERY_S)


def _verified(stack: Stack, servers: Sequence[Server], verify: Verify) -> str:
    try:
        return verify(settings_of(stack))
    except PaytmLabError as error:
        silent = [server for server in servers if not stack.ready(server.name)]
        if silent:
            words = stack.failure(silent, "does not answer").message
        else:
            words = f"all eight servers answer; their logs are in {stack.layout.logs}"
            words += "".join(_complaints(stack, servers))
        raise Unavailable(f"no payment crossed the stack: {error}\n{words}") from error


def _complaints(stack: Stack, servers: Sequence[Server]) -> list[str]:
    """Of each log whose end speaks of an error: its last lines."""
    found = []
    for server in servers:
        lines = processes.last_lines(stack.log(server.name))
        if "ERROR" in lines:
            found.append(f"\n{server.name}:\n{lines}")
    return found
