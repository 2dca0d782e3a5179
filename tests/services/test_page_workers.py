"""Two processes of one page service, as far as they can be told apart in one: each has services of
its own, and what they share is the cache. A browser's tabs meet either.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from paytm_lab import Lab
from paytm_lab.wiring.services import Services
from tests import plain_http
from tests.servers import STACK_DIR
from tests.services.client import PASSWORD, Client
from tests.services.conftest import CHEAP
from tests.services.serving import served

COOKIE = "paytm_lab_notifications_refresh"
ROUNDS = 12  # of two tabs that renew at the same moment


class Browsers(NamedTuple):
    """``workers``: the page service, twice. ``auth``: the auth service's address."""

    lab: Lab
    workers: tuple[Client, Client]
    auth: str
    apps: tuple[Any, Any]

    def sign_in(self) -> str:
        """The refresh token of a new session."""
        body = {"user_id": "root", "password": PASSWORD}
        said = self.workers[0]("POST", "/session", json=body)
        assert said.status_code == 204, said.text
        return refresh_of(said)

    def renew(self, worker: int, token: str) -> httpx.Response:
        headers = {"Cookie": f"{COOKIE}={token}"}
        return self.workers[worker]("POST", "/session/renew", headers=headers)


def refresh_of(said: httpx.Response) -> str:
    (cookie,) = [c for c in said.headers.get_list("set-cookie") if c.startswith(f"{COOKIE}=")]
    return cookie.partition(";")[0].partition("=")[2]


@pytest.fixture(scope="module")
def browsers(profile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsers]:
    settings: dict[str, Any] = {"profile": profile, "shards": 2, **CHEAP}
    if profile == "servers" and STACK_DIR:
        settings["stack_dir"] = Path(STACK_DIR)
    with ExitStack() as closing:
        lab = closing.enter_context(Lab(**settings))
        first, second = Services(lab.system), Services(lab.system)
        closing.callback(second.close)
        closing.callback(first.close)
        made = first.make("auth")
        pages = [each.make("notification") for each in (first, second)]
        address = closing.enter_context(served(made.app))
        first.start()
        second.start()
        first.register(made._replace(port=int(address.rpartition(":")[2])))
        body = {
            "user_id": "root",
            "password": PASSWORD,
            "admin_token": (lab.data / "admin.token").read_text().strip(),
        }
        assert plain_http.post(f"{address}/admin", json=body).status_code == 201
        one, two = (closing.enter_context(Client(httpx.ASGITransport(each.app))) for each in pages)
        yield Browsers(lab, (one, two), address, (pages[0].app, pages[1].app))


def test_two_tabs_that_renew_at_the_same_moment_share_what_follows(browsers: Browsers) -> None:
    token = browsers.sign_in()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(ROUNDS):
            together = threading.Barrier(4)

            def tab(number: int, used: str = token, at: threading.Barrier = together) -> str:
                at.wait()
                said = browsers.renew(number % 2, used)
                assert said.status_code == 204, said.text
                return refresh_of(said)

            (following,) = set(pool.map(tab, range(4)))
            assert following != token
            token = following


def test_a_tab_that_comes_a_little_later_gets_the_same_from_the_other_worker(
    browsers: Browsers,
) -> None:
    used = browsers.sign_in()
    first, later = browsers.renew(0, used), browsers.renew(1, used)
    assert refresh_of(first) == refresh_of(later)
    assert browsers.renew(1, refresh_of(later)).status_code == 204


def test_a_used_token_that_reaches_the_auth_service_ends_the_session(browsers: Browsers) -> None:
    used = browsers.sign_in()
    following = refresh_of(browsers.renew(0, used))
    stolen = plain_http.post(f"{browsers.auth}/refresh", json={"refresh_token": used})
    assert stolen.status_code == 401 and "used before" in stolen.text
    for worker in (0, 1):
        assert browsers.renew(worker, following).status_code == 401


def test_after_a_sign_out_at_one_worker_the_other_gives_nothing(browsers: Browsers) -> None:
    used = browsers.sign_in()
    headers = {"Cookie": f"{COOKIE}={used}"}
    assert browsers.workers[0]("POST", "/sign-out", headers=headers).status_code == 303
    for worker in (1, 0):
        assert browsers.renew(worker, used).status_code == 401


def test_without_the_cache_nothing_is_used(browsers: Browsers) -> None:
    """No server is stopped: one that comes back would have lost the sessions themselves."""
    token = browsers.sign_in()
    cache: Any = browsers.lab.system.cache
    cache.available = False
    try:
        for worker in (0, 1):
            said = browsers.renew(worker, token)
            assert said.status_code == 503 and "cache" in said.text
    finally:
        cache.available = True
    assert browsers.renew(1, token).status_code == 204


def test_who_guesses_is_stopped_after_ten_whichever_process_they_come_to(
    browsers: Browsers,
) -> None:
    def sign_in(worker: int, address: str, user_id: str, password: str) -> httpx.Response:
        came_from = httpx.ASGITransport(browsers.apps[worker], client=(address, 1))
        with Client(came_from) as client:
            body = {"user_id": user_id, "password": password}
            return client("POST", "/session", json=body)

    for guess in range(10):
        said = sign_in(guess % 2, "10.1.2.3", f"nobody-{guess}", "wrong horse")
        assert said.status_code == 401, said.text
    for worker in (0, 1):
        said = sign_in(worker, "10.1.2.3", "root", PASSWORD)
        assert said.status_code == 429 and "10 sign-ins from this address failed" in said.text
        assert 0 < int(said.headers["retry-after"]) <= 300
    assert sign_in(0, "10.1.2.4", "root", PASSWORD).status_code == 204
