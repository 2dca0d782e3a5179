"""Passwords: made once, read by their owner only, never on a command line."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paytm_lab.config import Settings
from paytm_lab.core.errors import BadInput, MalformedFile, MissingPart
from paytm_lab.stack import connection, servers
from paytm_lab.stack.control import Stack
from paytm_lab.stack.layout import MARKER, Layout, write
from paytm_lab.stack.programs import Jars, Program

PARTS = {
    "mysql": Program(("/usr/sbin/mysqld",), "8.0.41"),
    "redis": Program(("/usr/bin/redis-server",), "7.0.15"),
    "java": Program(("/usr/bin/java",), "17.0.15"),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "a stack")  # with a space: every place quotes
    found.make(100)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ports(layout: Layout, offset: int) -> dict[str, int]:
    return {server.name: server.port for server in servers.servers(layout, offset)}


def test_the_settings_read_what_is_written(layout: Layout) -> None:
    known = connection.new_passwords()
    connection.write_connection(layout, ports(layout, 100), known)
    assert mode(layout.connection) == mode(layout.admin) == 0o600
    assert mode(layout.root) == 0o700
    settings = Settings(profile="servers", stack_dir=layout.root)
    assert settings.mysql_servers == "127.0.0.1:3406,127.0.0.1:3407,127.0.0.1:3408,127.0.0.1:3409"
    assert settings.mysql_user == "paytm_lab"
    assert settings.mysql_password is not None and settings.redis_password is not None
    assert settings.mysql_password.get_secret_value() == known.mysql
    assert settings.redis_password.get_secret_value() == known.redis
    assert settings.redis_server == "127.0.0.1:6479"
    assert settings.kafka_servers == "127.0.0.1:9192"
    assert settings.zookeeper_servers == "127.0.0.1:2281"
    assert settings.cassandra_servers == "127.0.0.1:9142"
    assert known.mysql_root not in layout.connection.read_text()


def test_passwords_are_long_and_new_each_time() -> None:
    made = [*connection.new_passwords(), *connection.new_passwords()]
    assert len(set(made)) == 6
    assert all(len(word) == 48 and int(word, 16) for word in made)


def test_other_ports_keep_the_passwords(layout: Layout) -> None:
    known = connection.new_passwords()
    connection.write_connection(layout, ports(layout, 100), known)
    connection.write_connection(layout, ports(layout, 0), connection.passwords(layout))
    assert connection.passwords(layout) == known
    assert ":3306," in layout.connection.read_text()


@pytest.mark.parametrize("name", ["connection.env", "admin.env"])
def test_lost_passwords_are_not_made_anew(layout: Layout, name: str) -> None:
    """The servers' data knows only the old ones."""
    connection.write_connection(layout, ports(layout, 100), connection.new_passwords())
    (layout.root / name).unlink()
    with pytest.raises(MissingPart, match=rf"{name} is not there.*--reset"):
        connection.passwords(layout)


def test_no_password_is_on_a_command_line_or_readable_by_others(layout: Layout) -> None:
    known = connection.new_passwords()
    for part, jar in (("kafka", "kafka_2.13-3.4.1"), ("cassandra", "jamm-0.3.2")):
        (layout.root / part).mkdir()
        (layout.root / part / f"{jar}.jar").touch()
    parts = PARTS | {n: Jars(layout.root / n, "1") for n in ("kafka", "cassandra")}
    for server in servers.servers(layout, 100):
        launch = server.launch(parts)
        words = " ".join([*launch.command, *launch.environment.values()])
        assert not any(password in words for password in known)
        assert server.marker in launch.command
    redis = servers.servers(layout, 100)[4]
    assert f"requirepass {known.redis}\n" in redis.config(known)


def test_a_stack_is_eight_servers_on_ports_of_their_own(layout: Layout) -> None:
    found = servers.servers(layout, 0)
    assert [s.name for s in found] == [
        "mysql-0", "mysql-1", "mysql-2", "mysql-3", "redis", "zookeeper", "kafka", "cassandra",
    ]  # fmt: skip
    assert [s.port for s in found] == [3306, 3307, 3308, 3309, 6379, 2181, 9092, 9042]
    shifted = servers.servers(layout, 20_000)
    assert [p - 20_000 for s in shifted for p in s.ports] == [p for s in found for p in s.ports]
    assert len({s.marker for s in found}) == len({s.config_path for s in found}) == 8
    known = connection.new_passwords()
    for server in shifted:
        text = server.config(known)
        assert all(str(port) in text for port in server.ports), text
        assert "0.0.0.0" not in text and "127.0.0.1" in text


@pytest.mark.parametrize("offset", [-1, 60_000])
def test_an_offset_keeps_within_the_ports(layout: Layout, offset: int) -> None:
    with pytest.raises(BadInput, match=f"port offset of {offset}"):
        servers.servers(layout, offset)


def test_what_is_acknowledged_is_on_disk(layout: Layout) -> None:
    known = connection.new_passwords()
    texts = {s.name: s.config(known) for s in servers.servers(layout, 0)}
    for shard in range(4):
        assert "innodb_flush_log_at_trx_commit = 1\n" in texts[f"mysql-{shard}"]
        assert "sync_binlog = 1\n" in texts[f"mysql-{shard}"]
        assert f"server_id = {shard + 1}\n" in texts[f"mysql-{shard}"]
    assert "commitlog_sync: batch\n" in texts["cassandra"]
    assert "appendonly yes\n" in texts["redis"]


def test_cassandras_heap_holds_many_labs_tables(layout: Layout) -> None:
    (text,) = [s.config({}) for s in servers.servers(layout, 0) if s.name == "cassandra"]
    assert "memtable_allocation_type: offheap_objects\n" in text


def test_aliases_and_strangers(layout: Layout) -> None:
    stack = Stack(layout.root)
    assert stack.server("shard-3").name == stack.server("mysql-3").name == "mysql-3"
    with pytest.raises(BadInput, match=r"no server 'shard-4'.*mysql-0.*cassandra"):
        stack.server("shard-4")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    (tmp_path / "data").mkdir()
    for act in (Layout(tmp_path).require_ours, lambda: Layout(tmp_path).make(0)):
        with pytest.raises(BadInput, match=r"does not look like a stack's folder.*thesis\.tex"):
            act()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "thesis.tex"]
    with pytest.raises(BadInput, match="is not a folder"):
        Layout(tmp_path / "thesis.tex").require_ours()


def test_a_folder_without_a_stack_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="there is no stack in"):
        Stack(tmp_path).servers()
    assert list(tmp_path.iterdir()) == []


def test_a_broken_marker_is_named(layout: Layout) -> None:
    layout.marker.write_text("{}")
    with pytest.raises(MalformedFile, match=MARKER):
        Stack(layout.root).servers()


def test_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mysql-0.cnf"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write(file, f"{n:03d}" * 1_000), range(400)))
    assert len({file.read_text()[i : i + 3] for i in range(0, 3_000, 3)}) == 1
    assert list(tmp_path.iterdir()) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
