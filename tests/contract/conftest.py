"""One fixture per port: ``make_<port>``, parametrised by profile, so that each suite says only what
the port promises and runs against every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from redis import Redis

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.backends.servers.cache import RedisCache
from paytm_lab.config_servers import addresses
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.ports.wide_store import WideStore
from tests import servers
from tests.contract import (
    coordination_process,
    event_log_process,
    event_log_world,
    shard_database_process,
    wide_store_process,
)


@pytest.fixture
def coordination_place(profile: str, tmp_path: Path) -> Iterator[str]:
    """What tells a process where the coordination is: a folder, or an address."""
    if profile == "embedded":
        yield str(tmp_path / "coordination")
        return
    settings = servers.settings()
    place = f"{settings.zookeeper_servers}{settings.chroot}"
    yield place
    coordination_process.remove(place)


@pytest.fixture
def make_coordination(
    profile: str, coordination_place: str
) -> Iterator[Callable[[], Coordination]]:
    """Each call is another client of the same coordination."""
    with ExitStack() as clients:

        def make() -> Coordination:
            client = coordination_process.open_coordination(profile, coordination_place)
            clients.callback(client.close)
            return client

        yield make


@pytest.fixture
def event_log_place(profile: str, tmp_path: Path) -> str:
    """What tells a process where the event log is: a folder, or an address."""
    if profile == "servers":
        settings = servers.settings()
        return f"{settings.kafka_servers}/{settings.namespace}"
    return str(tmp_path / "log")


@pytest.fixture
def make_event_log(profile: str, event_log_place: str) -> Iterator[Callable[[], EventLog]]:
    """Each call is another client of the same log."""
    with ExitStack() as clients:

        def make() -> EventLog:
            client = event_log_process.open_event_log(profile, event_log_place)
            clients.callback(client.close)
            return client

        yield make
        if profile == "servers":
            event_log_process.remove(event_log_place)


class AgingClock(SimulatedClock):
    """Time for values on a server: ``advance`` takes it from what each has left to live."""

    def __init__(self, prefix: str, client: Redis) -> None:
        super().__init__()
        self.prefix = prefix
        self.client = client

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for key in self.client.scan_iter(f"{self.prefix}*"):
            left_ms = self.client.pttl(key)
            if left_ms > 0:
                self.client.pexpire(key, left_ms - round(seconds * 1000))


def _redis() -> tuple[str, int, str]:
    settings = servers.settings()
    ((host, port),) = addresses(settings.redis_server)
    password = settings.redis_password
    return host, port, password.get_secret_value() if password is not None else ""


@pytest.fixture
def clock(profile: str) -> Iterator[SimulatedClock]:
    if profile == "embedded":
        yield SimulatedClock()
        return
    host, port, password = _redis()
    with Redis(host, port, password=password or None) as client:
        yield AgingClock(f"{servers.new_namespace()}:", client)


@pytest.fixture
def make_cache(profile: str, clock: SimulatedClock) -> Iterator[Callable[[], Cache]]:
    """Each call is an empty cache whose time is the ``clock`` fixture's."""
    numbers = count()
    with ExitStack() as caches:

        def make() -> Cache:
            if isinstance(clock, AgingClock):
                prefix = f"{clock.prefix}{next(numbers)}:"
                cache: Cache = RedisCache(*_redis(), prefix=prefix)
            else:
                cache = EmbeddedCache(clock)
            caches.callback(cache.close)
            return cache

        yield make
    if isinstance(clock, AgingClock):
        for key in clock.client.scan_iter(f"{clock.prefix}*"):
            clock.client.delete(key)


@pytest.fixture(scope="session")
def wide_keyspace(profile: str) -> Iterator[str]:
    """Servers and a keyspace for all tests of the wide store: to make one takes long."""
    where = "" if profile == "embedded" else wide_store_process.address_of(servers.settings())
    yield where
    if where:
        wide_store_process.remove(where)


@pytest.fixture
def wide_store_place(profile: str, wide_keyspace: str, tmp_path: Path) -> Iterator[str]:
    """What tells a process where the wide store is: a file, or an address."""
    yield wide_keyspace or str(tmp_path / "wide.sqlite")
    if wide_keyspace:
        wide_store_process.clear(wide_keyspace)


@pytest.fixture
def make_wide_store(profile: str, wide_store_place: str) -> Iterator[Callable[[], WideStore]]:
    """Each call is another client of the same store."""
    with ExitStack() as clients:

        def make() -> WideStore:
            client = wide_store_process.open_wide_store(profile, wide_store_place)
            clients.callback(client.close)
            return client

        yield make


@pytest.fixture
def shard_place(profile: str, tmp_path: Path) -> str:
    """What tells a process where the shard is: a file, or an address."""
    if profile == "servers":
        return shard_database_process.address_of(servers.settings())
    return str(tmp_path / "shards" / "shard-0.sqlite")


@pytest.fixture
def make_shard_database(profile: str, shard_place: str) -> Iterator[Callable[[], ShardDatabase]]:
    """Each call is another client of the same shard 0 of two, which owns every even slot."""
    with ExitStack() as clients:

        def make() -> ShardDatabase:
            client = shard_database_process.open_shard(profile, shard_place)
            clients.callback(client.close)
            shard_database_process.create_shard(client)
            return client

        yield make
    if profile == "servers":
        shard_database_process.remove(shard_place)


@pytest.fixture
def log(make_event_log: Callable[[], EventLog]) -> EventLog:
    log = make_event_log()
    log.create_topics({event_log_world.TOPIC: 8, "fraud_events": 4})
    return log


@pytest.fixture
def start_on_log(
    profile: str, event_log_place: str
) -> Iterator[Callable[..., event_log_world.Process]]:
    """Starts processes that use the same log, and kills them at the end."""
    with ExitStack() as processes:

        def start(command: str, *arguments: str) -> event_log_world.Process:
            process = event_log_world.Process(profile, event_log_place, command, *arguments)
            processes.callback(process.kill)
            return process

        yield start
