"""Faults strike only servers that this machine's stack runs: all else is refused, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paytm_lab.config import Settings
from paytm_lab.core.errors import MissingPart, Unavailable
from paytm_lab.simulation.faults import FAULTS, KILL
from paytm_lab.stack import connection
from paytm_lab.stack.control import Stack
from paytm_lab.stack.faults import break_server, server_name

OFFSET = 20_000


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """A stack that was set up, of which nothing runs."""
    stack = Stack(tmp_path / "stack")
    stack.layout.make(OFFSET)
    ports = {server.name: server.port for server in stack.servers()}
    connection.write_connection(stack.layout, ports, connection.new_passwords())
    return stack


def settings(stack: Stack, **other: Any) -> Settings:
    return Settings(profile="servers", stack_dir=stack.layout.root, **other)


def test_each_fault_that_stops_a_server_has_one(stack: Stack) -> None:
    targets = {fault.target for fault in FAULTS if fault.signal}
    targets = targets - {"shard"} | {f"shard-{number}" for number in range(4)}
    named = {server_name(target) for target in targets}
    assert named == {server.name for server in stack.servers()}


@pytest.mark.parametrize("target", ["shard-2", "cache", "event-log", "coordination", "wide-store"])
def test_one_that_does_not_run_is_not_started_by_a_fault(target: str, stack: Stack) -> None:
    with pytest.raises(Unavailable, match=f"{server_name(target)} .*stopped") as raised:
        break_server(settings(stack), target, KILL)
    assert "paytm-lab stack up" in raised.value.remedy


@pytest.mark.parametrize(
    ("target", "other", "said"),
    [
        ("shard-1", {"mysql_servers": "127.0.0.1:23306,db1:23307"}, "db1:23307"),
        ("shard-1", {"mysql_servers": "127.0.0.1:23306"}, "MYSQL_SERVERS"),
        ("cache", {"redis_server": "127.0.0.1:6379"}, "127.0.0.1:6379"),
        ("event-log", {"kafka_servers": "127.0.0.1:29092,other:9092"}, "other:9092"),
        ("coordination", {"zookeeper_servers": "zoo:2181"}, "zoo:2181"),
        ("wide-store", {"cassandra_servers": "10.0.0.1:29042"}, "10.0.0.1:29042"),
    ],
)
def test_servers_elsewhere_are_named(
    target: str, other: dict[str, Any], said: str, stack: Stack
) -> None:
    with pytest.raises(MissingPart, match=said) as raised:
        break_server(settings(stack, **other), target, KILL)
    assert "PAYTM_LAB_STACK_DIR" in raised.value.remedy
    assert raised.value.place == target


def test_no_stack_and_a_folder_of_something_else(tmp_path: Path) -> None:
    nowhere = Stack(tmp_path / "nowhere")
    with pytest.raises(MissingPart, match="no stack in"):
        break_server(settings(nowhere), "cache", KILL)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(MissingPart, match="no stack in"):
        break_server(settings(Stack(tmp_path)), "cache", KILL)
