"""A lab's stores on the real servers: which database, topic, keyspace, key and node are its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from typing import Any

from paytm_lab.backends.servers.cache import RedisCache
from paytm_lab.backends.servers.coordination import ZooKeeperCoordination
from paytm_lab.backends.servers.event_log import KafkaEventLog
from paytm_lab.backends.servers.mysql_server import MySqlServer
from paytm_lab.backends.servers.shard_database import MySqlShardDatabase
from paytm_lab.backends.servers.wide_store import CassandraWideStore
from paytm_lab.config import Settings
from paytm_lab.config_servers import addresses
from paytm_lab.core.errors import BadInput, InvalidSetting
from paytm_lab.ledger import schema
from paytm_lab.wiring.at_once import at_once
from paytm_lab.wiring.labs_on_servers import leave_note, require_room
from paytm_lab.wiring.stores import COORDINATION, Stores

_log = logging.getLogger(__name__)


def mysql_server(settings: Settings, shard: int) -> MySqlServer:
    """Where a shard is. InvalidSetting where there are more shards than servers, or no password."""
    places = settings.mysql_addresses
    if shard >= len(places):
        raise InvalidSetting(
            f"shard {shard} has no MySQL server: PAYTM_LAB_MYSQL_SERVERS names {len(places)}",
            remedy="Name one server a shard, or ask for fewer shards.",
        )
    if settings.mysql_password is None:
        raise InvalidSetting(
            "PAYTM_LAB_MYSQL_PASSWORD is not set, and it has no default",
            place=str(settings.stack_dir),
            remedy="Start the servers with paytm-lab stack up, which makes one, or set it.",
        )
    return MySqlServer(
        places[shard].host,
        places[shard].port,
        settings.mysql_user,
        settings.mysql_password.get_secret_value(),
        settings.database_name,
        settings.mysql_tls,
        settings.mysql_tls_ca,
    )


def open_shard(settings: Settings, shard: int) -> MySqlShardDatabase:
    server = mysql_server(settings, shard)
    return MySqlShardDatabase(server, shard, schema.metadata, schema.INSERT_COLUMNS)


def open_coordination(settings: Settings) -> ZooKeeperCoordination:
    return ZooKeeperCoordination(
        settings.zookeeper_servers,
        settings.chroot,
        session_timeout_s=settings.zookeeper_session_s,
    )


def open_log(settings: Settings) -> KafkaEventLog:
    return KafkaEventLog(
        settings.kafka_servers,
        prefix=settings.namespace,
        replication=settings.kafka_replication,
        session_s=settings.kafka_session_s,
    )


def open_cache(settings: Settings) -> RedisCache:
    (place,) = addresses(settings.redis_server)
    password = settings.redis_password
    return RedisCache(
        place.host,
        place.port,
        "" if password is None else password.get_secret_value(),
        prefix=f"{settings.namespace}:" if settings.namespace else "",
    )


def open_wide(settings: Settings) -> CassandraWideStore:
    password = settings.cassandra_password
    return CassandraWideStore(
        settings.cassandra_servers,
        settings.keyspace,
        replication=settings.cassandra_replication,
        user=settings.cassandra_user,
        password="" if password is None else password.get_secret_value(),
    )


def open_stores(settings: Settings) -> Stores:
    """Connections to all servers; Unavailable names the first that does not answer."""
    mysql_server(settings, settings.shards - 1)  # what is wrong there is said before connecting
    with ExitStack() as opened:

        def keep(part: Any) -> Any:
            opened.callback(part.close)
            return part

        stores = Stores(
            keep(open_coordination(settings)),
            keep(open_log(settings)),
            keep(open_cache(settings)),
            wide := keep(open_wide(settings)),
            partial(open_shard, settings),
        )
        require_room(wide.keyspaces(), settings)
        leave_note(stores.coordination, settings)
        opened.pop_all()
    return stores


def remove(settings: Settings, silent: Collection[str] = ()) -> None:
    """Drop the lab's databases, topics, keyspace, keys and nodes on all servers but the ``silent``;
    one line of the log names those. What fails on one server is raised when all were tried.
    BadInput for the plain names: every key of Redis begins with the empty prefix, other labs' too.
    """
    if not settings.namespace:
        raise BadInput(
            "the lab with the plain names is not removed by a program",
            remedy="`paytm-lab stack up --reset` wipes the servers.",
        )
    opened: dict[str, Callable[[], Any]] = {
        f"shard-{shard}": partial(open_shard, settings, shard)
        for shard in range(min(settings.shards, len(settings.mysql_addresses)))
    }
    opened |= {
        "event-log": partial(open_log, settings),
        "wide-store": partial(open_wide, settings),
        "cache": partial(open_cache, settings),
    }
    with ExitStack() as last:
        if COORDINATION not in silent:
            last.callback(_drop, partial(open_coordination, settings))
        at_once([partial(_drop, part) for name, part in opened.items() if name not in silent])
    if silent:
        _log.warning(
            "%s is left on %s: nothing was removed there",
            settings.namespace,
            ", ".join(sorted(silent)),
        )


def _drop(open_part: Callable[[], Any]) -> None:
    part = open_part()
    try:
        part.drop()
    finally:
        part.close()
