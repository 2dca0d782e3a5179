"""Closing a lab in bounded time, whatever its servers do.

What the servers that answer have in flight is finished. A server that is gone, or says nothing for
``ANSWER_S_MAX``, is not waited for: its connections are cut, so that all who wait for it hear so at
once, and one line of the log names it. Nothing is lost by that: what was committed is stored, and
the next opening finishes payments and relays events, as it does after a crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.wiring.stores import COORDINATION

if TYPE_CHECKING:
    from paytm_lab.wiring.system import System

QUICK_S = 1.0  # nearly all labs are closed by then, and no server is asked anything
ANSWER_S_MAX = 4.0  # with the second before, as long as a writer waits for its shard
FINISH_S_MAX = 60.0  # for what servers that answer have to finish
AFTER_CUT_S_MAX = 1.5  # to notice that a connection was cut
RELEASE_S_MAX = 2.5
IN_FLIGHT_S_MAX = 6.0
_LOOK_S = 0.02
_log = logging.getLogger(__name__)


class Together:
    """Calls that run at once, each in a thread of its own. ``open``: which have not ended yet;
    ``errors``: what those raised that have.
    """

    def __init__(self, calls: Mapping[str, Callable[[], object]]) -> None:
        self.began_s = time.monotonic()
        self.open = set(calls)
        self.errors: dict[str, Exception] = {}
        self._changed = threading.Condition()
        for name, call in calls.items():
            thread = threading.Thread(
                target=self._run, args=(name, call), name=f"closing: {name}", daemon=True
            )
            thread.start()

    def _run(self, name: str, call: Callable[[], object]) -> None:
        error: Exception | None = None
        try:
            call()
        except Exception as raised:  # whose it is, the one who waits decides
            error = raised
        with self._changed:
            if error is not None:
                self.errors[name] = error
            self.open.discard(name)
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Until all have ended, or so long. Whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.open, max(0.0, timeout_s))

    def unwell(self, answer_s_max: float) -> dict[str, str]:
        """Name -> why, of those that raised what a server's absence raises, or take too long."""
        found: dict[str, str] = {}
        with self._changed:
            for name, error in self.errors.items():
                if isinstance(error, Unavailable | StoreError):
                    found[name] = "does not answer"
            if time.monotonic() - self.began_s >= answer_s_max:
                found |= dict.fromkeys(self.open, f"says nothing for {answer_s_max:g} s")
        return found


class Shutdown:
    """One closing of one lab. ``silent``: part -> why it was not waited for."""

    def __init__(self, system: System) -> None:
        self.silent: dict[str, str] = {}
        self._system = system
        self._asked: Together | None = None
        self._cuts: list[Together] = []
        self._left: list[str] = []  # what had not ended when its time was over
        self._error: Exception | None = None

    def run(self) -> None:
        """Raises the first error that is no server's absence, when everything else is done."""
        system = self._system
        with_threads = bool(system.workers)
        for worker in system.workers:
            worker.leave()
        system.housekeeping.paused = True
        # Before the writers: a worker's last step may wait for their answer.
        self._finish({w.name: partial(w.stop, FINISH_S_MAX) for w in system.workers})
        system.workers.clear()
        if with_threads and not system.killed:
            # A payment that crosses comes back to its first shard's writer: none stops before.
            self._finish({"payments in flight": self._wait_for_payments})
        self._finish({f"writer of shard {n}": w.stop for n, w in system.writers.items()})
        if self._left:
            system.engine.abandon()
        self._finish(
            {f"consumer {group}": runner.close for group, runner in system.runners.items()}
            | {f"relay's lock of shard {n}": relay.close for n, relay in system.relays.items()}
            | {"housekeeping": system.housekeeping.close, "shard map": system.router.close}
            | {"notifications": system.notifying.close}
        )
        self._release()
        self._say()
        if self._error is not None:
            raise self._error

    def _wait_for_payments(self) -> None:
        """Not for ever: somebody may still be posting."""
        admission, pause = self._system.engine.admission, threading.Event()
        until_s = time.monotonic() + IN_FLIGHT_S_MAX
        while admission.in_flight and time.monotonic() < until_s:
            pause.wait(_LOOK_S)

    def _finish(self, calls: Mapping[str, Callable[[], object]]) -> None:
        """Until all have ended; a server that does not answer meanwhile is cut off."""
        running = Together(calls)
        if not running.wait(QUICK_S):
            until_s = running.began_s + FINISH_S_MAX
            while not running.wait(_LOOK_S) and time.monotonic() < until_s:
                if self._cut_silent():
                    until_s = min(until_s, time.monotonic() + AFTER_CUT_S_MAX)
                elif self.silent:
                    until_s = min(until_s, running.began_s + QUICK_S + AFTER_CUT_S_MAX)
        self._note(running)

    def _cut_silent(self) -> bool:
        """Ask all servers; close what is found silent now. Whether anything was."""
        asked = self._asked
        if asked is None or (
            not asked.open and time.monotonic() - asked.began_s > 2 * ANSWER_S_MAX
        ):
            checks = self._system.checks()
            asked = Together({name: checks[name] for name in checks.keys() - self.silent.keys()})
            self._asked = asked
        found = {n: w for n, w in asked.unwell(ANSWER_S_MAX).items() if n not in self.silent}
        self.silent |= found
        parts = self._system.stores.parts()
        if found:
            self._cuts.append(Together({name: parts[name].close for name in found}))
        return bool(found)

    def _release(self) -> None:
        """The coordination goes last: what it tells others of this process is true until then."""
        parts = self._system.stores.parts()
        last = parts.pop(COORDINATION)
        until_s = time.monotonic() + RELEASE_S_MAX
        others = {name: part.close for name, part in parts.items()}
        for closing in (others, {COORDINATION: last.close}):
            running = Together(closing)
            running.wait(max(until_s - time.monotonic(), 0.0))
            self._note(running)
        for cut in self._cuts:
            cut.wait(until_s - time.monotonic())

    def _note(self, ended: Together) -> None:
        self._left += sorted(ended.open)
        for error in ended.errors.values():
            if not isinstance(error, Unavailable | StoreError):
                self._error = self._error or error

    def _say(self) -> None:
        found = [f"{name}, which {why}" for name, why in sorted(self.silent.items())]
        found += [f"{name}, which has not ended" for name in self._left if name not in self.silent]
        if found:
            _log.warning(
                "closed without waiting for %s; what was committed is stored, and the next opening"
                " finishes the rest",
                "; ".join(found),
            )
