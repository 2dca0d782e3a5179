"""What a stack consists of: eight servers, each with port, command, configuration, readiness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from paytm_lab.core.errors import BadInput, MissingPart
from paytm_lab.stack import cassandra, kafka, mysql, redis, zookeeper
from paytm_lab.stack.connection import Passwords
from paytm_lab.stack.layout import PORT_MAX, Layout
from paytm_lab.stack.programs import Jars, Missing, Part, Places, Program, find_java


class Launch(NamedTuple):
    """How one server is started. ``timer_slack_ns``: how much longer its threads' timed waits may
    last than they ask for, where the system is Linux; 0 leaves the system's 50,000.
    """

    command: list[str]
    version: str
    environment: Mapping[str, str]
    timer_slack_ns: int = 0


class Server(NamedTuple):
    """One of the eight. ``ports``: all that it listens on, the one for clients first.

    ``marker``: an argument of its command line that no other process has. ``launch`` is told the
    parts that were found, ``ready`` and ``config`` the stack's passwords.
    """

    name: str
    ports: tuple[int, ...]
    parts: tuple[str, ...]
    marker: str
    config_path: Path
    config: Callable[[Passwords], str]
    launch: Callable[[Mapping[str, Part]], Launch]
    ready: Callable[[Passwords], bool]

    @property
    def port(self) -> int:
        return self.ports[0]


def parts(where: Places) -> dict[str, Part]:
    """Every program and set of jars that the eight need, found or missing."""
    return {
        "mysql": mysql.find(where),
        "redis": redis.find(where),
        "java": find_java(where),
        "kafka": kafka.find(where),
        "cassandra": cassandra.find(where),
    }


def _program(found: Mapping[str, Part], name: str) -> Program:
    part = found[name]
    if isinstance(part, Program):
        return part
    raise MissingPart(str(part))


def _jars(found: Mapping[str, Part], name: str) -> Jars:
    part = found[name]
    if isinstance(part, Jars):
        return part
    raise MissingPart(str(part))


def servers(layout: Layout, port_offset: int) -> list[Server]:
    """The eight, in the order in which they are shown. BadInput when a port would pass 65,535."""
    found = [
        *(_mysql(layout, shard, port_offset) for shard in range(mysql.COUNT)),
        _redis(layout, port_offset),
        _zookeeper(layout, port_offset),
        _kafka(layout, port_offset),
        _cassandra(layout, port_offset),
    ]
    highest = max(port for server in found for port in server.ports)
    if port_offset < 0 or highest > PORT_MAX:
        raise BadInput(
            f"a port offset of {port_offset} gives ports outside 1 to {PORT_MAX}",
            remedy=f"Give one from 0 to {PORT_MAX - highest + port_offset}.",
        )
    return found


def _mysql(layout: Layout, shard: int, offset: int) -> Server:
    port = mysql.PORT + shard + offset

    def launch(found: Mapping[str, Part]) -> Launch:
        program = _program(found, "mysql")
        command = mysql.command(program, layout, shard)
        return Launch(command, program.version, program.environment)

    return Server(
        mysql.name(shard), (port,), ("mysql",),
        f"--defaults-file={mysql.config_path(layout, shard)}",
        mysql.config_path(layout, shard),
        lambda _: mysql.config(layout, shard, port),
        launch,
        lambda _: mysql.ready(port),
    )  # fmt: skip


def _redis(layout: Layout, offset: int) -> Server:
    port = redis.PORT + offset

    def launch(found: Mapping[str, Part]) -> Launch:
        program = _program(found, "redis")
        return Launch(redis.command(program, layout), program.version, program.environment)

    return Server(
        redis.NAME, (port,), ("redis",), str(redis.config_path(layout)), redis.config_path(layout),
        lambda known: redis.config(layout, port, known.redis),
        launch,
        lambda known: redis.ready(port, known.redis),
    )  # fmt: skip


def _zookeeper(layout: Layout, offset: int) -> Server:
    port = zookeeper.PORT + offset

    def launch(found: Mapping[str, Part]) -> Launch:
        jars = _jars(found, "kafka")
        command = zookeeper.command(_program(found, "java"), jars, layout)
        return Launch(command, zookeeper.version(jars), {})

    return Server(
        zookeeper.NAME, (port,), ("java", "kafka"), str(zookeeper.config_path(layout)),
        zookeeper.config_path(layout),
        lambda _: zookeeper.config(layout, port),
        launch,
        lambda _: zookeeper.ready(port),
    )  # fmt: skip


def _kafka(layout: Layout, offset: int) -> Server:
    port = kafka.PORT + offset

    def launch(found: Mapping[str, Part]) -> Launch:
        jars = _jars(found, "kafka")
        return Launch(kafka.command(_program(found, "java"), jars, layout), jars.version, {})

    return Server(
        kafka.NAME, (port,), ("java", "kafka"), str(kafka.config_path(layout)),
        kafka.config_path(layout),
        lambda _: kafka.config(layout, port, zookeeper.PORT + offset),
        launch,
        lambda _: kafka.ready(port),
    )  # fmt: skip


def _cassandra(layout: Layout, offset: int) -> Server:
    port, storage = cassandra.PORT + offset, cassandra.STORAGE_PORT + offset

    def launch(found: Mapping[str, Part]) -> Launch:
        jars = _jars(found, "cassandra")
        command = cassandra.command(_program(found, "java"), jars, layout)
        return Launch(command, jars.version, {}, cassandra.TIMER_SLACK_NS)

    return Server(
        cassandra.NAME, (port, storage), ("java", "cassandra"), cassandra.marker(layout),
        cassandra.config_path(layout),
        lambda _: cassandra.config(layout, port, storage),
        launch,
        lambda _: cassandra.ready(port),
    )  # fmt: skip


def missing(found: Mapping[str, Part]) -> list[str]:
    return [name for name, part in found.items() if isinstance(part, Missing)]
