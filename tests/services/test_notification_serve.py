"""`paytm-lab serve all` with SMS and push by HTTP: to the lab's own provider, by real sockets."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests import plain_http
from tests.services import test_serve
from tests.services.client import PASSWORD
from tests.waiting import until


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for kind in ("SMS", "PUSH"):
        monkeypatch.setenv(f"PAYTM_LAB_NOTIFICATION_{kind}", "http")
    served = test_serve.Served(tmp_path / "lab", "all")
    yield served
    served.process.kill()
    served.process.wait(30)


def test_push_and_sms_reach_the_labs_provider(served: Any) -> None:
    until(lambda: served.is_up("auth"), "it answers")
    until(lambda: served.is_up("notification"), "it answers")
    token = (served.data / "admin.token").read_text().strip()
    body = {"user_id": "boss", "password": PASSWORD}
    made = plain_http.post(f"{served.url('auth')}/admin", json={**body, "admin_token": token})
    assert made.status_code == 201, made.text
    boss = plain_http.post(f"{served.url('auth')}/login", json=body).json()["access_token"]
    headers = {"Authorization": f"Bearer {boss}"}
    for user in ("asha", "ravi"):
        url = f"{served.url('shard_manager')}/create_account/{user}/10000"
        assert plain_http.post(url, headers=headers).status_code == 201
    chosen = f"{served.url('notification')}/preferences?user_id=asha"
    assert plain_http.put(chosen, headers=headers, json={"paid": ["sms"]}).status_code == 200
    url = f"{served.url('shard_manager')}/transfer/asha/ravi/75"
    assert plain_http.post(url, headers=headers).status_code == 201
    provider = f"{served.url('notification')}/provider/messages"

    def taken() -> set[tuple[str, str]]:
        said = plain_http.get(provider, headers=headers).json()["messages"]
        return {(message["user_id"], message["channel"]) for message in said}

    until(lambda: taken() == {("ravi", "push"), ("asha", "sms")})
    inbox = f"{served.url('notification')}/notifications?user_id=ravi"
    (mine,) = plain_http.get(inbox, headers=headers).json()["notifications"]
    assert mine["state"] == "sent" and mine["channel"] == "push"
    assert served.stop(signal.SIGTERM) == 0
    log = served.log.read_text()
    assert "Traceback" not in log
    key = served.data / "notifications" / "webhook.secret"
    assert key.stat().st_mode & 0o777 == 0o600
