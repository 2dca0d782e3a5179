"""Several processes that serve the same ports, and the one that keeps them running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from paytm_lab import children
from paytm_lab.core.errors import Unavailable
from paytm_lab.terminal import note
from paytm_lab.verbs.ending import told_to_end

WORKERS_MAX = 64
START_S_MAX = 90.0
STOP_S_MAX = 30.0
LOOK_S = 0.2
DEATHS_MAX, DEATHS_S = 5, 60.0  # more deaths within that time, and it is no accident
READY = b"r"


class Supervised:
    """A worker's end of the pair of sockets by which it knows its supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._pair = socket.socket(fileno=descriptor)
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()

    def ready(self) -> None:
        with suppress(OSError):
            self._pair.send(READY)

    def _watch(self) -> None:
        """Nothing ever comes; the end does, however the supervisor died."""
        with suppress(OSError):
            self._pair.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)


class _Worker:
    """``words``: the command line after ``paytm-lab``."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self.start()

    def start(self) -> None:
        self.ready = False
        self._pair, theirs = socket.socketpair()
        self._pair.setblocking(False)
        with theirs:
            fd = theirs.fileno()
            command = children.command([*self._words, "--share-ports", "--supervised-by", str(fd)])
            self.process = subprocess.Popen(  # noqa: S603 - words of our own
                command, pass_fds=[fd], start_new_session=True
            )

    def look(self) -> bool:
        """Whether it just got ready."""
        if self.ready:
            return False
        with suppress(BlockingIOError, OSError):
            self.ready = self._pair.recv(1) == READY
        return self.ready

    def stop(self) -> None:
        self.process.terminate()

    def wait(self, until_s: float) -> int:
        try:
            code = self.process.wait(max(0.1, until_s - time.monotonic()))
            # One that was still starting has nothing to finish.
            return 0 if code == -signal.SIGTERM and not self.ready else code
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._pair.close()


def keep(
    commands: Sequence[Sequence[str]], quiet: bool, on_ready: Callable[[], None] = lambda: None
) -> int:
    """Run a worker for each command until a signal; one that dies is started again. ``on_ready`` is
    called when all serve. Returns the exit code: of the first worker that ended otherwise than 0,
    0 when all ended well.

    Unavailable when they do not start, or die again and again.
    """
    deaths: deque[float] = deque(maxlen=DEATHS_MAX)
    with told_to_end() as told, ExitStack() as running:
        workers: list[_Worker] = []
        running.callback(_end, workers)
        for command in commands:
            workers.append(_Worker(command))
        waiting_until = time.monotonic() + START_S_MAX
        said = False
        while not told.wait(LOOK_S):
            for worker in workers:
                if worker.look() and said:
                    note(f"worker {worker.process.pid} serves", quiet)
                code = worker.process.poll()
                if code is not None:
                    if not said and code >= 0:
                        return code or 1  # what is wrong with its start it has said itself
                    _again(worker, code, deaths, quiet)
            if not said and all(worker.ready for worker in workers):
                said = True
                on_ready()
            if not said and time.monotonic() > waiting_until:
                raise Unavailable(f"the workers did not serve within {START_S_MAX:.0f} s")
        for worker in workers:
            worker.stop()
        until = time.monotonic() + STOP_S_MAX
        codes = [worker.wait(until) for worker in workers]
        workers.clear()
    return next((code for code in codes if code), 0)


def _again(worker: _Worker, code: int, deaths: deque[float], quiet: bool) -> None:
    now = time.monotonic()
    if len(deaths) == DEATHS_MAX and now - deaths[0] < DEATHS_S:
        raise Unavailable(
            f"workers died {DEATHS_MAX + 1} times within {DEATHS_S:.0f} s (the last by {code})",
            remedy="Their log above says why.",
        )
    deaths.append(now)
    note(f"worker {worker.process.pid} ended by {code}: another is started", quiet)
    worker.wait(now)
    worker.start()


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.stop()
    until = time.monotonic() + STOP_S_MAX
    for worker in workers:
        worker.wait(until)
