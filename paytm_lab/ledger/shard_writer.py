"""Group commit: one writer per shard and process takes what waits, commits it once, answers all.

``step`` is the whole of it and is synchronous; ``start`` only loops it in a thread, so that a seed
can drive the same code one batch at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from paytm_lab.core import errors
from paytm_lab.core.clock import Clock
from paytm_lab.core.ids import payment_id_text
from paytm_lab.core.wakeup import Wakeup
from paytm_lab.ledger.evaluate import Batch
from paytm_lab.ledger.operations import (
    ApplyFraud,
    Capture,
    Complete,
    CreateAccount,
    Credit,
    DecideReview,
    Done,
    GiveBack,
    Operation,
    Pay,
    Release,
    Result,
    Retarget,
    SetAccountState,
)
from paytm_lab.ledger.writing import write
from paytm_lab.ports.shard_database import PaymentRow, ShardDatabase, ShardTransaction

_log = logging.getLogger(__name__)


class SimulatedCrash(Exception):
    """Raised by a fault hook at a named point, after it killed the writers: nothing runs on."""


ATTEMPTS_MAX = 5
OUTBOX_LOOK_S = 0.05
RETRY_PAUSE_S = 0.002
IDLE_WAIT_S_MIN = 0.01
_GROWS_OUTBOX = (Pay, CreateAccount)
_ON_A_ROW = (GiveBack, Retarget, Capture, Release, ApplyFraud, DecideReview)
Item = tuple[Operation, Done]


_helping = threading.local()


@contextmanager
def helping() -> Iterator[Callable[[], None]]:
    """For a caller that waits anyway: what it queues on idle writers is run by ``help()``, the
    function that this yields, in its own thread. Two hand-overs between threads a leg are most of
    the latency of a lone payment; busy writers gather it into their next batch as ever.
    """
    outer: deque[ShardWriter] | None = getattr(_helping, "writers", None)
    writers: deque[ShardWriter] = deque() if outer is None else outer
    _helping.writers = writers

    def help_now() -> None:
        while writers:
            writers.popleft().help()

    try:
        yield help_now
    finally:
        help_now()
        _helping.writers = outer


class WriterStats:
    """Counters of one writer since it was made; read without a lock, a moment out of step."""

    def __init__(self) -> None:
        self.batches = self.operations = self.rows = self.retries = self.bisections = 0
        self.commit_s = 0.0


class ShardWriter:
    """``breaker_probe_s``: how long a shard that did not answer is left alone."""

    def __init__(
        self,
        database: ShardDatabase,
        clock: Clock,
        *,
        batch_rows_max: int = 1024,
        gather_window_s: float = 0.002,
        idle_finalise_s: float = 0.05,
        outbox_rows_max: int = 100_000,
        breaker_probe_s: float = 0.5,
        freeze_blocks_credit: bool = False,
        fault: Callable[[str], None] | None = None,
        on_events: Callable[[], None] | None = None,
    ) -> None:
        self.shard_id = database.shard_id
        self._database = database
        self._clock = clock
        self._batch_rows_max = batch_rows_max
        self._gather_window_s = gather_window_s
        self._idle_finalise_s = idle_finalise_s
        self._outbox_rows_max = outbox_rows_max
        self._breaker_probe_s = breaker_probe_s
        self._freeze_blocks_credit = freeze_blocks_credit
        self._fault = fault
        self._on_events = on_events  # called when a commit has put events into the outbox
        self._queue: deque[Item] = deque()
        self._lazy: deque[Item] = deque()
        self._lazy_since = 0.0
        self._wake = Wakeup()
        self._sleeping = False
        self._stopping = False
        self._dead = False
        self._thread: threading.Thread | None = None
        self._down_until = 0.0
        self._is_down = False
        self.storage_error: errors.StoreError | None = None  # why the last batch was not stored
        self._stepping = threading.Lock()
        self._last_batch = 0
        self._outbox_at_most = 0
        self._look_at_outbox_s = float("-inf")
        self.stats = WriterStats()

    # -- callers' side ----------------------------------------------------------------------------

    def put(self, operation: Operation, done: Done) -> None:
        """Queue an operation. ``done`` is called once, after the commit, in the writer's thread."""
        if self._dead:
            return
        self._queue.append((operation, done))
        if self._sleeping:
            mine = getattr(_helping, "writers", None)
            if mine is None:
                self._wake.call()
            else:
                mine.append(self)

    def put_lazy(self, operation: Complete, done: Done) -> None:
        """Queue one that rides along with the next batch; alone only after ``idle_finalise_s``."""
        if self._dead:
            return
        if not self._lazy:
            self._lazy_since = self._clock.monotonic_s()
        self._lazy.append((operation, done))

    def kill(self) -> None:
        """Lose all that is in memory, as a dead process does; a batch in its commit may land."""
        self._dead = True
        self._stopping = True
        self._queue.clear()
        self._lazy.clear()
        self._wake.call()

    def queue_depth(self) -> int:
        return len(self._queue) + len(self._lazy)

    def require_up(self) -> None:
        """ShardUnavailable at once while the shard is known to be down and no new try is due."""
        if not self._is_down:
            return
        now_s = self._clock.monotonic_s()
        if now_s < self._down_until:
            raise errors.ShardUnavailable(
                "the shard is down",
                place=f"shard-{self.shard_id}",
                retry_after_s=self._breaker_probe_s,
            )
        self._down_until = now_s + self._breaker_probe_s  # this caller tries it for the others

    @property
    def is_down(self) -> bool:
        return self._is_down

    # -- the loop ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(
            target=self._loop, name=f"writer-{self.shard_id}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end the thread."""
        self._stopping = True
        self._wake.call()
        if self._thread is not None:
            self._thread.join(timeout=60)
            self._thread = None
        while (self._queue or self._lazy) and not self._dead:
            self.step()

    def _loop(self) -> None:
        while not (self._stopping and not self._queue):
            if not self._queue:
                self._sleep()
            elif self._last_batch > 1 and len(self._queue) < self._last_batch // 2:
                # Busy: a short gather makes batches larger, and larger batches cost less a payment.
                time.sleep(self._gather_window_s)
            if self._queue or self._lazy_is_due():
                self.step()

    def _sleep(self) -> None:
        self._sleeping = True
        if not self._queue and not self._stopping:
            # Lazy operations come without waking anybody.
            self._wake.wait(max(self._idle_finalise_s, IDLE_WAIT_S_MIN))
        self._sleeping = False

    def _lazy_is_due(self) -> bool:
        return bool(self._lazy) and (
            self._stopping or self._clock.monotonic_s() - self._lazy_since >= self._idle_finalise_s
        )

    def help(self) -> None:
        """Run a batch in this thread if the writer is idle; else see that its own thread does."""
        if self._stepping.acquire(blocking=False):
            try:
                self._step()
            finally:
                self._stepping.release()
        if self._queue:
            self._wake.call()

    def step(self) -> int:
        """Run one batch of what waits now; how many operations it answered (0: nothing waited)."""
        with self._stepping:
            return self._step()

    def _step(self) -> int:
        if self._dead:  # something was put while it was killed
            self._queue.clear()
            self._lazy.clear()
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_rows_max))]
        batch += [self._lazy.popleft() for _ in range(min(len(self._lazy), self._batch_rows_max))]
        if not batch:
            return 0
        self._last_batch = len(batch)
        operations = [operation for operation, _ in batch]
        cut_off: BaseException | None = None
        try:
            results = self._run(operations)
        except SimulatedCrash:
            return len(batch)
        except BaseException as error:  # a caller that helps is interrupted: the others hear of it
            cut_off = error
            results = self._failed(operations, errors.StoreError("cut off"), commit_lost=True)
        for (_, done), result in zip(batch, results, strict=True):
            if self._dead:
                break
            try:
                done(result)
            except SimulatedCrash:
                break
            except Exception:
                _log.exception("shard-%d: a caller's callback failed", self.shard_id)
            except BaseException as error:
                cut_off = error
        if cut_off is not None:
            raise cut_off
        return len(batch)

    # -- one batch --------------------------------------------------------------------------------

    def _run(
        self, operations: list[Operation], recheck: bool = False, commit_lost: bool = False
    ) -> Sequence[Result]:
        """Results of one batch, whatever happens to it: retried, then bisected to the bad one.

        ``commit_lost``: an earlier try's commit may have happened, so no error may say it did not.
        """
        last: errors.PaytmLabError | None = None
        for attempt in range(ATTEMPTS_MAX):
            try:
                results = self._attempt(operations, recheck or attempt > 0)
            except (errors.Deadlock, errors.LockTimeout, errors.DuplicateKey) as error:
                last = error
            except errors.CommitOutcomeLost as error:
                last, commit_lost = error, True
            except (errors.ConnectionLost, errors.ShardUnavailable) as error:
                last = error
                if attempt + 1 < ATTEMPTS_MAX and isinstance(error, errors.ConnectionLost):
                    self._pause(attempt)
                    continue
                return self._unreachable(operations, error, commit_lost)
            except (errors.StorageFull, errors.StorageCorrupt) as error:
                self.storage_error = error
                return self._failed(operations, error, commit_lost)
            except SimulatedCrash:
                raise
            except Exception as error:
                if not isinstance(error, errors.PaytmLabError) and not recheck:  # once, whole
                    _log.exception("shard-%d: a batch failed", self.shard_id)
                last = self._named(error)
                break
            else:
                self._is_down = False
                self.storage_error = None
                return results
            self.stats.retries += 1
            self._pause(attempt)
        if last is None:
            last = errors.StoreError("the operation failed", place=f"shard-{self.shard_id}")
        if isinstance(last, errors.CommitOutcomeLost):
            return self._unreachable(operations, last, commit_lost)
        if len(operations) == 1:
            return self._failed(operations, last, commit_lost)
        self.stats.bisections += 1
        middle = len(operations) // 2
        return [
            *self._run(operations[:middle], True, commit_lost),
            *self._run(operations[middle:], True, commit_lost),
        ]

    def _pause(self, attempt: int) -> None:
        if self._thread is not None:
            time.sleep(RETRY_PAUSE_S * (attempt + 1))

    def _named(self, error: Exception) -> errors.PaytmLabError:
        if isinstance(error, errors.PaytmLabError):
            return error
        return errors.StoreError(f"{type(error).__name__}: {error}", place=f"shard-{self.shard_id}")

    def _unreachable(
        self, operations: list[Operation], error: errors.PaytmLabError, commit_lost: bool
    ) -> list[Result]:
        """Open the breaker."""
        self._is_down = True
        self._down_until = self._clock.monotonic_s() + self._breaker_probe_s
        away = errors.ShardUnavailable(
            error.message, place=f"shard-{self.shard_id}", retry_after_s=self._breaker_probe_s
        )
        return self._failed(operations, away, commit_lost)

    def _failed(
        self, operations: list[Operation], error: errors.PaytmLabError, commit_lost: bool
    ) -> list[Result]:
        """After a lost commit answer nobody may say that nothing happened."""
        if not commit_lost:
            return [error] * len(operations)
        return [
            errors.OutcomeUnknown(
                "the answer of the commit was lost",
                payment_id=_payment_of(op),
                place=f"shard-{self.shard_id}",
            )
            for op in operations
        ]

    def _attempt(self, operations: list[Operation], recheck: bool) -> list[Result]:
        full = self._outbox_is_full(operations)
        now_us = self._clock.now_us()
        tx = self._database.begin()
        try:
            state = self._load(tx, operations, recheck, now_us)
            results: list[Result] = [
                full if full is not None and _is_new(op, state) else state.apply(op)
                for op in operations
            ]
            rows = write(tx, state)
            if self._fault is not None:
                self._fault("writer:before_commit")
            started = time.perf_counter()
            tx.commit()
            self.stats.commit_s += time.perf_counter() - started
        except BaseException:
            tx.rollback()
            raise
        if self._fault is not None:
            self._fault("writer:committed")
        self.stats.batches += 1
        self.stats.operations += len(operations)
        self.stats.rows += rows
        self._outbox_at_most += len(state.outbox_rows)
        if state.outbox_rows and self._on_events is not None:
            self._on_events()
        return results

    def _outbox_is_full(self, operations: list[Operation]) -> errors.OutboxFull | None:
        if not any(isinstance(op, _GROWS_OUTBOX) for op in operations):
            return None
        # Nobody but this writer adds many rows within a moment, and it knows its own: the count of
        # the last look and what it added since is an upper bound that needs no query.
        now_s = self._clock.monotonic_s()
        if self._outbox_at_most >= self._outbox_rows_max or now_s >= self._look_at_outbox_s:
            self._outbox_at_most = self._database.outbox_rows()
            self._look_at_outbox_s = now_s + OUTBOX_LOOK_S
        if self._outbox_at_most < self._outbox_rows_max:
            return None
        return errors.OutboxFull(
            f"the outbox holds {self._outbox_rows_max} events or more",
            place=f"shard-{self.shard_id}",
            remedy="Start the relay, or wait until it has caught up.",
        )

    def _load(
        self, tx: ShardTransaction, operations: list[Operation], recheck: bool, now_us: int
    ) -> Batch:
        """Lock the touched accounts in one ordered read, then read which ids and keys exist."""
        users: set[str] = set()
        ids: list[bytes] = []
        keys: list[bytes] = []
        indirect: list[bytes] = []
        fraud_events: list[str] = []
        closing: list[str] = []
        for op in operations:
            if type(op) is Pay:
                users.add(op.from_user_id)
                if op.to_shard == self.shard_id:
                    users.add(op.to_user_id)
                if op.key_hash is not None:
                    keys.append(op.key_hash)
                if recheck:
                    ids.append(op.payment_id)
            elif type(op) is Credit:
                users.add(op.to_user_id)
                if recheck or op.recheck:
                    ids.append(op.payment_id)
            elif type(op) is Complete:
                continue
            elif type(op) is CreateAccount:
                users.add(op.user_id)
            elif type(op) is SetAccountState:
                users.add(op.user_id)
                if op.state == "closed":
                    closing.append(op.user_id)
            elif isinstance(op, _ON_A_ROW):
                indirect.append(op.payment_id)
                if type(op) is ApplyFraud:
                    fraud_events.append(op.event_id)
        if indirect:
            # Who is touched stands in the payment's row; its state is read again under the locks.
            for row in tx.find_payments(indirect):
                users.add(row.from_user_id)
                users.add(row.to_user_id)
            ids += indirect
        locked = tx.lock_accounts(sorted(users)) if users else []
        found_keys: list[PaymentRow] = tx.find_keys(keys) if keys else []
        held = [*indirect, *(row.transaction_id for row in found_keys)]
        return Batch(
            self.shard_id,
            tx.meta(),
            now_us,
            locked,
            tx.find_payments(ids) if ids else (),
            found_keys,
            tx.find_holds(held) if held else (),
            tx.applied_events(fraud_events) if fraud_events else (),
            tx.find_reviews(indirect) if indirect else (),
            {user: tx.open_payments_of(user) for user in closing} if closing else None,
            self._freeze_blocks_credit,
        )


def _is_new(operation: Operation, batch: Batch) -> bool:
    """Whether it would start something; what exists answers as it stands, outbox full or not."""
    if isinstance(operation, Pay):
        by_key = operation.key_hash is not None and operation.key_hash in batch.keys
        return not by_key and (operation.payment_id, False) not in batch.payments
    return isinstance(operation, CreateAccount) and operation.user_id not in batch.accounts


def _payment_of(operation: Operation) -> str:
    payment_id = getattr(operation, "payment_id", b"")
    return payment_id_text(payment_id) if payment_id else ""
