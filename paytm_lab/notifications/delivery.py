"""Hands notifications to their providers, and writes down what became of them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from zlib import crc32

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import StoreError, Unavailable
from paytm_lab.core.events import Topic
from paytm_lab.notifications.channels import Answer, Channel, Verdict
from paytm_lab.notifications.records import (
    FAILED,
    HOUR_US,
    SENT,
    WAITING,
    Parcel,
    announcement,
    inbox_hour_row,
    inbox_row_of,
    row_of,
)
from paytm_lab.notifications.tables import DEAD_LETTERS, INBOX, INBOX_HOURS, NOTIFICATIONS
from paytm_lab.notifications.waiting import Waiting
from paytm_lab.ports.event_log import EventLog, Message
from paytm_lab.ports.wide_store import WideStore

BACKOFF_S_MAX = 600.0
_logger = logging.getLogger(__name__)
AWAY_S_MIN, AWAY_S_MAX = 1.0, 60.0
_ERROR_LENGTH_MAX = 500
MARKED_MAX = 200_000  # users' hours that are remembered as marked


class Delivery:
    """``channels``: provider by kind (email, sms, push).

    A try that the provider answers with "not now" is repeated after ``backoff_s``, then twice as
    long each time, until ``attempts_max`` tries; a provider that cannot be reached is left alone
    for a while, which counts as no try. Waiting for either is in the store, never in a thread.
    ``counters``: sent, waiting, failed, possible_repeat, unavailable, and one per kind.
    """

    def __init__(
        self,
        store: WideStore,
        channels: Mapping[str, Channel],
        log: EventLog,
        clock: Clock,
        *,
        attempts_max: int = 8,
        backoff_s: float = 2.0,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.waiting = Waiting(store, clock)
        self.channels = dict(channels)
        self._store = store
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts_max = attempts_max
        self._backoff_s = backoff_s
        # Provider -> (from when it may be tried again, how long it was left alone last).
        self._away: dict[int, tuple[float, float]] = {}
        self._marked: set[tuple[str, int]] = set()

    def send(self, parcels: Iterable[Parcel]) -> None:
        """One batch per provider. Each parcel ends SENT, FAILED (given up) or WAITING (``due_us``
        says until when); nothing is stored yet. What is not due yet is not sent.
        """
        now_us = self._clock.now_us()
        by_provider: dict[int, list[Parcel]] = {}
        for parcel in parcels:
            if parcel.due_us > now_us:
                parcel.state = WAITING
                continue
            by_provider.setdefault(id(self.channels[parcel.message.channel]), []).append(parcel)
        for number, batch in by_provider.items():
            if not self.postpone(batch):
                self._send_batch(number, self.channels[batch[0].message.channel], batch)

    def away_s(self, kind: str) -> float:
        """For how long this kind's provider is still left alone; 0 or less: it is not."""
        number = id(self.channels[kind])
        return self._away.get(number, (0.0, 0.0))[0] - self._clock.monotonic_s()

    def postpone(self, parcels: Sequence[Parcel]) -> bool:
        """Let these, of one provider, wait if it is left alone at the moment; whether it is."""
        away_s = self.away_s(parcels[0].message.channel)
        if away_s <= 0:
            return False
        for parcel in parcels:
            parcel.error = "the provider cannot be reached"
            self._wait(parcel, away_s)
        return True

    def _send_batch(self, number: int, provider: Channel, batch: Sequence[Parcel]) -> None:
        try:
            answers = provider.send([parcel.message for parcel in batch])
        except (Unavailable, StoreError) as error:
            answers = [Answer(Verdict.AWAY, str(error))] * len(batch)
        except Exception as error:  # about one of them, which must not keep back the others
            if len(batch) > 1:
                for parcel in batch:
                    parcel.possible_repeat = 1  # nobody knows how far it came
                    self._send_batch(number, provider, [parcel])
                return
            _logger.exception("a notification cannot be sent: %s", batch[0].id)
            answers = [Answer(Verdict.REFUSED, f"{type(error).__name__}: {error}")]
        answered = 0
        postponed = []
        for parcel, (verdict, why) in zip(batch, answers, strict=True):
            if verdict is Verdict.AWAY:
                parcel.error = why[:_ERROR_LENGTH_MAX]
                postponed.append(parcel)
                continue
            answered += verdict is not Verdict.UNKNOWN
            self._conclude(parcel, verdict, why[:_ERROR_LENGTH_MAX])
        if answered and not postponed:
            self._away.pop(number, None)
        elif batch:
            self.counters["unavailable"] += 1
            last_s = self._away.get(number, (0.0, 0.0))[1]
            # A batch that was begun went as far as time allowed: the rest goes on soon.
            away_s = AWAY_S_MIN if answered else min(AWAY_S_MAX, max(AWAY_S_MIN, 2 * last_s))
            self._away[number] = (self._clock.monotonic_s() + away_s, away_s)
            for parcel in postponed:
                self._wait(parcel, away_s)

    def _conclude(self, parcel: Parcel, verdict: Verdict, why: str) -> None:
        parcel.attempts += 1
        parcel.error = why
        if verdict is Verdict.TAKEN:
            parcel.state = SENT
            return
        if verdict is Verdict.UNKNOWN:
            parcel.possible_repeat = 1
        tries = parcel.attempts - parcel.attempts_before
        if verdict is Verdict.REFUSED or tries >= self._attempts_max:
            parcel.state = FAILED
            return
        wait_s = min(BACKOFF_S_MAX, self._backoff_s * 2.0 ** (tries - 1))
        self._wait(parcel, wait_s)

    def _wait(self, parcel: Parcel, wait_s: float) -> None:
        # Up to a quarter more, by id, so that those of one moment do not come back in one.
        spread = 1 + (crc32(parcel.id.encode()) & 0xFF) / 1024
        parcel.state = WAITING
        parcel.due_us = self._clock.now_us() + round(wait_s * spread * 1e6)

    # Writing down

    def record(self, parcels: Sequence[Parcel]) -> None:
        """How far each has come: its state, the dead letters."""
        if not parcels:
            return
        dead = [_dead_letter(parcel) for parcel in parcels if parcel.state == FAILED]
        if dead:
            self._store.upsert(DEAD_LETTERS, dead)
        self._store.upsert(NOTIFICATIONS, [row_of(parcel) for parcel in parcels])
        counters = self.counters
        with self._lock:
            for parcel in parcels:
                counters[parcel.state] += 1
                if parcel.state == SENT:
                    counters[parcel.message.channel] += 1
                    counters["possible_repeat"] += parcel.possible_repeat

    @contextmanager
    def showing(self, parcels: Sequence[Parcel]) -> Iterator[None]:
        """Put them into the users' inboxes while the block runs. Whoever is cut off meanwhile puts
        them there again, under the same keys.
        """
        if not parcels:
            yield
            return
        new_hours = self._new_hours(parcels)
        rows = {
            INBOX_HOURS: [inbox_hour_row(*each) for each in new_hours],
            INBOX: [inbox_row_of(parcel) for parcel in parcels],
        }
        with self._store.upserting(rows):
            yield
        if len(self._marked) + len(new_hours) > MARKED_MAX:
            self._marked.clear()
        self._marked.update(new_hours)

    def _new_hours(self, parcels: Iterable[Parcel]) -> list[tuple[str, int]]:
        """Users' hours that have anything and are not marked, as far as this process remembers;
        twice does no harm.
        """
        hours = {(p.message.user_id, p.at_us // HOUR_US): None for p in parcels}
        return [each for each in hours if each not in self._marked]

    def announce(self, parcels: Iterable[Parcel]) -> None:
        """In the log, those that were sent; a repeat is the same to the byte."""
        topic = str(Topic.NOTIFICATION)
        messages = [
            Message(topic, parcel.message.payment_id, announcement(parcel))
            for parcel in parcels
            if parcel.state == SENT
        ]
        if messages:
            self._log.append(messages)


def _dead_letter(parcel: Parcel) -> dict[str, object]:
    message = parcel.message
    return {
        "day": day_of(message.sent_us),
        "notification_id": message.notification_id,
        "error": parcel.error,
        "attempts": parcel.attempts,
        "failed_at_us": message.sent_us,
        "parcel": msgspec.json.encode(parcel).decode(),
    }


def day_of(time_us: int) -> str:
    """'2026-01-31', UTC."""
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d}"
