"""Who may see what of the analytics service: every route with every permission."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from paytm_lab.web.callers import PAGE_COOKIE
from paytm_lab.web.scopes import ADMIN, ALL, ANALYTICS_READ
from tests.services.analytics_world import PAGES, AnalyticsWorld
from tests.services.world import new_key, problem

SCOPE_SETS: list[tuple[str, ...]] = [(), *((scope,) for scope in ALL), ALL]
READERS = {ANALYTICS_READ, ADMIN}
ANYBODY = {"", *ALL}


class Route(NamedTuple):
    """``owner``, ``other``: the permissions, one of which a payment's payer, or somebody who has to
    do with none, needs ('' for none at all). ``refused``: what the other gets without. ``page``:
    whether it takes a browser's cookie.
    """

    path: str
    owner: set[str]
    other: set[str]
    refused: int = 403
    page: bool = True


ROUTES = [
    *(Route(f"/{name}", READERS, READERS) for name in PAGES),
    *(Route(f"/api/{name}", READERS, READERS, page=False) for name in PAGES),
    Route("/payments/{payment_id}", ANYBODY, READERS, 404),
    Route("/api/payments/{payment_id}", ANYBODY, READERS, 404, page=False),
    Route("/find?payment_id={payment_id}", ANYBODY, ANYBODY),
]
# Open: they hold no data. /watch is tested where it is served (test_analytics).
OPEN_TO_ALL = {
    ("GET", "/"), ("GET", "/assets/{name}"), ("GET", "/sign-in"), ("POST", "/session"),
    ("POST", "/session/renew"),
    ("POST", "/sign-out"), ("GET", "/live"), ("GET", "/health"), ("GET", "/ready"),
    ("GET", "/metrics"), ("GET", "/watch/{page}"),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[AnalyticsWorld]:
    with AnalyticsWorld(profile=profile, shards=2) as made:
        yield made


@pytest.fixture(scope="module")
def payment(world: AnalyticsWorld) -> tuple[str, str, str]:
    """It, its payer and its receiver."""
    sender, receiver = world.pair(cross=True)
    return world.lab.transfer(sender, receiver, "12").payment, sender, receiver


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_who_may_see_it(world: AnalyticsWorld, payment: tuple[str, str, str], route: Route) -> None:
    path = route.path.format(payment_id=payment[0])
    for scopes in SCOPE_SETS:
        for user, allowed in ((payment[1], route.owner), (f"other-{new_key()}", route.other)):
            said = world.call("GET", path, headers=world.bearer(user, scopes))
            if allowed & {"", *scopes}:
                assert said.status_code in (200, 303), (user, scopes, said.text)
            else:
                assert said.status_code == route.refused, (user, scopes, said.text)
                assert payment[1] not in said.text or user == payment[1]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_nobody_comes_without_a_token(
    world: AnalyticsWorld, payment: tuple[str, str, str], route: Route
) -> None:
    path = route.path.format(payment_id=payment[0])
    said = world.call("GET", path)
    assert said.status_code == 401 and payment[1] not in said.text
    if route.page:
        assert "<form" in said.text and 'action="/session"' in said.text
    else:
        problem(said, 401, "unauthenticated")
    token = world.signer.token("reader", *ALL)
    by_cookie = world.call("GET", path, headers={"Cookie": f"{PAGE_COOKIE}={token}"})
    assert by_cookie.status_code in ((200, 303) if route.page else (401,))


def test_the_events_need_the_permission(world: AnalyticsWorld) -> None:
    problem(world.call("GET", "/watch/overview"), 401, "unauthenticated")
    problem(world.call("GET", "/watch/overview", "somebody"), 403, "forbidden")
    problem(world.call("GET", "/watch/else", "reader", ANALYTICS_READ), 422, "invalid_request")


def test_the_table_names_every_route(world: AnalyticsWorld) -> None:
    described = world.call("GET", "/openapi.json").json()["paths"]
    told = {(m.upper(), path) for path, methods in described.items() for m in methods}
    here = {("GET", re.sub(r"\?.*", "", route.path)) for route in ROUTES}
    assert told == here | OPEN_TO_ALL


def test_anothers_payment_looks_like_one_that_is_not_there(
    world: AnalyticsWorld, payment: tuple[str, str, str]
) -> None:
    there = payment[0]
    missing = there[:-4] + ("0000" if there[-4:] != "0000" else "1111")
    stranger = world.user()
    for path in ("/payments/", "/api/payments/"):
        of_others = world.call("GET", path + there, stranger)
        of_nobody = world.call("GET", path + missing, stranger)
        assert of_others.status_code == of_nobody.status_code == 404
        assert of_others.text.replace(there, "*") == of_nobody.text.replace(missing, "*")


def test_its_own_users_see_less(world: AnalyticsWorld) -> None:
    """Neither what the fraud side thought nor each other's notifications."""
    sender, receiver = world.pair(cross=True, opening="20000")
    made = world.lab.transfer(sender, receiver, "9999").payment
    world.lab.drain()
    full = world.call("GET", f"/api/payments/{made}", "reader", ANALYTICS_READ).json()
    assert full["score"] and any(e["topic"] == "fraud_events" for e in full["events"])
    for user, other in ((sender, receiver), (receiver, sender)):
        said = world.call("GET", f"/api/payments/{made}", user)
        seen = said.json()
        assert not seen["shown_in_full"] and seen["score"] is None
        assert {e["topic"] for e in seen["events"]} == {"payment_events"}
        words = " ".join(step["what"] for step in seen["steps"])
        assert "fraud" not in words and f"to {other}:" not in words
        assert "ManualReview" not in said.text and "0.9999" not in said.text
        assert "fraud" not in world.call("GET", f"/payments/{made}", user).text.split("<main")[1]


def test_the_receiver_does_not_learn_of_what_was_refused(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=True)
    refused = world.lab.transfer(sender, receiver, "99999").payment
    assert world.call("GET", f"/api/payments/{refused}", receiver).status_code == 404
    seen = world.call("GET", f"/api/payments/{refused}", sender).json()
    assert seen["reason"] == "insufficient_funds"
