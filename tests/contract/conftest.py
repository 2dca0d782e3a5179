"""One fixture per port: ``make_<port>``, parametrised by profile, so that each suite says only what
the port promises and runs against every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.ports.wide_store import WideStore
from tests import servers
from tests.contract import coordination_process, event_log_world, shard_database_process


@pytest.fixture
def coordination_place(profile: str, tmp_path: Path) -> str:
    """What tells a process where the coordination is: a folder, or an address."""
    if profile == "servers":
        settings = servers.settings()
        return f"{settings.zookeeper_servers}{settings.chroot}"
    return str(tmp_path / "coordination")


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
        if profile == "servers":
            coordination_process.remove(coordination_place)


@pytest.fixture
def event_log_place(profile: str, tmp_path: Path) -> str:
    """What tells a process where the event log is: a folder, or an address."""
    return str(tmp_path / "log")


@pytest.fixture
def make_event_log(event_log_place: str) -> Iterator[Callable[[], EventLog]]:
    """Each call is another client of the same log."""
    with ExitStack() as clients:

        def make() -> EventLog:
            client = EmbeddedEventLog(Path(event_log_place))
            clients.callback(client.close)
            return client

        yield make


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def make_cache(profile: str, clock: SimulatedClock) -> Iterator[Callable[[], Cache]]:
    """Each call is an empty cache whose time is the ``clock`` fixture's."""
    with ExitStack() as caches:

        def make() -> Cache:
            cache = EmbeddedCache(clock)
            caches.callback(cache.close)
            return cache

        yield make


@pytest.fixture
def wide_store_place(profile: str, tmp_path: Path) -> str:
    """What tells a process where the wide store is: a file, or an address."""
    return str(tmp_path / "wide.sqlite")


@pytest.fixture
def make_wide_store(wide_store_place: str) -> Iterator[Callable[[], WideStore]]:
    """Each call is another client of the same store."""
    with ExitStack() as clients:

        def make() -> WideStore:
            client = EmbeddedWideStore(Path(wide_store_place))
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
