"""The fraud service: scores of payments that nobody makes, decisions of those that were made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.core.ids import payment_id_text
from paytm_lab.fraud import models
from paytm_lab.fraud.lists import MULE
from paytm_lab.fraud.scorer import velocity_key
from paytm_lab.fraud.tables import FEATURES
from tests.services.fraud_world import CLERK, FraudWorld
from tests.services.world import AMOUNTS, item, new_key, of_model, problem
from tests.waiting import until


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[FraudWorld]:
    with FraudWorld(profile=profile, shards=2, fraud_gate="after") as made:
        yield made
        made.lab.drain()
        made.lab.audit().require_clean()


def decided(world: FraudWorld, payment: str) -> dict[str, Any]:
    """What a reviewer is told, once it is scored."""
    path = f"/decisions/{payment}"
    until(lambda: world.fraud("GET", path, *CLERK).json()["decided_at"])
    said = world.fraud("GET", path, *CLERK).json()
    return dict(of_model(models.Decision, said))


# -- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "score", "decision"),
    [
        ("0.01", 0.000001, "allow"),
        ("6999.99", 0.699999, "allow"),
        ("7000", 0.7, "review"),
        ("10000", 1.0, "review"),
        ("90071992547409.91", 1.0, "review"),
    ],
)
def test_the_default_rule(world: FraudWorld, amount: str, score: float, decision: str) -> None:
    said = world.fraud("POST", "/score", *CLERK, json=item("scored-a", "scored-b", amount))
    assert said.status_code == 200
    (one,) = of_model(models.Scores, said.json())["scores"]
    assert (one["score"], one["decision"], one["rule"]) == (score, decision, "amount")
    assert [each["rule"] for each in one["explanation"] if each["decided"]] == ["amount"]
    assert [each["rule"] for each in one["explanation"]] == [
        "frozen_user", "known_mule", "velocity", "model", "amount",
    ]  # fmt: skip


def test_scoring_posts_nothing_and_counts_nothing(world: FraudWorld) -> None:
    sender, receiver = world.pair(cross=True)
    cache, wide = world.lab.system.cache, world.lab.system.wide
    scored, balance = wide.count(FEATURES), world.balance(sender)
    many = [item(sender, receiver, "1")] * 500
    said = world.score(*many)
    assert len(said) == 500
    # Each as if it alone were made: forty of them are no forty payments.
    assert {each["decision"] for each in said} == {"allow"}
    assert {each["facts"]["velocity_count"] for each in said} == {1}
    assert cache.arrivals(velocity_key(sender), 0) == []
    assert cache.get(f"fraud:score:{sender}") is None
    world.lab.drain()
    assert (wide.count(FEATURES), world.balance(sender)) == (scored, balance)


def test_what_was_paid_counts(world: FraudWorld) -> None:
    sender, receiver = world.pair(cross=True)
    for number in range(3):
        payment = world.pay(sender, receiver, "1", key=new_key()).json()["payment_id"]
        decided(world, payment)
        (one,) = world.score(item(sender, receiver, "1"))
        assert one["facts"]["velocity_count"] == number + 2
    before = world.rules()
    assert world.change(velocity_limit=3).status_code == 200
    (one,) = world.score(item(sender, receiver, "9000"))
    assert (one["decision"], one["rule"], one["score"]) == ("block", "velocity", 0.9)
    said = {each["rule"]: each["said"] for each in one["explanation"]}
    assert said == {
        "frozen_user": "allow", "known_mule": "allow", "velocity": "block", "model": None,
        "amount": "review",
    }  # fmt: skip
    restored = world.change(velocity_limit=before["rules"]["velocity_limit"])
    assert restored.json()["rules"] == before["rules"]


def test_the_order_of_answers_is_the_order_of_the_request(world: FraudWorld) -> None:
    world.lab.system.fraud_lists.add(MULE, ["order-mule"])
    asked = [item("o-1", "o-2", "9000"), item("o-1", "order-mule", "1"), item("o-3", "o-2", "5")]
    said = world.score(*asked)
    assert [(each["from_user"], each["to_user"]) for each in said] == [
        (each["from_user"], each["to_user"]) for each in asked
    ]
    assert [each["rule"] for each in said] == ["amount", "known_mule", "amount"]
    assert [each["decision"] for each in said] == ["review", "block", "allow"]
    assert said[1]["facts"]["known_mule"] is True


def test_a_trained_model_is_asked_too(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        registry = world.lab.system.models
        registry.register(
            "night-1",
            lambda inputs: [0.95 if each.velocity_count > 1 else 0.6 for each in inputs],
            block_score=0.9,
            review_score=0.5,
        )
        registry.activate("night-1")
        assert world.rules()["model"] == {
            "name": "night-1", "block_score": 0.9, "review_score": 0.5,
        }  # fmt: skip
        sender, receiver = world.pair(cross=True)
        (one,) = world.score(item(sender, receiver, "1"))
        assert (one["decision"], one["rule"], one["model"]) == ("review", "model", "night-1")
        decided(world, world.pay(sender, receiver, "1").json()["payment_id"])
        (one,) = world.score(item(sender, receiver, "1"))
        assert (one["decision"], one["rule"], one["score"]) == ("block", "model", 0.95)


@pytest.mark.parametrize("amount", [*AMOUNTS, ""])
def test_what_is_no_amount_is_not_scored(world: FraudWorld, amount: str) -> None:
    said = problem(
        world.fraud("POST", "/score", *CLERK, json=item("a", "b", amount)), 422, "invalid_amount"
    )
    assert said["place"] == "payments.0"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "invalid_request"),
        ("a", "invalid_request"),
        (None, "invalid_request"),
        ({}, "invalid_request"),
        ({"payments": []}, "invalid_request"),
        ({"payments": [item("a", "b", "1")] * 501}, "invalid_request"),
        ({"payments": [item("a", "b", "1")], "more": 1}, "invalid_request"),
        ({"payments": {"from_user": "a"}}, "invalid_request"),
        ({"from_user": "a", "to_user": "b", "amount": 5}, "invalid_request"),
        ({"from_user": "a", "to_user": "b", "amount": "5", "hold": True}, "invalid_request"),
        ({"from_user": 1, "to_user": "b", "amount": "5"}, "invalid_request"),
        ({"from_user": "a", "to_user": "b"}, "invalid_request"),
        (item("x" * 257, "b", "1"), "invalid_request"),
        (item("x" * 65, "b", "1"), "invalid_user_id"),
        (item("", "b", "1"), "invalid_user_id"),
        (item("a\u0000", "b", "1"), "invalid_user_id"),
        (item("e\u0301", "b", "1"), "invalid_user_id"),
        (item("system:funding", "b", "1"), "invalid_user_id"),
        (item("same", "same", "1"), "same_account"),
    ],
)
def test_what_is_no_payment_is_not_scored(world: FraudWorld, body: Any, code: str) -> None:
    problem(world.fraud("POST", "/score", *CLERK, json=body), 422, code)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (item("a", "b", "1") | {"more": 1}, "body.more"),
        ({"from_user": "a", "to_user": "b"}, "body.amount"),
        ({"payments": 5}, "body.payments"),
        ({"payments": [item("a", "b", "1"), {}]}, "body.payments.1.from_user"),
        ([], "body"),
    ],
)
def test_the_place_of_what_is_wrong_is_said(world: FraudWorld, body: Any, place: str) -> None:
    said = problem(world.fraud("POST", "/score", *CLERK, json=body), 422, "invalid_request")
    assert said["errors"][0]["place"] == place


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"a": NaN', b"[" * 5_000])
def test_what_is_no_json(world: FraudWorld, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    said = world.fraud("POST", "/score", *CLERK, content=content, headers=headers)
    assert said.status_code in (400, 422), said.text
    assert said.headers["content-type"] == "application/problem+json"


def test_a_body_past_the_bound(world: FraudWorld) -> None:
    said = world.fraud("POST", "/score", *CLERK, content=b"x" * 300_000)
    problem(said, 413, "body_too_large")


def test_users_of_every_script_and_shape(world: FraudWorld) -> None:
    users = ["../../etc/passwd", "a b", "ü🙂", "%00", "' OR 1=1 --", "{{7*7}}", "x" * 64]
    said = world.score(*[item(user, "receiver", "1") for user in users])
    assert [each["from_user"] for each in said] == users
    for user in users:
        answer = world.fraud("GET", "/decisions", *CLERK, params={"user": user})
        assert answer.json() == {
            "user_id": user, "last_score": None, "last_score_known": True, "flagged": [],
        }  # fmt: skip


# -- decisions -------------------------------------------------------------------------------------


def test_a_decision_as_reviewers_and_as_its_payer_see_it(world: FraudWorld) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    payment = world.pay(sender, receiver, "8000").json()["payment_id"]
    said = decided(world, payment)
    assert (said["decision"], said["score"], said["rule"]) == ("review", 0.8, "amount")
    assert (said["from_user"], said["to_user"], said["amount_paise"]) == (
        sender, receiver, 800_000,
    )  # fmt: skip
    assert said["facts"] == {"velocity_count": 1, "model_score": None}
    assert (said["gate"], said["rules_version"]) == ("after", world.rules()["version"])
    own = world.fraud("GET", f"/decisions/{payment}", sender).json()
    assert (own["decision"], own["score"]) == ("review", 0.8)
    for hidden in ("rule", "model", "facts", "rules_version", "review"):
        assert own[hidden] is None
    # The receiver, and everybody else, is told what is told of no payment at all.
    there_is_none = payment_id_text(bytes.fromhex("019d" + "0" * 8 + "7000" + "8000" + "0" * 12))
    for user in (receiver, "somebody"):
        texts = [
            problem(world.fraud("GET", f"/decisions/{each}", user), 404, "not_found")
            for each in (payment, there_is_none)
        ]
        assert texts[0]["detail"].replace(payment, there_is_none) == texts[1]["detail"]


def test_a_users_last_score_and_what_was_flagged(world: FraudWorld) -> None:
    sender, receiver = world.pair(cross=False, opening="90000")
    payments = [
        world.pay(sender, receiver, amount, key=new_key()).json()["payment_id"]
        for amount in ("8000", "1", "9000", "2500")
    ]
    for payment in payments:
        decided(world, payment)
    said = of_model(
        models.UserDecisions, world.fraud("GET", f"/decisions?user={sender}", *CLERK).json()
    )
    until(
        lambda: (
            world.fraud("GET", f"/decisions?user={sender}", *CLERK).json()["last_score"]["score"]
            == 0.25
        )
    )
    assert [each["payment_id"] for each in said["flagged"]] == [payments[2], payments[0]]
    assert [each["rule"] for each in said["flagged"]] == ["amount", "amount"]
    own = world.fraud("GET", f"/decisions?user={sender}&limit=1", sender).json()
    assert [each["payment_id"] for each in own["flagged"]] == [payments[2]]
    assert own["flagged"][0]["rule"] is None
    problem(world.fraud("GET", f"/decisions?user={sender}", receiver), 404, "not_found")
    other = world.fraud("GET", "/decisions?user=nobody-at-all", receiver)
    assert problem(other, 404, "not_found")["detail"] == "there is no user 'nobody-at-all'"


@pytest.mark.parametrize(
    "payment", ["1", "x" * 300, "..%2F..%2Fetc", "%00", "'", "019d0000-0000-4000-8000-000000000000"]
)
def test_what_is_no_payment_id(world: FraudWorld, payment: str) -> None:
    problem(world.fraud("GET", f"/decisions/{payment}", *CLERK), 422, "bad_input")


@pytest.mark.parametrize(
    "query", ["", "user=", "user=%00", "user=" + "x" * 300, "user=a&limit=0", "user=a&limit=1e3"]
)
def test_what_is_no_user(world: FraudWorld, query: str) -> None:
    assert world.fraud("GET", f"/decisions?{query}", *CLERK).status_code == 422


def test_a_payment_that_nobody_scored_is_there_all_the_same(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2, fraud_gate="off") as world:
        sender, receiver = world.pair(cross=True)
        payment = world.pay(sender, receiver, "10").json()["payment_id"]
        said = world.fraud("GET", f"/decisions/{payment}", *CLERK).json()
        of_model(models.Decision, said)
        assert (said["payment_id"], said["amount"], said["decision"]) == (payment, "10.00", None)
        assert world.fraud("GET", f"/decisions/{payment}", sender).status_code == 200
        problem(world.fraud("GET", f"/decisions/{payment}", receiver), 404, "not_found")


def test_stores_that_are_away(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        sender, receiver = world.pair(cross=True, opening="20000")
        payment = world.pay(sender, receiver, "8000").json()["payment_id"]
        decided(world, payment)
        world.lab.drain()
        with world.lab.fault("wide-store", "gone"):
            problem(world.fraud("GET", f"/decisions/{payment}", *CLERK), 503, "unavailable")
            problem(world.fraud("GET", f"/decisions?user={sender}", *CLERK), 503, "unavailable")
            assert world.score(item(sender, receiver, "1"))[0]["decision"] == "allow"
            assert world.fraud("GET", "/ready").json()["parts"]["wide-store"]["state"] == "down"
        with world.lab.fault("shard-0", "down"):
            # The decision is known; what a person decided about it is not.
            said = world.fraud("GET", f"/decisions/{payment}", *CLERK).json()
            assert (said["decision"], said["review"]) == ("review", None)
        with world.lab.fault("cache", "gone"):
            said = world.fraud("GET", f"/decisions?user={sender}", *CLERK).json()
            assert (said["last_score"], said["last_score_known"]) == (None, False)
            assert len(said["flagged"]) == 1


def test_metrics_count_each_decision_once(tmp_path: Path) -> None:
    with FraudWorld(data=tmp_path / "lab", shards=2) as world:
        sender, receiver = world.pair(cross=True, opening="50000")
        for amount in ("1", "1000", "7000", "9500"):
            world.pay(sender, receiver, amount, key=new_key())
        world.lab.drain()
        text = world.metrics_of_fraud()
        name = "paytm_lab_fraud_decisions_total"
        assert f'{name}{{decision="allow",gate="after",rule="amount"}} 2.0' in text
        assert f'{name}{{decision="review",gate="after",rule="amount"}} 2.0' in text
        assert 'paytm_lab_fraud_score_bucket{le="0.7"} 3.0' in text
        assert "paytm_lab_fraud_score_count 4.0" in text
        assert "paytm_lab_fraud_decision_age_seconds_count 4.0" in text
        assert "paytm_lab_fraud_rules_version 1.0" in text
        world.change(velocity_limit=7)
        assert "paytm_lab_fraud_rules_version 2.0" in world.metrics_of_fraud()
