"""Who may call what of the auth service: every route with every permission."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from paytm_lab.web.scopes import ADMIN, ALL
from tests.services.client import PASSWORD, Client

ANYBODY = {"", *ALL}
NOBODY_ASKED = {None, *ANYBODY}  # no token is needed
NEW = "another good password"


class Route(NamedTuple):
    """``may``: the permissions, one of which a caller needs ('' none at all, None no token)."""

    method: str
    path: str
    may: set[Any]
    ok: int
    body: Any = None


LOGIN = {"user_id": "other", "password": PASSWORD}
ROUTES = [
    Route("POST", "/register", NOBODY_ASKED, 201, {"user_id": "NEW", "password": PASSWORD}),
    Route("POST", "/login", NOBODY_ASKED, 200, LOGIN),
    Route("POST", "/refresh", NOBODY_ASKED, 200, {"refresh_token": "REFRESH"}),
    Route("GET", "/.well-known/jwks.json", NOBODY_ASKED, 200),
    Route("GET", "/me", ANYBODY, 200),
    Route("POST", "/logout", ANYBODY, 204),
    Route("POST", "/logout/everywhere", ANYBODY, 200),
    Route("PUT", "/password", ANYBODY, 204, {"old_password": PASSWORD, "new_password": NEW}),
    Route("PUT", "/users/{user_id}/permissions", {ADMIN}, 200, {"permissions": ["review"]}),
    Route("POST", "/users/{user_id}/logout", {ADMIN}, 200),
    Route("POST", "/keys/rotate", {ADMIN}, 200),
]
# Whoever holds the one-time token is the first admin: tests/services/test_auth.py.
APART = {"/admin", "/live", "/health", "/ready", "/metrics"}


@pytest.fixture
def boss(auth: Client, lab: Any) -> Any:
    once = (lab.data / "admin.token").read_text().strip()
    login = {"user_id": "boss", "password": PASSWORD}
    assert auth("POST", "/admin", json=login | {"admin_token": once}).status_code == 201
    return auth.login("boss")["access_token"]


def test_the_table_has_every_route(auth: Client) -> None:
    paths = auth("GET", "/openapi.json").json()["paths"]
    described = {(m.upper(), path) for path, methods in paths.items() for m in methods}
    assert {(r.method, r.path) for r in ROUTES} == {d for d in described if d[1] not in APART}


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
def test_who_may(auth: Client, boss: str, route: Route) -> None:
    auth.register("other")
    for number, permission in enumerate([None, "", *ALL]):
        user, token = f"user-{number}", ""
        auth.register(user)
        if permission is not None:
            given = {"permissions": [permission] if permission else []}
            said = auth("PUT", f"/users/{user}/permissions", boss, json=given)
            assert said.status_code == 200
            token = auth.login(user)["access_token"]
        body = route.body
        if isinstance(body, dict):
            other = auth.login("other")["refresh_token"]
            body = {k: {"REFRESH": other, "NEW": f"new-{number}"}.get(v, v) if isinstance(v, str)
                    else v for k, v in body.items()}  # fmt: skip
        path = route.path.format(user_id="other")
        said = auth(route.method, path, token, json=body)
        if permission in route.may:
            assert said.status_code == route.ok, (permission, said.text)
        else:
            assert said.status_code == (401 if permission is None else 403), permission
            assert said.json()["code"] in ("unauthenticated", "forbidden")


@pytest.mark.parametrize("user", ["a/b", "50%", "a..b", "ü", "x" * 64, "<script>", "' OR 1=1 --"])
def test_users_of_any_name_are_found_by_their_path(auth: Client, boss: str, user: str) -> None:
    auth.register(user)
    token = auth.login(user)["access_token"]
    path = f"/users/{quote(user, safe='')}"
    given = auth("PUT", f"{path}/permissions", boss, json={"permissions": ["review"]})
    assert (given.status_code, given.json()["user_id"]) == (200, user)
    assert auth("GET", "/me", token).status_code == 401, "the old session has ended"
    auth.login(user)
    assert auth("POST", f"{path}/logout", boss).json() == {"sessions": 1}
