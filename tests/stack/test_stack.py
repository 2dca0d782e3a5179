"""The real servers: up, killed, frozen, restarted, wiped, down."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pymysql
import pytest

from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, MissingPart, PaytmLabError, Unavailable
from paytm_lab.stack import connection, kafka, processes
from paytm_lab.stack.control import DIED, FROZEN, READY, SILENT, STOPPED, Stack
from paytm_lab.stack.down import down
from paytm_lab.stack.layout import Layout
from paytm_lab.stack.up import Up, up
from tests.stack.conftest import PORT_OFFSET
from tests.waiting import until

MEMORY_MIB_MAX = 3.5 * 1024
NAMES = ["mysql-0", "mysql-1", "mysql-2", "mysql-3", "redis", "zookeeper", "kafka", "cassandra"]


def connect(stack: Stack, shard: int, user: str = "", password: str = "") -> pymysql.Connection:
    return pymysql.connect(
        host="127.0.0.1", port=stack.server(f"shard-{shard}").port,
        user=user or "paytm_lab", password=password if user else stack.passwords().mysql,
        connect_timeout=5, read_timeout=20, autocommit=True,
    )  # fmt: skip


def one(stack: Stack, shard: int, sql: str) -> tuple[object, ...] | None:
    with connect(stack, shard) as link, link.cursor() as cursor:
        cursor.execute(sql)
        found: tuple[object, ...] | None = cursor.fetchone()
        return found


def pids(stack: Stack) -> list[int | None]:
    return [stack.pid(name) for name in NAMES]


def told(stack: Stack, line: bytes) -> bytes:
    """What Redis answers to a line of somebody who has not logged in."""
    with socket.create_connection(("127.0.0.1", stack.server("redis").port), timeout=5) as link:
        link.sendall(line)
        return link.recv(1000)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paytm_lab.cli", "stack", *words],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_up_leaves_alone_what_runs(running: Stack) -> None:
    before = pids(running)
    assert None not in before and len(set(before)) == 8
    seen: list[str] = []
    done = up(running.layout.root, progress=lambda states: seen.extend(s.state for s in states))
    assert [s.server for s in done.states] == NAMES
    assert {s.state for s in done.states} == {READY} == set(seen[-8:])
    assert all(s.version[0].isdigit() and s.memory_mib for s in done.states)
    assert sum(s.memory_mib or 0 for s in done.states) <= MEMORY_MIB_MAX
    assert pids(running) == before


def test_only_those_with_a_password_come_in(running: Stack) -> None:
    for file in (running.layout.connection, running.layout.admin):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for config in running.layout.conf.iterdir():
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert not (running.layout.conf / "mysql-init.sql").exists()
    known = running.passwords()
    for shard in range(4):
        assert one(running, shard, "SELECT CURRENT_USER()") == ("paytm_lab@%",)
        for user, password in (("root", ""), ("root", known.mysql_root), ("paytm_lab", "")):
            with pytest.raises(pymysql.err.OperationalError, match=r"Access denied|1698|1045|1130"):
                connect(running, shard, user, password)
    assert told(running, b"PING\r\n").startswith(b"-NOAUTH")
    assert told(running, f"AUTH {known.redis}\r\n".encode()) == b"+OK\r\n"
    for name in NAMES:
        words = psutil.Process(running.pid(name)).cmdline()
        assert not [word for word in words for password in known if password in word]
        for listening in psutil.Process(running.pid(name)).net_connections("tcp"):
            assert listening.status != psutil.CONN_LISTEN or "127.0.0.1" in listening.laddr.ip


def test_shards_run_with_the_settings(running: Stack) -> None:
    asked = "@@sync_binlog, @@innodb_flush_log_at_trx_commit, @@transaction_isolation"
    assert one(running, 0, f"SELECT {asked}") == (1, 1, "READ-COMMITTED")
    ids = {one(running, shard, "SELECT @@server_uuid, @@server_id") for shard in range(4)}
    assert len(ids) == 4, "four copies of one data folder are four servers"


def test_a_killed_shard_comes_back_with_its_data(running: Stack) -> None:
    others = [pid for name, pid in zip(NAMES, pids(running), strict=True) if name != "mysql-2"]
    one(running, 2, "CREATE DATABASE IF NOT EXISTS paytm_stack_test")
    one(running, 2, "CREATE TABLE IF NOT EXISTS paytm_stack_test.t (id INT PRIMARY KEY)")
    one(running, 2, "REPLACE INTO paytm_stack_test.t VALUES (7)")
    running.kill("shard-2")
    state = running.state(running.server("shard-2"))
    assert (state.state, state.pid) == (DIED, None)
    assert "ready for connections" in state.said
    up(running.layout.root)
    assert one(running, 2, "SELECT id FROM paytm_stack_test.t") == (7,)
    assert [p for n, p in zip(NAMES, pids(running), strict=True) if n != "mysql-2"] == others
    one(running, 2, "DROP DATABASE paytm_stack_test")


def test_a_frozen_server_is_thawed(running: Stack) -> None:
    running.freeze("redis")
    until(lambda: running.state(running.server("redis")).state == FROZEN)
    assert not running.ready("redis")
    running.thaw("redis")
    running.wait_ready("redis", 10)
    running.freeze("zookeeper")
    said: list[str] = []
    up(running.layout.root, say=said.append)
    assert said == ["zookeeper was frozen: thawed"] and running.ready("zookeeper")


def test_a_killed_broker_may_be_started_at_once(running: Stack) -> None:
    """Its registration in ZooKeeper outlives it: it waits until that has ended."""
    for _ in range(2):
        running.kill("kafka")
        running.start("kafka")
        running.wait_ready("kafka", 60)
    assert kafka.has_run(running.layout)


def test_two_processes_start_a_server_once(running: Stack) -> None:
    running.stop("redis")
    code = (
        "import sys; from paytm_lab.stack.control import Stack\n"
        "print(Stack(sys.argv[1]).start('redis'))"
    )
    words = [sys.executable, "-c", code, str(running.layout.root)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in both}
    running.wait_ready("redis", 10)
    assert said == {f"{running.pid('redis')}\n"}
    found = [p for s, p in processes.orphans(running.servers()) if s.name == "redis"]
    assert [p.pid for p in found] == [running.pid("redis")]


def test_two_ups_at_once_do_it_once(running: Stack) -> None:
    for name in ("redis", "shard-1"):
        running.kill(name)
    root = str(running.layout.root)
    code = (
        "import json, sys; from paytm_lab.stack.up import up\n"
        "print(json.dumps([s.pid for s in up(sys.argv[1]).states]))"
    )
    words = [sys.executable, "-c", code, root]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [json.loads(p.communicate(timeout=150)[0]) for p in both] == [pids(running)] * 2


def test_a_restart_is_clean_and_anew(running: Stack) -> None:
    before = running.pid("shard-0")
    assert running.restart("shard-0") != before
    running.wait_ready("shard-0", 60)
    assert "Shutdown complete" in running.log("shard-0").read_text()


def test_ports_of_somebody_else_are_named_before_anything_is_started(
    running: Stack, tmp_path: Path
) -> None:
    with pytest.raises(MissingPart) as raised:
        up(tmp_path / "other", port_offset=PORT_OFFSET)
    said = str(raised.value)
    assert raised.value.exit_code == 3 and "9 port(s)" in said
    for name in NAMES:
        taken = f"port {running.server(name).port} for {name}: taken by "
        owner = psutil.Process(running.pid(name))
        assert f"{taken}{owner.name()} (process {owner.pid}: " in said
    layout = Layout(tmp_path / "other")
    assert not layout.connection.exists() and not list(layout.data.iterdir())


def test_ports_are_not_shifted_under_running_servers(running: Stack) -> None:
    with pytest.raises(BadInput, match=rf"port offset of {PORT_OFFSET}, not 0.*stack down"):
        up(running.layout.root, port_offset=0)
    assert running.port_offset() == PORT_OFFSET


def test_up_succeeds_only_when_the_check_does(running: Stack) -> None:
    seen: list[Settings] = []

    def passes(settings: Settings) -> str:
        seen.append(settings)
        return "it crossed"

    assert up(running.layout.root, verify=passes).verified == "it crossed"
    assert seen[0].profile == "servers"
    assert seen[0].redis_server == f"127.0.0.1:{running.server('redis').port}"

    def fails(settings: Settings) -> str:
        running.kill("shard-3")
        raise Unavailable("the payment did not arrive")

    with pytest.raises(PaytmLabError) as raised:
        up(running.layout.root, verify=fails)
    said = str(raised.value)
    assert raised.value.exit_code == 3
    assert "no payment crossed the stack: the payment did not arrive" in said
    assert "mysql-3 does not answer" in said and "ready for connections" in said


def test_up_proves_that_payments_cross_all_eight(running: Stack) -> None:
    done = command("up", "--json", "--dir", str(running.layout.root))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["verified"].startswith("two cross-shard payments crossed all eight servers")
    assert [s["state"] for s in result["servers"]] == [READY] * 8
    for shard in range(4):
        (name,) = one(running, shard, "SHOW DATABASES LIKE 'paytm%'") or ("",)
        assert name == "paytm_stack_check", "it leaves what the next check uses, nothing else"


def test_a_server_that_cannot_start_is_told_with_its_last_lines(running: Stack) -> None:
    """Its data cannot be read."""
    running.stop("redis")
    manifest = running.layout.data / "redis/appendonlydir/appendonly.aof.manifest"
    whole = manifest.read_text()
    manifest.write_text("not a manifest\n")
    try:
        with pytest.raises(Unavailable, match=r"(?s)redis (died|ended).*redis\.log.*AOF manifest"):
            up(running.layout.root)
    finally:
        manifest.write_text(whole)
    up(running.layout.root)


def test_the_command_line_says_it_in_a_table_and_as_json(running: Stack) -> None:
    root = str(running.layout.root)
    shown = command("status", "--dir", root)
    assert shown.returncode == 0
    head, *lines = shown.stdout.splitlines()
    assert head.split() == ["server", "version", "port", "pid", "memory_mib", "state"]
    assert [line.split()[0] for line in lines[:8]] == NAMES
    assert lines[8].startswith("8 of 8 run, ")
    running.kill("shard-1")
    running.freeze("redis")
    until(lambda: running.state(running.server("redis")).state == FROZEN)
    broken = command("status", "--json", "--dir", root)
    assert broken.returncode == 3
    states = {s["server"]: s for s in json.loads(broken.stdout)}
    assert states["mysql-1"]["state"] == DIED and states["redis"]["state"] == FROZEN
    assert states["mysql-0"]["state"] == READY and states["mysql-0"]["pid"] == running.pid(
        "shard-0"
    )
    assert "mysql-1 died, last lines of" in command("status", "--dir", root).stderr
    log = command("logs", "shard-1", "-n", "2", "--dir", root)
    assert log.returncode == 0 and len(log.stdout.splitlines()) == 2
    assert command("logs", "postgres", "--dir", root).returncode == 2
    stopped = command("down", "redis", "--json", "--dir", root)
    assert json.loads(stopped.stdout) == [{"server": "redis", "how": "stopped"}]


def test_a_live_log_is_followed(running: Stack) -> None:
    words = [sys.executable, "-m", "paytm_lab.cli", "stack", "logs", "redis", "-f", "-n", "1"]
    words += ["--dir", str(running.layout.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None and follower.stdout.readline()
            with running.log("redis").open("a") as log:
                log.write("something new\n")
            assert "something new" in follower.stdout.readline()
        finally:
            follower.terminate()


def test_down_stops_cleanly_and_keeps_the_data(running: Stack) -> None:
    lines = down(running)
    assert sorted(lines) == sorted(f"{name}: stopped" for name in NAMES)
    assert lines[-1] == "zookeeper: stopped", "Kafka tells it goodbye first"
    assert list(processes.orphans(running.servers())) == []
    assert [running.state(s).state for s in running.servers()] == [STOPPED] * 8
    assert down(running) == []
    assert "shut down completed" in running.log("kafka").read_text()
    running.start("redis")
    running.wait_ready("redis", 10)
    assert down(running, ["redis"]) == ["redis: stopped"]
    done = up(running.layout.root)
    assert isinstance(done, Up) and max(done.ready_s.values()) > 0


def test_reset_wipes_the_data_and_says_so(running: Stack) -> None:
    one(running, 0, "CREATE DATABASE paytm_stack_test")
    old = running.passwords()
    stranger = running.layout.root / "notes.txt"
    stranger.write_text("mine")
    said: list[str] = []
    up(running.layout.root, reset=True, say=said.append)
    assert "mysql-0: stopped" in said
    assert any(line.startswith(f"wiped {running.layout.data}: ") for line in said)
    assert not set(old) & set(running.passwords())
    assert one(running, 0, "SHOW DATABASES LIKE 'paytm%'") is None
    assert stranger.read_text() == "mine"
    assert connection.settings(running.layout)["mysql_user"] == "paytm_lab"
    assert SILENT not in [running.state(s).state for s in running.servers()]


def test_reset_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious").touch()
    refused = command("up", "--reset", "--dir", str(tmp_path))
    assert refused.returncode == 2 and "does not look like a stack" in refused.stderr
    assert (tmp_path / "data/precious").exists()
