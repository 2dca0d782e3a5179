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
SAID_S_MAX = 2.0  # when nobody waits for it any more
FINISH_S_MAX = 60.0  # for what servers that answer have to finish
AFTER_CUT_S_MAX = 1.5  # to notice that a connection was cut
RELEASE_S_MAX = 2.5
IN_FLIGHT_S_MAX = 6.0
_LOOK_S = 0.02
AWAY = Unavailable | StoreError  # what a call raises whose server is not there
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
                if isinstance(error, AWAY):
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
        self._begun: list[Together] = []

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
        if self._left():
            system.engine.abandon()  # who still waits for an answer need not
        self._finish(
            {f"consumer {group}": runner.close for group, runner in system.runners.items()}
            | {f"relay's lock of shard {n}": relay.close for n, relay in system.relays.items()}
            | {"housekeeping": system.housekeeping.close, "shard map": system.router.close}
            | {"notifications": system.notifying.close}
        )
        if self._asked is not None:  # one that was needed and is silent is known as such
            self._asked.wait(self._asked.began_s + SAID_S_MAX - time.monotonic())
            self._cut_silent(SAID_S_MAX)
        self._release()
        self._say()
        for ended in self._begun:
            for error in ended.errors.values():
                if not isinstance(error, AWAY):
                    raise error

    def _wait_for_payments(self) -> None:
        """Not for ever: somebody may still be posting."""
        admission, pause = self._system.engine.admission, threading.Event()
        until_s = time.monotonic() + IN_FLIGHT_S_MAX
        while admission.in_flight and time.monotonic() < until_s:
            pause.wait(_LOOK_S)

    def _begin(self, calls: Mapping[str, Callable[[], object]]) -> Together:
        self._begun.append(Together(calls))
        return self._begun[-1]

    def _finish(self, calls: Mapping[str, Callable[[], object]]) -> None:
        """Until all have ended; a server that does not answer meanwhile is cut off."""
        running = self._begin(calls)
        if not running.wait(QUICK_S):
            until_s = running.began_s + FINISH_S_MAX
            while not running.wait(_LOOK_S) and time.monotonic() < until_s:
                self._ask()
                if self._cut_silent():
                    until_s = min(until_s, time.monotonic() + AFTER_CUT_S_MAX)
                elif self.silent:
                    until_s = min(until_s, running.began_s + QUICK_S + AFTER_CUT_S_MAX)

    def _ask(self) -> None:
        """All servers that are not known to be silent, now and then."""
        asked = self._asked
        if asked is None or (
            not asked.open and time.monotonic() - asked.began_s > 2 * ANSWER_S_MAX
        ):
            checks = self._system.checks()
            names = checks.keys() - self.silent.keys()
            self._asked = Together({name: checks[name] for name in names})

    def _cut_silent(self, answer_s_max: float = ANSWER_S_MAX) -> bool:
        """Close the parts that are found silent now. Whether there was one."""
        unwell = {} if self._asked is None else self._asked.unwell(answer_s_max)
        found = {name: why for name, why in unwell.items() if name not in self.silent}
        if found:
            self.silent |= found
            parts = self._parts()
            self._cuts.append(Together({name: parts[name] for name in found}))
        return bool(found)

    def _parts(self) -> dict[str, Callable[[], None]]:
        """How each is closed; a shard with its switch, which may keep somebody waiting too."""
        closes = {name: part.close for name, part in self._system.stores.parts().items()}
        return closes | {f"shard-{n}": d.close for n, d in self._system.databases.items()}

    def _release(self) -> None:
        """The coordination goes last: what it tells others of this process is true until then."""
        parts = self._parts()
        last = parts.pop(COORDINATION)
        until_s = time.monotonic() + RELEASE_S_MAX
        for closing in (parts, {COORDINATION: last}):
            running = self._begin(closing)
            running.wait(max(until_s - time.monotonic(), 0.0))
        for cut in self._cuts:
            cut.wait(until_s - time.monotonic())

    def _left(self) -> list[str]:
        """What has not ended, though its time was over."""
        return [name for begun in self._begun for name in sorted(begun.open)]

    def _say(self) -> None:
        found = [f"{name}, which {why}" for name, why in sorted(self.silent.items())]
        found += [
            f"{name}, which has not ended" for name in self._left() if name not in self.silent
        ]
        if found:
            _log.warning(
                "closed without waiting for %s; what was committed is stored, and the next opening"
                " finishes the rest",
                "; ".join(found),
            )
