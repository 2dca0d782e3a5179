"""What the consumers' tests stand on: real embedded stores, events as the relay would append them,
and a crash at any call of any port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paytm_lab.analytics import tables as analytics_tables
from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.events import Envelope, FraudData, PaymentData, Topic, encode, unwrap, wrap
from paytm_lab.core.ids import event_id
from paytm_lab.fraud import tables as fraud_tables
from paytm_lab.notifications import tables as notification_tables
from paytm_lab.ports.event_log import Message, Record

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
TABLES = (
    *fraud_tables.WIDE_TABLES,
    *analytics_tables.WIDE_TABLES,
    *notification_tables.WIDE_TABLES,
)


class Crash(BaseException):
    """The process dies here. Not an Exception: nothing may handle it."""


class Plan:
    """Crash at the ``at``-th port call from now on, before or after its effect; 0: never."""

    def __init__(self, at: int = 0, after: bool = False) -> None:
        self.calls = 0
        self.at = at
        self.after = after


class Port:
    """A port whose calls are counted, and one of them crashes. All else is the real thing."""

    def __init__(self, inner: Any, plan: Plan) -> None:
        self._inner = inner
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        method, plan = getattr(self._inner, name), self._plan

        def call(*arguments: Any, **named: Any) -> Any:
            plan.calls += 1
            crash = plan.calls == plan.at
            if crash and not plan.after:
                raise Crash(f"before {name}")
            result = method(*arguments, **named)
            if crash:
                raise Crash(f"after {name}")
            return result

        return call

    @contextmanager
    def upserting(self, rows: Mapping[str, Any]) -> Iterator[None]:
        """While the block runs, in no order: as early as can be where it crashes before a part, as
        late as can be, and the other way round, where after.
        """
        if not self._plan.after:
            for table, of_table in rows.items():
                self.upsert(table, of_table)
        yield
        if self._plan.after:
            for table in reversed(rows):
                self.upsert(table, rows[table])


class World:
    """Embedded stores in one folder, on one simulated clock."""

    def __init__(self, folder: Path, plan: Plan | None = None) -> None:
        self.clock = SimulatedClock(START_US)
        self.plan = plan if plan is not None else Plan()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.real_store = EmbeddedWideStore(folder / "wide.sqlite")
        self.real_store.create_tables(TABLES)
        self.real_cache = EmbeddedCache(self.clock)
        self.real_log = EmbeddedEventLog(folder / "log", self.clock)
        self.real_log.create_topics({str(topic): 2 for topic in Topic})
        self.store: Any = Port(self.real_store, self.plan)
        self.cache: Any = Port(self.real_cache, self.plan)
        self.log: Any = Port(self.real_log, self.plan)

    def close(self) -> None:
        for part in (self.real_store, self.real_cache, self.real_log):
            part.close()

    def events(self, topic: Topic) -> list[Envelope]:
        return [unwrap(r.value) for r in self.records(topic)]

    def records(self, topic: Topic) -> list[Record]:
        log = self.real_log
        return [r for p in range(log.partitions(topic)) for r in log.read(topic, p, 0, 1_000_000)]

    def append(self, messages: Sequence[Message]) -> None:
        self.real_log.append(messages)


def payment(payment_id: str, **changes: Any) -> PaymentData:
    """A transfer of 50 rupees from sender-{id} to receiver-{id}, across shards."""
    defaults = {
        "from_user_id": f"sender-{payment_id}",
        "to_user_id": f"receiver-{payment_id}",
        "amount_paise": 5_000,
        "from_shard": 0,
        "to_shard": 1,
        "stamp_us": START_US,
        "at_us": START_US,
    }
    return PaymentData(payment_id, **{**defaults, **changes})


def payment_message(event_type: str, data: PaymentData, time_us: int = START_US) -> Message:
    body = wrap(
        event_id=event_id(data.payment_id, event_type),
        event_type=event_type,
        subject=data.payment_id,
        source="/shard/0",
        time_us=time_us,
        data=encode(data),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return Message(str(Topic.PAYMENT), data.payment_id, body)


def fraud_message(event_type: str, data: FraudData) -> Message:
    body = wrap(
        event_id=event_id(data.payment_id, event_type),
        event_type=event_type,
        subject=data.payment_id,
        source="/fraud",
        time_us=START_US,
        data=encode(data),
    )
    return Message(str(Topic.FRAUD), data.payment_id, body)


def as_records(messages: Sequence[Message], first_offset: int = 0) -> list[Record]:
    """As they would be read from partition 0 of their topic."""
    return [
        Record(m.topic, 0, first_offset + n, m.key, m.value, m.headers, START_US)
        for n, m in enumerate(messages)
    ]


def crash_points(folder: Path, run: Callable[[World], None]) -> Iterator[tuple[str, World]]:
    """Run in a new world for each port call, crashing there, before or after it; yields each world
    as the crash left it, with its plan disarmed, until a run gets through without one.
    """
    for after in (False, True):
        at = 0
        while True:
            at += 1
            world = World(folder / f"{'after' if after else 'before'}-{at}")
            world.plan.calls, world.plan.at, world.plan.after = 0, at, after
            try:
                run(world)
            except Crash as crash:
                world.plan.at = 0
                yield str(crash), world
                world.close()
            else:
                world.close()
                break
