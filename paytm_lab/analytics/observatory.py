"""One look at everything, taken at most once a second however many are looking.

Each shard is read in a thread of its own, so that one that hangs keeps no other from being seen.
What takes long (services, lags) is asked beside the look, and the last answer is shown.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from paytm_lab.analytics.history import History, Recent
from paytm_lab.analytics.money import Money, MoneyBook
from paytm_lab.analytics.parts import Parts, Place
from paytm_lab.analytics.rollups import Totals
from paytm_lab.analytics.seldom import Seldom
from paytm_lab.analytics.shard_watch import ShardNow, ShardWatch
from paytm_lab.analytics.surroundings import (
    Answer,
    HealthFollower,
    Lag,
    Said,
    ask_part,
    ask_service,
    lags,
)
from paytm_lab.core.errors import PaytmLabError, StoreError, Unavailable
from paytm_lab.ledger import watching
from paytm_lab.web.pool import BoundedPool

SECOND_S = 1.0
GLANCE_S = 0.25  # a page is shown by then, whatever is known
SHARD_S_MAX = 1.5  # a shard that has not answered by then is not known at this look
WORK_S_MAX = 5.0
AROUND_S, AROUND_SHARE = 3.0, 0.2
EXACT_SHARE = 0.02
SERIES_MAX = 180


class Point(NamedTuple):
    """Of the live series: payments a second by shard, and events that wait in all outboxes."""

    at_us: int
    payments_per_s: dict[int, float]
    outbox_rows: int


class Around(NamedTuple):
    """What was asked beside the looks. ``events_error``: why SystemHealthCheck is not known."""

    at_us: int
    services: dict[str, tuple[Place, Answer]]
    parts: dict[str, Answer]
    lags: list[Lag]
    said: dict[str, Said]
    events_error: str = ""


class Picture(NamedTuple):
    """``errors``: what could not be read, in words, by shard number; ``history_error`` likewise."""

    at_us: int
    money: Money
    shards: dict[int, ShardNow]
    errors: dict[int, str]
    queues: dict[int, int]
    totals: Totals
    recent: Recent
    history_at_us: int
    history_error: str
    around: Around | None
    series: list[Point]
    outbox_rows_max: int


class Observatory:
    """``look`` and ``glance`` from the event loop; ``close`` when it has ended."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._shards = list(parts.databases)
        self._watches = {s: ShardWatch(d, parts.clock) for s, d in parts.databases.items()}
        self._readers = {s: BoundedPool(f"watch-{s}", 1, 0, SHARD_S_MAX) for s in self._shards}
        self._work = BoundedPool("watch", 2, 16, WORK_S_MAX)
        self._askers = BoundedPool("around", 8, 64, WORK_S_MAX)
        self._book = MoneyBook()
        self._history = History(parts.wide, parts.log, parts.clock.now_us, parts.clock.monotonic_s)
        self._health = HealthFollower(parts.log)
        self._exact = {shard: Seldom(EXACT_SHARE) for shard in self._shards}
        self._unmatched: dict[bytes, int] = {}
        self._series: deque[Point] = deque(maxlen=SERIES_MAX)
        self._around: Around | None = None
        self._around_seldom = Seldom(AROUND_SHARE, AROUND_S)
        self._asking: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._weighing = threading.Lock()
        self._unweighed: dict[int, deque[ShardNow]] = {shard: deque() for shard in self._shards}
        self._looking: set[asyncio.Future[Picture]] = set()
        self._last: Picture | None = None
        self._last_s = float("-inf")
        self.looks = 0

    async def look(self) -> Picture:
        """The picture of this second."""
        async with self._lock:
            now_s = self.parts.clock.monotonic_s()
            if self._last is None or now_s - self._last_s >= 0.9 * SECOND_S:
                self._last = await self._taken()
                self._last_s = now_s
                self.looks += 1
            return self._last

    async def glance(self) -> Picture:
        """The picture of this second if it can be had soon; else the last one, or one on which
        nothing is known yet. The look goes on.
        """
        looking = self.begin()
        await asyncio.wait([looking], timeout=GLANCE_S)
        if looking.done():
            return looking.result()
        return self._last or self._blank()

    def begin(self) -> asyncio.Future[Picture]:
        """Look, for whoever asks next."""
        looking = asyncio.ensure_future(self.look())
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)
        return looking

    async def close(self) -> None:
        for looking in self._looking:
            looking.cancel()
        if self._asking is not None:
            self._asking.cancel()
        for pool in (*self._readers.values(), self._work, self._askers):
            pool.close()

    # -- a look -----------------------------------------------------------------------------------

    async def _taken(self) -> Picture:
        if (self._asking is None or self._asking.done()) and self._around_seldom.due():
            self._asking = asyncio.create_task(self._ask_around())
        history = asyncio.ensure_future(self._read_history())
        read = await asyncio.gather(*(self._read_shard(shard) for shard in self._shards))
        shards = {now.shard: now for now in read if isinstance(now, ShardNow)}
        errors = {
            shard: said for shard, said in zip(self._shards, read, strict=True)
            if isinstance(said, str)
        }  # fmt: skip
        money = await self._work.run(self._weigh, shards, errors)
        totals, history_error = await history
        at_us = self.parts.clock.now_us()
        self._note(at_us, shards)
        return Picture(
            at_us, money, shards, errors, self._queues(), totals, self._history.recent(),
            self._history.read_at_us, history_error, self._around, list(self._series),
            self.parts.outbox_rows_max,
        )  # fmt: skip

    def _queues(self) -> dict[int, int]:
        return {shard: self.parts.queue_depth(shard) for shard in self._shards}

    def _blank(self) -> Picture:
        at_us = self.parts.clock.now_us()
        return Picture(
            at_us, MoneyBook().line(self._shards, [], {}), {}, {}, self._queues(), Totals(),
            Recent(0.0, {}), 0, "", None, [], self.parts.outbox_rows_max,
        )  # fmt: skip

    def _note(self, at_us: int, shards: Mapping[int, ShardNow]) -> None:
        self._series.append(
            Point(
                at_us,
                {shard: now.payments_per_s or 0.0 for shard, now in shards.items()},
                sum(now.outbox_rows for now in shards.values()),
            )
        )

    async def _read_shard(self, shard: int) -> ShardNow | str:
        try:
            return await self._readers[shard].run(self._reading, shard)
        except (Unavailable, StoreError) as error:
            return error.message

    def _reading(self, shard: int) -> ShardNow:
        now = self._watches[shard].read()
        # Nobody may wait for it any more, but what it was handed comes only once.
        self._unweighed[shard].append(now)
        return now

    async def _read_history(self) -> tuple[Totals, str]:
        try:
            return await self._work.run(self._history.read), ""
        except (Unavailable, StoreError) as error:
            return self._history.totals, error.message

    def _weigh(self, shards: Mapping[int, ShardNow], errors: Mapping[int, str]) -> Money:
        """The money line; blocks, as what looks wrong is looked at exactly."""
        with self._weighing:  # the one before may have been given up by who waited, and go on
            return self._weighed(shards, errors)

    def _weighed(self, shards: Mapping[int, ShardNow], errors: Mapping[int, str]) -> Money:
        for shard, readings in self._unweighed.items():
            off: int | None = None
            while readings:
                off = self._book.take(readings.popleft())
            if off is None:
                continue
            checks = self._watches[shard].checks
            if not off:
                checks.searching = False
            elif not checks.searching and self._exact[shard].due():
                with self._exact[shard].taking():
                    sound = self._is_sound(shard)
                if sound:
                    # An entry became visible later than anything should: begin again.
                    self._restart()
                    break
                checks.searching = sound is False
        caught_up = not errors and all(now.caught_up for now in shards.values())
        self._unmatched = {
            payment: net
            for payment in (self._book.suspects(self.parts.clock.now_us()) if caught_up else [])
            if (net := self._mismatch(payment))
        }
        return self._book.line(self._shards, list(errors), self._unmatched)

    def _restart(self) -> None:
        self._book.restart()
        for watch in self._watches.values():
            watch.restart_following()
        for readings in self._unweighed.values():
            readings.clear()  # what they were handed comes again

    def _is_sound(self, shard: int) -> bool | None:
        """Whether its balances are what its entries say, by walking all of them; None where it
        cannot be read.
        """
        try:
            with self.parts.databases[shard].read() as connection:
                stored = watching.user_sums(connection).balance_paise
                return stored + watching.system_net(connection) == 0
        except (Unavailable, StoreError):
            return None

    def _mismatch(self, payment: bytes) -> int:
        """By how much its debit and credit in transit differ; 0 where they do not, or where that
        cannot be said.
        """
        source = self.parts.source_of(payment)
        try:
            with self.parts.databases[source].read() as connection:
                status = watching.payment_state(connection, payment)
            if status == "PENDING":
                return 0
            if status != "COMPLETED":
                return self._book.net(payment)
            net, stamp_us = 0, self._book.stamp(payment)
            for database in self.parts.databases.values():
                with database.read() as connection:
                    net += watching.transit_net(connection, payment, stamp_us, len(self._shards))
            return net
        except (Unavailable, StoreError):
            return self._unmatched.get(payment, 0)

    # -- beside it --------------------------------------------------------------------------------

    async def _ask_around(self) -> None:
        with self._around_seldom.taking():
            run = self._askers.run
            places = dict(await run(self._places))
            answers = await asyncio.gather(*(run(ask_service, p) for p in places.values()))
            names = list(self.parts.checks)
            said_parts = await asyncio.gather(*(self._ask_part(name) for name in names))
            behind = await run(lags, self.parts.log, self.parts.groups)
            events_error = ""
            try:
                await run(self._health.read)
            except PaytmLabError as error:
                events_error = error.message
            self._around = Around(
                self.parts.clock.now_us(),
                dict(zip(places, zip(places.values(), answers, strict=True), strict=True)),
                dict(zip(names, said_parts, strict=True)),
                behind,
                dict(self._health.latest),
                events_error,
            )

    def _places(self) -> Mapping[str, Place]:
        return self.parts.services()

    async def _ask_part(self, name: str) -> Answer:
        try:
            return await self._askers.run(ask_part, self.parts, name)
        except Unavailable as error:
            return Answer("down", None, error.message)
