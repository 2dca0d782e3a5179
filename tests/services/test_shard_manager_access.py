"""Who may call what: every route with every permission, for one's own things and for others'."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import jwt
import pytest

from paytm_lab.web.scopes import (
    ACCOUNT_CREATE,
    ADMIN,
    ALL,
    ANALYTICS_READ,
    REVIEW,
    TRANSFER_ANY,
    TRANSFER_OWN,
)
from paytm_lab.web.tokens import ALGORITHM, AUDIENCE, ISSUER, REVOKED
from tests.services.world import KID, World, item, new_key, problem
from tests.waiting import until

SCOPE_SETS: list[tuple[str, ...]] = [(), *((scope,) for scope in ALL), ALL]
READERS = {TRANSFER_ANY, REVIEW, ADMIN}
ANYBODY = {"", *ALL}
PAYERS = {TRANSFER_OWN, TRANSFER_ANY}


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    with World(profile=profile, shards=2, fraud_gate="off") as made:
        yield made


class Things(NamedTuple):
    """What the requests are about; all of it is the sender's."""

    sender: str
    receiver: str
    payment: str
    held: str
    reviewed: str


class Route(NamedTuple):
    """``owner``, ``other``: the permissions, one of which the payment's sender, or somebody who has
    to do with none of it, needs ('' for none at all). ``refused``: what the other gets without.
    """

    method: str
    path: str
    owner: set[str]
    other: set[str]
    refused: int = 403
    body: Callable[[Things], Any] = lambda _: None


def one(things: Things) -> dict[str, Any]:
    return item(things.sender, things.receiver, "1")


ROUTES = [
    Route("POST", "/transfer/{from_user}/{to_user}/{amount}", PAYERS, {TRANSFER_ANY}),
    Route("POST", "/transfers", PAYERS, {TRANSFER_ANY}, body=one),
    Route("POST", "/transfers/bulk", PAYERS, PAYERS, body=lambda t: {"transfers": [one(t)]}),
    Route("GET", "/transfers/{payment_id}", ANYBODY, READERS, 404),
    Route("GET", "/transfers/{payment_id}/timeline", ANYBODY, READERS, 404),
    Route("POST", "/transfers/{held}/capture", PAYERS, {TRANSFER_ANY}),
    Route("POST", "/transfers/{held}/release", PAYERS, {TRANSFER_ANY}),
    Route("POST", "/create_account/{user_id}/{balance}", {ACCOUNT_CREATE}, {ACCOUNT_CREATE}),
    Route("GET", "/accounts/{account}", ANYBODY, READERS, 404),
    Route("GET", "/accounts/{account}/statement", ANYBODY, READERS, 404),
    Route("POST", "/accounts/{account}/freeze", {ADMIN, REVIEW}, {ADMIN, REVIEW}),
    Route("POST", "/accounts/{account}/unfreeze", {ADMIN, REVIEW}, {ADMIN, REVIEW}),
    Route("GET", "/reviews", {REVIEW}, {REVIEW}),
    # Nobody decides about a payment of their own.
    Route("POST", "/reviews/{reviewed}/approve", set(), {REVIEW}),
    Route("POST", "/reviews/{reviewed}/reject", set(), {REVIEW}),
    Route("GET", "/analytics", {ANALYTICS_READ}, {ANALYTICS_READ}),
]
OPEN_TO_ALL = {"/live", "/health", "/ready", "/metrics"}
_NAMES = {"held": "payment_id", "reviewed": "payment_id", "account": "user_id"}


def make_things(world: World, route: Route) -> Things:
    sender, receiver = world.pair(cross=True)
    payment = world.lab.transfer(sender, receiver, "1").payment
    held = reviewed = payment
    if "{held}" in route.path:
        held = world.lab.transfer(sender, receiver, "1", hold=True).payment
    if "{reviewed}" in route.path:
        world.review(payment)
    return Things(sender, receiver, payment, held, reviewed)


def asked(
    world: World, route: Route, things: Things, user: str, scopes: tuple[str, ...] | None
) -> httpx.Response:
    path = route.path.format(
        from_user=things.sender, to_user=things.receiver, amount="1", payment_id=things.payment,
        held=things.held, reviewed=things.reviewed, account=things.sender,
        user_id=f"new-{new_key()}", balance="1",
    )  # fmt: skip
    headers = {} if scopes is None else world.bearer(user, scopes)
    return world.call(route.method, path, headers=headers, json=route.body(things))


def ids(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_what_the_owner_may(world: World, route: Route) -> None:
    for scopes in SCOPE_SETS:
        things = make_things(world, route)
        said = asked(world, route, things, things.sender, scopes)
        allowed = bool(route.owner & {"", *scopes})
        assert (said.status_code < 300) is allowed, (scopes, said.text)
        if not allowed:
            problem(said, 403, "forbidden")


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_what_others_may(world: World, route: Route) -> None:
    things = make_things(world, route)
    for scopes in SCOPE_SETS:
        if route.other & {"", *scopes} and route.method == "POST":
            things = make_things(world, route)
        user = f"other-{new_key()}"
        said = asked(world, route, things, user, scopes)
        if route.other & set(scopes):
            assert said.status_code < 300, (scopes, said.text)
            continue
        # A hold that one may not even see is not there; without any permission to pay one does not
        # get so far.
        unseen = "{held}" in route.path and scopes == (TRANSFER_OWN,)
        status = 404 if unseen else route.refused
        assert said.status_code == status, (scopes, said.text)
        assert things.sender not in said.text.replace(f"'{things.sender}'", "")
    assert world.balance(things.sender) <= 100_000


@pytest.mark.parametrize("route", ROUTES, ids=ids)
def test_nobody_comes_without_a_token(world: World, route: Route) -> None:
    things = make_things(world, route)
    before = world.balance(things.sender)
    said = asked(world, route, things, "nobody", None)
    problem(said, 401, "unauthenticated")
    assert said.headers["www-authenticate"] == "Bearer"
    assert world.balance(things.sender) == before


def test_the_table_names_every_route(world: World) -> None:
    described = world.call("GET", "/openapi.json").json()["paths"]
    told = {(m.upper(), path) for path, methods in described.items() for m in methods}
    here = {
        (route.method, re.sub(r"{(\w+)}", lambda m: f"{{{_NAMES.get(m[1], m[1])}}}", route.path))
        for route in ROUTES
    }
    assert told == here | {("GET", path) for path in OPEN_TO_ALL}


def test_a_bulk_of_anothers_money_pays_nothing(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    body = {"transfers": [item(sender, receiver, "1"), item(receiver, sender, "1")]}
    said = world.call("POST", "/transfers/bulk", receiver, json=body).json()["outcomes"]
    assert [each["status_code"] for each in said] == [403, 201]
    until(lambda: world.balance(sender) == 100_100)


# -- others' data ---------------------------------------------------------------------------------


def without(said: httpx.Response, name: str) -> tuple[int, dict[str, Any]]:
    """The answer, as it would be about any other."""
    return said.status_code, {k: str(v).replace(name, "*") for k, v in said.json().items()}


@pytest.mark.parametrize("path", ["/accounts/{}", "/accounts/{}/statement"])
def test_anothers_account_looks_like_one_that_is_not_there(world: World, path: str) -> None:
    owner, missing, stranger = world.user(), f"u-{new_key()[:12]}", world.user()
    of_owner = world.call("GET", path.format(owner), stranger)
    of_nobody = world.call("GET", path.format(missing), stranger)
    assert without(of_owner, owner) == without(of_nobody, missing)
    assert without(of_owner, owner)[0] == 404
    to_staff = world.call("GET", path.format(missing), "root", ADMIN)
    assert without(to_staff, missing) == without(of_nobody, missing)


@pytest.mark.parametrize("tail", ["", "/timeline"])
def test_anothers_payment_looks_like_one_that_is_not_there(world: World, tail: str) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.pay(sender, receiver, "1").json()["payment_id"]
    missing = payment[:-4] + ("0000" if payment[-4:] != "0000" else "1111")
    stranger = world.user()
    of_others = world.call("GET", f"/transfers/{payment}{tail}", stranger)
    of_nobody = world.call("GET", f"/transfers/{missing}{tail}", stranger)
    assert without(of_others, payment) == without(of_nobody, missing)
    assert of_others.status_code == 404


def test_the_receiver_does_not_learn_why_the_sender_could_not_pay(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    refused = world.pay(sender, receiver, "1000.01").json()["payment_id"]
    for tail in ("", "/timeline"):
        said = world.call("GET", f"/transfers/{refused}{tail}", receiver)
        problem(said, 404, "not_found")
        assert world.call("GET", f"/transfers/{refused}{tail}", sender).status_code == 200


# -- tokens ---------------------------------------------------------------------------------------


def claims(world: World, user: str, **changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER, "aud": AUDIENCE, "sub": user, "sid": new_key(), "scope": TRANSFER_OWN,
        "iat": now, "exp": now + 300, **changed,
    }  # fmt: skip


def bad_tokens(world: World, user: str) -> dict[str, str]:
    key = world.signer.key
    good = world.signer.token(user, TRANSFER_OWN)
    head, body, signature = good.split(".")

    def signed(changed: dict[str, Any], kid: str = KID) -> str:
        return jwt.encode(claims(world, user, **changed), key, ALGORITHM, headers={"kid": kid})

    return {
        "tampered": f"{head}.{body}.{'A' * len(signature)}",
        "another body": f"{head}.{signed({'scope': TRANSFER_ANY}).split('.')[1]}.{signature}",
        "expired": signed({"exp": int(time.time()) - 1}),
        "no such session": signed({}),
        "for somebody else": signed({"aud": "else"}),
        "from somebody else": signed({"iss": "else"}),
        "unknown key": signed({}, "else"),
        "none": jwt.encode(claims(world, user), None, "none", headers={"kid": KID}),
        "hmac": jwt.encode(claims(world, user), "x" * 32, "HS256", headers={"kid": KID}),
        "no token": "hello",
        "long": "a" * 5_000,
    }


def test_a_bad_token_pays_nothing(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    for name, token in bad_tokens(world, sender).items():
        said = world.call(
            "POST", f"/transfer/{sender}/{receiver}/1",
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        assert said.status_code == 401, name
        assert token not in said.text
    assert world.balance(sender) == 100_000


def test_a_session_that_ended_pays_no_more(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    token = world.signer.token(sender, TRANSFER_OWN)
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/transfer/{sender}/{receiver}/0.01"
    assert world.call("POST", path, headers=headers).status_code == 201
    from paytm_lab.ports.cache import Hit

    session = jwt.decode(token, options={"verify_signature": False})["sid"]
    now_us = world.lab.system.clock.now_us()
    world.lab.system.cache.count_window([Hit(REVOKED, session, now_us)], 3600)
    took_s = until(lambda: world.call("POST", path, headers=headers).status_code == 401)
    assert took_s < 1.5
