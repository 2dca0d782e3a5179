"""A consumer whose decisions do not wait for their storing: decide, then store by groups.

The runner's own thread polls, decides and commits; a second one stores. While it stores, the next
records are decided, and it takes all that were decided meanwhile together: the group commit of the
shard writers, for consumers. Nothing is committed before it is stored, so a crash repeats what a
plain runner's would.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.messaging.consumer import ConsumerRunner, Handler
from paytm_lab.ports.event_log import EventLog, Record

COMMIT_S = 0.1  # a commit is a round trip, and nothing is decided meanwhile
STOP_S_MAX = 5.0  # what is being stored when a runner closes may end in so long
_LOOK_S = 0.1


class StagedHandler(Handler, Protocol):
    """``handle(records)`` is ``store([decide(records)])``."""

    def decide(self, records: Sequence[Record]) -> Any:
        """What to do about these records; nothing of it is visible to anybody yet. What was decided
        before and is not stored yet counts as known.
        """

    def store(self, decided: Sequence[Any]) -> None:
        """Act on decisions, in their order. Raising means that none counts as stored."""

    def forget(self, decided: Sequence[Any]) -> None:
        """These are stored, or could not be, and their records come again."""


class _Storing:
    """A thread that stores what was decided. ``stored`` and ``failed`` are for the runner, which
    takes them away; after a failure nothing is stored until it has.
    """

    def __init__(self, name: str, handler: StagedHandler) -> None:
        self.error: BaseException | None = None
        self._store, self._forget = handler.store, handler.forget
        self._changed = threading.Condition()
        self._waiting: list[tuple[list[Record], Any]] = []
        self._under_way: list[tuple[list[Record], Any]] = []
        self._stored: list[list[Record]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, records: list[Record], decided: Any) -> None:
        with self._changed:
            self._waiting.append((records, decided))
            self._changed.notify_all()

    def open_records(self) -> int:
        """How many records were decided and are not stored yet."""
        with self._changed:
            return self._open()

    def _open(self) -> int:
        return sum(len(records) for records, _ in (*self._under_way, *self._waiting))

    def wait(self, records_max: int, timeout_s: float) -> bool:
        """Until there are at most so many open records, or storing failed. False after too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.error is not None or self._open() <= records_max, timeout_s
            )

    def take_stored(self) -> list[Record]:
        with self._changed:
            stored, self._stored = self._stored, []
        return [record for records in stored for record in records]

    def take_failed(self) -> tuple[BaseException, list[tuple[list[Record], Any]]] | None:
        """What kept it from storing, and all that is not stored."""
        with self._changed:
            if self.error is None:
                return None
            failed = (self.error, [*self._under_way, *self._waiting])
            self.error, self._under_way, self._waiting = None, [], []
            return failed

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(STOP_S_MAX)

    def _run(self) -> None:
        while self._take():
            decided = [each for _, each in self._under_way]
            try:
                self._store(decided)
                self._forget(decided)
            except BaseException as error:  # nobody else would see it; the runner finds out why
                with self._changed:
                    self.error = error
                    self._changed.notify_all()
            else:
                with self._changed:
                    self._stored += [records for records, _ in self._under_way]
                    self._under_way = []
                    self._changed.notify_all()

    def _take(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or (self._waiting and self.error is None))
            if self._stopping:
                return False
            self._under_way, self._waiting = self._waiting, []
            return True


class StagedRunner(ConsumerRunner):
    """A ConsumerRunner with a thread that stores, so ``step`` returns how many records were decided
    or, the plain way, handled. What is stored is committed every ``COMMIT_S``, and when nothing
    more comes; a crash repeats so much more, and finds it stored. What cannot be decided or stored
    goes that plain way, which tries again, waits and halves; until all of it is done nothing else
    is decided.
    """

    def __init__(
        self,
        log: EventLog,
        group: str,
        topics: Sequence[str],
        handler: StagedHandler,
        clock: Clock,
        **options: Any,
    ) -> None:
        super().__init__(log, group, topics, handler, clock, **options)
        self._staged = handler
        self._storing: _Storing | None = None
        self._stored: list[Record] = []  # and not committed yet
        self._commit_at_s = float("-inf")

    def step(self, timeout_s: float = 0.0) -> int:
        if self.paused:
            return 0
        storing = self._storing
        if storing is None:
            storing = self._storing = _Storing(f"{self.group} stores", self._staged)
        self._finish(storing)
        self._commit_stored(self._commit_is_due())
        if self._rewind or self._pending or self._waits():
            if not storing.wait(0, _LOOK_S):
                return 0
            self._finish(storing)
            self._commit_stored(True)
            return super().step(timeout_s)
        consumer = self._member()
        room = self._records_max - storing.open_records()
        if room <= 0:
            consumer.poll(0, 0.0)  # stay a member
            storing.wait(self._records_max // 2, _LOOK_S)
            return 0
        records = consumer.poll(room, timeout_s)
        if not records:
            self._finish(storing)
            self._commit_stored(True)
            return 0
        try:
            decided = self._staged.decide(records)
        except Exception as error:  # the plain way finds out whose fault it is
            self.error = error
            self._pending.append(self._chunk(records))
            return 0
        storing.put(records, decided)
        return len(records)

    def _commit_is_due(self) -> bool:
        return self.hurry or self._clock.monotonic_s() >= self._commit_at_s

    def _commit_stored(self, now: bool) -> None:
        # After a commit that was refused nothing is committed: all of it comes again, and is known.
        if self._rewind:
            self._stored.clear()
        if not now or not self._stored:
            return
        self._commit_at_s = self._clock.monotonic_s() + COMMIT_S
        committed = self._commit(self._member(), self._stored)  # where it raises, they stay
        self._stored.clear()
        if committed:
            self.error = None
            self._waits_in_row = 0

    def _finish(self, storing: _Storing) -> None:
        """Take what is stored; what could not be stored is pending."""
        stored = storing.take_stored()
        self._stored += stored
        self._slow_down(len(stored))
        failed = storing.take_failed()
        if failed is None:
            return
        error, open_ = failed
        self._staged.forget([decided for _, decided in open_])
        self.error = error = _plain(error)
        self._pending.extendleft(self._chunk(records) for records, _ in reversed(open_))
        self._wait(error)

    def close(self) -> None:
        storing, self._storing = self._storing, None
        if storing is not None:
            if not self.paused and storing.wait(0, STOP_S_MAX):
                with suppress(Unavailable, StoreError):
                    self._finish(storing)
                    self._commit_stored(True)
            storing.stop()
        self._stored.clear()
        super().close()


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(f"storing ended: {error!r}")
