"""All parts of a lab, built once: shards, writers, relays, consumers.

``System`` is what ``build`` gives: the parts, and the few things one does with all of them at once
(start, drain, close, lose everything). Which backends they stand on, ``stores`` says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from paytm_lab.analytics.consumer import AnalyticsConsumer
from paytm_lab.analytics.tables import WIDE_TABLES as ANALYTICS_TABLES
from paytm_lab.backends.embedded.faulty import FaultyShardDatabase, ShardSwitch
from paytm_lab.config import Settings
from paytm_lab.config_services import SERVICES
from paytm_lab.core.clock import Clock, SimulatedClock, SystemClock
from paytm_lab.core.errors import StorageCorrupt, StorageFull, StoreError, Unavailable
from paytm_lab.core.events import Topic
from paytm_lab.core.fraud import Decision
from paytm_lab.core.ids import PaymentIds
from paytm_lab.fraud.consumer import FraudConsumer
from paytm_lab.fraud.lists import FraudLists, ListNews
from paytm_lab.fraud.model_book import ModelBook
from paytm_lab.fraud.registry import ModelRegistry
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.fraud.tables import WIDE_TABLES as FRAUD_TABLES
from paytm_lab.ledger import queries, schema
from paytm_lab.ledger.admission import Admission
from paytm_lab.ledger.holds import Holds
from paytm_lab.ledger.housekeeping import Housekeeping
from paytm_lab.ledger.recovery import Recovery
from paytm_lab.ledger.reviews import Reviews
from paytm_lab.ledger.shard_writer import ShardWriter
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.messaging.consumer import Handler
from paytm_lab.messaging.health import HealthMonitor
from paytm_lab.messaging.log_contents import all_records
from paytm_lab.messaging.outbox_relay import RelayRound, leading_relays, relay_workers
from paytm_lab.messaging.topics import (
    GROUPS,
    NOTIFICATIONS,
    PARTITIONS,
    consumer_lag,
    create_topics,
    events_behind,
)
from paytm_lab.messaging.worker import Worker
from paytm_lab.notifications.tables import WIDE_TABLES as NOTIFICATION_TABLES
from paytm_lab.ports.event_log import Record
from paytm_lab.ports.shard_database import ShardMeta
from paytm_lab.routing.route_cache import RouteCache
from paytm_lab.routing.shard_map import Router, ShardMap, load, load_or_create
from paytm_lab.shard_manager.fraud_answers import FraudAnswers
from paytm_lab.wiring.at_once import at_once
from paytm_lab.wiring.channels import Notifying
from paytm_lab.wiring.fraud_rules import list_blocked, open_rules, open_scorer
from paytm_lab.wiring.runners import make_runner
from paytm_lab.wiring.shutdown import Shutdown
from paytm_lab.wiring.stores import CreatableShard, Stores, open_coordination, open_stores

WIDE_TABLES = (*FRAUD_TABLES, *ANALYTICS_TABLES, *NOTIFICATION_TABLES)
POLL_S = 0.1
# For what other processes post: the writers here say when they have. A look is a statement on each
# shard, so at an outbox that stays empty they are fewer.
RELAY_IDLE_S, RELAY_REST_S = 0.02, 0.1
RELAY_DELETE_S = 0.1
CONSUMER_IDLE_S = 0.005  # a poll waits by itself; this is for steps that may not poll
HEALTH_IDLE_S = 0.5
FRAUD_LISTS_IDLE_S = 5.0  # how soon a freeze by another process is known to the scorer
HOUSEKEEPING_IDLE_S = 0.1
SWEEPER, SWEEP_IDLE_S = "waiting notifications", 0.2
DRAIN_PAUSE_S, DRAIN_PAUSE_S_MAX = 0.03, 0.2  # each look asks every shard and the log
STORAGE_PATIENCE_S = 2.0  # consumers that met a full disk try again within this


class System:
    """A running lab's parts. Build it with ``build``; ``start`` gives writers and workers threads,
    or, with a seed, ``Stepper`` (simulation/stepping.py) steps the same parts one at a time.
    """

    def __init__(
        self, settings: Settings, stores: Stores, clock: Clock, rng: random.Random | None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.folder: Path = settings.data_dir
        self.switches: dict[int, ShardSwitch] = {}
        self.databases: dict[int, FaultyShardDatabase] = {}
        self.stores = stores
        self.coordination = stores.coordination
        self.log = stores.log
        self.cache = stores.cache
        self.wide = stores.wide
        self.router = self._open_shards()
        self.fault_points: dict[str, Callable[[], None]] = {}
        self._open_ledger(rng)
        self._open_relays()
        self._open_consumers()
        self.health = HealthMonitor(
            self.checks(), self.log, self.clock, services=SERVICES, coordination=self.coordination
        )
        self.workers: list[Worker] = []
        self.killed = False
        self._relays_here = False
        self._relay_workers: dict[int, Worker] = {}
        self._groups_here: tuple[str, ...] = ()
        self.on_crash: Callable[[str], None] = lambda point: None

    # -- building ---------------------------------------------------------------------------------

    def _open_shards(self) -> Router:
        # The map is stored last: where there is one, every shard's file must be there.
        stored = load(self.coordination)
        if stored is None:
            shard_map = ShardMap.initial(self.settings.shards)
        else:
            shard_map = load_or_create(self.coordination, self.settings.shards)
        shards = {shard: self.stores.open_shard(shard) for shard in range(shard_map.shards)}
        if stored is not None:
            for database in shards.values():
                database.require_created()
        self._create_stores(shards, shard_map)
        for shard, database in shards.items():
            self.switches[shard] = ShardSwitch()
            self.databases[shard] = FaultyShardDatabase(database, self.switches[shard])
        load_or_create(self.coordination, shard_map.shards)
        return Router(self.coordination)

    def _create_stores(self, shards: Mapping[int, CreatableShard], shard_map: ShardMap) -> None:
        """What is missing on any of them. Each waits for its own disk or server: all at once."""
        sizes = {
            topic: self.settings.partitions_payment_events
            if topic == str(Topic.PAYMENT)
            else self.settings.partitions_other
            for topic in PARTITIONS
        }
        accounts, now_us = schema.system_accounts(shard_map.shards), self.clock.now_us()
        created = [
            partial(
                database.create,
                accounts,
                ShardMeta(0, shard_map.version, shard_map.owned_slots(shard)),
                schema.FIRST_USER_ACCOUNT_ID,
                now_us,
            )
            for shard, database in shards.items()
        ]
        topics = partial(create_topics, self.log, sizes)
        at_once([*created, topics, partial(self.wide.create_tables, WIDE_TABLES)])

    def _open_ledger(self, rng: random.Random | None) -> None:
        settings = self.settings
        self.writers = {
            shard: ShardWriter(
                database,
                self.clock,
                batch_rows_max=settings.batch_rows_max,
                gather_window_s=settings.gather_window_ms / 1e3,
                idle_finalise_s=settings.idle_finalise_ms / 1e3,
                outbox_rows_max=settings.outbox_rows_max,
                breaker_probe_s=settings.breaker_probe_s,
                freeze_blocks_credit=settings.freeze_blocks_credit,
                fault=self.reach,
                on_events=partial(self._relay_soon, shard),
            )
            for shard, database in self.databases.items()
        }
        self.models = ModelRegistry()
        self.model_book = ModelBook(self.coordination, self.wide, self.clock, self.models)
        self.fraud_lists = FraudLists(self.wide, self.clock)
        self.fraud_lists.load()
        self.list_news = ListNews(self.coordination)
        self.routes = RouteCache(self.cache)
        self.rule_book = open_rules(settings, self.coordination, self.wide, self.clock)
        fraud = (self.cache, self.models, self.fraud_lists, self.wide)
        self.scorer = open_scorer(self.rule_book, *fraud)
        self.engine = TransferEngine(
            self.router,
            self.writers,
            PaymentIds(self.clock, rng),
            self.clock,
            Admission(settings.in_flight_max, settings.in_flight_per_shard_max),
            gate=self.scorer if settings.fraud_gate == "before" else None,
            scorer_down=settings.scorer_down,
            hold_ttl_s=settings.hold_ttl_s,
            deadline_s=settings.deadline_s,
            find_keys=lambda shard, keys: queries.known_keys(self.databases[shard], keys),
            faults=self.fault_points,
        )
        self.holds = Holds(self.engine, self.databases)
        self.reviews = Reviews(self.engine, self.databases, self.holds)
        self.recovery = Recovery(self.engine, self.databases, settings.pending_age_s)
        self.housekeeping = Housekeeping(
            self.recovery, self.holds, self.reviews, self.databases, self.coordination, self.clock,
            settings.recovery_interval_s,
        )  # fmt: skip

    def _open_relays(self) -> None:
        self.relays = leading_relays(
            self.databases, self.log, self.clock, self.coordination,
            rows_max=self.settings.relay_batch_rows_max, fault=self.reach,
            delete_after_s=RELAY_DELETE_S if self.settings.profile == "servers" else 0.0,
        )  # fmt: skip
        self.relay_round = RelayRound(self.relays)

    def _open_consumers(self) -> None:
        settings = self.settings
        self.notifying = Notifying(
            settings, self.folder, self.wide, self.log, self.clock, self.coordination
        )
        self.channel, self.notifications = self.notifying.channel, self.notifying.consumer
        self.fraud = FraudConsumer(
            self.scorer,
            self.wide,
            self.cache,
            self.log,
            self.clock,
            scorer_down=Decision.ALLOW if settings.scorer_down == "allow" else Decision.REVIEW,
        )
        self.analytics = AnalyticsConsumer(self.wide, self.clock)
        self.fraud_answers = FraudAnswers(
            self.reviews, partial(list_blocked, self.fraud_lists, self.router, self.databases)
        )
        handlers: dict[str, Handler] = {
            "analytics": self.analytics,
            "notifications": self.notifications,
            "shard_manager": self.fraud_answers,
        }
        if settings.fraud_gate != "off":
            handlers["fraud"] = self.fraud
        # A seed draws among them in this order.
        self.runners = {
            group: make_runner(
                group, handlers[group], self.log, self.clock, settings, fault=self.reach
            )
            for group in sorted(handlers)
        }

    def checks(self) -> dict[str, Callable[[], object]]:
        """One round trip to each part, by name; raises what is wrong with it."""
        parts: dict[str, Callable[[], object]] = {
            f"shard-{shard}": database.ping for shard, database in self.databases.items()
        }
        return parts | {
            "event-log": partial(self.log.end_offsets, str(Topic.PAYMENT)),
            "cache": partial(self.cache.get, "health"),
            "wide-store": partial(self.wide.fetch, FEATURES, [("health",)]),
            "coordination": partial(self.coordination.read_document, "health"),
        }

    def _read_lists(self) -> int:
        self.fraud_lists.load()
        return 0

    def reach(self, point: str) -> None:
        """A named point between two steps of the protocol; a fault may be set on it."""
        action = self.fault_points.get(point)
        if action is not None:
            action()

    # -- running ----------------------------------------------------------------------------------

    def start_workers(self, relay: bool = True, consumers: Iterable[str] | None = None) -> None:
        """Give the relays and the named consumers (None: all) threads."""
        self._work_here(relay, consumers)
        if relay:
            one_each = self.settings.profile == "servers"
            self._relay_workers = relay_workers(
                self.relay_round, one_each, RELAY_IDLE_S, RELAY_REST_S
            )
            self.workers += dict.fromkeys(self._relay_workers.values())
            self.workers.append(Worker("health", self.health.step, HEALTH_IDLE_S))
        lists = Worker("fraud lists", self._read_lists, FRAUD_LISTS_IDLE_S)
        self.list_news.on_news = lists.wake
        self.workers.append(lists)
        self.workers.append(Worker("housekeeping", self.housekeeping.step, HOUSEKEEPING_IDLE_S))
        for group in self._groups_here:
            step = partial(self.runners[group].step, POLL_S)
            self.workers.append(Worker(group, step, CONSUMER_IDLE_S))
            if group == NOTIFICATIONS:
                self.workers.append(Worker(SWEEPER, self.notifying.sweeper.step, SWEEP_IDLE_S))
        for worker in self.workers:
            worker.start()

    def _relay_soon(self, shard: int) -> None:
        worker = self._relay_workers.get(shard)
        if worker is not None:
            worker.wake()

    def _work_here(self, relay: bool, consumers: Iterable[str] | None) -> None:
        self._relays_here = relay
        self._groups_here = tuple(self.runners if consumers is None else consumers)

    def writer_actors(self) -> dict[str, Callable[[], int]]:
        return {f"writer of shard {shard}": writer.step for shard, writer in self.writers.items()}

    def actors(
        self, relay: bool = True, consumers: Iterable[str] | None = None
    ) -> dict[str, Callable[[], int]]:
        """The same parts by name, to be stepped by a seed instead of threads."""
        self._work_here(relay, consumers)
        steps = self.writer_actors()
        if relay:
            steps |= {
                f"relay of shard {shard}": leading.step for shard, leading in self.relays.items()
            }
            steps["health monitor"] = self.health.step
        steps["housekeeping"] = self.housekeeping.step
        for group in self._groups_here:
            steps[f"consumer {group}"] = self.runners[group].step
            if group == NOTIFICATIONS:
                steps[SWEEPER] = self.notifying.sweeper.step
        return steps

    def start_writers(self) -> None:
        for writer in self.writers.values():
            writer.start()

    def backlog(self) -> int:
        """Events that wait: outbox rows of all shards, and the slowest consumer's lag; where a
        shard or the log is away, what is known without it.
        """
        waiting = 0
        for database in self.databases.values():
            with suppress(Unavailable, StoreError):
                waiting += database.outbox_rows()
        with suppress(Unavailable, StoreError):
            waiting += events_behind(self.log, {group: GROUPS[group] for group in self.runners})
        return waiting

    def lag(self, group: str) -> int:
        return consumer_lag(self.log, group, GROUPS[group])

    def is_drained(self) -> bool:
        """Nothing in flight, nothing pending, and what works here is done: every outbox empty where
        the relays do, every consumer that does at the log's end.
        """
        if (
            any(writer.queue_depth() for writer in self.writers.values())
            or self.engine.admission.in_flight
        ):
            return False
        if self._events_wait():
            return False
        if any(queries.open_counts(d).get("PENDING") for d in self.databases.values()):
            return False
        # A consumer may have produced, or an answer may have posted, after it was looked at above.
        return not self._events_wait()

    def _events_wait(self) -> bool:
        outboxes = self.databases.values() if self._relays_here else ()
        return any(d.outbox_rows() for d in outboxes) or any(map(self.lag, self._groups_here))

    def drain(
        self, deadline_s: float = 120.0, on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Wait until ``is_drained``; Unavailable, naming what still waits, after too long. Where a
        store is full or cannot be read for a while, its own error is raised.
        """
        try:
            self._until_drained(deadline_s, on_progress)
        finally:
            self.hurry(False)

    def hurry(self, hurry: bool) -> None:
        """Whether consumers here hand on at once what they would gather."""
        for runner in self.runners.values():
            runner.hurry = hurry

    def _until_drained(self, deadline_s: float, on_progress: Callable[[int], None] | None) -> None:
        began = stored_at = time.monotonic()
        until, recover_at = began + deadline_s, began + 1.0
        pause = threading.Event()
        while not self.is_drained():
            self.hurry(True)  # anew, since another drain may have ended
            if on_progress is not None:
                on_progress(self.backlog())
            now = time.monotonic()
            broken = self._storage_error()
            stored_at = now if broken is None else stored_at
            if broken is not None and now - stored_at > STORAGE_PATIENCE_S:
                raise broken
            if now > recover_at:
                self.recovery.run()
                recover_at = now + 1.0
            if now > until:
                raise Unavailable(f"not drained after {deadline_s:.0f} s: {self.waiting()}")
            pause.wait(min(DRAIN_PAUSE_S_MAX, max(DRAIN_PAUSE_S, 0.04 * (now - began))))

    def _storage_error(self) -> Exception | None:
        """What keeps a writer, relay or consumer from storing what it has, if anything does."""
        found: list[Exception | None] = [w.storage_error for w in self.writers.values()]
        found += self.relay_round.errors()
        found += [runner.error for runner in self.runners.values()]
        found += [worker.error for worker in self.workers]
        return next((e for e in found if isinstance(e, StorageFull | StorageCorrupt)), None)

    def waiting(self) -> str:
        """What is not drained yet, in words."""
        parts = [
            f"outbox of shard {s}: {n} events"
            for s, d in self.databases.items()
            if not self.switches[s].down and (n := d.outbox_rows())
        ]
        parts += [f"shard {s} is down" for s, switch in self.switches.items() if switch.down]
        parts += [f"consumer {g}: {n} events behind" for g in self.runners if (n := self.lag(g))]
        parts += [
            f"worker {w.name}: {w.error}"
            for w in self.workers
            if getattr(w, "error", None) is not None
        ]
        return "; ".join(parts) or "payments are pending"

    def all_records(self) -> Iterator[Record]:
        """Every record of every topic, by topic, partition and offset."""
        return all_records(self.log)

    def crash(self, point: str) -> None:
        """A fault reached its point: from here on nothing in memory counts any more."""
        self.kill()
        self.on_crash(point)

    def kill(self) -> None:
        """Lose all memory at once, as ``kill -9`` does; what was committed stays. ``close`` it."""
        self.killed = self.housekeeping.paused = True
        for writer in self.writers.values():
            writer.kill()
        for leading in self.relays.values():
            leading.relay.paused = True
        for runner in self.runners.values():
            runner.paused = True
        for worker in self.workers:
            worker.leave()
        self.engine.abandon()

    def close(self) -> Collection[str]:
        """Finish what waits, stop the threads, release leadership and files, in bounded time. The
        parts that did not answer meanwhile.
        """
        shutdown = Shutdown(self)
        shutdown.run()
        return shutdown.silent


def stored_shards(settings: Settings) -> int | None:
    """How many shards the lab of these settings has; None where there is no lab."""
    coordination = open_coordination(settings)
    if coordination is None:
        return None
    try:
        stored = load(coordination)
    finally:
        coordination.close()
    return None if stored is None else stored.shards


def build(
    settings: Settings, rng: random.Random | None = None, clock: Clock | None = None
) -> System:
    """Open (or create) the lab in ``settings.data_dir``. With ``rng`` its clock is simulated
    (``clock``, where one goes on) and its ids are drawn from it, so that a run repeats exactly.
    """
    if clock is None:
        clock = SystemClock() if rng is None else SimulatedClock()
    stores = open_stores(settings, clock)
    try:
        return System(settings, stores, clock, rng)
    except BaseException:
        stores.close()
        raise
