"""A thread that repeats a step: what turns the synchronous cores into a running system."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from enum import StrEnum

from paytm_lab.core.errors import PaytmLabError

ERROR_WAIT_S_MIN = 0.05
ERROR_WAIT_S_MAX = 5.0
REST_AFTER = 15
_logger = logging.getLogger(__name__)


class WorkerState(StrEnum):
    NEW = "new"
    WORKING = "working"
    IDLE = "idle"
    FAILING = "failing"  # the last step raised; it is tried again, after a growing wait
    STOPPED = "stopped"


class Trouble:
    """Says once that something fails, and once that it is well again, however often it is tried in
    between. ``error`` is the last failure, None while all is well.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: Exception | None = None

    def failed(self, error: Exception) -> None:
        if self.error is None:
            # What is none of the lab's own errors nobody foresaw: where it came from is told, too.
            unforeseen = None if isinstance(error, PaytmLabError) else error
            _logger.warning(
                "%s fails: %s: %s", self.name, type(error).__name__, error, exc_info=unforeseen
            )
        self.error = error

    def well(self) -> None:
        if self.error is not None:
            self.error = None
            _logger.warning("%s is well again", self.name)


class Worker:
    """Runs ``step`` again and again until ``stop``. A step returns how much it did; after less than
    ``again_from`` there was no more, and the worker waits ``idle_wait_s`` (give 0 where the step
    itself waits), or until it is woken: a ``wake`` during the step counts. After ``REST_AFTER``
    steps in a row that did nothing it rests: it waits ``rest_wait_s`` each time, until it is woken
    or finds work. A step that raises is tried again after a wait that doubles up to
    ``ERROR_WAIT_S_MAX``. ``done`` is the sum of what the steps returned.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], int],
        idle_wait_s: float,
        *,
        rest_wait_s: float | None = None,
        again_from: int = 1,
    ) -> None:
        self.name = name
        self.state = WorkerState.NEW
        self.done = 0
        self.errors = 0
        self._trouble = Trouble(name)
        self._step = step
        self._idle_wait_s = idle_wait_s
        self._rest_wait_s = idle_wait_s if rest_wait_s is None else rest_wait_s
        self._again_from = again_from
        self._stopping = False
        self._wake = threading.Event()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def error(self) -> Exception | None:
        """What the last step raised; None when it raised nothing."""
        return self._trouble.error

    def start(self) -> Worker:
        """Start the thread, once."""
        self._thread.start()
        return self

    def wake(self) -> None:
        """End the present wait for work, if there is one; a wait after an error goes on."""
        self._wake.set()

    def leave(self) -> None:
        """Say that the step under way is the last; ``stop`` waits for it."""
        self._stopping = True
        self._left.set()
        self._wake.set()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Let the step under way end, then end the thread. True when it has ended. Harmless when
        called twice, or before ``start``.
        """
        self.leave()
        if self._thread.ident is None:
            self.state = WorkerState.STOPPED
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        wait_s, idle_in_row = ERROR_WAIT_S_MIN, 0
        while not self._stopping:
            try:
                did = self._step()
            except Exception as error:  # a worker outlives what its step meets, and shows it
                self._fail(error, wait_s)
                wait_s = min(wait_s * 2, ERROR_WAIT_S_MAX)
                continue
            self._trouble.well()
            wait_s = ERROR_WAIT_S_MIN
            self.done += did
            self.state = WorkerState.WORKING if did else WorkerState.IDLE
            idle_in_row = 0 if did else idle_in_row + 1
            if did < self._again_from and self._idle_wait_s > 0:
                rests = idle_in_row > REST_AFTER
                if self._pause(self._rest_wait_s if rests else self._idle_wait_s):
                    idle_in_row = 0
        self.state = WorkerState.STOPPED

    def _fail(self, error: Exception, wait_s: float) -> None:
        self._trouble.failed(error)
        self.errors += 1
        self.state = WorkerState.FAILING
        self._left.wait(wait_s)

    def _pause(self, wait_s: float) -> bool:
        """True when it was woken."""
        woken = self._wake.wait(wait_s)
        if not self._stopping:
            self._wake.clear()
        return woken
