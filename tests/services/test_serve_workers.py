"""Several processes that serve the same ports of one lab on the real servers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from paytm_lab import wiring
from paytm_lab.notifications.webhook import IDEMPOTENCY_KEY, SIGNATURE, Notice, signature
from paytm_lab.wiring.secret_files import secret_of
from tests import plain_http, servers
from tests.services.client import PASSWORD
from tests.services.test_serve import Served
from tests.waiting import until

PAYMENTS = 1_000
WORKERS = 2
TABS, RENEWALS = 6, 10
REFRESH = "paytm_lab_notifications_refresh"


@contextmanager
def several(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[Served]:
    """These services by ``WORKERS`` processes, on a namespace of its own."""
    namespace = servers.new_namespace("workers")
    monkeypatch.setenv("PAYTM_LAB_NAMESPACE", namespace)
    if servers.STACK_DIR:
        monkeypatch.setenv("PAYTM_LAB_STACK_DIR", servers.STACK_DIR)
    served = Served(folder / "lab", *names, "--workers", str(WORKERS), "--profile", "servers")
    try:
        until(lambda: all(served.is_up(name) for name in names), "all answer", 60)
        yield served
    finally:
        served.process.kill()
        served.process.wait(30)
        until(lambda: not workers_of(served), "the workers have gone with their supervisor", 60)
        wiring.remove(servers.settings(namespace))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with several(tmp_path, monkeypatch, "auth", "shard_manager") as served:
        yield served


@pytest.fixture
def paging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with several(tmp_path, monkeypatch, "auth", "notification") as served:
        yield served


def workers_of(served: Served) -> list[psutil.Process]:
    """Whose command line names this lab."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "--supervised-by" in words and str(served.data) in words:
            found.append(process)
    return found


def test_what_one_worker_said_any_other_knows_at_once(served: Served) -> None:
    token = admin(served)
    headers = {"Authorization": f"Bearer {token}"}
    base = served.url("shard_manager")
    with plain_http.Client(base_url=base, headers=headers, timeout=30) as client:
        for user in ("asha", "ravi"):
            assert client.post(f"/create_account/{user}/100000").status_code == 201

    def asked(method: str, path: str) -> tuple[int, str]:
        # A connection each: the system gives it to either worker.
        port = served.ports["shard_manager_port"]
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = json.load(answer)
            return answer.status, body["payment_id"] if body.get("status") == "COMPLETED" else ""

    def pay_and_read(_: int) -> tuple[int, int]:
        paid, payment = asked("POST", "/transfer/asha/ravi/1")
        return paid, asked("GET", f"/transfers/{payment}")[0]

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(pay_and_read, range(PAYMENTS))) == {(201, 200): PAYMENTS}
    account = plain_http.get(f"{base}/accounts/ravi", headers=headers).json()
    assert account["balance"] == f"{100_000 + PAYMENTS}.00"
    # What ended in one worker is known to all within a second.
    assert plain_http.post(f"{served.url('auth')}/logout", headers=headers).status_code == 204

    def refused_everywhere() -> bool:
        codes = {
            plain_http.get(f"{base}/accounts/ravi", headers=headers).status_code for _ in range(20)
        }
        return codes == {401}

    until(refused_everywhere, "both workers refuse the ended session", 5)


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(served: Served) -> None:
    token = admin(served)
    headers = {"Authorization": f"Bearer {token}"}
    until(lambda: "processes serve them" in served.log.read_text(), "it said where", 60)
    first = workers_of(served)
    assert len(first) == WORKERS
    os.kill(first[0].pid, signal.SIGKILL)
    until(lambda: first[0].pid not in [p.pid for p in workers_of(served)], "it is gone")
    until(lambda: " serves\n" in served.log.read_text(), "another has taken its place", 60)
    assert len(workers_of(served)) == WORKERS
    made = plain_http.post(
        f"{served.url('shard_manager')}/create_account/asha/10", headers=headers, timeout=30
    )
    assert made.status_code == 201
    assert served.stop(signal.SIGTERM) == 0
    assert not workers_of(served)


def test_tabs_and_messages_meet_either_worker(paging: Served) -> None:
    """A session that several tabs renew at once goes on, and the provider's messages are the same
    whoever is asked.
    """
    token = admin(paging)
    until(lambda: "processes serve them" in paging.log.read_text(), "it said where", 60)
    base = paging.url("notification")
    body = {"user_id": "boss", "password": PASSWORD}
    said = plain_http.post(f"{base}/session", json=body, timeout=30)
    assert said.status_code == 204, said.text
    used = str(said.cookies[REFRESH])

    def renewed(token: str) -> str:
        # A connection each: the system gives it to either worker.
        with plain_http.Client(base_url=base, timeout=30, cookies={REFRESH: token}) as tab:
            said = tab.post("/session/renew")
            assert said.status_code == 204, said.text
            return str(said.cookies[REFRESH])

    with ThreadPoolExecutor(TABS) as pool:
        for _ in range(RENEWALS):
            (used,) = set(pool.map(renewed, [used] * TABS))
    # What was posted by a connection each is shown to whoever asks.
    secret = secret_of(paging.data / "notifications" / "webhook.secret")
    for number in range(20):
        notice = Notice(f"n-{number}", "sms", "asha", "", "text", "paid", "p")
        content = msgspec.json.encode(notice)
        signed = {
            SIGNATURE: signature(secret, content, int(time.time())),
            IDEMPOTENCY_KEY: notice.notification_id,
        }
        for repeated in (False, True, True):
            taken = plain_http.post(
                f"{base}/provider/sms", content=content, headers=signed, timeout=30
            )
            assert taken.json() == {"notification_id": f"n-{number}", "repeated": repeated}
    headers = {"Authorization": f"Bearer {token}"}
    for _ in range(10):
        shown = plain_http.get(f"{base}/provider/messages", headers=headers, timeout=30).json()
        ids = [message["notification_id"] for message in shown["messages"]]
        assert ids == [f"n-{number}" for number in range(19, -1, -1)]


def admin(served: Served) -> str:
    body = {"user_id": "boss", "password": PASSWORD}
    once = (served.data / "admin.token").read_text().strip()
    made = plain_http.post(
        f"{served.url('auth')}/admin", json=body | {"admin_token": once}, timeout=30
    )
    assert made.status_code == 201, made.text
    answer = plain_http.post(f"{served.url('auth')}/login", json=body, timeout=30)
    return str(answer.json()["access_token"])
