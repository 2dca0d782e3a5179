"""A thread that repeats a step: what turns the synchronous cores into a running system."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from enum import StrEnum

ERROR_WAIT_S_MIN = 0.05
ERROR_WAIT_S_MAX = 5.0
_logger = logging.getLogger(__name__)


class WorkerState(StrEnum):
    NEW = "new"
    WORKING = "working"
    IDLE = "idle"
    FAILING = "failing"  # the last step raised; it is tried again, after a growing wait
    STOPPED = "stopped"


class Worker:
    """Runs ``step`` again and again until ``stop``. A step returns how much it did; after 0 the
    worker waits ``idle_wait_s`` (give 0 where the step itself waits). A step that raises is tried
    again after a wait that doubles up to ``ERROR_WAIT_S_MAX``; ``error`` is the last one, None once
    a step succeeds. ``done`` is the sum of what the steps returned.
    """

    def __init__(self, name: str, step: Callable[[], int], idle_wait_s: float) -> None:
        self.name = name
        self.error: Exception | None = None
        self.state = WorkerState.NEW
        self.done = 0
        self.errors = 0
        self._step = step
        self._idle_wait_s = idle_wait_s
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Worker:
        """Start the thread, once."""
        self._thread.start()
        return self

    def wake(self) -> None:
        """End the present wait, if there is one."""
        self._wake.set()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Let the step under way end, then end the thread. True when it has ended. Harmless when
        called twice, or before ``start``.
        """
        self._stopping = True
        self._wake.set()
        if self._thread.ident is None:
            self.state = WorkerState.STOPPED
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        wait_s = ERROR_WAIT_S_MIN
        while not self._stopping:
            try:
                did = self._step()
            except Exception as error:  # a worker outlives what its step meets, and shows it
                self._fail(error, wait_s)
                wait_s = min(wait_s * 2, ERROR_WAIT_S_MAX)
                continue
            self.error = None
            wait_s = ERROR_WAIT_S_MIN
            self.done += did
            self.state = WorkerState.WORKING if did else WorkerState.IDLE
            if not did and self._idle_wait_s > 0:
                self._pause(self._idle_wait_s)
        self.state = WorkerState.STOPPED

    def _fail(self, error: Exception, wait_s: float) -> None:
        if self.error is None:
            _logger.warning("%s: %s: %s", self.name, type(error).__name__, error)
        self.error = error
        self.errors += 1
        self.state = WorkerState.FAILING
        self._pause(wait_s)

    def _pause(self, wait_s: float) -> None:
        self._wake.wait(wait_s)
        if not self._stopping:
            self._wake.clear()
