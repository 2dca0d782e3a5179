"""Pages and their sign-in, on a small service of one page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends
from fastapi.responses import HTMLResponse

from paytm_lab.core.errors import NotFound, Unauthenticated
from paytm_lab.web.app import make_app
from paytm_lab.web.callers import PAGE_COOKIE, Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.page_sessions import session_router
from paytm_lab.web.pages import Pages
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.scopes import ADMIN
from paytm_lab.web.tokens import Caller
from tests.services.client import Client

HOSTILE = "<script>alert(1)</script>"


class Tokens:
    """Knows three tokens, one of which no longer counts."""

    def known(self, token: str) -> Caller | None:
        return None

    def check(self, token: str) -> Caller:
        who = {"good": (), "staff": (ADMIN,), "a.b-c_d": ()}.get(token)
        if who is None:
            raise Unauthenticated("the access token has expired", remedy="Refresh it.")
        return Caller(HOSTILE, frozenset(who), "s", 4e9)

    def is_fresh(self) -> bool:
        return True


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "hello.html").write_text(
        '{% extends "page.html" %}{% block main %}<h1>Hello {{ signed_in }}</h1>{% endblock %}'
    )
    pool = BoundedPool("tokens", 1, 8)
    tokens: Any = Tokens()
    callers, pages = Callers(tokens, pool), Pages(tmp_path, "Test")
    router = pages.router()
    anybody: Any = Depends(callers.who(page=True))
    admin: Any = Depends(callers.who(ADMIN, page=True))

    @router.get("/hello")
    async def hello(a: str = "", c: str = "", caller: Caller = anybody) -> HTMLResponse:
        return pages.page("hello.html", signed_in=caller.user_id)

    @router.get("/staff")
    async def staff(caller: Caller = admin) -> HTMLResponse:
        raise NotFound(f"no {HOSTILE}", place=HOSTILE)

    @router.post("/act")
    async def act(caller: Caller = anybody) -> HTMLResponse:
        return HTMLResponse("done")

    app = make_app(
        "test", "A page.", [router, session_router(pages, callers, "/hello")], {},
        metrics=Metrics("test"), body_bytes_max=8_192,
    )  # fmt: skip
    with Client(httpx.ASGITransport(app)) as client:
        yield client
    pool.close()


def form(client: Client, token: str, **more: Any) -> httpx.Response:
    fields = {"access_token": token, **more.pop("fields", {})}
    return client("POST", "/session", data=fields, **more)


def test_a_page_without_a_token_is_the_sign_in_that_leads_back(client: Client) -> None:
    said = client("GET", "/hello?a=<b>&c=1")
    assert said.status_code == 401
    assert 'name="then" value="/hello?a=%3Cb%3E&amp;c=1"' in said.text
    assert "Not signed in" not in said.text
    given = form(client, "good", fields={"then": "/hello?a=1"})
    assert (given.status_code, given.headers["location"]) == (303, "/hello?a=1")
    cookie = given.headers["set-cookie"]
    assert cookie.startswith(f"{PAGE_COOKIE}=good;")
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Max-Age=" in cookie
    page = client("GET", "/hello", headers={"Cookie": f"{PAGE_COOKIE}=good"})
    assert page.status_code == 200
    assert "Hello &lt;script&gt;alert(1)&lt;/script&gt;" in page.text and HOSTILE not in page.text


def test_a_program_hands_its_token_over_as_json(client: Client) -> None:
    said = client("POST", "/session", json={"access_token": "a.b-c_d"})
    assert said.status_code == 204 and said.headers["set-cookie"].startswith(PAGE_COOKIE)


@pytest.mark.parametrize("token", ["", "old", "a" * 5_000, "\u0661", "x\r\nSet-Cookie: a=b", "\0"])
def test_a_token_that_does_not_count_sets_nothing(client: Client, token: str) -> None:
    for said in (form(client, token), client("POST", "/session", json={"access_token": token})):
        assert said.status_code == 401
        assert "set-cookie" not in said.headers
        assert not token.strip() or token not in said.text


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"access_token=a&access_token=b", b"token=a", b"a=1&" * 20],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "x/y"])
def test_another_body_is_refused(client: Client, body: bytes, kind: str) -> None:
    said = client("POST", "/session", content=body, headers={"Content-Type": kind})
    assert said.status_code == 422 and "set-cookie" not in said.headers


@pytest.mark.parametrize(
    "then",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "",
     "/a\r\nSet-Cookie: x=y", "/" + "a" * 3_000, "/\u202e"],
)  # fmt: skip
def test_it_leads_nowhere_else(client: Client, then: str) -> None:
    said = form(client, "good", fields={"then": then})
    assert (said.status_code, said.headers["location"]) == (303, "/hello")


@pytest.mark.parametrize("path", ["/session", "/sign-out"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://lab.evil.example"])
def test_another_sites_form_is_refused(client: Client, path: str, origin: str) -> None:
    said = client("POST", path, data={"access_token": "good"}, headers={"Origin": origin})
    assert said.status_code == 403 and "set-cookie" not in said.headers
    own = client("POST", path, data={"access_token": "good"}, headers={"Origin": "http://lab"})
    assert own.status_code == 303


def test_the_cookie_reads_pages_and_does_nothing_else(client: Client) -> None:
    signed_in = {"Cookie": f"{PAGE_COOKIE}=staff"}
    assert client("POST", "/act", headers=signed_in).status_code == 401
    assert client("POST", "/act", "staff").text == "done"
    assert client("GET", "/hello", "old", headers=signed_in).status_code == 401
    left = client("POST", "/sign-out", headers=signed_in)
    assert left.headers["location"] == "/sign-in"
    assert f'{PAGE_COOKIE}=""' in left.headers["set-cookie"]


def test_errors_are_pages_and_their_words_are_text(client: Client) -> None:
    refused = client("GET", "/staff", "good")
    assert refused.status_code == 403 and "permission admin" in refused.text
    missing = client("GET", "/staff", "staff")
    assert missing.status_code == 404 and HOSTILE not in missing.text
    assert "&lt;script&gt;" in missing.text
    expired = client("GET", "/hello", headers={"Cookie": f"{PAGE_COOKIE}=gone"})
    assert expired.status_code == 401 and "has expired" in expired.text


def test_no_script_runs_and_only_the_own_style_counts(client: Client) -> None:
    for path, status in (("/hello", 401), ("/sign-in", 200)):
        said = client("GET", path)
        assert said.status_code == status
        policy = said.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'none'" in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert said.headers["cache-control"] == "no-store"
        assert said.headers["content-type"] == "text/html; charset=utf-8"
        assert re.findall(r"<script|\son\w+=|style=", said.text) == []
