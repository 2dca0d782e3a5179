from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab import preflight as module
from paytm_lab.config import Settings
from paytm_lab.core.errors import MissingPart
from paytm_lab.preflight import (
    check_disk,
    check_folder,
    check_memory,
    check_packages,
    check_ports,
    check_python,
    check_servers,
    preflight,
    require,
)
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_nothing_is_wrong_here_and_nothing_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    require(Settings(data_dir=folder), need_ports=[free_port()])
    assert list(tmp_path.iterdir()) == []


def test_every_problem_is_listed_at_once_and_soon(tmp_path: Path, listener: int) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(data_dir=tmp_path / "file" / "lab")
    started = time.monotonic()
    problems = preflight(settings, need_ports=[listener, listener])
    assert time.monotonic() - started < 2
    assert [p.name for p in problems] == ["data folder", f"port {listener}"]
    with pytest.raises(MissingPart) as caught:
        require(settings, need_ports=[listener])
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert all(
        f"{p.name}: found {p.found}; needed {p.needed}. {p.remedy}" in text for p in problems
    )


def test_a_taken_port_names_its_owner(listener: int) -> None:
    (problem,) = check_ports([listener])
    assert f"(process {os.getpid()}: " in problem.found
    assert check_ports([free_port()]) == []


def test_a_port_that_was_just_left_is_free() -> None:
    port = free_port()
    here = ("127.0.0.1", port)
    with socket.create_server(here) as server, socket.create_connection(here):
        server.accept()[0].close()  # leaves TIME_WAIT behind
    assert check_ports([port]) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "lab"
    path.write_text("")
    for folder in (path, path / "deep" / "down"):
        (problem,) = check_folder(folder)
        assert problem.found == f"{path} is a file"
        assert "--data DIR" in problem.remedy


def _as_nobody(folder: Path, answer: multiprocessing.Queue[list[tuple[str, ...]]]) -> None:
    if os.geteuid() == 0:  # root may write anywhere
        os.setgid(65534)
        os.setuid(65534)
    answer.put([tuple(p) for p in check_folder(folder)])


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_without_write_permission(tmp_path: Path, mode: int) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(mode)
    for path in (tmp_path, *tmp_path.parents[:3]):
        if path.owner() == locked.owner() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)  # let the other user come this far
    fork = multiprocessing.get_context("fork")
    answer = fork.Queue()
    child = fork.Process(target=_as_nobody, args=(locked / "lab", answer))
    child.start()
    problems = answer.get(timeout=30)
    child.join(30)
    locked.chmod(0o755)
    assert [p[0] for p in problems] == ["data folder"]
    assert "no way to write into" in problems[0][1]
    assert check_folder(locked / "lab") == []


def test_a_file_system_that_takes_no_files() -> None:
    folder = Path("/proc" if sys.platform == "linux" else "/dev/fd")
    (problem,) = check_folder(folder / "paytm_lab")
    assert f"no way to write into {folder}" in problem.found


def test_disk_and_memory(tmp_path: Path) -> None:
    free_mib = shutil.disk_usage(tmp_path).free // module.MIB
    (problem,) = check_disk(tmp_path / "new", free_min_mib=2 * free_mib + 1)
    assert str(tmp_path) in problem.found and f"{2 * free_mib + 1} MiB" in problem.needed
    assert check_disk(tmp_path / "new", free_min_mib=1) == []
    (problem,) = check_memory(100 * module.MIB)
    assert (problem.found, problem.needed) == ("100 MiB available", "512 MiB")
    assert check_memory(512 * module.MIB) == []


def test_python_and_packages() -> None:
    (problem,) = check_python((3, 10, 13))
    assert (problem.found, problem.needed) == ("3.10.13", "3.11 or newer")
    assert check_python((3, 11, 0)) == check_python((4, 0, 0)) == []
    (problem,) = check_packages(["numpy", "no-such-part", "pydantic-settings", "neither_this"])
    assert problem.found.startswith("no no-such-part, neither_this in ")
    assert "make env" in problem.remedy


def test_it_imports_nothing_heavy_and_opens_nothing() -> None:
    code = (
        "import sys, threading; from paytm_lab.config import Settings;"
        "import paytm_lab.preflight as p; p.preflight(Settings(), [9]);"
        "print(threading.active_count(),"
        "[m for m in ('pandas', 'plotly', 'sqlalchemy', 'papermill') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1 []", done.stderr


def on_servers(stack_dir: Path, mysql: list[int], other: int, **more: str) -> Settings:
    """Settings whose servers listen (or not) on these ports."""
    places = dict.fromkeys(
        ("redis_server", "kafka_servers", "zookeeper_servers", "cassandra_servers"),
        f"127.0.0.1:{other}",
    )
    names = ",".join(f"127.0.0.1:{port}" for port in mysql)
    return Settings(
        profile="servers", stack_dir=stack_dir, shards=3, mysql_servers=names, **(places | more)
    )


def test_servers_that_answer_are_no_problem(tmp_path: Path, listener: int) -> None:
    # A server beyond the lab's three shards is not needed; of several brokers one is enough.
    mysql = [listener, listener, listener, free_port()]
    brokers = f"127.0.0.1:{free_port()},127.0.0.1:{listener}"
    settings = on_servers(tmp_path, mysql, listener, kafka_servers=brokers)
    assert check_servers(settings) == []


def test_every_server_that_does_not_answer_is_named_and_nothing_is_made(
    tmp_path: Path, listener: int
) -> None:
    away = free_port()
    settings = on_servers(
        tmp_path / "stack", [listener, away, listener], listener, redis_server=f"127.0.0.1:{away}"
    )
    with pytest.raises(MissingPart) as caught:
        require(settings.model_copy(update={"data_dir": tmp_path / "lab"}))
    assert f"MySQL 127.0.0.1:{away}, Redis 127.0.0.1:{away} (connection refused)" in str(
        caught.value
    )
    assert "PAYTM_LAB_MYSQL_SERVERS, PAYTM_LAB_REDIS_SERVER where they are" in str(caught.value)
    assert f"127.0.0.1:{listener}" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_stack_is_told_to_be_started_where_there_is_one_or_none(tmp_path: Path) -> None:
    no_stack = Settings(profile="servers", stack_dir=tmp_path)
    # Not by check_servers: servers of the developer's own may listen on the usual ports.
    said = module._remedy(no_stack, "default", module._KINDS[:1])
    assert said.startswith(f"No stack was started in {tmp_path}: do so with `paytm-lab stack up`")
    ports = "".join(
        f"PAYTM_LAB_{name}=127.0.0.1:{free_port()}\n"
        for name in ("REDIS_SERVER", "KAFKA_SERVERS", "ZOOKEEPER_SERVERS", "CASSANDRA_SERVERS")
    )
    mysql = ",".join(f"127.0.0.1:{free_port()}" for _ in range(4))
    (tmp_path / "connection.env").write_text(f"{ports}PAYTM_LAB_MYSQL_SERVERS={mysql}\n")
    (stopped,) = check_servers(Settings(profile="servers", stack_dir=tmp_path))
    assert stopped.remedy.startswith("`paytm-lab stack up` starts what does not run")
    assert stopped.found.count("127.0.0.1:") == 8


def test_a_server_that_stays_silent_is_waited_for_once(
    tmp_path: Path, listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SERVER_ANSWER_S_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        callers = [socket.socket() for _ in range(8)]
        for caller in callers:  # more than the system keeps for one that accepts nobody
            caller.setblocking(False)
            caller.connect_ex(place)
        started = time.monotonic()
        problems = check_servers(on_servers(tmp_path, [place[1]] * 3, listener))
        assert time.monotonic() - started < 2
        for caller in callers:
            caller.close()
    assert [p.found for p in problems] == [
        "no answer from "
        + ", ".join([f"MySQL 127.0.0.1:{place[1]}"] * 3)
        + " (nothing within 0.3 s)"
    ]


def test_every_package_that_the_project_asks_for_is_found() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[\[<>=;]", each)[0].strip() for each in project["dependencies"]]
    assert len(names) > 20
    assert check_packages(names) == []
