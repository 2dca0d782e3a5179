"""Accounts, holds, reviews and figures over HTTP on a real lab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from paytm_lab.core.events import rfc3339
from paytm_lab.core.money import format_rupees
from paytm_lab.shard_manager import models
from paytm_lab.web.scopes import (
    ACCOUNT_CREATE,
    ADMIN,
    ANALYTICS_READ,
    REVIEW,
    TRANSFER_ANY,
)
from tests.services.world import AMOUNTS, World, item, new_key, of_model, problem
from tests.waiting import until


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    with World(profile=profile, shards=2, fraud_gate="off") as made:
        yield made


# -- accounts -------------------------------------------------------------------------------------


def test_an_account_is_made_once(world: World) -> None:
    user, key = f"new-{new_key()}", new_key()
    path = f"/create_account/{user}/12.34"
    made = world.call("POST", path, "root", ACCOUNT_CREATE, key=key)
    assert made.status_code == 201
    body = of_model(models.Created, made.json())
    assert (body["balance"], body["balance_paise"]) == ("12.34", 1234)
    again = world.call("POST", path, "root", ACCOUNT_CREATE, key=key)
    assert again.status_code == 200 and again.json()["repeated"]
    problem(world.call("POST", path, "root", ACCOUNT_CREATE), 409, "account_exists")
    problem(world.call("POST", path, "else", ACCOUNT_CREATE, key=key), 409, "account_exists")
    other = world.call("POST", f"/create_account/{user}/1", "root", ACCOUNT_CREATE, key=key)
    problem(other, 409, "account_exists")
    assert world.balance(user) == 1234
    routes = world.lab.system.routes.read([user])
    assert routes == {user: body["shard"]}


@pytest.mark.parametrize("amount", [a for a in AMOUNTS if a not in ("0", "0.00")])
def test_an_opening_balance_is_an_amount(world: World, amount: str) -> None:
    path = f"/create_account/n-{new_key()}/{quote(amount, safe='')}"
    problem(world.call("POST", path, "root", ACCOUNT_CREATE), 422, "invalid_amount")


def test_an_account_says_what_is_available(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    world.call("POST", "/transfers", sender, json=item(sender, receiver, "100", hold=True))
    account = of_model(models.Account, world.call("GET", f"/accounts/{sender}", sender).json())
    assert (account["balance"], account["held"], account["available"]) == (
        "1000.00", "100.00", "900.00",
    )  # fmt: skip
    assert account["state"] == "active" and account["as_of"] is None
    problem(world.call("GET", "/accounts/nobody", "root", ADMIN), 404, "not_found")
    problem(world.call("GET", "/accounts/nobody", "nobody"), 404, "not_found")


def test_a_balance_as_of_a_time_never_changes(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    world.pay(sender, receiver, "100")
    then = rfc3339(world.lab.system.clock.now_us())
    world.pay(sender, receiver, "50")
    for user, balance in ((sender, "900.00"), (receiver, "1100.00")):
        account = world.call("GET", f"/accounts/{user}", user, params={"as_of": then}).json()
        assert (account["balance"], account["as_of"]) == (balance, then)
        assert account["available"] is None
        page = world.call("GET", f"/accounts/{user}/statement", user, params={"as_of": then})
        assert page.json()["entries"][-1]["balance"] == balance
    assert world.call("GET", f"/accounts/{sender}", sender).json()["balance"] == "850.00"


@pytest.mark.parametrize(
    "when",
    ["", "now", "2026-01-01", "2026-01-01T00:00:00", "1e9", "9999-12-31T23:59:59Z",
     "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_refused(world: World, when: str) -> None:
    user = world.user()
    for path in (f"/accounts/{user}", f"/accounts/{user}/statement"):
        problem(world.call("GET", path, user, params={"as_of": when}), 422, "bad_input")


def test_a_statement_comes_in_pages(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    for _ in range(6):
        world.pay(sender, receiver, "10")
    found: list[dict[str, Any]] = []
    cursor, pages = "", 0
    while True:
        page = world.call(
            "GET", f"/accounts/{sender}/statement", sender,
            params={"limit": 3, "cursor": cursor},
        ).json()  # fmt: skip
        of_model(models.Statement, page)
        assert page["opening_balance_paise"] == (found[-1]["balance_paise"] if found else 0)
        found += page["entries"]
        pages += 1
        cursor = page["next_cursor"]
        if cursor is None:
            break
        world.pay(sender, receiver, "1")  # what comes later shifts no page
        assert pages < 10
    assert [each["amount"] for each in found[:7]] == ["1000.00"] + ["10.00"] * 6
    assert [each["balance"] for each in found[:3]] == ["1000.00", "990.00", "980.00"]
    assert found[1]["other_user"] == receiver and found[0]["direction"] == "credit"
    assert found[-1]["balance"] == format_rupees(world.balance(sender))


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "1-2-3"},
     {"cursor": "99999999999999999999-1"}, {"cursor": "9223372036854775808-1"},
     {"cursor": "\u0661-1"}, {"cursor": "' OR 1=1"}],
)  # fmt: skip
def test_what_is_no_page_is_refused(world: World, query: dict[str, Any]) -> None:
    user = world.user()
    said = world.call("GET", f"/accounts/{user}/statement", user, params=query)
    assert said.status_code == 422 and said.json()["code"] in ("bad_input", "invalid_request")


def test_a_frozen_account_does_not_pay(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    frozen = world.call("POST", f"/accounts/{sender}/freeze", "root", ADMIN)
    assert frozen.status_code == 200
    assert of_model(models.Account, frozen.json())["state"] == "frozen"
    assert sender in world.lab.system.fraud_lists.frozen
    problem(world.pay(sender, receiver, "1"), 422, "sender_frozen")
    assert world.pay(receiver, sender, "1").status_code == 201
    both = world.call(
        "POST", f"/accounts/{sender}/freeze", "clerk", REVIEW, json={"credits_too": True}
    )
    assert both.json()["state"] == "frozen_all"
    problem(world.pay(receiver, sender, "1"), 422, "receiver_frozen")
    thawed = world.call("POST", f"/accounts/{sender}/unfreeze", "clerk", REVIEW)
    assert thawed.json()["state"] == "active"
    assert sender not in world.lab.system.fraud_lists.frozen
    assert world.pay(sender, receiver, "1").status_code == 201
    problem(world.call("POST", "/accounts/nobody/freeze", "root", ADMIN), 404, "not_found")


def test_a_closed_account_stays_closed(world: World) -> None:
    user = world.user("0")
    world.lab.close_account(user)
    for word in ("freeze", "unfreeze"):
        problem(world.call("POST", f"/accounts/{user}/{word}", "root", ADMIN), 409, "conflict")


# -- holds ----------------------------------------------------------------------------------------


def hold(world: World, sender: str, receiver: str, amount: str = "100") -> str:
    body = item(sender, receiver, amount, hold=True)
    made = world.call("POST", "/transfers", sender, json=body)
    assert (made.status_code, made.json()["status"]) == (201, "HELD")
    return str(made.json()["payment_id"])


@pytest.mark.parametrize("cross", [False, True])
def test_a_hold_is_captured_once(world: World, cross: bool) -> None:
    sender, receiver = world.pair(cross)
    payment = hold(world, sender, receiver)
    path = f"/transfers/{payment}/capture"
    too_much = world.call("POST", path, sender, json={"amount": "100.01"})
    problem(too_much, 422, "invalid_amount")
    taken = world.call("POST", path, sender, json={"amount": "40"})
    assert taken.status_code == 200
    body = of_model(models.Transfer, taken.json())
    assert (body["status"], body["amount"]) == ("COMPLETED", "40.00")
    again = world.call("POST", path, sender)
    assert again.status_code in (200, 202) and again.json()["repeated"]
    account = world.call("GET", f"/accounts/{sender}", sender).json()
    assert (account["balance"], account["held"]) == ("960.00", "0.00")
    assert world.balance(receiver) == 104_000


def test_a_hold_is_released(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    payment = hold(world, sender, receiver)
    for _ in range(2):
        let_go = world.call("POST", f"/transfers/{payment}/release", sender)
        assert (let_go.status_code, let_go.json()["status"]) == (200, "CANCELLED")
    assert world.balance(sender) == 100_000
    late = world.call("POST", f"/transfers/{payment}/capture", sender)
    assert (late.status_code, late.json()["status"]) == (200, "CANCELLED")


@pytest.mark.parametrize("word", ["capture", "release"])
def test_only_the_payer_ends_a_hold(world: World, word: str) -> None:
    sender, receiver = world.pair(cross=True)
    path = f"/transfers/{hold(world, sender, receiver)}/{word}"
    problem(world.call("POST", path, receiver), 403, "forbidden")
    problem(world.call("POST", path, world.user()), 404, "not_found")
    assert world.call("POST", path, "till", TRANSFER_ANY).status_code == 200


def test_a_capture_is_strict(world: World) -> None:
    sender, receiver = world.pair(cross=False)
    path = f"/transfers/{hold(world, sender, receiver)}/capture"
    problem(world.call("POST", path, sender, json={"amount": 1}), 422, "invalid_request")
    problem(world.call("POST", path, sender, json={"all": True}), 422, "invalid_request")
    problem(world.call("POST", path, sender, json={"amount": "0"}), 422, "invalid_amount")


# -- reviews --------------------------------------------------------------------------------------


def test_a_rejected_payment_is_refunded(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.pay(sender, receiver, "100").json()["payment_id"]
    world.review(payment)
    listed = world.call("GET", "/reviews", "clerk", REVIEW)
    of_model(models.Reviews, listed.json())
    assert payment in {each["payment_id"] for each in listed.json()["reviews"]}
    for status in ("COMPLETED", "COMPLETED"):
        said = world.call("POST", f"/reviews/{payment}/reject", "clerk", REVIEW)
        assert said.status_code == 200
        body = of_model(models.Decided, said.json())
        assert body["review"] == "rejected"
        refund = body["transfer"]
        assert (refund["status"], refund["kind"], refund["refund_of"]) == (
            status, "refund", payment,
        )  # fmt: skip
    until(lambda: world.balance(sender) == 100_000)
    rejected = world.call("GET", "/reviews?state=rejected", "clerk", REVIEW).json()["reviews"]
    assert {"clerk"} == {r["decided_by"] for r in rejected if r["payment_id"] == payment}
    approve = world.call("POST", f"/reviews/{payment}/approve", "clerk", REVIEW)
    problem(approve, 409, "conflict")


def test_a_review_lets_a_payment_stand(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.pay(sender, receiver, "100").json()["payment_id"]
    world.review(payment)
    for _ in range(2):
        said = world.call("POST", f"/reviews/{payment}/approve", "clerk", REVIEW)
        assert (said.status_code, said.json()["review"]) == (200, "approved")
    assert world.balance(receiver) == 110_000
    problem(world.call("POST", f"/reviews/{payment}/reject", "clerk", REVIEW), 409, "conflict")


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_what_has_no_review_is_not_found(world: World, word: str) -> None:
    sender, receiver = world.pair(cross=False)
    payment = world.pay(sender, receiver, "1").json()["payment_id"]
    problem(world.call("POST", f"/reviews/{payment}/{word}", "clerk", REVIEW), 404, "not_found")
    unknown = payment[:-4] + "0000"
    problem(world.call("POST", f"/reviews/{unknown}/{word}", "clerk", REVIEW), 404, "not_found")
    problem(world.call("POST", f"/reviews/x/{word}", "clerk", REVIEW), 422, "bad_input")


def test_nobody_decides_about_their_own_payment(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.pay(sender, receiver, "100").json()["payment_id"]
    world.review(payment)
    for user in (sender, receiver):
        said = world.call("POST", f"/reviews/{payment}/approve", user, REVIEW)
        problem(said, 403, "forbidden")


# -- figures --------------------------------------------------------------------------------------


def test_figures_of_every_shard(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    world.pay(sender, receiver, "1")
    world.lab.drain()

    def figures() -> dict[str, Any]:
        said = world.call("GET", "/analytics", "root", ANALYTICS_READ)
        assert said.status_code == 200
        return dict(of_model(models.Analytics, said.json()))

    expected = sum(world.lab.balances().values())
    until(lambda: figures()["balance_paise"] == expected)
    found = figures()
    assert found["complete"] and [each["shard"] for each in found["shards"]] == [0, 1]
    assert found["accounts"] == sum(each["accounts"] for each in found["shards"]) > 2
    until(lambda: all(each["payments_per_s"] is not None for each in figures()["shards"]))


def test_the_service_describes_itself(world: World) -> None:
    described = world.call("GET", "/openapi.json").json()
    assert {
        "/transfer/{from_user}/{to_user}/{amount}", "/create_account/{user_id}/{balance}",
        "/transfers", "/transfers/bulk", "/transfers/{payment_id}",
        "/transfers/{payment_id}/timeline", "/transfers/{payment_id}/capture",
        "/transfers/{payment_id}/release", "/accounts/{user_id}", "/accounts/{user_id}/statement",
        "/accounts/{user_id}/freeze", "/accounts/{user_id}/unfreeze", "/reviews",
        "/reviews/{payment_id}/approve", "/reviews/{payment_id}/reject", "/analytics", "/live",
        "/health", "/ready", "/metrics",
    } == set(described["paths"])  # fmt: skip


def test_health_shows_each_shard(world: World) -> None:
    for path, status in (("/health", "healthy"), ("/ready", "ready")):
        answer = world.call("GET", path)
        assert (answer.status_code, answer.json()["status"]) == (200, status)
        parts = {name: part["state"] for name, part in answer.json()["parts"].items()}
        assert parts == dict.fromkeys(
            ("shard-0", "shard-1", "event-log", "cache", "wide-store", "coordination"), "up"
        )


def test_requests_are_counted_by_route(world: World) -> None:
    sender, receiver = world.pair(cross=False)
    world.pay(sender, receiver, "1")
    text = world.call("GET", "/metrics").text
    assert 'route="/transfer/{from_user}/{to_user}/{amount}",status="201"' in text
    assert sender not in text
