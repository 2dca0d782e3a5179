"""`paytm-lab serve` as a process: it says where, answers, and finishes before it goes."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paytm_lab import Lab
from paytm_lab.config import Settings
from paytm_lab.wiring.stores import open_coordination
from tests import plain_http
from tests.faults import processes
from tests.ports import free_ports
from tests.services.client import PASSWORD
from tests.waiting import until

Serve = Callable[..., "Served"]
PORTS = [name for name in Settings.model_fields if name.endswith("_port")]


class Served:
    """A running process, its lab's folder, and its services' addresses."""

    def __init__(self, data: Path, *words: str, log: str = "serve.log") -> None:
        self.data = data
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.log = data.parent / log
        settings = {f"PAYTM_LAB_{name.upper()}": str(port) for name, port in self.ports.items()}
        settings |= {"PAYTM_LAB_PASSWORD_HASH_MEMORY_KIB": "64"}
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                processes.command("serve", *words, "--data", str(data)),
                env=processes.environment() | settings,
                cwd=processes.ROOT,
                stdout=output,
                stderr=output,
            )

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[f'{service}_port']}"

    def is_up(self, service: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        said = plain_http.looked_at(self.ports[f"{service}_port"], "/health")
        return said is not None and said[0] == 200

    def login(self, user_id: str) -> str:
        body = {"user_id": user_id, "password": PASSWORD}
        assert plain_http.post(f"{self.url('auth')}/register", json=body).status_code == 201
        answer = plain_http.post(f"{self.url('auth')}/login", json=body)
        return str(answer.json()["access_token"])

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve("all")``: that command, in a process that answers."""
    running: list[Served] = []

    def start(*words: str) -> Served:
        served = Served(tmp_path / "lab", *words)
        running.append(served)
        until(lambda: served.is_up("auth"), "it answers")
        return served

    yield start
    for each in running:
        each.process.kill()
        each.process.wait(30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_services_answer_and_a_signal_ends_them(serve: Serve, number: signal.Signals) -> None:
    served = serve("all")
    token = served.login("asha")
    for name in PORTS:
        service = name.removesuffix("_port")
        assert plain_http.get(f"{served.url(service)}/ready").json()["status"] == "ready"
        assert "/docs" in served.log.read_text()
    me = plain_http.get(f"{served.url('auth')}/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["user_id"] == "asha"
    assert served.stop(number) == 0
    text = served.log.read_text()
    assert "Traceback" not in text and "admin.token" in text
    assert PASSWORD not in text and token not in text
    assert (served.data / "admin.token").read_text().strip() not in text
    with Lab(data=served.data) as lab:
        account = lab.account("asha")
        assert account is not None
        lab.drain()
        lab.audit().require_clean()


def test_a_taken_port_is_said_and_nothing_is_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            processes.command("serve", "auth", "--data", str(tmp_path / "lab")),
            env=processes.environment() | {"PAYTM_LAB_AUTH_PORT": str(port)},
            cwd=processes.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 3
    assert f"port {port} for auth: taken by" in done.stderr and "Traceback" not in done.stderr


def test_a_service_that_there_is_not(tmp_path: Path) -> None:
    for words in (("nobody",), ("all", "auth"), ("auth", "auth")):
        done = subprocess.run(
            processes.command("serve", *words, "--data", str(tmp_path / "lab")),
            env=processes.environment(),
            cwd=processes.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2, done.stderr
        assert repr(" ".join(words)) in done.stderr


def test_a_service_announces_itself_while_it_serves(serve: Serve) -> None:
    served = serve("all")
    coordination = open_coordination(Settings(data_dir=served.data))
    assert coordination is not None
    try:
        for name in PORTS:
            service = name.removesuffix("_port")
            until(lambda s=service: coordination.instances(s), f"{service} announced itself")
            address = f"127.0.0.1:{served.ports[name]}"
            assert list(coordination.instances(service).values()) == [address]
        served.process.kill()  # nobody takes the announcement back
        until(lambda: not coordination.instances("auth"), "a dead service is not announced")
    finally:
        coordination.close()


def test_embedded_is_served_by_one_process(tmp_path: Path) -> None:
    refused = subprocess.run(
        processes.command("serve", "all", "--workers", "2", "--data", str(tmp_path / "lab")),
        env=processes.environment(),
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "--workers 2" in refused.stderr and "--profile servers" in refused.stderr


def test_a_second_process_on_an_embedded_lab_is_refused(tmp_path: Path) -> None:
    first = Served(tmp_path / "lab", "auth")
    try:
        until(lambda: first.is_up("auth"), "it answers")
        second = Served(tmp_path / "lab", "shard_manager", log="second.log")
        assert second.process.wait(60) == 2
        assert "serves auth of this lab" in second.log.read_text()
        assert first.stop(signal.SIGTERM) == 0
    finally:
        first.process.kill()


def test_who_listens_everywhere_is_announced_by_the_machines_name(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYTM_LAB_HOST", "0.0.0.0")
    served = serve("auth")
    coordination = open_coordination(Settings(data_dir=served.data))
    assert coordination is not None
    try:
        until(lambda: coordination.instances("auth"), "it announced itself")
        (address,) = coordination.instances("auth").values()
        assert address == f"{socket.gethostname()}:{served.ports['auth_port']}"
    finally:
        coordination.close()
