"""Processes are recognised by pid and start time; a reused pid is never taken for a server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from paytm_lab.core.errors import MissingPart, Unavailable
from paytm_lab.stack import connection, ports, processes
from paytm_lab.stack.control import DIED, STOPPED, Stack
from paytm_lab.stack.down import down
from paytm_lab.stack.layout import write
from paytm_lab.stack.processes import Record
from paytm_lab.stack.servers import Launch
from tests.waiting import until

PORT_OFFSET = 20_500  # nobody answers there
SLEEP = "import time; time.sleep(300)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True)\n" + SLEEP


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    found = Stack(tmp_path / "stack")
    found.layout.make(PORT_OFFSET)
    by_name = {s.name: s.port for s in found.servers()}
    connection.write_connection(found.layout, by_name, connection.new_passwords())
    return found


@contextmanager
def program(code: str, *words: str) -> Iterator[psutil.Process]:
    """A process that is our child: it stays a zombie once it is dead, until the end."""
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE) as child:
        try:
            yield psutil.Process(child.pid)
        finally:
            child.kill()


def record_of(process: psutil.Process) -> Record:
    return Record(process.pid, process.create_time(), "1")


def detached(stack: Stack, name: str, code: str) -> psutil.Process:
    """Start a program as if it were that server."""
    launch = Launch([sys.executable, "-c", code, stack.server(name).marker], "7", {})
    record = processes.start(stack.server(name), launch, stack.log(name))
    processes.remember(stack.layout, name, record)
    return psutil.Process(record.pid)


def test_a_reused_pid_is_neither_seen_nor_killed(stack: Stack) -> None:
    with program(SLEEP) as stranger:
        old = record_of(stranger)._replace(create_time=stranger.create_time() - 60)
        processes.remember(stack.layout, "redis", old)
        assert stack.pid("redis") is None
        assert stack.state(stack.server("redis")).state == DIED
        stack.kill("redis")
        with pytest.raises(Unavailable, match="redis does not run"):
            stack.freeze("redis")
        assert down(stack) == []
        assert stranger.status() != psutil.STATUS_ZOMBIE and stranger.is_running()
        assert stack.state(stack.server("redis")).state == STOPPED


def test_a_started_program_is_nobodys_child_and_writes_to_its_log(stack: Stack) -> None:
    process = detached(stack, "redis", f"print('here', flush=True); {SLEEP}")
    try:
        assert stack.pid("redis") == process.pid
        assert process.ppid() != os.getpid()
        assert os.getsid(process.pid) != os.getsid(0)
        give_up_at = time.monotonic() + 20
        while stack.log("redis").read_text() != "here\n" and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert stack.log("redis").read_text() == "here\n"
        stack.kill("redis")
        assert stack.pid("redis") is None and not processes.running(record_of_dead(process))
    finally:
        stack.stop("redis", 1)


def record_of_dead(process: psutil.Process) -> Record:
    return Record(process.pid, process._create_time or 0.0, "1")


def test_a_zombie_does_not_run(stack: Stack) -> None:
    with program(SLEEP) as child:
        processes.remember(stack.layout, "kafka", record_of(child))
        assert stack.pid("kafka") == child.pid
        stack.kill("kafka")
        assert child.status() == psutil.STATUS_ZOMBIE
        assert stack.pid("kafka") is None


def test_a_frozen_process_hears_the_end(stack: Stack) -> None:
    with program(SLEEP) as child:
        processes.remember(stack.layout, "redis", record_of(child))
        stack.freeze("redis")
        give_up_at = time.monotonic() + 20
        while child.status() != psutil.STATUS_STOPPED and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert stack.state(stack.server("redis")).state == "frozen"
        assert down(stack, ["redis"]) == ["redis: stopped"]


def test_one_that_does_not_hear_is_killed_after_the_grace(stack: Stack) -> None:
    process = detached(stack, "cassandra", DEAF)
    give_up_at = time.monotonic() + 20
    while "on" not in stack.log("cassandra").read_text() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    (said,) = down(stack, ["cassandra"], grace_s=0.2)
    assert said == "cassandra: killed, it did not stop within 0.2 s"
    assert processes.gone(process, 10)


def test_a_server_that_is_not_remembered_is_found_again(stack: Stack) -> None:
    """Whoever started it was interrupted before it wrote that down."""
    process = detached(stack, "zookeeper", SLEEP)
    processes.forget(stack.layout, "zookeeper")
    assert stack.pid("zookeeper") is None
    stack.adopt()
    assert stack.pid("zookeeper") == process.pid
    assert down(stack) == ["zookeeper: stopped"]


def test_starting_at_once_starts_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four threads here; the lock is one of files, so that processes are no different."""
    server = stack.server("redis")
    launch = Launch([sys.executable, "-c", SLEEP, server.marker], "7", {})
    monkeypatch.setattr(stack, "parts", lambda: {"mysql": None, "redis": launch})
    monkeypatch.setattr("paytm_lab.stack.programs.require", lambda parts: None)
    monkeypatch.setattr(stack, "server", lambda name: server._replace(launch=lambda _: launch))
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(stack.start("redis"))) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    try:
        assert len(pids) == 4 and len(set(pids)) == 1
    finally:
        stack.stop("redis", 1)


def test_the_last_words_of_the_dead_are_told(stack: Stack) -> None:
    log = stack.log("kafka")
    log.write_text("".join(f"line {n}\n" for n in range(100)) + "x" * 1000 + "\n")
    process = detached(stack, "kafka", "raise SystemExit('no space left')")
    assert processes.gone(process, 20)
    state = stack.state(stack.server("kafka"))
    assert state.state == DIED and state.pid is None
    assert (
        "no space left" in state.said and "line 99" in state.said and "line 9\n" not in state.said
    )
    with pytest.raises(Unavailable, match=r"(?s)kafka died.*last lines of .*kafka\.log.*no space"):
        stack.wait_ready("kafka", 5)


def test_waiting_has_an_end(stack: Stack) -> None:
    with program(SLEEP) as child:
        processes.remember(stack.layout, "kafka", record_of(child))
        with pytest.raises(Unavailable, match=r"kafka took over 0\.2 s"):
            stack.wait_ready("kafka", 0.2)


def test_a_long_log_is_put_aside(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES_MAX", 10)
    stack.log("redis").write_text("an old long log\n")
    processes.gone(detached(stack, "redis", "print('new')"), 20)
    assert stack.log("redis").read_text() == "new\n"
    assert stack.layout.logs.joinpath("redis.log.old").read_text() == "an old long log\n"


def test_taken_ports_are_named_with_their_owners(stack: Stack) -> None:
    with socket.socket() as ours, socket.socket() as other:
        for taken in (ours, other):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        first, second = (taken.getsockname()[1] for taken in (ours, other))
        redis = stack.server("redis")._replace(ports=(first,))
        cassandra = stack.server("cassandra")._replace(ports=(second, first))
        with pytest.raises(MissingPart) as raised:
            ports.require_free([redis, cassandra])
    said = str(raised.value)
    assert raised.value.exit_code == 3
    assert "3 port(s) of the stack cannot be used, nothing was started" in said
    mine = psutil.Process()
    owner = f"{mine.name()} (process {mine.pid}: {' '.join(mine.cmdline())[:40]}"
    assert f"port {first} for redis: taken by {owner}" in said
    assert f"port {second} for cassandra: taken by {owner}" in said
    assert "--port-offset" in said
    ports.require_free([redis, cassandra])  # free again


def test_an_unreadable_record_is_no_record(stack: Stack) -> None:
    for text in ("", "{}", '{"pid": "x", "create_time": 1, "version": ""}', "[1]"):
        write(processes.record_path(stack.layout, "redis"), text)
        assert stack.pid("redis") is None
    assert [s.name for s in stack.servers() if stack.pid(s.name)] == []


ONLY_A_THREAD_IS_LEFT = """
import ctypes, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
threading.Thread(target=server.accept).start()
ctypes.CDLL(None).pthread_exit(None)
"""


if sys.platform == "linux":  # elsewhere nothing is left of a process without its first thread

    def test_a_zombie_with_a_thread_has_not_ended() -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", ONLY_A_THREAD_IS_LEFT], stdout=subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            process = psutil.Process(child.pid)
            until(lambda: process.status() == psutil.STATUS_ZOMBIE)
            assert not processes.gone(process, 0.1)
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))
            child.kill()
            assert processes.gone(process, 10)
            socket.create_server(("127.0.0.1", port)).close()
        finally:
            child.kill()
            child.communicate()
