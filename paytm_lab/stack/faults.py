"""Named faults on real servers: kill -9 or SIGSTOP, and back again.

Only servers of the lab's own stack folder are touched. They may be many a lab's: a fault is felt by
everybody who uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import psutil

from paytm_lab.config import PREFIX, Settings
from paytm_lab.config_servers import Address, addresses
from paytm_lab.core.errors import MissingPart, PaytmLabError, Unavailable
from paytm_lab.stack import cassandra, kafka, redis, zookeeper
from paytm_lab.stack.control import READY, Stack
from paytm_lab.stack.servers import Server

HERE = ("127.0.0.1", "localhost")
SERVERS = {
    "cache": redis.NAME,
    "event-log": kafka.NAME,
    "coordination": zookeeper.NAME,
    "wide-store": cassandra.NAME,
}
_SIGNALS = {"SIGKILL": Stack.kill, "SIGSTOP": Stack.freeze}


def server_name(target: str) -> str:
    """shard-2 -> mysql-2, cache -> redis."""
    return SERVERS.get(target, target.replace("shard-", "mysql-"))


def break_server(settings: Settings, target: str, signal: str) -> Callable[[], None]:
    """Send the signal to the server of ``target``; what is returned starts or thaws it and waits
    until it answers. MissingPart or Unavailable, with nothing stopped, where the server that the
    settings name is none that runs in ``settings.stack_dir``.
    """
    stack = Stack(settings.stack_dir)
    server = _own_server(stack, settings, target)
    heal = partial(_heal, stack, server.name)
    try:
        _SIGNALS[signal](stack, server.name)
    except psutil.AccessDenied:
        raise Unavailable(
            f"{server.name} is a process of another user, who alone may stop it",
            place=str(stack.layout.root),
        ) from None
    except BaseException:  # interrupted: it may have been stopped
        heal()
        raise
    return heal


def _own_server(stack: Stack, settings: Settings, target: str) -> Server:
    """The server that the lab uses, if this stack runs it."""
    name = server_name(target)
    root = stack.layout.root
    remedy = (
        "Faults stop only servers that `paytm-lab stack up` started on this machine; name that"
        f" stack's folder by {PREFIX}STACK_DIR and leave the servers' addresses to it."
    )
    if stack.layout.port_offset() is None:
        raise MissingPart(
            f"{name} cannot be stopped: there is no stack in {root}", place=target, remedy=remedy
        )
    server = stack.server(name)
    variable, places = _places(settings, target)
    own = [place.host in HERE and place.port == server.port for place in places]
    if own != [True]:
        raise MissingPart(
            f"{name} of {root} listens on 127.0.0.1:{server.port}, but the lab uses"
            f" {', '.join(map(str, places))} ({PREFIX}{variable})",
            place=target,
            remedy=remedy,
        )
    state = stack.state(server)
    if state.state != READY:
        raise Unavailable(
            f"{name} of {root} cannot be stopped: {state.state}",
            place=target,
            remedy="Start it with `paytm-lab stack up`; one that something else started is not"
            " touched.",
        )
    return server


def _places(settings: Settings, target: str) -> tuple[str, Sequence[Address]]:
    """The variable that says where the lab finds it, and what it says."""
    if target.startswith("shard-"):
        shard = int(target.removeprefix("shard-"))
        return "MYSQL_SERVERS", settings.mysql_addresses[shard : shard + 1]
    variable = {
        "cache": "REDIS_SERVER",
        "event-log": "KAFKA_SERVERS",
        "coordination": "ZOOKEEPER_SERVERS",
        "wide-store": "CASSANDRA_SERVERS",
    }[target]
    return variable, addresses(getattr(settings, variable.lower()))


def _heal(stack: Stack, name: str) -> None:
    try:
        if stack.pid(name) is None:
            stack.start(name)
        else:
            stack.thaw(name)
        stack.wait_ready(name)
    except BaseException as error:
        still = f"{name} is still down or frozen"
        remedy = f"Start it with: paytm-lab stack up --dir {stack.layout.root}"
        if isinstance(error, PaytmLabError):
            raise Unavailable(f"{still}: {error.message}", remedy=remedy) from error
        error.add_note(f"{still}. {remedy}")
        raise
