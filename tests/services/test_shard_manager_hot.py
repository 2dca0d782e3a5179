"""The short way of a payment answers as the framework's does, and what is well-formed takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from paytm_lab.shard_manager.service_common import Service
from paytm_lab.shard_manager.service_hot import HotTransfer
from paytm_lab.web.callers import Callers
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.scopes import REVIEW, TRANSFER_ANY, TRANSFER_OWN
from tests.services.world import AMOUNTS, World, new_key

CHANGING = ("payment_id", "asked_at", "balance", "balance_paise")


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    with World(profile=profile, shards=2, fraud_gate="off") as made:
        yield made


def said(answer: httpx.Response) -> tuple[int, dict[str, Any], set[str]]:
    """What must not hang on the way taken."""
    body = {k: v for k, v in answer.json().items() if k not in CHANGING}
    headers = set(answer.headers) | {answer.headers["content-type"]}
    return answer.status_code, body, headers


def both(world: World, path: str, user: str, *scopes: str, **headers: str) -> list[Any]:
    """Asked the short way, and with the scheme's name in small letters, which only the framework
    reads. Where a token was seen before is said by asking twice.
    """
    answers = []
    token = world.bearer(user, scopes or (TRANSFER_OWN,))["Authorization"].removeprefix("Bearer ")
    for scheme in ("Bearer", "Bearer", "bearer"):
        keyed = {name: value.replace("KEY", new_key()) for name, value in headers.items()}
        keyed["Authorization"] = f"{scheme} {token}"
        answers.append(said(world.call("POST", path, headers=keyed)))
    return answers


@pytest.mark.parametrize("amount", [*AMOUNTS, "1", "0.01", "12.50", "9" * 14, "1%2E5", "a%2Fb"])
def test_amounts(world: World, amount: str) -> None:
    sender, receiver = world.pair(cross=True)
    path = f"/transfer/{sender}/{receiver}/{amount if '%' in amount else quote(amount, safe='')}"
    first, second, slow = both(world, path, sender)
    assert first == second == slow


@pytest.mark.parametrize(
    "receiver",
    [
        "nobody",
        "a/b",
        "..",
        "%2F",
        "%",
        "é",
        "e\u0301",
        "\u202e",
        "ಅ" * 64,
        "x" * 65,
        "system:funding",
    ],
)
def test_ids(world: World, receiver: str) -> None:
    sender = world.user()
    path = f"/transfer/{sender}/{quote(receiver, safe='')}/1"
    first, second, slow = both(world, path, sender)
    assert first == second == slow


@pytest.mark.parametrize(
    "key", ["KEY", "", " ", "x" * 255, "x" * 256, "tab\there", "a b", "~", "KEY\u00e9"]
)
def test_keys(world: World, key: str) -> None:
    sender, receiver = world.pair(cross=False)
    answers = []
    token = world.bearer(sender)["Authorization"].removeprefix("Bearer ")
    for scheme in ("Bearer", "bearer"):
        payer = key.replace("KEY", new_key()).encode("latin-1")
        headers = [(b"authorization", f"{scheme} {token}".encode()), (b"idempotency-key", payer)]
        path = f"/transfer/{sender}/{receiver}/1"
        answer = world.run(world.client.request("POST", path, headers=headers))
        again = world.run(world.client.request("POST", path, headers=headers))
        answers.append((said(answer), said(again)))
        if 0 < len(payer) <= 255 and payer != b" " and answer.status_code == 201:
            assert again.status_code == 200
            assert again.json()["payment_id"] == answer.json()["payment_id"]
            sender, receiver = receiver, sender  # the other way's key is of another scope
            token = world.bearer(sender)["Authorization"].removeprefix("Bearer ")
    for ways in zip(*answers, strict=True):
        assert len({status for status, _, _ in ways}) == 1
        assert len({body.get("code") for _, body, _ in ways}) == 1


@pytest.mark.parametrize("scopes", [(TRANSFER_OWN,), (TRANSFER_ANY,), (REVIEW,)])
def test_who_may_pay_for_whom(world: World, scopes: tuple[str, ...]) -> None:
    sender, receiver = world.pair(cross=True)
    for payer in (sender, receiver):
        first, second, slow = both(world, f"/transfer/{sender}/{receiver}/1", payer, *scopes)
        assert first == second == slow


def test_what_is_well_formed_never_meets_the_framework(world: World) -> None:
    reached: list[str] = []

    async def framework(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    pool = BoundedPool("tokens", 1, 8)
    service = Service(world.parts, Callers(world.checker, pool), world.lab.settings)
    transport = httpx.ASGITransport(HotTransfer(framework, service))
    sender, receiver = world.pair(cross=True)
    world.pay(sender, receiver, "1")  # its token is known from here on

    async def ask(method: str, path: str, **headers: str) -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            sent = world.bearer(sender) | headers
            return (await client.request(method, path, headers=sent)).status_code

    try:
        path = f"/transfer/{sender}/{receiver}/1"
        assert world.run(ask("POST", path)) == 201 and not reached
        for method, other, headers in (
            ("GET", path, {}),
            ("POST", path + "/", {}),
            ("POST", f"/transfer/{sender}/{receiver}/", {}),
            ("POST", path, {"Authorization": "Bearer unseen"}),
            ("POST", path, {"Idempotency-Key": "x" * 256}),
            ("POST", path, {"Content-Length": "1"}),
            ("POST", path + "?hold=true", {}),
        ):
            reached.clear()
            assert world.run(ask(method, other, **headers)) == 418
            assert len(reached) == 1
    finally:
        service.close()
        pool.close()


def test_a_parameter_that_there_is_not_is_refused_either_way(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    first, second, slow = both(world, f"/transfer/{sender}/{receiver}/1?hold=true", sender)
    assert first == second == slow
    assert (first[0], first[1]["code"]) == (422, "invalid_request")
    assert world.balance(receiver) == 100_000
