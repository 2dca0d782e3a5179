"""Single servers: start, stop, kill, freeze, look. What ``up``, ``down`` and faults use."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from paytm_lab.core.errors import BadInput, LockTimeout, MissingPart, Unavailable
from paytm_lab.stack import connection, kafka, mysql, processes, programs, zookeeper
from paytm_lab.stack import servers as description
from paytm_lab.stack.connection import Passwords
from paytm_lab.stack.layout import Layout, write
from paytm_lab.stack.processes import Record
from paytm_lab.stack.programs import Part
from paytm_lab.stack.servers import Server

GRACE_S = 30.0
READY_WAIT_S = 120.0
FREEZE_S_MAX = 5.0
LOCK_WAIT_S_MAX = 180.0
MIB = 1 << 20
READY, STARTING, SILENT, FROZEN = "ready", "starting", "no answer", "frozen"
STOPPED, DIED = "stopped", "died"


class State(NamedTuple):
    """One server as it is now. ``memory_mib``: resident. ``said``: last log lines of a dead one.

    ``state``: ready, starting (in ``up``), no answer, frozen, stopped, died (not by ``down``).
    """

    server: str
    version: str
    port: int
    pid: int | None
    memory_mib: int | None
    state: str
    said: str = ""


class Stack:
    """The servers in one folder. Safe to use from several threads and processes at once.

    Nothing is read or started before a method is called. MissingPart where there is no stack yet.
    """

    def __init__(self, stack_dir: str | Path) -> None:
        self.layout = Layout(Path(stack_dir))
        self._parts: dict[str, Part] | None = None

    # -- what there is ----------------------------------------------------------------------------

    def servers(self) -> list[Server]:
        return description.servers(self.layout, self.port_offset())

    def server(self, name: str) -> Server:
        """By name or alias (shard-0 is mysql-0). BadInput for any other."""
        wanted = re.sub(r"^shard-", "mysql-", name)
        all_servers = self.servers()
        for server in all_servers:
            if server.name == wanted:
                return server
        raise BadInput(
            f"there is no server {name!r} in a stack",
            remedy=f"There are {', '.join(server.name for server in all_servers)}.",
        )

    def port_offset(self) -> int:
        self.layout.require_ours()
        offset = self.layout.port_offset()
        if offset is None:
            raise MissingPart(
                f"there is no stack in {self.layout.root}",
                remedy="Start one with paytm-lab stack up, or name its folder with --dir.",
            )
        return offset

    def passwords(self) -> Passwords:
        return connection.passwords(self.layout)

    def parts(self, anew: bool = False) -> Mapping[str, Part]:
        if self._parts is None or anew:
            self._parts = description.parts(programs.places(self.layout))
        return self._parts

    def log(self, name: str) -> Path:
        return self.layout.logs / f"{self.server(name).name}.log"

    def pid(self, name: str) -> int | None:
        """Of the running server; None when it does not run."""
        process = self._process(self.server(name))
        return None if process is None else int(process.pid)

    def ready(self, name: str) -> bool:
        """It runs and answers in its own protocol."""
        server = self.server(name)
        return self._process(server) is not None and server.ready(self.passwords())

    def state(self, server: Server) -> State:
        record = processes.remembered(self.layout, server.name)
        process = processes.running(record)
        version = record.version if record else ""
        log = self.layout.logs / f"{server.name}.log"
        try:
            if process is not None:
                memory = process.memory_info().rss // MIB
                state = SILENT
                if process.status() == psutil.STATUS_STOPPED:
                    state = FROZEN
                elif server.ready(self.passwords()):
                    state = READY
                return State(server.name, version, server.port, process.pid, memory, state)
        except psutil.NoSuchProcess:
            pass
        if record is None:
            return State(server.name, version, server.port, None, None, STOPPED)
        said = processes.last_lines(log)
        return State(server.name, version, server.port, None, None, DIED, said)

    def _process(self, server: Server) -> psutil.Process | None:
        return processes.running(processes.remembered(self.layout, server.name))

    # -- one server -------------------------------------------------------------------------------

    def start(self, name: str) -> int:
        """Start it unless it runs; its pid. Does not wait until it is ready.

        MissingPart when its program is not on this machine, Unavailable when it ends at once.
        """
        server = self.server(name)
        with self._locked(server.name):
            return self._start(server)

    def restart(self, name: str, grace_s: float = GRACE_S) -> int:
        """Stop it cleanly and start it; the new pid. Others cannot start it in between."""
        server = self.server(name)
        with self._locked(server.name):
            self._stop(server, grace_s)
            return self._start(server)

    def stop(self, name: str, grace_s: float = GRACE_S) -> bool:
        """SIGTERM, SIGKILL after the grace. Whether it took the latter."""
        server = self.server(name)
        with self._locked(server.name):
            return self._stop(server, grace_s)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end. Nothing happens to one that does not run."""
        server = self.server(name)
        with self._locked(server.name):
            process = self._process(server)
            if process is not None:
                process.kill()
                processes.gone(process, GRACE_S)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it holds its connections and answers nothing. Unavailable if it does not run, or
        is not seen to stop.
        """
        process = self._signal(name, signal.SIGSTOP)
        give_up_at = time.monotonic() + FREEZE_S_MAX
        while process.status() != psutil.STATUS_STOPPED:  # its threads run on for a moment
            if time.monotonic() > give_up_at:
                raise self.failure([self.server(name)], "does not stop")
            time.sleep(0.001)

    def thaw(self, name: str) -> None:
        """SIGCONT. Unavailable if it does not run."""
        self._signal(name, signal.SIGCONT)

    def wait_ready(self, name: str, deadline_s: float = READY_WAIT_S) -> None:
        """Unavailable, with its last log lines, when it dies first or takes longer."""
        server, known = self.server(name), self.passwords()
        give_up_at = time.monotonic() + deadline_s
        while True:
            died = self._process(server) is None
            if not died and server.ready(known):
                return
            if died or time.monotonic() > give_up_at:
                raise self.failure([server], "died" if died else f"took over {deadline_s:g} s")
            time.sleep(0.05)

    def failure(self, failed: Sequence[Server], how: str) -> Unavailable:
        """The error that names servers with their last log lines."""
        logs = [self.layout.logs / f"{server.name}.log" for server in failed]
        words = "".join(
            f"\n{server.name}, last lines of {log}:\n{processes.last_lines(log)}"
            for server, log in zip(failed, logs, strict=True)
        )
        return Unavailable(f"{', '.join(server.name for server in failed)} {how}{words}")

    def _signal(self, name: str, number: signal.Signals) -> psutil.Process:
        server = self.server(name)
        process = self._process(server)
        if process is None:
            raise self.failure([server], "does not run")
        process.send_signal(number)
        return process

    def _start(self, server: Server) -> int:
        process = self._process(server)
        if process is not None:
            return int(process.pid)
        known, found = self.passwords(), self.parts()
        programs.require({part: found[part] for part in server.parts})
        self._prepare(server, known)
        if server.name == kafka.NAME and kafka.has_run(self.layout):
            keeper = self.server(zookeeper.NAME)
            if self._process(keeper) is not None:
                kafka.wait_for_old_registration(keeper.port)
        log = self.layout.logs / f"{server.name}.log"
        record = processes.start(server, server.launch(found), log)
        processes.remember(self.layout, server.name, record)
        return record.pid

    def _prepare(self, server: Server, known: Passwords) -> None:
        """Configuration and data folder."""
        write(server.config_path, server.config(known))
        program = self.parts()["mysql"]
        if not server.name.startswith("mysql"):
            (self.layout.data / server.name).mkdir(exist_ok=True)
        elif isinstance(program, programs.Program):
            with self._locked("mysql-init"):
                write(mysql.config_path(self.layout, 0), self.server("mysql-0").config(known))
                mysql.initialise(program, self.layout, known)
            mysql.forget_killed(self.layout, int(server.name.removeprefix("mysql-")))

    def _stop(self, server: Server, grace_s: float) -> bool:
        process = self._process(server)
        killed = process is not None and processes.end(process, grace_s)
        processes.forget(self.layout, server.name)
        return killed

    # -- between processes ------------------------------------------------------------------------

    def adopt(self) -> None:
        """Remember servers of this stack that run though they are not remembered: whoever started
        them was interrupted just then.
        """
        for server, process in processes.orphans(self.servers()):
            with self._locked(server.name):
                if self._process(server) is None:
                    record = Record(process.pid, process.create_time(), "")
                    processes.remember(self.layout, server.name, record)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The whole stack, against another ``up`` or ``down``. Single servers stay usable."""
        with self._locked("stack"):
            yield

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Across threads and processes: each call opens the file anew."""
        self.layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.layout.run / f"{name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_up_at = time.monotonic() + LOCK_WAIT_S_MAX
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up_at:
                        raise LockTimeout(
                            f"another process has been at {name} for {LOCK_WAIT_S_MAX:g} s",
                            place=str(path),
                        ) from None
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)


__all__ = ["Stack", "State"]
