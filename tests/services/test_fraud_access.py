"""Who may ask the fraud service what: every route with every permission."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from paytm_lab.web.scopes import ADMIN, ALL, REVIEW
from tests.services.fraud_world import CLERK, FraudWorld
from tests.services.world import item, new_key, problem
from tests.waiting import until

SCOPE_SETS: list[tuple[str, ...]] = [(), *((scope,) for scope in ALL), ALL]
STAFF = {REVIEW, ADMIN}
ANYBODY = {"", *ALL}
OPEN_TO_ALL = {"/health", "/live", "/ready", "/metrics"}


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[FraudWorld]:
    with FraudWorld(profile=profile, shards=2) as made:
        yield made


class Things(NamedTuple):
    """A payment, scored, and its payer; the rules' version."""

    sender: str
    payment: str
    version: int


@pytest.fixture(scope="module")
def payment(world: FraudWorld) -> tuple[str, str]:
    sender, receiver = world.pair(cross=True, opening="20000")
    made = str(world.pay(sender, receiver, "7000").json()["payment_id"])
    until(lambda: world.fraud("GET", f"/decisions/{made}", *CLERK).json()["decided_at"])
    return sender, made


class Route(NamedTuple):
    """``owner``, ``other``: the permissions, one of which the payment's payer, or somebody who has
    nothing to do with it, needs ('' for none at all). ``refused``: what the other gets without.
    """

    method: str
    path: str
    owner: set[str]
    other: set[str]
    refused: int = 403
    body: Callable[[Things], Any] = lambda _: None


def new_rules(things: Things) -> dict[str, Any]:
    rules = {"velocity_limit": 1_000 + things.version}
    return {"version": things.version, "rules": rules, "reason": "test"}


ROUTES = [
    Route("POST", "/score", STAFF, STAFF, body=lambda _: item("a", "b", "1")),
    Route("GET", "/decisions/{payment_id}", ANYBODY, STAFF, 404),
    Route("GET", "/decisions?user={user_id}", ANYBODY, STAFF, 404),
    Route("GET", "/rules", STAFF, STAFF),
    Route("PUT", "/rules", {ADMIN}, {ADMIN}, body=new_rules),
    Route("GET", "/rules/history", STAFF, STAFF),
    Route("GET", "/lists/mule", STAFF, STAFF),
    Route("GET", "/lists/frozen/changes", STAFF, STAFF),
    Route("GET", "/lists/frozen/users/{user_id}", STAFF, STAFF),
    Route(
        "PUT", "/lists/mule/users/{new}", {ADMIN}, {ADMIN},
        body=lambda _: {"listed": True, "reason": "test"},
    ),
]  # fmt: skip


def asked(
    world: FraudWorld, route: Route, made: tuple[str, str], user: str, scopes: Any
) -> httpx.Response:
    things = Things(*made, world.rules()["version"])
    path = route.path.format(payment_id=things.payment, user_id=things.sender, new=f"m-{new_key()}")
    headers = {} if scopes is None else world.bearer(user, scopes)
    return world.fraud(route.method, path, headers=headers, json=route.body(things))


def ids(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_what_the_payer_may(world: FraudWorld, payment: tuple[str, str], route: Route) -> None:
    for scopes in SCOPE_SETS:
        said = asked(world, route, payment, payment[0], scopes)
        if route.owner & {"", *scopes}:
            assert said.status_code == 200, (scopes, said.text)
        else:
            problem(said, 403, "forbidden")


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_what_others_may(world: FraudWorld, payment: tuple[str, str], route: Route) -> None:
    for scopes in SCOPE_SETS:
        said = asked(world, route, payment, f"other-{new_key()}", scopes)
        if route.other & set(scopes):
            assert said.status_code == 200, (scopes, said.text)
        else:
            problem(said, route.refused, {403: "forbidden", 404: "not_found"}[route.refused])


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_nobody_comes_without_a_token(
    world: FraudWorld, payment: tuple[str, str], route: Route
) -> None:
    before, mules = world.rules(), world.lab.system.fraud_lists.mules
    problem(asked(world, route, payment, "", None), 401, "unauthenticated")
    for bad in ("", "x", "Bearer", "Bearer x.y.z", "Basic YTpi"):
        said = world.fraud(route.method, route.path, headers={"Authorization": bad})
        assert said.status_code == 401, bad
    assert (world.rules(), world.lab.system.fraud_lists.mules) == (before, mules)


def test_a_refused_change_changes_nothing(world: FraudWorld, payment: tuple[str, str]) -> None:
    before, mules = world.rules(), world.lab.system.fraud_lists.mules
    for scopes in SCOPE_SETS:
        if ADMIN not in scopes:
            for route in ROUTES:
                if route.method == "PUT":
                    assert asked(world, route, payment, "clerk", scopes).status_code == 403
    assert (world.rules(), world.lab.system.fraud_lists.mules) == (before, mules)


def test_the_table_has_every_route(world: FraudWorld) -> None:
    app = world.fraud_app._app  # type: ignore[attr-defined]
    assert isinstance(app, FastAPI)
    there = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        if path not in OPEN_TO_ALL
        for method in methods
    }
    named = {
        ("GET", "/decisions"),
        *(
            (
                route.method,
                route.path.replace("/mule", "/{list_name}")
                .replace("/frozen", "/{list_name}")
                .replace("{new}", "{user_id}"),
            )
            for route in ROUTES
            if "?" not in route.path
        ),
    }
    assert there == named
