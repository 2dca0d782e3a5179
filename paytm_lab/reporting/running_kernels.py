"""The kernels at work, so that Ctrl-C can end them: they have a session of their own and do not
hear it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

GRACE_S = 1.0  # to leave a cell in order, close its lab and go


class RunningKernels:
    """May be told of kernels, and be ended, from any thread."""

    def __init__(self) -> None:
        self.ended = False
        self._running: list[psutil.Process] = []
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[Callable[[int], None]]:
        """Call what this yields with the process id of the kernel that was started within."""
        own: list[psutil.Process] = []

        def started(pid: int) -> None:
            with suppress(psutil.NoSuchProcess), self._changed:
                own.append(psutil.Process(pid))
                self._running.append(own[-1])
                if self.ended:
                    _kill(own[-1])

        try:
            yield started
        finally:
            with self._changed:
                self._running = [process for process in self._running if process not in own]
                self._changed.notify_all()

    def end(self, grace_s: float = GRACE_S) -> None:
        """Interrupt every kernel's cell; after ``grace_s`` kill what still runs, and at once
        whatever is started from now on.
        """
        with self._changed:
            self.ended = True
            for process in self._running:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)
            try:
                self._changed.wait_for(lambda: not self._running, grace_s)
            finally:  # a second Ctrl-C does not wait
                for process in self._running:
                    _kill(process)


def _kill(kernel: psutil.Process) -> None:
    """With all that it started."""
    with suppress(psutil.NoSuchProcess):
        for process in [*kernel.children(recursive=True), kernel]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
