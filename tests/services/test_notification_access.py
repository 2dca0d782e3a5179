"""Who may call what of the notification service: every route with every permission."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from paytm_lab.web.callers import PAGE_COOKIE
from paytm_lab.web.scopes import ADMIN, ALL
from paytm_lab.wiring.channels import OPERATORS
from tests.services.notification_world import NotificationWorld, notification_world
from tests.services.world import problem

SCOPE_SETS: list[tuple[str, ...]] = [(), *((scope,) for scope in ALL), ALL]
ANYBODY, ADMINS = {"", *ALL}, {ADMIN}
OWNER = "owner"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationWorld]:
    with notification_world(data=tmp_path_factory.mktemp("lab")) as world:
        world.paid(OWNER, "other")
        yield world


class Route(NamedTuple):
    """``own``, ``others``: the permissions, one of which it needs for one's own things or for
    others' ('' for none); ``others`` None: there is only one kind. ``good``: what it answers then.
    """

    method: str
    path: str
    own: set[str]
    others: set[str] | None
    body: Any = None
    good: int = 200


ROUTES = [
    Route("GET", "/notifications", ANYBODY, ADMINS),
    Route("GET", "/inbox", ANYBODY, ADMINS),
    Route("GET", "/preferences", ANYBODY, ADMINS),
    Route("PUT", "/preferences", ANYBODY, ADMINS, {}),
    Route("GET", "/contacts", ANYBODY, ADMINS),
    Route("PUT", "/contacts", ANYBODY, ADMINS, {}),
    Route("GET", "/dead-letters", ADMINS, None),
    Route("POST", "/dead-letters/{notification_id}/retry", ADMINS, None, None, 404),
    Route("GET", "/provider/messages", ADMINS, None),
]
# Need no token, or bring their own proof: a signature, a token in the body.
OPEN = {
    ("GET", "/live"), ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"),
    ("GET", "/sign-in"),
    ("POST", "/session"),
    ("POST", "/session/renew"), ("POST", "/sign-out"), ("POST", "/provider/{channel}"),
}  # fmt: skip


def ids(route: Route) -> str:
    return f"{route.method} {route.path}"


def asked(
    world: NotificationWorld, route: Route, user: str, scopes: tuple[str, ...], of: str = ""
) -> httpx.Response:
    path = route.path.replace("{notification_id}", "none")
    params = {"user_id": of} if of else {}
    token = world.token(user, *scopes)
    return world.client(route.method, path, token, json=route.body, params=params)


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_own_things(world: NotificationWorld, route: Route) -> None:
    for scopes in SCOPE_SETS:
        said = asked(world, route, OWNER, scopes)
        allowed = bool(route.own & {"", *scopes})
        assert said.status_code == (route.good if allowed else 403), (scopes, said.text)
        if route.others is not None:
            named = asked(world, route, OWNER, scopes, OWNER)
            assert named.text == said.text


@pytest.mark.parametrize("route", [r for r in ROUTES if r.others is not None], ids=ids)
@pytest.mark.parametrize("owner", [OWNER, "nobody-there", OPERATORS, "system:funding"])
def test_others_things(world: NotificationWorld, route: Route, owner: str) -> None:
    for scopes in SCOPE_SETS:
        said = asked(world, route, "stranger", scopes, owner)
        if not (route.others or set()) & set(scopes):
            # Like what is not there, whether it is or not.
            assert said.status_code == 404, (scopes, said.text)
            assert "You paid" not in said.text
        elif owner == "system:funding":
            assert said.status_code == 422
        else:
            assert said.status_code == 200, (scopes, said.text)


@pytest.mark.parametrize("route", ROUTES, ids=ids)
@pytest.mark.parametrize("token", ["", "x", "eyJhbGciOiJub25lIn0.e30."])
def test_nobody_comes_without_a_token(world: NotificationWorld, route: Route, token: str) -> None:
    path = route.path.replace("{notification_id}", "none")
    said = world.client(route.method, path, token, json=route.body)
    if route.path == "/inbox":
        assert said.status_code == 401 and "Sign in" in said.text
    else:
        problem(said, 401, "unauthenticated")


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_the_browsers_cookie_opens_the_page_and_nothing_else(
    world: NotificationWorld, route: Route
) -> None:
    path = route.path.replace("{notification_id}", "none")
    cookie = {"Cookie": f"{PAGE_COOKIE}={world.token('root', *ALL)}"}
    said = world.client(route.method, path, headers=cookie, json=route.body)
    assert said.status_code == (200 if route.path == "/inbox" else 401)


def test_the_table_names_every_route(world: NotificationWorld) -> None:
    described = world.client("GET", "/openapi.json").json()["paths"]
    told = {(m.upper(), path) for path, methods in described.items() for m in methods}
    assert told == {(route.method, route.path) for route in ROUTES} | OPEN
    assert all(re.fullmatch(r"/[a-z/_{}-]+", path) for _, path in told)


def test_an_attackers_words_are_text_on_the_page(world: NotificationWorld) -> None:
    hostile = '<script>alert("x")</script>'
    world.paid(hostile, "victim")
    page = world.call("GET", "/inbox", "victim").text
    assert "&lt;script&gt;" in page and "<script>" not in page
    own = world.call("GET", "/inbox", hostile).text
    assert "<script>" not in own and "&lt;script&gt;" in own
