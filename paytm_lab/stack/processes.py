"""Processes that outlive us: started, remembered, known again; a reused pid is not mistaken."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from paytm_lab.core.errors import Unavailable
from paytm_lab.stack.layout import Layout, write
from paytm_lab.stack.servers import Launch, Server
from paytm_lab.stack.timers import timer_slack

SAME_TIME_S = 1.0  # what the kernel's clock, which dates processes, may have been corrected by
LOG_BYTES_MAX = 16 << 20
TAIL_BYTES_MAX = 1 << 20
SHELL = "/bin/sh"
# The shell leaves at once, so that the server is nobody's child here and leaves no zombie behind.
_DETACH = '"$@" >>"$LOG" 2>&1 </dev/null & echo $!'


class Record(NamedTuple):
    """What is remembered of a started server."""

    pid: int
    create_time: float
    version: str


def record_path(layout: Layout, name: str) -> Path:
    return layout.run / f"{name}.json"


def remembered(layout: Layout, name: str) -> Record | None:
    """The record of a server that was started and not stopped; None, too, for an unreadable one."""
    try:
        known = json.loads(record_path(layout, name).read_text())
        return Record(int(known["pid"]), float(known["create_time"]), str(known["version"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(layout: Layout, name: str, record: Record) -> None:
    write(record_path(layout, name), json.dumps(record._asdict()) + "\n")


def forget(layout: Layout, name: str) -> None:
    record_path(layout, name).unlink(missing_ok=True)


def running(record: Record | None) -> psutil.Process | None:
    """The process of the record, if it still is that process."""
    if record is None:
        return None
    with contextlib.suppress(psutil.Error, ValueError):
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.create_time) <= SAME_TIME_S
        if same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return process
    return None


def start(server: Server, launch: Launch, log: Path) -> Record:
    """Start it in a session of its own, its output in the log. Raises Unavailable when it is gone
    at once.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.old"))
    with timer_slack(launch.timer_slack_ns):
        done = subprocess.run(  # noqa: S603 - a server's program, by its full path
            [SHELL, "-c", _DETACH, server.name, *launch.command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
            start_new_session=True,
            env={**os.environ, **launch.environment, "LOG": str(log)},
        )  # fmt: skip
    pid = int(done.stdout)
    try:
        return Record(pid, psutil.Process(pid).create_time(), launch.version)
    except psutil.Error:
        raise Unavailable(
            f"{server.name} ended at once:\n{last_lines(log)}", place=str(log)
        ) from None


def orphans(servers: Sequence[Server]) -> Iterator[tuple[Server, psutil.Process]]:
    """Processes that are those servers by their command line, whatever is remembered."""
    markers = {server.marker: server for server in servers}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0] != SHELL:
            for marker in markers.keys() & set(words):
                yield markers[marker], process


def end(process: psutil.Process, grace_s: float) -> bool:
    """SIGTERM, SIGKILL after the grace. Whether it took the latter."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # a frozen one cannot hear
        if gone(process, grace_s):
            return False
        process.kill()
        gone(process, grace_s)
        return True
    return False


def gone(process: psutil.Process, within_s: float) -> bool:
    """Wait for its end. A zombie has ended, whoever should have collected it, once its last thread
    has: until then its ports stay taken.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            if not process.is_running():
                return True
            if process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1:
                return True
        except psutil.NoSuchProcess:  # so does ZombieProcess, where threads are not told
            return True
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)


def tail(log: Path, count: int) -> tuple[list[str], int]:
    """The last lines of a log, at most 1 MiB, and its size then; ([], 0) where there is none."""
    try:
        with log.open("rb") as file:
            size = log.stat().st_size
            at = file.seek(max(0, size - TAIL_BYTES_MAX))
            return file.read(size - at).decode(errors="replace").splitlines()[-count:], size
    except OSError:
        return [], 0


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log, ready to be shown below a message."""
    lines, _ = tail(log, count)
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (nothing in its log)"
