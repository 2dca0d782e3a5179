"""Reviews and blocks end to end, over HTTP: through both services, both gates, real decisions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from paytm_lab.core.events import EventType, Topic, unwrap
from paytm_lab.ledger.as_of import net_of_account
from paytm_lab.ledger.schema import RECEIVABLE_ID
from paytm_lab.web.scopes import REVIEW
from tests.services.fraud_world import CLERK, FraudWorld
from tests.services.world import new_key, problem
from tests.waiting import until

REFUND_S_MAX = 2.0


@pytest.fixture(scope="module")
def after(profile: str) -> Iterator[FraudWorld]:
    with FraudWorld(profile=profile, shards=2, fraud_gate="after") as made:
        yield made
        made.lab.drain()
        made.lab.audit().require_clean()


@pytest.fixture(scope="module")
def before(profile: str) -> Iterator[FraudWorld]:
    with FraudWorld(profile=profile, shards=2, fraud_gate="before") as made:
        yield made
        made.lab.drain()
        made.lab.audit().require_clean()


def events(world: FraudWorld, payment: str) -> Counter[str]:
    """Types of all events of a payment in the log, payment and fraud events."""
    found = (
        unwrap(record.value)
        for record in world.lab.system.all_records()
        if record.topic in (Topic.PAYMENT, Topic.FRAUD)
    )
    return Counter(event.type for event in found if event.subject == payment)


def review_of(world: FraudWorld, payment: str) -> str | None:
    said = world.fraud("GET", f"/decisions/{payment}", *CLERK)
    assert said.status_code == 200, said.text
    review: str | None = said.json()["review"]
    return review


def receivable(world: FraudWorld) -> int:
    """What the system's receivable stands at, in paise, over all shards."""
    total = 0
    for database in world.lab.system.databases.values():
        with database.read() as connection:
            total += net_of_account(connection, RECEIVABLE_ID, None)
    return total


def paid(world: FraudWorld, sender: str, receiver: str, amount: str) -> str:
    said = world.pay(sender, receiver, amount, key=new_key())
    assert said.status_code == 201, said.text
    return str(said.json()["payment_id"])


# -- after -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cross", [True, False], ids=["cross", "same"])
def test_a_large_payment_is_reviewed_and_refunded_within_two_seconds(
    after: FraudWorld, cross: bool
) -> None:
    sender, receiver = after.pair(cross, opening="20000")
    payment = paid(after, sender, receiver, "7000")
    until(lambda: review_of(after, payment) == "open")
    open_ = after.call("GET", "/reviews", *CLERK).json()["reviews"]
    assert [r["rule"] for r in open_ if r["payment_id"] == payment] == ["amount"]
    said = after.call("POST", f"/reviews/{payment}/reject", *CLERK).json()
    refund = said["transfer"]
    assert (said["review"], refund["kind"], refund["refund_of"]) == ("rejected", "refund", payment)
    took_s = until(lambda: after.balance(sender) == 2_000_000)
    assert took_s < REFUND_S_MAX
    assert after.balance(receiver) == 2_000_000
    assert review_of(after, payment) == "rejected"
    # The payment itself stays what it was.
    assert after.call("GET", f"/transfers/{payment}", sender).json()["status"] == "COMPLETED"
    until(lambda: events(after, payment)[EventType.MANUAL_REVIEW_REQUIRED] == 1)
    assert events(after, payment) == {
        "PaymentInitiated": 1, "PaymentCompleted": 1, "FraudScoreCalculated": 1,
        "ManualReviewRequired": 1,
    }  # fmt: skip


def test_one_paisa_less_is_not_reviewed(after: FraudWorld) -> None:
    sender, receiver = after.pair(cross=True, opening="20000")
    payment = paid(after, sender, receiver, "6999.99")
    path = f"/decisions/{payment}"
    until(lambda: after.fraud("GET", path, *CLERK).json()["decision"] == "allow")
    after.lab.drain()
    assert review_of(after, payment) is None
    problem(after.call("POST", f"/reviews/{payment}/reject", *CLERK), 404, "not_found")


def test_a_receiver_that_has_spent_it_is_paid_for_by_the_receivable(after: FraudWorld) -> None:
    sender, receiver = after.pair(cross=True, opening="20000")
    third = after.user(opening="0")
    payment = paid(after, sender, receiver, "9000")
    paid(after, receiver, third, "6000")
    paid(after, receiver, third, "6000")
    paid(after, receiver, third, "6000")
    paid(after, receiver, third, "6000")
    assert after.balance(receiver) == 500_000
    until(lambda: review_of(after, payment) == "open")
    before = receivable(after)
    assert after.call("POST", f"/reviews/{payment}/reject", *CLERK).status_code == 200
    assert until(lambda: after.balance(sender) == 2_000_000) < REFUND_S_MAX
    assert after.balance(receiver) == 0
    assert receivable(after) - before == -400_000


def test_an_approved_payment_stands(after: FraudWorld) -> None:
    sender, receiver = after.pair(cross=True, opening="20000")
    payment = paid(after, sender, receiver, "7000")
    until(lambda: review_of(after, payment) == "open")
    for _ in range(2):
        said = after.call("POST", f"/reviews/{payment}/approve", *CLERK).json()
        assert (said["review"], said["transfer"]["status"]) == ("approved", "COMPLETED")
    late = after.call("POST", f"/reviews/{payment}/reject", *CLERK)
    problem(late, 409, "conflict")
    assert after.balance(receiver) == 2_700_000


def test_too_many_payments_block_their_sender(after: FraudWorld) -> None:
    sender, receiver = after.pair(cross=True, opening="20000")
    limit = after.rules()["rules"]["velocity_limit"]
    assert after.change(velocity_limit=3).status_code == 200
    try:
        payments = [paid(after, sender, receiver, "1") for _ in range(3)]
        after.lab.drain()
        last = paid(after, sender, receiver, "1")
        until(lambda: after.fraud("GET", f"/decisions/{last}", *CLERK).json()["decision"])
        said = after.fraud("GET", f"/decisions/{last}", *CLERK).json()
        assert (said["decision"], said["rule"]) == ("block", "velocity")
        assert said["facts"]["velocity_count"] == 4
        assert said["rules_version"] == after.rules()["version"]
        path = f"/accounts/{sender}"
        until(lambda: after.call("GET", path, sender).json()["state"] == "frozen")
        refused = problem(after.pay(sender, receiver, "1"), 422, "sender_frozen")
        until(lambda: events(after, last)[EventType.TRANSACTION_BLOCKED] == 1)
        assert events(after, payments[2])[EventType.TRANSACTION_BLOCKED] == 0
        until(lambda: events(after, refused["payment_id"])["PaymentFailed"] == 1)
        flagged = after.fraud("GET", f"/decisions?user={sender}", *CLERK).json()["flagged"]
        assert [each["payment_id"] for each in flagged] == [last]
        # The ledger froze the account and told the list: who did, the list's trail says.
        until(lambda: after.fraud("GET", f"/lists/frozen/users/{sender}", *CLERK).json()["listed"])
        trail = after.fraud("GET", f"/lists/frozen/users/{sender}", *CLERK).json()["changes"]
        assert [(each["changed_by"], each["reason"], each["was"]) for each in trail] == [
            ("system:ledger", "blocked", False)
        ]
        assert (
            after.score({"from_user": sender, "to_user": receiver, "amount": "1"})[0]["rule"]
            == "frozen_user"
        )
    finally:
        assert after.change(velocity_limit=limit).status_code == 200


# -- before ----------------------------------------------------------------------------------------


def held(world: FraudWorld, sender: str, receiver: str) -> str:
    said = world.pay(sender, receiver, "7000", key=new_key())
    assert (said.status_code, said.json()["status"]) == (202, "HELD")
    return str(said.json()["payment_id"])


def test_what_a_gate_holds_is_captured_when_approved(before: FraudWorld) -> None:
    sender, receiver = before.pair(cross=True, opening="20000")
    payment = held(before, sender, receiver)
    seen = before.fraud("GET", f"/decisions/{payment}", *CLERK).json()
    assert (seen["decision"], seen["gate"], seen["rule"], seen["review"]) == (
        "review", "before", "amount", "open",
    )  # fmt: skip
    assert before.balance(sender) == 2_000_000
    said = before.call("POST", f"/reviews/{payment}/approve", *CLERK).json()
    assert (said["review"], said["transfer"]["status"]) == ("approved", "COMPLETED")
    assert until(lambda: before.balance(receiver) == 2_700_000) < REFUND_S_MAX
    until(lambda: events(before, payment)["FraudScoreCalculated"] == 1)
    assert events(before, payment)["PaymentCompleted"] == 1
    until(lambda: before.fraud("GET", f"/decisions/{payment}", *CLERK).json()["decided_at"])
    now = before.fraud("GET", f"/decisions/{payment}", *CLERK).json()
    assert (now["decision"], now["gate"], now["review"]) == ("review", "before", "approved")


def test_what_a_gate_holds_is_released_when_rejected(before: FraudWorld) -> None:
    sender, receiver = before.pair(cross=False, opening="20000")
    payment = held(before, sender, receiver)
    assert before.call("GET", f"/accounts/{sender}", sender).json()["available"] == "13000.00"
    said = before.call("POST", f"/reviews/{payment}/reject", *CLERK).json()
    assert said["transfer"]["status"] == "CANCELLED"
    assert before.call("GET", f"/accounts/{sender}", sender).json()["available"] == "20000.00"
    until(lambda: events(before, payment)["PaymentCancelled"] == 1)
    assert events(before, payment)["PaymentCompleted"] == 0
    assert review_of(before, payment) == "rejected"


def test_a_gate_refuses_past_the_limit_exactly(before: FraudWorld) -> None:
    sender, receiver = before.pair(cross=True, opening="20000")
    limit = before.rules()["rules"]["velocity_limit"]
    assert before.change(velocity_limit=3).status_code == 200
    try:
        item = {"from_user": sender, "to_user": receiver, "amount": "1"}
        bulk = {"transfers": [item] * 8}
        said = before.call("POST", "/transfers/bulk", sender, json=bulk).json()["outcomes"]
        assert Counter(each["status_code"] for each in said) == {201: 3, 422: 5}
        assert {each["problem"]["code"] for each in said if "problem" in each} == {"fraud_blocked"}
        assert before.score(item)[0]["rule"] == "velocity"
    finally:
        assert before.change(velocity_limit=limit).status_code == 200
    # The rules changed for the gate that was running all the while.
    assert before.pay(sender, receiver, "1").status_code == 201


def test_nobody_decides_about_their_own_payment(before: FraudWorld) -> None:
    sender, receiver = before.pair(cross=True, opening="20000")
    payment = held(before, sender, receiver)
    for user in (sender, receiver):
        said = before.call("POST", f"/reviews/{payment}/approve", user, REVIEW)
        problem(said, 403, "forbidden")


def test_a_rejection_is_once_however_often_it_is_asked(after: FraudWorld) -> None:
    sender, receiver = after.pair(cross=True, opening="20000")
    payment = paid(after, sender, receiver, "7000")
    until(lambda: review_of(after, payment) == "open")
    said = [after.call("POST", f"/reviews/{payment}/reject", *CLERK) for _ in range(3)]
    assert {each.json()["transfer"]["payment_id"] for each in said} == {
        said[0].json()["transfer"]["payment_id"]
    }
    assert after.balance(sender) == 2_000_000


@pytest.mark.parametrize("gate", ["after", "before"])
def test_of_approving_and_rejecting_at_once_one_happens(
    after: FraudWorld, before: FraudWorld, gate: str
) -> None:
    world = {"after": after, "before": before}[gate]
    for _ in range(5):
        sender, receiver = world.pair(cross=True, opening="20000")
        if gate == "before":
            payment = held(world, sender, receiver)
        else:
            payment = paid(world, sender, receiver, "7000")
        until(partial(is_open, world, payment))

        async def race(payment: str = payment) -> list[tuple[str, int]]:
            words = ["approve", "reject"] * 4
            said = await asyncio.gather(
                *(world.ask("POST", f"/reviews/{payment}/{word}", *CLERK) for word in words)
            )
            return [(w, each.status_code) for w, each in zip(words, said, strict=True)]

        said = set(world.run(race()))
        assert said in (
            {("approve", 200), ("reject", 409)}, {("approve", 409), ("reject", 200)},
        )  # fmt: skip
        made = 700_000 if ("approve", 200) in said else 0
        until(partial(stands_at, world, receiver, 2_000_000 + made))
        assert world.balance(sender) == 2_000_000 - made
        assert review_of(world, payment) == ("approved" if made else "rejected")


def is_open(world: FraudWorld, payment: str) -> bool:
    return review_of(world, payment) == "open"


def stands_at(world: FraudWorld, user: str, paise: int) -> bool:
    return world.balance(user) == paise


def test_a_frozen_receiver_gives_back_what_it_got(after: FraudWorld) -> None:
    sender, receiver = after.pair(cross=True, opening="20000")
    payment = paid(after, sender, receiver, "7000")
    until(lambda: is_open(after, payment))
    body = {"credits_too": True}
    assert after.call("POST", f"/accounts/{receiver}/freeze", *CLERK, json=body).status_code == 200
    assert after.call("POST", f"/reviews/{payment}/reject", *CLERK).status_code == 200
    assert until(lambda: after.balance(sender) == 2_000_000) < REFUND_S_MAX
    assert after.balance(receiver) == 2_000_000


def test_an_approval_waits_for_a_sender_that_is_frozen(before: FraudWorld) -> None:
    sender, receiver = before.pair(cross=True, opening="20000")
    payment = held(before, sender, receiver)
    assert before.call("POST", f"/accounts/{sender}/freeze", *CLERK).status_code == 200
    said = before.call("POST", f"/reviews/{payment}/approve", *CLERK).json()
    assert (said["transfer"]["status"], before.balance(receiver)) == ("HELD", 2_000_000)
    assert before.call("POST", f"/accounts/{sender}/unfreeze", *CLERK).status_code == 200
    said = before.call("POST", f"/reviews/{payment}/approve", *CLERK).json()
    assert said["transfer"]["status"] == "COMPLETED"
    until(lambda: before.balance(receiver) == 2_700_000)


# -- without the scorer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scorer_down", "status", "state"),
    [("review", 202, "HELD"), ("allow", 201, "COMPLETED"), ("refuse", 422, None)],
)
def test_a_gate_without_its_scorer_does_as_set_and_says_so(
    tmp_path: Path, scorer_down: str, status: int, state: str | None
) -> None:
    settings = {"fraud_gate": "before", "scorer_down": scorer_down, "shards": 2}
    with FraudWorld(data=tmp_path / "lab", **settings) as world:
        sender, receiver = world.pair(cross=True, opening="20000")
        assert world.pay(sender, receiver, "1").status_code == 201
        # The scorer alone fails: what moves money must still know its sessions.
        world.lab.system.models.register("broken", lambda inputs: [], block_score=0.9)
        world.lab.system.models.activate("broken")
        said = world.pay(sender, receiver, "1")
        assert said.status_code == status, said.text
        assert said.json().get("status") == (state or 422)
        ready = world.call("GET", "/ready")
        part = ready.json()["parts"]["scorer"]
        assert (ready.status_code, part["state"]) == (503, "down")
        assert f"meanwhile: {scorer_down}" in part["detail"] and "1 payment" in part["detail"]
        name = "paytm_lab_fraud_scorer_down_total"
        assert (
            f'{name}{{did="{scorer_down}",gate="before"}} 1.0' in world.call("GET", "/metrics").text
        )
        problem(
            world.fraud(
                "POST", "/score", *CLERK,
                json={"from_user": sender, "to_user": receiver, "amount": "1"},
            ),
            503, "unavailable",
        )  # fmt: skip
        world.lab.system.models.activate(None)
        assert world.call("GET", "/ready").status_code == 200
        assert world.pay(sender, receiver, "1").status_code == 201


def test_payments_scored_after_posting_wait_for_no_scorer(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        sender, receiver = world.pair(cross=True, opening="20000")
        world.bearer(*CLERK[:1], CLERK[1:])
        with world.lab.fault("cache", "gone"):
            # Within a second nobody knows yet that sessions cannot be checked.
            payment = world.lab.transfer(sender, receiver, "1").payment
            path = f"/decisions/{payment}"
            until(lambda: world.fraud("GET", path, *CLERK).json()["decision"] == "review")
            asked = {"from_user": sender, "to_user": receiver, "amount": "1"}
            said = problem(world.fraud("POST", "/score", *CLERK, json=asked), 503, "unavailable")
            assert "cache" in str(said)
            ready = world.fraud("GET", "/ready").json()["parts"]["scorer"]
            assert ready["state"] == "down" and "meanwhile: review" in ready["detail"]
        said = world.fraud("GET", f"/decisions/{payment}", *CLERK).json()
        assert (said["rule"], said["facts"]["velocity_count"]) == ("scorer_down", None)
        assert 'scorer_down_total{did="review",gate="after"} 1.0' in world.metrics_of_fraud()
        until(lambda: world.fraud("GET", "/ready").status_code == 200)
