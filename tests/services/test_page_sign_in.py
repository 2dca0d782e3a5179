"""Who signs in at a page by password: the auth service says who it is, the pages stay open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from paytm_lab import Lab
from paytm_lab.web.callers import PAGE_COOKIE
from paytm_lab.wiring.services import Services
from tests import plain_http
from tests.services.client import PASSWORD, Client
from tests.services.serving import served
from tests.waiting import until

ADMIN = {"user_id": "root", "password": PASSWORD}


@pytest.fixture
def lab_settings() -> dict[str, Any]:
    return {"access_token_s": 3, "auth_port": 18_001}


@pytest.fixture
def pages(lab: Lab, services: Services, auth: Client) -> Iterator[str]:
    """The analytics service's address; the auth service has announced itself, and root is admin."""
    token = (lab.data / "admin.token").read_text().strip()
    assert auth("POST", "/admin", json=ADMIN | {"admin_token": token}).status_code == 201
    made, analytics = services.make("auth"), services.make("analytics")
    with served(made.app) as address, served(analytics.app) as page_address:
        services.register(made._replace(port=int(address.rpartition(":")[2])))
        yield page_address


@pytest.fixture
def browser(pages: str) -> Iterator[httpx.Client]:
    with plain_http.Client(base_url=pages, follow_redirects=False) as browser:
        yield browser


def sign_in(browser: httpx.Client, **changed: str) -> httpx.Response:
    return browser.post("/session", data=ADMIN | {"then": "/shards"} | changed)


def test_the_page_says_where_the_auth_service_is_set_to_be(
    browser: httpx.Client, services: Services
) -> None:
    port = services.settings.auth_port
    assert f"curl -s http://127.0.0.1:{port}/login" in browser.get("/sign-in").text
    assert port != 8_001


def test_a_password_signs_in_and_the_page_outlives_its_access_token(
    browser: httpx.Client,
) -> None:
    assert 'type="password"' in browser.get("/shards").text
    done = sign_in(browser)
    assert (done.status_code, done.headers["location"]) == (303, "/shards")
    cookies = done.headers.get_list("set-cookie")
    assert [line.partition("=")[0] for line in cookies] == [
        PAGE_COOKIE,
        "paytm_lab_analytics_refresh",
    ]
    assert all("HttpOnly" in line and "SameSite=strict" in line for line in cookies)
    assert browser.get("/shards").status_code == 200
    first = browser.cookies["paytm_lab_analytics_refresh"]
    until(lambda: browser.get("/shards").status_code == 303, "the access token has ended")
    assert browser.get("/shards").status_code == 200
    assert browser.cookies["paytm_lab_analytics_refresh"] != first


def test_an_open_page_goes_on_by_itself(browser: httpx.Client) -> None:
    assert browser.post("/session/renew").status_code == 401
    sign_in(browser)
    with browser.stream("GET", "/watch/shards") as stream:
        said = [line for line in stream.iter_lines() if line.startswith("event")]
    assert said[-1] == "event: bye"  # the token has ended while it was open
    assert browser.post("/session/renew").status_code == 204
    assert browser.get("/shards").status_code == 200


def test_requests_that_set_out_together_share_one_renewal(browser: httpx.Client) -> None:
    sign_in(browser)
    used = browser.cookies["paytm_lab_analytics_refresh"]
    together = threading.Barrier(8)

    def renew(_: int) -> tuple[int, str]:
        with plain_http.Client(base_url=browser.base_url) as other:
            other.cookies.set("paytm_lab_analytics_refresh", used)
            together.wait()
            said = other.post("/session/renew")
            return said.status_code, said.cookies["paytm_lab_analytics_refresh"]

    with ThreadPoolExecutor(8) as pool:
        given = set(pool.map(renew, range(8)))
    assert len(given) == 1 and next(iter(given))[0] == 204
    browser.cookies.set("paytm_lab_analytics_refresh", next(iter(given))[1])
    assert browser.post("/session/renew").status_code == 204  # the session lives


@pytest.mark.parametrize(
    "changed",
    [{"password": "wrong horse"}, {"user_id": "nobody"}, {"user_id": "<b>\0"}, {"password": ""}],
)
def test_a_wrong_word_sets_nothing_and_is_not_repeated(
    browser: httpx.Client, changed: dict[str, str]
) -> None:
    said = sign_in(browser, **changed)
    assert said.status_code in (401, 422) and "set-cookie" not in said.headers
    assert "wrong horse" not in said.text and "<b>" not in said.text
    if said.status_code == 401:
        assert 'value="/shards"' in said.text and "Not signed in" in said.text


def test_a_sign_out_ends_the_session_at_the_auth_service(browser: httpx.Client) -> None:
    sign_in(browser)
    used = browser.cookies["paytm_lab_analytics_refresh"]
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    assert not browser.cookies
    browser.cookies.set("paytm_lab_analytics_refresh", used)
    assert browser.post("/session/renew").status_code == 401
    assert browser.get("/shards").status_code == 401


def test_who_guesses_at_a_page_must_wait_and_keeps_nobody_else_out(
    browser: httpx.Client, pages: str
) -> None:
    statuses = [sign_in(browser, password=f"wrong horse {n}").status_code for n in range(12)]
    # The auth service itself may have had enough of this user before.
    assert set(statuses[:10]) <= {401, 429} and statuses[10:] == [429, 429]
    said = sign_in(browser)
    assert said.status_code == 429 and "from this address failed" in said.text
    transport = httpx.HTTPTransport(plain_http.TRUSTS_NOBODY, local_address="127.0.0.2")
    with plain_http.Client(base_url=pages, transport=transport) as other:
        assert sign_in(other, user_id="nobody").status_code == 401


def test_without_the_auth_service_it_says_so(lab: Lab, services: Services) -> None:
    analytics = services.make("analytics")
    services.start()
    with served(analytics.app) as address, plain_http.Client(base_url=address) as browser:
        said = sign_in(browser)
        assert said.status_code == 503 and "paytm-lab serve auth" in said.text
        browser.cookies.set("paytm_lab_analytics_refresh", "x")
        assert browser.get("/shards").status_code == 503
