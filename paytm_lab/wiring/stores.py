"""The stores that a lab stands on: the same five ports, on files or on servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.shard_database import EmbeddedShardDatabase
from paytm_lab.backends.embedded.switched import Switch, switched
from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.config import Settings
from paytm_lab.core.clock import Clock
from paytm_lab.ledger import schema
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase, ShardMeta
from paytm_lab.ports.wide_store import WideStore

COORDINATION = "coordination"


class CreatableShard(ShardDatabase, Protocol):
    """A shard's database that may not be there yet."""

    def create(
        self,
        system_accounts: Sequence[tuple[int, str]],
        meta: ShardMeta,
        first_user_id: int,
        now_us: int,
    ) -> None:
        """Create what is missing; two processes may do so at once."""

    def require_created(self) -> None:
        """StorageCorrupt when a shard that the map names is not there."""


class SwitchedCache(Cache, Protocol):
    """``available``: False is the fault "cache gone": every call answers Unavailable."""

    available: bool


class Stores:
    """What a lab stores in. ``close`` releases all of it, whatever was opened so far. ``switches``:
    of an embedded lab, by the name of the store; servers have processes that can be killed.
    """

    def __init__(
        self,
        coordination: Coordination,
        log: EventLog,
        cache: SwitchedCache,
        wide: WideStore,
        open_shard: Callable[[int], CreatableShard],
        switches: Mapping[str, Switch] | None = None,
    ) -> None:
        self.switches = switches or {}
        self.coordination, self.log, self.cache, self.wide = coordination, log, cache, wide
        self._open_shard = open_shard
        self._shards: list[CreatableShard] = []

    def open_shard(self, shard: int) -> CreatableShard:
        """The database of one shard; perhaps still to be created."""
        database = self._open_shard(shard)
        self._shards.append(database)
        return database

    def parts(self) -> dict[str, EventLog | WideStore | Cache | ShardDatabase | Coordination]:
        """All that was opened so far, under the names that health checks have."""
        return {
            "event-log": self.log,
            "wide-store": self.wide,
            "cache": self.cache,
            COORDINATION: self.coordination,
            **{f"shard-{shard.shard_id}": shard for shard in self._shards},
        }

    def close(self) -> None:
        with ExitStack() as last:
            # Each is closed even where one before it raised; the coordination goes last.
            last.callback(self.coordination.close)
            for part in self.parts().values():
                if part is not self.coordination:
                    last.callback(part.close)


def open_stores(settings: Settings, clock: Clock) -> Stores:
    """Files in ``settings.data_dir``, or connections to the servers that the settings name."""
    if settings.profile == "servers":
        # The drivers take half a second to import; an embedded lab needs none of them.
        from paytm_lab.wiring import servers

        return servers.open_stores(settings)
    folder = settings.data_dir

    def open_shard(shard: int) -> CreatableShard:
        file = folder / "shards" / f"shard-{shard}.sqlite"
        return EmbeddedShardDatabase(file, shard, schema.metadata, schema.INSERT_COLUMNS)

    switches = {name: Switch(name) for name in ("coordination", "event-log", "wide-store")}
    return Stores(
        switched(EmbeddedCoordination(folder / COORDINATION), switches["coordination"]),
        switched(EmbeddedEventLog(folder / "log", clock), switches["event-log"]),
        EmbeddedCache(clock),
        switched(EmbeddedWideStore(folder / "wide.sqlite"), switches["wide-store"]),
        open_shard,
        switches,
    )


def open_coordination(settings: Settings) -> Coordination | None:
    """Where the shard map is; None where no lab was ever made in the settings' folder."""
    if settings.profile == "servers":
        from paytm_lab.wiring import servers

        return servers.open_coordination(settings)
    folder = settings.data_dir / COORDINATION
    return EmbeddedCoordination(folder) if folder.is_dir() else None


def remove(settings: Settings, silent: Collection[str] = ()) -> None:
    """Drop everything that the lab of these settings has on the servers, but for the ``silent``,
    which do not answer. Its folder stays.
    """
    if settings.profile == "servers":
        from paytm_lab.wiring import servers

        servers.remove(settings, silent)
