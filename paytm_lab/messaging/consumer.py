"""One runner for all consumers: poll, handle, commit.

What a handler does is idempotent where it lands, so whatever was handled and not committed is
simply handled again. A record that cannot be handled is found by halving its batch, goes to a dead
letter topic with the reason, and blocks nothing. A part that is away (Unavailable, a store's own
error) is no record's fault: then the batch waits and is tried again, for as long as it takes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import DuplicateKey, OutcomeUnknown, StoreError, Unavailable
from paytm_lab.messaging.topics import consumer_lag, dead_letter
from paytm_lab.ports.event_log import EventLog, LogConsumer, Message, Record, TopicPartition

RECORDS_MAX = 500
ATTEMPTS_MAX = 3
BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 2.0
GATHER_POLLS_MAX = 8
GATHER_POLL_S = 0.02
HANDLED = "consumer:handled"  # the fault point between handling and commit
_logger = logging.getLogger(__name__)


class Handler(Protocol):
    def handle(self, records: Sequence[Record]) -> None:
        """Act on these records, each partition's in offset order. Raising means that none counts as
        handled, though effects may have landed: the same records come again, perhaps fewer at once.
        """


@dataclass(slots=True)
class Counts:
    """``handled``: records handled and committed. ``retried``: records that were tried once more,
    each time counted. ``waits``: how often a batch waited for its next attempt.
    """

    handled: int = 0
    retried: int = 0
    dead_lettered: int = 0
    waits: int = 0


class _Chunk:
    """Records still to be handled. ``attempts``: how often they were tried, in any company;
    ``attempts_max``: when they are halved, or, a single one, given up.
    """

    __slots__ = ("attempts", "attempts_max", "records")

    def __init__(self, records: list[Record], attempts: int, attempts_max: int) -> None:
        self.records = records
        self.attempts = attempts
        self.attempts_max = attempts_max


class _Outcome(Enum):
    DONE = "done"
    HALVED = "halved"
    WAITS = "waits"


class ConsumerRunner:
    """One member of a consumer group. One thread at a time calls ``step``; nothing in it sleeps
    except a poll with a timeout, and all delays are taken from ``clock``.

    A batch is tried ``attempts_max`` times, with back-off between; then it is halved, and its parts
    are tried once each, down to the single record.

    After a poll that was less than half full the next one waits ``gather_s``, so that what arrives
    meanwhile is handled together: worth it where twice the records are not twice the work. Then it
    polls until it has all, since a client that fetches ahead answers first with what it found then.
    While ``hurry`` is true it does not wait: somebody wants to see the end of it.

    Faults: ``fault`` is called with the name of each fault point (``HANDLED``) and may raise, as a
    crash there would; while ``paused`` is true a step does nothing, as if the process hung;
    ``slow_s_per_record``, while it is set, delays the next poll by so much for each record of this
    one.
    """

    def __init__(
        self,
        log: EventLog,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        clock: Clock,
        *,
        records_max: int = RECORDS_MAX,
        attempts_max: int = ATTEMPTS_MAX,
        backoff_s: float = BACKOFF_S_MIN,
        gather_s: float = 0.0,
        fault: Callable[[str], None] | None = None,
    ) -> None:
        self.group = group
        self.topics = tuple(topics)
        self.counts = Counts()
        self.paused = False
        self.hurry = False
        self.slow_s_per_record = 0.0
        self.fault = fault
        self.error: Exception | None = None  # of the last failed attempt; None once one succeeded
        self._log = log
        self._handler = handler
        self._clock = clock
        self._records_max = records_max
        self._attempts_max = attempts_max
        self._backoff_s = backoff_s
        self._gather_s = gather_s
        self._pending: deque[_Chunk] = deque()
        self._waits_in_row = 0
        self._not_before_s = float("-inf")
        self._slow_until_s = float("-inf")
        self._gather_until_s = float("-inf")
        self._rewind = False
        self._consumer: LogConsumer | None = None

    def step(self, timeout_s: float = 0.0) -> int:
        """Handle what is there, at most one poll's worth. Returns how many records were handled and
        committed (dead-lettered ones included); 0 also while it waits to try again.

        Raises what the log raises on polling, and what ``fault`` raises.
        """
        if self.paused or self._gathers():
            return 0
        consumer = self._member()
        waiting = self._waits()
        if waiting or self._pending:
            consumer.poll(0, 0.0)  # stay a member
            self._drop_lost(consumer)
        if waiting:
            return 0
        if self._rewind:
            self._read_again(consumer)
        if not self._pending:
            records = self._next_records(consumer, timeout_s)
            if not records:
                return 0
            self._pending.append(self._chunk(records))
        return self._handle_pending(consumer)

    def _next_records(self, consumer: LogConsumer, timeout_s: float) -> list[Record]:
        """What is handled next, as one batch."""
        records = consumer.poll(self._records_max, timeout_s)
        if records and self._gather_s > 0:
            self._gather(consumer, records)
            mine = consumer.assignment()  # gathering is polling, which may lose some
            records = [r for r in records if (r.topic, r.partition) in mine]
        return records

    def _member(self) -> LogConsumer:
        if self._consumer is None:
            self._consumer = self._log.consumer(
                self.group, self.topics, patience_s=self._gather_s / 2
            )
        return self._consumer

    def _gathers(self) -> bool:
        return not self.hurry and self._clock.monotonic_s() < self._gather_until_s

    def _waits(self) -> bool:
        until_s = self._not_before_s
        if self.slow_s_per_record > 0:
            until_s = max(until_s, self._slow_until_s)
        return self._clock.monotonic_s() < until_s

    def _chunk(self, records: list[Record]) -> _Chunk:
        return _Chunk(records, 0, self._attempts_max)

    def _handle_pending(self, consumer: LogConsumer) -> int:
        done = 0
        while self._pending:
            records = self._pending[0].records
            outcome = self._attempt(consumer, self._pending[0])
            if outcome is _Outcome.WAITS:
                break
            if outcome is _Outcome.DONE:
                self._pending.popleft()
                self._waits_in_row = 0
                done += len(records)
        self._slow_down(done)
        return done

    def _slow_down(self, done: int) -> None:
        if done and self.slow_s_per_record > 0:
            slow_until_s = self._clock.monotonic_s() + self.slow_s_per_record * done
            self._slow_until_s = max(self._slow_until_s, slow_until_s)

    def _gather(self, consumer: LogConsumer, records: list[Record]) -> None:
        """Add what else is there by now. An error leaves what was polled before it to be handled;
        the next poll meets it again.
        """
        for _ in range(GATHER_POLLS_MAX):
            if len(records) >= self._records_max:
                return
            try:
                more = consumer.poll(self._records_max - len(records), GATHER_POLL_S)
            except (Unavailable, StoreError):
                break
            if not more:
                break
            records += more
        if 2 * len(records) < self._records_max:
            self._gather_until_s = self._clock.monotonic_s() + self._gather_s

    def _drop_lost(self, consumer: LogConsumer) -> None:
        """What another member reads now is not ours to handle."""
        mine = consumer.assignment()
        for chunk in self._pending:
            chunk.records = [r for r in chunk.records if (r.topic, r.partition) in mine]
        self._pending = deque(chunk for chunk in self._pending if chunk.records)

    def _read_again(self, consumer: LogConsumer) -> None:
        """After a commit that was refused: perhaps a partition was lost, and perhaps it came back
        since, further on. Only what the group committed says where to go on.
        """
        self._pending.clear()
        offsets: dict[TopicPartition, int] = {}
        for topic in self.topics:
            starts = self._log.start_offsets(topic)
            for partition, done in enumerate(self._log.committed(self.group, topic)):
                start = starts[partition]
                offsets[TopicPartition(topic, partition)] = start if done is None else done
        consumer.seek(offsets)
        self._rewind = False

    def _attempt(self, consumer: LogConsumer, chunk: _Chunk) -> _Outcome:
        given_up = 0
        try:
            self._handler.handle(chunk.records)
            self.error = None
        except Exception as error:  # whatever it is: unless a part is away, it is about a record
            self.error = error
            if _is_away(error):
                return self._wait(error)
            chunk.attempts += 1
            if chunk.attempts < chunk.attempts_max:
                self.counts.retried += len(chunk.records)
                return self._wait(error)
            if len(chunk.records) > 1:
                return self._halve(chunk)
            try:
                self._give_up(chunk.records[0], chunk.attempts, error)
            except (Unavailable, StoreError) as log_error:
                return self._wait(log_error)
            given_up = 1
        if not self._commit(consumer, chunk.records):
            return _Outcome.WAITS
        self.counts.dead_lettered += given_up
        self.counts.handled -= given_up
        return _Outcome.DONE

    def _commit(self, consumer: LogConsumer, records: Sequence[Record]) -> bool:
        if self.fault is not None:
            self.fault(HANDLED)
        try:
            consumer.commit(_next_offsets(records))
        except (Unavailable, StoreError) as error:
            self.error = error
            self._rewind = True
            self._wait(error)
            return False
        self.counts.handled += len(records)
        return True

    def _wait(self, error: Exception) -> _Outcome:
        delay_s = min(BACKOFF_S_MAX, self._backoff_s * 2.0 ** min(self._waits_in_row, 20))
        self._waits_in_row += 1
        self.counts.waits += 1
        self._not_before_s = self._clock.monotonic_s() + delay_s
        _logger.info("group %s waits %.3f s: %s", self.group, delay_s, error)
        return _Outcome.WAITS

    def _halve(self, chunk: _Chunk) -> _Outcome:
        self._pending.popleft()
        middle = len(chunk.records) // 2
        tries = chunk.attempts + 1  # the halves are tried once each: waiting was tried before
        for half in (chunk.records[middle:], chunk.records[:middle]):
            self._pending.appendleft(_Chunk(half, chunk.attempts, tries))
        self.counts.retried += len(chunk.records)
        return _Outcome.HALVED

    def _give_up(self, record: Record, attempts: int, error: Exception) -> None:
        _logger.warning(
            "group %s gives up %s/%d offset %d after %d attempts: %r",
            self.group,
            record.topic,
            record.partition,
            record.offset,
            attempts,
            error,
        )
        headers = (
            *record.headers,
            ("error", f"{type(error).__name__}: {error}"[:1000].encode(errors="replace")),
            ("group", self.group.encode()),
            ("topic", record.topic.encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("attempts", str(attempts).encode()),
        )
        self._log.append([Message(dead_letter(record.topic), record.key, record.value, headers)])

    def lag(self) -> int:
        """How many records of its topics the group has not committed yet."""
        return consumer_lag(self._log, self.group, self.topics)

    def close(self) -> None:
        """Leave the group; what was not committed goes to the other members."""
        consumer, self._consumer = self._consumer, None
        self._pending.clear()
        if consumer is not None:
            consumer.close()


def _is_away(error: Exception) -> bool:
    """Whether a part does not answer, which is no record's fault (a duplicate key is)."""
    away = Unavailable | OutcomeUnknown | StoreError
    return isinstance(error, away) and not isinstance(error, DuplicateKey)


def _next_offsets(records: Sequence[Record]) -> dict[TopicPartition, int]:
    ends = {(record.topic, record.partition): record.offset + 1 for record in records}
    return {TopicPartition(*partition): end for partition, end in ends.items()}
