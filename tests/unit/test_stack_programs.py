"""What of the servers is on this machine; what is missing is said at once, with where to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from paytm_lab.core.errors import MissingPart
from paytm_lab.stack import fetch, servers
from paytm_lab.stack.layout import Layout
from paytm_lab.stack.programs import Jars, Missing, Places, Program, require
from paytm_lab.stack.up import up


@pytest.fixture
def where(tmp_path: Path) -> Places:
    """A machine with nothing on it."""
    for name in ("bin", "pkg", "root"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "pkg", {"PATH": str(tmp_path / "bin")}, tmp_path / "root")


def script(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def jars(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_all_missing_parts_are_told_at_once(where: Places) -> None:
    found = servers.parts(where)
    assert servers.missing(found) == ["mysql", "redis", "java", "kafka", "cassandra"]
    with pytest.raises(MissingPart) as raised:
        require(found)
    said = str(raised.value)
    assert raised.value.exit_code == 3
    assert "5 part(s)" in said and "paytm-lab stack up --fetch" in said
    for words in (
        "mysqld: needed MySQL 8.0.30 or newer; found no mysqld",
        "apt-get install mysql-server-core-8.0", "brew install mysql", "conda-forge mysql-server",
        "apt-get install redis-server", "brew install redis", "conda-forge redis-server",
        "Java 11 or 17; found no java", "openjdk-17-jre-headless", "brew install openjdk@17",
        "KAFKA_HOME", "CASSANDRA_HOME",
    ):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("mysqld  Ver 8.0.41 for Linux on x86_64", "8.0.41"),
        ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "9.7.4-2"),
        ("mysqld  Ver 8.0.29 for Linux", None),
        ("mysqld  Ver 5.7.44 for Linux", None),
        ("mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu", None),
        ("cannot open shared object file", None),
    ],
)
def test_a_mysqld_must_be_mysql_and_new_enough(
    where: Places, tmp_path: Path, says: str, found: str | None
) -> None:
    path = script(tmp_path / "bin/mysqld", says)
    part = servers.parts(where)["mysql"]
    if found is None:
        assert isinstance(part, Missing) and str(path) in part.found
    else:
        assert part == Program((str(path),), found)


def test_a_mysqld_that_apparmor_confines_is_none(where: Places) -> None:
    path = script(where.root / "usr/sbin/mysqld", "mysqld  Ver 8.0.41 for Linux")
    assert isinstance(servers.parts(where)["mysql"], Program)
    profile = where.root / "etc/apparmor.d/usr.sbin.mysqld"
    profile.parent.mkdir(parents=True)
    profile.touch()
    part = servers.parts(where)["mysql"]
    assert isinstance(part, Missing) and f"{path} (AppArmor" in part.found
    (profile.parent / "disable").mkdir()
    (profile.parent / "disable" / profile.name).touch()
    assert isinstance(servers.parts(where)["mysql"], Program)


def test_a_newer_java_on_the_path_does_not_hide_a_fitting_one(
    where: Places, tmp_path: Path
) -> None:
    script(tmp_path / "bin/java", 'openjdk version "21.0.2"')
    part = servers.parts(where)["java"]
    assert isinstance(part, Missing) and "21.0.2" in part.found
    fitting = script(
        where.root / "usr/lib/jvm/java-17-openjdk-amd64/bin/java", 'openjdk version "17.0.15"'
    )
    assert servers.parts(where)["java"] == Program((str(fitting),), "17.0.15")
    home = script(tmp_path / "jdk/bin/java", 'openjdk version "11.0.2"').parents[1]
    with_home = where._replace(environ={**where.environ, "JAVA_HOME": str(home)})
    assert servers.parts(with_home)["java"] == Program((str(home / "bin/java"),), "11.0.2")


def test_what_is_on_the_machine_comes_before_what_was_fetched(
    where: Places, tmp_path: Path
) -> None:
    fetched = script(where.packages / "redis/root/usr/bin/redis-server", "Redis server v=7.0.15")
    (where.packages / "redis/root/usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    part = servers.parts(where)["redis"]
    assert isinstance(part, Program) and part.command == (str(fetched),)
    assert part.environment["LD_LIBRARY_PATH"].endswith("x86_64-linux-gnu")
    script(tmp_path / "bin/redis-server", "Redis server v=6.0.16 sha=0")  # too old
    assert servers.parts(where)["redis"] == part
    installed = script(tmp_path / "bin/redis-server", "Redis server v=7.2.4 sha=0")
    assert servers.parts(where)["redis"] == Program((str(installed),), "7.2.4")


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (["kafka_2.13-3.4.1.jar", "zookeeper-3.6.4.jar"], "3.4.1"),
        (["kafka_2.13-7.4.0-ccs.jar", "zookeeper-3.6.3.jar"], "7.4.0-ccs"),
        (["kafka_2.13-4.0.0.jar"], ""),
        (["kafka_2.13-3.4.1.jar"], ""),
    ],
)
def test_kafka_3_with_its_zookeeper(where: Places, names: list[str], version: str) -> None:
    folder = jars(where.packages / "kafka/lib", *names)
    part = servers.parts(where)["kafka"]
    if version:
        assert part == Jars(folder, version)
    else:
        assert isinstance(part, Missing) and f"other versions in {folder}" in part.found


def test_cassandra_4_1_from_its_home(where: Places, tmp_path: Path) -> None:
    jars(where.packages / "cassandra/lib", "cassandra-all-4.1.8.jar", "jamm-0.3.2.jar")
    home = tmp_path / "apache-cassandra"
    names = ("apache-cassandra-4.1.3.jar", "jamm-0.3.2.jar")
    with_home = where._replace(environ={"CASSANDRA_HOME": str(home)})
    assert servers.parts(with_home)["cassandra"] == Jars(where.packages / "cassandra/lib", "4.1.8")
    folder = jars(home / "lib", *names)
    assert servers.parts(with_home)["cassandra"] == Jars(folder, "4.1.3")
    (folder / names[0]).rename(folder / "apache-cassandra-5.0.2.jar")
    assert isinstance(servers.parts(with_home)["cassandra"], Jars)


def test_up_without_programs_starts_nothing(
    tmp_path: Path, where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paytm_lab.stack.programs.places", lambda layout: where)
    root = tmp_path / "stack"
    with pytest.raises(MissingPart, match=r"5 part\(s\) of the stack"):
        up(root, port_offset=20_000)
    layout = Layout(root)
    assert not layout.connection.exists()
    assert list(layout.data.iterdir()) == list(layout.logs.iterdir()) == []


def test_fetching_says_why_it_cannot(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(MissingPart, match="there is no part postgres"):
        fetch.fetch(tmp_path / "pkg", ["postgres"], said.append)
    assert "postgres" in said[0]


def test_fetching_leaves_alone_what_is_there(tmp_path: Path) -> None:
    packages = tmp_path / "pkg"
    made = [
        script(packages / "mysql/root/usr/sbin/mysqld", "here"),
        script(packages / "redis/root/usr/bin/redis-server", "here"),
        jars(packages / "kafka/lib", "kafka_2.13-3.4.1.jar"),
    ]
    before = [path.stat().st_mtime_ns for path in made]
    fetch.fetch(packages, ["mysql", "redis", "kafka"], lambda line: None)
    assert [path.stat().st_mtime_ns for path in made] == before


def test_the_script_names_no_mirror_or_registry() -> None:
    folder = fetch.SCRIPT.parent
    texts = [fetch.SCRIPT, *folder.glob("*.py"), *(folder / "files").iterdir()]
    assert len(texts) > 15
    addresses = [
        (path.name, line.strip())
        for path in texts
        for line in path.read_text().splitlines()
        if "://" in line and "http://maven.apache.org/POM/4.0.0" not in line
        and "PLAINTEXT://" not in line
    ]  # fmt: skip
    assert addresses == []
