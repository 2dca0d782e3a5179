"""Which servers a report was measured on, in words."""

from __future__ import annotations

from sqlalchemy import text

from paytm_lab.config import Settings
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.lab import Lab
from paytm_lab.stack.control import Stack

# What a stack calls its parts, what people call them, and the setting that says where they are.
_OTHERS = (
    ("kafka", "Kafka", "kafka_servers"),
    ("redis", "Redis", "redis_server"),
    ("cassandra", "Cassandra", "cassandra_servers"),
    ("zookeeper", "ZooKeeper", "zookeeper_servers"),
)


def servers_measured(lab: Lab) -> dict[str, str]:
    """Fact -> value for a report's first page: each kind of server with its version, where that is
    known. Empty on the embedded profile.
    """
    settings = lab.settings
    if settings.profile != "servers":
        return {}
    databases = lab.system.databases.values()
    with next(iter(databases)).read() as connection:
        mysql = str(connection.execute(text("SELECT VERSION()")).scalar_one())
    found = {"MySQL servers": f"{len(databases)} x {_plain(mysql)}"}
    known = _versions(settings)
    for part, name, setting in _OTHERS:
        # Where they are not the stack's own, nobody said which version answers there.
        found[name] = known.get(part) or str(getattr(settings, setting))
    return found


def _versions(settings: Settings) -> dict[str, str]:
    """Of the servers that the settings took from the stack's folder, by the stack's names."""
    ours = {part for part, _, setting in _OTHERS if settings.source(setting) == "stack"}
    try:
        stack = Stack(settings.stack_dir)
        states = [stack.state(server) for server in stack.servers() if server.name in ours]
    except PaytmLabError:
        return {}  # a folder without a stack, only with what is needed to find one
    return {state.server: state.version for state in states}


def _plain(version: str) -> str:
    """'8.0.42-0ubuntu0' -> '8.0.42'."""
    return version.partition("-")[0]
