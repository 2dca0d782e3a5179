"""docker-compose reads our compose file, and what it makes of it is what the stack runs with."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.config import Settings
from paytm_lab.config_services import SERVICES
from paytm_lab.stack import cassandra, kafka, mysql, redis, zookeeper
from paytm_lab.stack.connection import MYSQL_USER, Passwords
from paytm_lab.stack.fetch import fetch
from tests import servers
from tests.stack.part import packages

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose/compose.yml"
SHARDS = [mysql.name(shard) for shard in range(mysql.COUNT)]
SERVERS = [*SHARDS, "redis", "zookeeper", "kafka", "cassandra"]
WORKERS = {service: ["serve", service] for service in SERVICES}
MEMORY_MAX = 6 << 30
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run() -> Run:
    """docker-compose with these arguments and this environment; needs no engine."""
    program = packages() / "compose/docker-compose"
    if not program.exists():
        fetch(packages(), ["compose"], print)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            # Without the developer's own compose/.env.
            [program, "-f", COMPOSE, "--env-file", os.devnull, *arguments],
            text=True, capture_output=True, timeout=60,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("compose") / ".env"
    subprocess.run([ROOT / "compose/secrets.sh", file], check=True, timeout=30)
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def config(run: Run, secrets: dict[str, str]) -> dict[str, Any]:
    done = run("--profile", "*", "config", "--format", "json", **secrets)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warnings"
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def services(config: dict[str, Any]) -> dict[str, Any]:
    return dict(config["services"])


def mounted(service: dict[str, Any], target: str) -> Path:
    (source,) = [v["source"] for v in service["volumes"] if v["target"] == target]
    return Path(source)


def test_all_parts_are_there(services: dict[str, Any]) -> None:
    assert set(services) == {*SERVERS, *WORKERS, "lab", "notebooks"}


def test_every_shard_runs_with_the_stacks_settings(services: dict[str, Any]) -> None:
    for shard, name in enumerate(SHARDS):
        file = mounted(services[name], "/etc/mysql/conf.d/paytm_lab.cnf")
        parser = configparser.ConfigParser()
        parser.read_string(file.read_text())
        assert dict(parser["mysqld"]) == mysql.SETTINGS
        assert services[name]["command"] == [f"--server-id={shard + 1}", "--log-bin=bin"]


def test_the_labs_user_has_the_stacks_rights_and_root_comes_from_inside_only(
    services: dict[str, Any], secrets: dict[str, str]
) -> None:
    (grant,) = re.findall("GRANT .*;", mysql.statements(Passwords("a", "b", "c")))
    for name in SHARDS:
        statements = mounted(services[name], "/docker-entrypoint-initdb.d/grants.sql").read_text()
        assert re.findall("^[A-Z].*;", statements, re.MULTILINE) == [grant]
        assert services[name]["environment"] == {
            "MYSQL_USER": MYSQL_USER,
            "MYSQL_PASSWORD": secrets["PAYTM_LAB_MYSQL_PASSWORD"],
            "MYSQL_ROOT_PASSWORD": secrets["MYSQL_ROOT_PASSWORD"],
            "MYSQL_ROOT_HOST": "localhost",
        }


def test_redis_runs_with_the_stacks_settings_and_a_password(
    services: dict[str, Any], secrets: dict[str, str]
) -> None:
    service = services["redis"]
    lines = mounted(service, "/etc/paytm_lab.conf").read_text().splitlines()
    assert dict(line.split(" ", 1) for line in lines if line[0] != "#") == redis.SETTINGS
    assert service["environment"]["REDIS_PASSWORD"] == secrets["PAYTM_LAB_REDIS_PASSWORD"]
    assert 'requirepass $$REDIS_PASSWORD"' in service["command"][-1]


def test_kafka_runs_with_the_stacks_settings(services: dict[str, Any]) -> None:
    given = {f"KAFKA_{key.upper().replace('.', '_')}": v for key, v in kafka.SETTINGS.items()}
    own = {
        "KAFKA_BROKER_ID": str(kafka.BROKER),
        "KAFKA_ZOOKEEPER_CONNECT": f"zookeeper:{zookeeper.PORT}",
        "KAFKA_LISTENERS": f"INSIDE://0.0.0.0:29092,OUTSIDE://0.0.0.0:{kafka.PORT}",
        "KAFKA_ADVERTISED_LISTENERS": f"INSIDE://kafka:29092,OUTSIDE://127.0.0.1:{kafka.PORT}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_HEAP_OPTS": f"-Xms{kafka.HEAP} -Xmx{kafka.HEAP}",
    }
    # Nothing else: topics, partitions and retention are the lab's to choose when it makes them.
    assert services["kafka"]["environment"] == given | own


def test_zookeeper_runs_with_the_stacks_settings(services: dict[str, Any]) -> None:
    def variable(key: str) -> str:
        words = re.sub("(?<=[a-z])(?=[A-Z])", "_", key).replace(".", "_")
        return f"ZOOKEEPER_{words.upper()}"

    settings = dict(zookeeper.SETTINGS)
    whitelist = settings.pop("4lw.commands.whitelist")
    assert services["zookeeper"]["environment"] == {
        "ZOOKEEPER_CLIENT_PORT": str(zookeeper.PORT),
        "KAFKA_HEAP_OPTS": f"-Xmx{zookeeper.HEAP}",
        "KAFKA_OPTS": f"-Dzookeeper.4lw.commands.whitelist={whitelist}",
    } | {variable(key): value for key, value in settings.items()}


def test_cassandra_runs_with_the_stacks_settings(services: dict[str, Any]) -> None:
    environment = services["cassandra"]["environment"]
    properties = dict(
        word.removeprefix("-D").split("=", 1) for word in environment["JVM_EXTRA_OPTS"].split()
    )
    given = {
        key.removeprefix("cassandra.settings."): value
        for key, value in properties.items()
        if key.startswith("cassandra.settings.")
    }
    assert given == cassandra.SETTINGS | {"commitlog_sync_period": "0ms"}
    assert properties["cassandra.config.allow_system_properties"] == "true"
    assert environment["MAX_HEAP_SIZE"] == cassandra.HEAP
    assert environment["CASSANDRA_CLUSTER_NAME"] == cassandra.CLUSTER


def test_only_this_machine_reaches_the_servers_at_the_usual_ports(services: dict[str, Any]) -> None:
    published = {}
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name
            published[name] = int(port["published"])
    assert published == {
        **{name: mysql.PORT + shard for shard, name in enumerate(SHARDS)},
        "redis": redis.PORT,
        "zookeeper": zookeeper.PORT,
        "kafka": kafka.PORT,
        "cassandra": cassandra.PORT,
        "notebooks": 8888,
        **{service: getattr(Settings(), f"{service}_port") for service in SERVICES},
    }
    for name in SHARDS:
        assert services[name]["ports"][0]["target"] == mysql.PORT


def test_every_secret_was_generated(config: dict[str, Any], secrets: dict[str, str]) -> None:
    for service in config["services"].values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|TOKEN|SECRET|KEY$", name):
                assert value in secrets.values()


@pytest.mark.parametrize(
    "missing",
    [
        "PAYTM_LAB_MYSQL_PASSWORD",
        "PAYTM_LAB_REDIS_PASSWORD",
        "MYSQL_ROOT_PASSWORD",
        "JUPYTER_TOKEN",
    ],
)
def test_nothing_starts_without_its_secrets(
    run: Run, secrets: dict[str, str], missing: str, tmp_path: Path
) -> None:
    (tmp_path / "none").touch()
    for given in ({}, {missing: ""}):
        rest = {name: value for name, value in secrets.items() if name != missing}
        done = run(
            "--env-file", str(tmp_path / "none"), "--profile", "*", "config", **rest, **given
        )
        assert done.returncode != 0
        assert missing in done.stderr
        assert "run compose/secrets.sh first" in done.stderr


def test_every_server_says_whether_it_is_well_and_all_start_in_that_order(
    services: dict[str, Any],
) -> None:
    for name in SERVERS:
        health = services[name]["healthcheck"]
        assert health["test"][0].startswith("CMD")
        assert {"interval", "timeout", "retries", "start_period"} <= set(health)
    assert services["kafka"]["depends_on"]["zookeeper"]["condition"] == "service_healthy"
    for name in (*WORKERS, "lab", "notebooks"):
        waits_for = {n: d["condition"] for n, d in services[name]["depends_on"].items()}
        assert waits_for == dict.fromkeys(SERVERS, "service_healthy")


def in_the_shell(service: dict[str, Any]) -> str:
    """A health check as the container's shell gets it."""
    return str(service["healthcheck"]["test"][-1]).replace("$$", "$")


@pytest.mark.parametrize(
    ("name", "inside", "setting"),
    [
        ("zookeeper", zookeeper.PORT, "zookeeper_servers"),
        ("kafka", 29092, "kafka_servers"),
        ("cassandra", cassandra.PORT, "cassandra_servers"),
    ],
)
def test_a_health_check_knows_a_server_that_answers_from_one_that_does_not(
    services: dict[str, Any], name: str, inside: int, setting: str
) -> None:
    """The check itself, asked of the running server, of another server, and of nobody."""
    settings = servers.settings()
    command, place = in_the_shell(services[name]), f"/127.0.0.1/{inside} "
    assert place in command

    def well(host: str, port: str) -> bool:
        asked = command.replace(place, f"/{host}/{port} ")
        done = subprocess.run(["timeout", "2", "bash", "-c", asked], capture_output=True)
        return done.returncode == 0

    host, port = str(getattr(settings, setting)).split(",")[0].split(":")
    assert well(host, port)
    assert not well(*settings.redis_server.split(":"))
    assert not well("127.0.0.1", "1")


def test_the_other_health_checks_log_in(services: dict[str, Any]) -> None:
    for name in SHARDS:
        words = shlex.split(in_the_shell(services[name]))
        assert words == [
            "MYSQL_PWD=$MYSQL_PASSWORD", "mysql", "--host=127.0.0.1", "--user=$MYSQL_USER",
            "--execute=SELECT 1",
        ]  # fmt: skip
    words = shlex.split(in_the_shell(services["redis"]))
    assert words == [
        "REDISCLI_AUTH=$REDIS_PASSWORD",
        "redis-cli",
        "ping",
        "|",
        "grep",
        "-qx",
        "PONG",
    ]


def test_memory_and_cpus_are_limited(services: dict[str, Any]) -> None:
    assert all(float(service["cpus"]) > 0 for service in services.values())
    always = [int(s["mem_limit"]) for s in services.values() if not s.get("profiles")]
    assert len(always) == len(SERVERS) + len(WORKERS)
    assert sum(always) <= MEMORY_MAX
    heaps = {"zookeeper": zookeeper.HEAP, "kafka": kafka.HEAP, "cassandra": cassandra.HEAP}
    for name, heap in heaps.items():
        assert int(services[name]["mem_limit"]) > 1.5 * (int(heap.removesuffix("m")) << 20)


def test_the_services_are_asked_whether_they_are_ready(services: dict[str, Any]) -> None:
    for service in SERVICES:
        port = services[service]["ports"][0]
        assert str(port["target"]) == port["published"]
        *command, code, place = services[service]["healthcheck"]["test"]
        assert (command, place) == (["CMD", "python", "-c"], port["published"])
        for status in (200, 503):
            with answering(status) as served:
                asked = subprocess.run(
                    [sys.executable, "-c", code, str(served)], capture_output=True, timeout=30
                )
            assert (asked.returncode == 0) is (status == 200)
        asked = subprocess.run(
            [sys.executable, "-c", code, str(served)], capture_output=True, timeout=30
        )
        assert asked.returncode != 0, "nobody listens any more"


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A port where /ready is answered so, and anything else is not found."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_data_is_on_named_volumes_of_its_own(config: dict[str, Any]) -> None:
    of_servers = []
    for name in SERVERS:
        volumes = [v for v in config["services"][name]["volumes"] if v["type"] == "volume"]
        assert volumes, name
        of_servers += [volume["source"] for volume in volumes]
    assert len(set(of_servers)) == len(of_servers)
    assert set(config["volumes"]) == {*of_servers, "lab"}
    for service in config["services"].values():
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                assert Path(volume["source"]).is_file()
                assert volume["read_only"]


def test_every_image_can_be_another(run: Run, secrets: dict[str, str]) -> None:
    images = {
        "MYSQL_IMAGE": "mysql:8.0",
        "REDIS_IMAGE": "redis:7",
        "ZOOKEEPER_IMAGE": "confluentinc/cp-zookeeper:7.4.10",
        "KAFKA_IMAGE": "confluentinc/cp-kafka:7.4.10",
        "CASSANDRA_IMAGE": "cassandra:4.1",
        "LAB_IMAGE": "paytm_lab:local",
    }
    usual = run("--profile", "*", "config", "--images", **secrets)
    assert set(usual.stdout.split()) == set(images.values())
    others = {variable: f"elsewhere/{variable.lower()}:1" for variable in images}
    done = run("--profile", "*", "config", "--images", **secrets, **others)
    assert set(done.stdout.split()) == set(others.values())


def test_the_labs_services_understand_their_settings(
    services: dict[str, Any], secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, command in {**WORKERS, "lab": None}.items():
        service = services[name]
        assert command is None or service["command"] == command
        assert service["build"]["context"] == str(ROOT)
        with monkeypatch.context() as patch:
            for variable, value in service["environment"].items():
                patch.setenv(variable, value)
            settings = Settings()
        assert settings.profile == "servers"
        assert [str(place) for place in settings.mysql_addresses] == [
            f"{shard}:{mysql.PORT}" for shard in SHARDS
        ]
        assert settings.mysql_password is not None
        assert settings.mysql_password.get_secret_value() == secrets["PAYTM_LAB_MYSQL_PASSWORD"]
        assert settings.redis_server == f"redis:{redis.PORT}"
        assert settings.zookeeper_servers == f"zookeeper:{zookeeper.PORT}"
        assert settings.cassandra_servers == f"cassandra:{cassandra.PORT}"
        assert (
            f"INSIDE://{settings.kafka_servers},"
            in (services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
        )
