"""stack: the real servers on this machine, up and down, looked at, their logs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paytm_lab.config import Settings
from paytm_lab.stack.control import DIED, READY, STOPPED, Stack, State
from paytm_lab.stack.down import down as stop_servers
from paytm_lab.stack.processes import tail
from paytm_lab.stack.up import up as start_servers
from paytm_lab.terminal import live_table, note, print_json, say, table

FOLLOW_EVERY_S = 0.2
DOWN_CODE = 3


def folder(given: Path | None) -> Path:
    """Where the stack is: the option, else the setting."""
    return given or Settings().stack_dir


def up(
    stack_dir: Path | None, port_offset: int | None, reset: bool, fetch: bool,
    quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    root = folder(stack_dir)
    with live_table(quiet) as show:
        done = start_servers(
            root,
            port_offset=port_offset,
            reset=reset,
            fetch_missing=fetch,
            progress=lambda states: show([_row(s) for s in states]),
            say=lambda line: note(line, quiet),
        )
    if as_json:
        servers = [s._asdict() | {"ready_s": round(done.ready_s[s.server], 1)} for s in done.states]
        print_json({"stack_dir": str(root), "servers": servers, "verified": done.verified})
        return 0
    if not quiet:
        table([_row(s) | {"ready_s": round(done.ready_s[s.server], 1)} for s in done.states])
        _say_memory(done.states)
    say(done.verified, not done.verified)
    note(f"how to log in: {Stack(root).layout.connection} (read by --profile servers)", quiet)
    return 0


def down(stack_dir: Path | None, names: Sequence[str], quiet: bool, as_json: bool) -> int:
    lines = stop_servers(Stack(folder(stack_dir)), names)
    if as_json:
        print_json(
            [dict(zip(("server", "how"), line.split(": ", 1), strict=True)) for line in lines]
        )
    else:
        say("\n".join(lines) or "nothing was running", quiet)
    return 0


def status(stack_dir: Path | None, quiet: bool, as_json: bool) -> int:
    """0 when all are ready, 3 when one is not."""
    stack = Stack(folder(stack_dir))
    states = [stack.state(server) for server in stack.servers()]
    if as_json:
        print_json([s._asdict() for s in states])
    else:
        table([_row(s) for s in states])
        _say_memory(states)
        for s in states:
            if s.state == DIED:
                note(f"{s.server} died, last lines of {stack.log(s.server)}:\n{s.said}", quiet)
    return 0 if all(s.state == READY for s in states) else DOWN_CODE


def logs(stack_dir: Path | None, name: str, lines: int, follow: bool) -> int:
    """The end of a server's log; with ``follow`` what it writes, until Ctrl-C."""
    stack = Stack(folder(stack_dir))
    log = stack.log(name)
    last, size = tail(log, lines)
    say("\n".join(last), quiet=not last)
    if follow:
        _follow(log, size)
    return 0


def _follow(log: Path, at: int) -> None:
    """What is written after the first ``at`` bytes, whole lines."""
    while True:
        size = log.stat().st_size if log.exists() else 0
        if size < at:  # a new log
            at = 0
        if size > at:
            with log.open("rb") as file:
                file.seek(at)
                piece = file.read()
            whole = piece[: piece.rfind(b"\n") + 1]
            at += len(whole)
            if whole:
                say(whole.decode(errors="replace").removesuffix("\n"))
        time.sleep(FOLLOW_EVERY_S)


def _row(state: State) -> dict[str, Any]:
    row = state._asdict()
    del row["said"]
    # Ports and pids are names, not amounts: no thousands separators.
    row |= {"port": str(state.port), "pid": "" if state.pid is None else str(state.pid)}
    return row | {"memory_mib": "" if state.memory_mib is None else state.memory_mib}


def _say_memory(states: Sequence[State]) -> None:
    running = [s for s in states if s.state not in (STOPPED, DIED)]
    memory = sum(s.memory_mib or 0 for s in running)
    say(f"{len(running)} of {len(states)} run, {memory / 1024:.2f} GiB of memory together")
