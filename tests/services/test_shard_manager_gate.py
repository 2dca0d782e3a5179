"""Payments behind the fraud gate `before`: held for a review, refused, let through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from paytm_lab.core.fraud import Candidate, Verdict
from paytm_lab.fraud.lists import MULE
from paytm_lab.web.scopes import REVIEW
from tests.services.world import World, item, new_key, problem
from tests.waiting import until


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    with World(profile=profile, shards=2, fraud_gate="before") as made:
        yield made
        made.lab.audit().require_clean()


def held(world: World, sender: str, receiver: str, key: str = "") -> str:
    """A payment large enough for a review."""
    said = world.pay(sender, receiver, "9000", key=key or new_key())
    body = said.json()
    assert (said.status_code, body["status"], body["fraud_decision"]) == (202, "HELD", "review")
    assert body["fraud_score"] == 0.9
    return str(body["payment_id"])


def test_a_small_payment_passes(world: World) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    said = world.pay(sender, receiver, "10")
    assert (said.status_code, said.json()["fraud_decision"]) == (201, "allow")


def test_an_approved_payment_is_made(world: World) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    key = new_key()
    payment = held(world, sender, receiver, key)
    account = world.call("GET", f"/accounts/{sender}", sender).json()
    assert (account["balance"], account["available"]) == ("20000.00", "11000.00")
    # Whose payment it is cannot let it pass.
    early = world.call("POST", f"/transfers/{payment}/capture", sender)
    assert (early.json()["status"], early.json()["reason"]) == ("HELD", "under_review")
    said = world.call("POST", f"/reviews/{payment}/approve", "clerk", REVIEW).json()
    assert (said["review"], said["transfer"]["status"]) == ("approved", "COMPLETED")
    until(lambda: world.balance(receiver) == 2_900_000)
    again = world.pay(sender, receiver, "9000", key=key)
    assert (again.status_code, again.json()["payment_id"]) == (200, payment)


def test_a_rejected_payment_was_never_made(world: World) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    payment = held(world, sender, receiver)
    said = world.call("POST", f"/reviews/{payment}/reject", "clerk", REVIEW).json()
    assert (said["transfer"]["status"], said["transfer"]["reason"]) == ("CANCELLED", "rejected")
    account = world.call("GET", f"/accounts/{sender}", sender).json()
    assert account["available"] == "20000.00"


def test_the_receiver_sees_the_payment_and_not_what_was_thought_of_it(world: World) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    payment = held(world, sender, receiver)
    seen = world.call("GET", f"/transfers/{payment}", receiver).json()
    assert (seen["status"], seen["fraud_decision"], seen["fraud_score"]) == ("HELD", "", None)
    own = world.call("GET", f"/transfers/{payment}", sender).json()
    assert own["fraud_decision"] == "review"


def test_a_blocked_payment_is_refused_alone_and_in_a_bulk(world: World) -> None:
    sender, mule = world.pair(cross=True, opening="20000")
    world.lab.system.fraud_lists.add(MULE, [mule])
    said = problem(world.pay(sender, mule, "1"), 422, "fraud_blocked")
    read = world.call("GET", f"/transfers/{said['payment_id']}", sender).json()
    assert (read["status"], read["reason"]) == ("FAILED", "fraud_blocked")
    honest = world.user()
    items = [item(sender, mule, "1"), item(sender, honest, "1"), item(sender, honest, "9000")]
    bulk = world.call("POST", "/transfers/bulk", sender, json={"transfers": items}).json()
    assert [each["status_code"] for each in bulk["outcomes"]] == [422, 201, 202]


def test_a_bulk_is_asked_about_in_one_question(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    scorer, rounds = world.lab.system.scorer, []
    decide = scorer.decide

    def counted(candidates: Sequence[Candidate]) -> list[Verdict]:
        rounds.append(len(candidates))
        return decide(candidates)

    monkeypatch.setattr(scorer, "decide", counted)
    items = [item(sender, receiver, "1", idempotency_key=f"b{n}") for n in range(20)]
    items[3] = item(sender, receiver, "9000")
    items[4] = item(sender, sender, "1")
    said = world.call("POST", "/transfers/bulk", sender, json={"transfers": items}).json()
    codes = [each["status_code"] for each in said["outcomes"]]
    assert codes == [201] * 3 + [202, 422] + [201] * 15
    assert rounds == [19]
    again = world.call("POST", "/transfers/bulk", sender, json={"transfers": items[:3]}).json()
    assert [each["status_code"] for each in again["outcomes"]] == [200] * 3
    assert rounds == [19], "known keys are answered unasked"


def test_without_the_scorer_a_payment_is_held(world: World) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    world.bearer(sender)
    world.pay(sender, receiver, "1")
    with world.lab.fault("cache", "gone"):
        said = world.pay(sender, receiver, "1")
        # Within a second nobody knows yet that sessions cannot be checked.
        assert said.status_code in (202, 503)
        if said.status_code == 202:
            assert said.json()["status"] == "HELD"
        until(lambda: world.pay(sender, receiver, "1").status_code == 503)
    until(lambda: world.pay(sender, receiver, "1").status_code == 201)
