"""Payments over HTTP on a real lab: what each route does when all is well, and how it refuses."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from paytm_lab.shard_manager import models
from paytm_lab.shard_manager.models import BULK_MAX
from paytm_lab.web.scopes import (
    ACCOUNT_CREATE,
    ADMIN,
    TRANSFER_ANY,
)
from tests.services.world import AMOUNTS, World, item, new_key, of_model, problem
from tests.waiting import until


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    with World(profile=profile, shards=2, fraud_gate="off") as made:
        yield made


# -- paying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cross", [False, True])
def test_a_payment_is_made_and_can_be_read(world: World, cross: bool) -> None:
    sender, receiver = world.pair(cross)
    made = world.pay(sender, receiver, "12.5")
    assert made.status_code == 201
    body = of_model(models.Transfer, made.json())
    assert body["status"] == "COMPLETED" and not body["repeated"]
    assert (body["amount"], body["amount_paise"]) == ("12.50", 1250)
    assert (body["from_user"], body["to_user"]) == (sender, receiver)
    assert (body["from_shard"] != body["to_shard"]) is cross
    assert (body["balance"], body["balance_paise"]) == ("987.50", 98750)
    assert (world.balance(sender), world.balance(receiver)) == (98750, 101250)
    location = made.headers["location"]
    assert location == f"/transfers/{body['payment_id']}"
    for reader in (sender, receiver):
        read = world.call("GET", location, reader)
        assert read.status_code == 200
        assert of_model(models.Transfer, read.json())["status"] == "COMPLETED"
        assert read.json()["balance"] is None


def test_the_same_by_json(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    body = {"from_user": sender, "to_user": receiver, "amount": "0.01"}
    made = world.call("POST", "/transfers", sender, json=body)
    assert (made.status_code, made.json()["amount_paise"]) == (201, 1)


@pytest.mark.parametrize("cross", [False, True])
def test_what_a_201_said_is_readable_at_once(world: World, cross: bool) -> None:
    sender, receiver = world.pair(cross)

    async def pay_and_read() -> str:
        made = await world.ask("POST", f"/transfer/{sender}/{receiver}/0.01", sender)
        assert made.status_code == 201
        read = await world.ask("GET", made.headers["location"], sender)
        return f"{read.status_code} {read.json().get('status')}"

    async def all_of_them() -> list[str]:
        seen: list[str] = []
        for _ in range(10):
            seen += await asyncio.gather(*(pay_and_read() for _ in range(50)))
        return seen

    assert world.run(all_of_them()) == ["200 COMPLETED"] * 500


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w, s, r: (s, r, "1000.01"), "insufficient_funds"),
        (lambda w, s, r: (s, f"nobody-{new_key()}", "1"), "unknown_receiver"),
    ],
)
def test_a_refusal_names_its_reason_and_its_payment(world: World, change: Any, code: str) -> None:
    for cross in (False, True):
        sender, receiver = world.pair(cross)
        key = new_key()
        refused = world.pay(*change(world, sender, receiver), key=key)
        said = problem(refused, 422, code)
        assert world.balance(sender) == 100_000
        read = world.call("GET", f"/transfers/{said['payment_id']}", sender).json()
        assert (read["status"], read["reason"]) == ("FAILED", code)
        again = world.pay(*change(world, sender, receiver), key=key)
        if code != "unknown_receiver":  # another nobody is another request
            assert problem(again, 422, code)["payment_id"] == said["payment_id"]


def test_who_has_no_account_cannot_pay(world: World) -> None:
    stranger, receiver = f"stranger-{new_key()}", world.user()
    problem(world.pay(stranger, receiver, "1"), 422, "unknown_sender")


def test_nobody_pays_themselves(world: World) -> None:
    user = world.user()
    problem(world.pay(user, user, "1"), 422, "same_account")


@pytest.mark.parametrize("amount", AMOUNTS)
def test_what_is_no_amount_is_refused_and_leaves_nothing(world: World, amount: str) -> None:
    sender, receiver = world.pair(cross=False)
    by_path = world.pay(sender, receiver, quote(amount, safe=""))
    problem(by_path, 422, "invalid_amount")
    body = {"from_user": sender, "to_user": receiver, "amount": amount}
    problem(world.call("POST", "/transfers", sender, json=body), 422, "invalid_amount")
    assert world.balance(sender) == 100_000


@pytest.mark.parametrize("amount", [1, 1.5, True, None, ["1"], {"rupees": "1"}, "1" * 300])
def test_an_amount_in_json_is_text(world: World, amount: Any) -> None:
    body = {"from_user": "a", "to_user": "b", "amount": amount}
    said = problem(world.call("POST", "/transfers", "a", json=body), 422, "invalid_request")
    assert said["errors"][0]["place"] == "body.amount"


@pytest.mark.parametrize(
    "body",
    [
        {"from_user": "a", "to_user": "b"},
        {"from_user": "a", "to_user": "b", "amount": "1", "currency": "USD"},
        {"from_user": "a", "to_user": "b", "amount": "1", "hold": "yes"},
        {"from_user": 1, "to_user": "b", "amount": "1"},
        [],
        "text",
        None,
    ],
)
def test_bodies_are_strict(world: World, body: Any) -> None:
    problem(world.call("POST", "/transfers", "a", json=body), 422, "invalid_request")


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b'{"amount":"1', b'{"from_user":"\\ud800"}'])
def test_what_is_no_json_is_refused(world: World, raw: bytes) -> None:
    headers = {"content-type": "application/json"}
    said = world.call("POST", "/transfers", "a", content=raw, headers=headers)
    assert said.status_code in (400, 422)
    assert said.headers["content-type"] == "application/problem+json"


# -- ids ------------------------------------------------------------------------------------------

IDS = [
    "a/b",
    "a%2Fb",
    "100%",
    "..%",
    "?q=1#f",
    "a b",
    "é" * 64,
    "用户",
    "𝔘" * 64,
    "a;b",
    "..",
    "\\",
]


@pytest.mark.parametrize("name", IDS)
def test_any_user_id_works_in_a_path(world: World, name: str) -> None:
    user = unicodedata.normalize("NFC", name)
    in_path = quote(user, safe="").replace(".", "%2E")
    other = world.user()
    made = world.call("POST", f"/create_account/{in_path}/50", "root", ACCOUNT_CREATE)
    assert (made.status_code, made.json()["user_id"]) == (201, user)
    body = {"from_user": user, "to_user": other, "amount": "1"}
    assert world.call("POST", "/transfers", user, json=body).status_code == 201
    if user != "..":  # clients themselves take such a segment out of a path, however encoded
        paid = world.call("POST", f"/transfer/{in_path}/{other}/1", user)
        assert paid.status_code == 201 and paid.json()["from_user"] == user
        account = world.call("GET", f"/accounts/{in_path}", user)
        assert account.json()["balance"] == "48.00"


@pytest.mark.parametrize(
    "name",
    ["x" * 65, "a\u0301" * 2, "a\x00b", "tab\t", "system:funding", "system:", "\u0085", "x" * 250],
)
def test_what_is_no_user_id_is_refused(world: World, name: str) -> None:
    user, in_path = world.user(), quote(name, safe="")
    for path in (f"/transfer/{user}/{in_path}/1", f"/transfer/{in_path}/{user}/1"):
        problem(world.call("POST", path, user, TRANSFER_ANY), 422, "invalid_user_id")
    body = {"from_user": user, "to_user": name, "amount": "1"}
    problem(world.call("POST", "/transfers", user, json=body), 422, "invalid_user_id")
    made = world.call("POST", f"/create_account/{in_path}/1", "root", ACCOUNT_CREATE)
    problem(made, 422, "invalid_user_id")
    problem(world.call("GET", f"/accounts/{in_path}", "root", ADMIN), 422, "invalid_user_id")
    assert world.balance(user) == 100_000


def test_a_path_that_is_no_utf8_is_refused(world: World) -> None:
    problem(world.call("GET", "/accounts/%FF%FE", "root", ADMIN), 400, "invalid_path")


def test_a_path_that_is_not_there(world: World) -> None:
    problem(world.call("GET", "/accounts", "root", ADMIN), 404, "not_found")
    problem(world.call("GET", "/transfers", "root", ADMIN), 405, "method_not_allowed")


# -- idempotency ----------------------------------------------------------------------------------


def test_a_repeat_with_the_same_key_answers_as_the_first(world: World) -> None:
    for cross in (False, True):
        sender, receiver = world.pair(cross)
        key = new_key()
        first = world.pay(sender, receiver, "5", key=key)
        again = world.pay(sender, receiver, "5.00", key=key)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json()["payment_id"] == first.json()["payment_id"]
        assert again.json()["repeated"] and world.balance(sender) == 99_500


def test_the_same_key_with_another_request_is_a_conflict(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    key = new_key()
    world.pay(sender, receiver, "5", key=key)
    problem(world.pay(sender, receiver, "6", key=key), 409, "idempotency_conflict")
    problem(world.pay(sender, world.user(), "5", key=key), 409, "idempotency_conflict")
    assert world.balance(sender) == 99_500


def test_a_key_is_its_callers_own(world: World) -> None:
    sender, receiver = world.pair(cross=False)
    key = new_key()
    path = f"/transfer/{sender}/{receiver}/5"
    own = world.call("POST", path, sender, key=key)
    others = world.call("POST", path, "till", TRANSFER_ANY, key=key)
    assert (own.status_code, others.status_code) == (201, 201)
    assert own.json()["payment_id"] != others.json()["payment_id"]


@pytest.mark.parametrize("cross", [False, True])
def test_fifty_at_once_with_one_key_make_one_payment(world: World, cross: bool) -> None:
    sender, receiver = world.pair(cross)
    key = new_key()

    async def at_once() -> list[Any]:
        path = f"/transfer/{sender}/{receiver}/7"
        return await asyncio.gather(*(world.ask("POST", path, sender, key=key) for _ in range(50)))

    answers = world.run(at_once())
    assert len({answer.json()["payment_id"] for answer in answers}) == 1
    # A repeat that overtakes the first across shards may see it on its way.
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    assert sum(answer.status_code == 201 for answer in answers) <= 1
    until(lambda: world.balance(receiver) == 100_700)
    assert world.balance(sender) == 99_300


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é"])
def test_what_is_no_key_is_refused(world: World, key: str) -> None:
    sender, receiver = world.pair(cross=False)
    said = world.call(
        "POST", f"/transfer/{sender}/{receiver}/1", sender,
        headers={"Idempotency-Key": key.encode("latin-1")},  # type: ignore[dict-item]
    )  # fmt: skip
    problem(said, 422, "invalid_request")
    assert world.balance(sender) == 100_000


# -- bulk -----------------------------------------------------------------------------------------


def test_a_bulk_has_an_outcome_for_each(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    near = world.user(shard=0)
    key = new_key()
    items = [
        item(sender, receiver, "1"),
        item(sender, near, "2", idempotency_key=key),
        item(sender, near, "2", idempotency_key=key),
        item(sender, near, "3", idempotency_key=key),
        item(sender, near, "1e3"),
        item(sender, "system:funding", "1"),
        item(receiver, sender, "1"),
        item(sender, sender, "1"),
        item(sender, "nobody-" + key, "1"),
        item(sender, near, "1000000"),
        item(sender, near, "4", hold=True),
    ]
    said = world.call("POST", "/transfers/bulk", sender, json={"transfers": items})
    assert said.status_code == 200
    outcomes = of_model(models.BulkAnswer, said.json())["outcomes"]
    assert [each["status_code"] for each in outcomes] == [
        201, 201, 200, 409, 422, 422, 403, 422, 422, 422, 201,
    ]  # fmt: skip
    codes = [each.get("problem", {}).get("code") for each in outcomes]
    assert codes == [
        None, None, None, "idempotency_conflict", "invalid_amount", "invalid_user_id", "forbidden",
        "same_account", "unknown_receiver", "insufficient_funds", None,
    ]  # fmt: skip
    assert outcomes[-1]["transfer"]["status"] == "HELD"
    until(lambda: world.balance(sender) == 100_000 - 300)


def test_a_whole_bulk_may_be_repeated(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    body = {"transfers": [item(sender, receiver, "0.01") for _ in range(BULK_MAX)]}
    key = new_key()
    first = world.call("POST", "/transfers/bulk", sender, json=body, key=key).json()["outcomes"]
    assert [each["status_code"] for each in first] == [201] * BULK_MAX
    again = world.call("POST", "/transfers/bulk", sender, json=body, key=key).json()["outcomes"]
    assert {each["status_code"] for each in again} == {200}
    ids = [each["transfer"]["payment_id"] for each in first]
    assert len(set(ids)) == BULK_MAX
    assert ids == [each["transfer"]["payment_id"] for each in again]
    assert world.balance(sender) == 100_000 - BULK_MAX


@pytest.mark.parametrize("count", [0, BULK_MAX + 1])
def test_a_bulk_has_bounds(world: World, count: int) -> None:
    body = {"transfers": [item("a", "b", "1")] * count}
    problem(world.call("POST", "/transfers/bulk", "a", json=body), 422, "invalid_request")


def test_a_bulk_is_strict(world: World) -> None:
    body = {"transfers": [item("a", "b", "1", note="hello")]}
    problem(world.call("POST", "/transfers/bulk", "a", json=body), 422, "invalid_request")
