from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.core.errors import Unavailable
from paytm_lab.core.events import PaymentData, Topic, decode_fraud
from paytm_lab.core.fraud import Decision
from paytm_lab.fraud.consumer import FraudConsumer
from paytm_lab.fraud.lists import MULE, FraudLists
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.scorer import Scorer
from paytm_lab.fraud.tables import FEATURES, FLAGGED
from paytm_lab.ports.event_log import Message, Record
from tests.unit.consumer_world import (
    START_US,
    World,
    as_records,
    crash_points,
    payment,
    payment_message,
)

SETTINGS = RuleSettings(velocity_limit=2, velocity_window_s=60.0)
SECOND_US = 1_000_000


def consumer(world: World, lists: FraudLists | None = None, **options: Any) -> FraudConsumer:
    cache = options.pop("cache", world.cache)
    scorer = Scorer(SETTINGS, cache, lists=lists)
    return FraudConsumer(scorer, world.store, cache, world.log, world.clock, **options)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    yield world
    world.close()


def life(data: PaymentData, end: str = "PaymentCompleted") -> list[Message]:
    return [payment_message("PaymentInitiated", data), payment_message(end, data)]


def features(world: World) -> dict[str, tuple[str, str]]:
    return {
        row["payment_id"]: (row["decision"], row["rule"]) for row in world.real_store.scan(FEATURES)
    }


def emitted(world: World) -> dict[str, set[bytes]]:
    """Event id -> the distinct bodies it was emitted with."""
    found: dict[str, set[bytes]] = {}
    for record in world.records(Topic.FRAUD):
        found.setdefault(json.loads(record.value)["id"], set()).add(record.value)
    return found


def a_day() -> tuple[list[Message], dict[str, tuple[str, str]], set[str]]:
    """Messages of every sort, the features they must leave, and the ids of the events."""
    fast = [payment(f"fast-{n}", from_user_id="fast", at_us=START_US + n) for n in range(4)]
    messages = [
        *life(payment("small")),
        *life(payment("large", amount_paise=700_000)),
        *life(payment("huge", amount_paise=10**12)),
        *itertools.chain.from_iterable(life(p) for p in fast),
        *life(payment("mule", to_user_id="mule")),
        *life(payment("passed", fraud_decision="allow", fraud_score=0.25)),
        *life(payment("approved", fraud_decision="review", fraud_score=0.75, fraud_rule="amount")),
        *life(
            payment("stopped", fraud_decision="block", fraud_score=0.5, fraud_rule="velocity"),
            "PaymentFailed",
        ),
        *life(payment("rejected", fraud_decision="review", fraud_score=0.9), "PaymentCancelled"),
        *life(payment("poor", reason="insufficient_funds"), "PaymentFailed"),
        *life(payment("opening", kind="funding", amount_paise=10**9)),
        *life(payment("return", kind="refund", amount_paise=10**6)),
    ]
    rows = {
        "small": ("allow", "amount"),
        "large": ("review", "amount"),
        "huge": ("review", "amount"),
        "fast-0": ("allow", "amount"),
        "fast-1": ("allow", "amount"),
        "fast-2": ("block", "velocity"),
        "fast-3": ("block", "velocity"),
        "mule": ("block", "known_mule"),
        "passed": ("allow", "gate"),  # as the gate told it before it named the rule
        "approved": ("review", "amount"),
        "stopped": ("block", "velocity"),
        "rejected": ("review", "gate"),
    }
    ids = {f"{p}.FraudScoreCalculated" for p in rows}
    ids |= {f"{p}.ManualReviewRequired" for p in ("large", "huge")}
    ids |= {f"{p}.TransactionBlocked" for p in ("fast-2", "fast-3", "mule")}
    return messages, rows, ids


def mules() -> FraudLists:
    lists = FraudLists()
    lists.add(MULE, ["mule"])
    return lists


def test_every_sort_of_payment(world: World) -> None:
    messages, rows, ids = a_day()
    fraud = consumer(world, mules())
    fraud.handle(as_records(messages))
    assert features(world) == rows
    assert set(emitted(world)) == ids
    assert len(world.records(Topic.FRAUD)) == len(ids)
    assert fraud.counters == {
        "allow": 4, "review": 4, "block": 4, "scored": 8, "gate_decided": 4, "repeated": 0,
    }  # fmt: skip
    by_id = {e.id: e for e in world.events(Topic.FRAUD)}
    event = by_id["fast-2.TransactionBlocked"]
    data = decode_fraud(event.data)
    assert (data.user_id, data.decision, data.rule) == ("fast", "block", "velocity")
    assert (data.amount_paise, data.at_us, data.score) == (5_000, START_US + 2, 0.005)
    assert event.subject == "fast-2"
    assert event.traceparent.startswith("00-0af7")
    assert decode_fraud(by_id["stopped.FraudScoreCalculated"].data).rule == "velocity"
    row = world.real_store.fetch(FEATURES, [("fast-2",)])[("fast-2",)]
    assert (row["user_id"], row["amount"], row["velocity_count"], row["gate"]) == (
        "fast", 5_000, 3, "after",
    )  # fmt: skip
    gated = world.real_store.fetch(FEATURES, [("passed",)])[("passed",)]
    assert (gated["score"], gated["velocity_count"], gated["gate"]) == (0.25, -1, "before")


def test_the_last_score_is_cached_for_its_time(world: World) -> None:
    newest = payment("b", from_user_id="asha", amount_paise=800_000, at_us=START_US + 9)
    oldest = payment("a", from_user_id="asha", amount_paise=100, at_us=START_US)
    consumer(world, score_ttl_s=100.0).handle(as_records([*life(newest), *life(oldest)]))
    body = world.real_cache.get("fraud:score:asha")
    assert body is not None
    assert json.loads(body) == {"last_score": 0.8, "timestamp": START_US + 9}
    world.clock.advance(101)
    assert world.real_cache.get("fraud:score:asha") is None


def batches(messages: Sequence[Message], cut: int) -> list[list[Record]]:
    records = as_records(messages)
    return [part for part in (records[:cut], records[cut:]) if part]


def test_every_order_of_a_payments_events_with_duplicates(world: World) -> None:
    """One answer for all of them, however they arrive and however they fall into batches."""
    answers = set()
    events = ("PaymentInitiated", "PaymentCompleted", "PaymentCompleted", "PaymentInitiated")
    for number, order in enumerate(itertools.permutations(events)):
        for cut in range(len(order)):
            data = payment(f"p-{number}-{cut}", amount_paise=900_000)
            fraud = consumer(world)
            for batch in batches([payment_message(t, data) for t in order], cut):
                fraud.handle(batch)
            world.clock.advance(1)
            row = world.real_store.fetch(FEATURES, [(data.payment_id,)])[(data.payment_id,)]
            bodies = {
                k: v for k, v in emitted(world).items() if k.startswith(data.payment_id + ".")
            }
            assert set(map(len, bodies.values())) == {1}
            types = tuple(sorted(k.rpartition(".")[2] for k in bodies))
            answers.add((row["score"], row["decision"], row["velocity_count"], types))
    assert answers == {(0.9, "review", 1, ("FraudScoreCalculated", "ManualReviewRequired"))}


def test_every_order_of_a_senders_payments_in_a_batch(world: World) -> None:
    for number, order in enumerate(itertools.permutations(range(4))):
        data = [
            payment(f"{number}-{n}", from_user_id=f"s-{number}", at_us=START_US + n) for n in order
        ]
        consumer(world).handle(as_records([m for d in data for m in life(d)]))
        rows = world.real_store.fetch(FEATURES, [(f"{number}-{n}",) for n in range(4)])
        counts = [rows[(f"{number}-{n}",)]["velocity_count"] for n in range(4)]
        assert counts == [1, 2, 3, 4]


def test_a_payment_is_scored_once_whatever_is_learnt_later(world: World) -> None:
    data = payment("once", to_user_id="later")
    consumer(world).handle(as_records(life(data)))
    lists = FraudLists()
    lists.add(MULE, ["later"])
    world.clock.advance(5)
    again = consumer(world, lists)
    again.handle(as_records(life(data), first_offset=100))
    assert features(world) == {"once": ("allow", "amount")}
    assert again.counters["scored"] == 0
    assert again.counters["repeated"] == 1
    assert {k: len(v) for k, v in emitted(world).items()} == {"once.FraudScoreCalculated": 1}


def test_a_crash_at_any_call_changes_no_answer(tmp_path: Path) -> None:
    messages, rows, ids = a_day()
    points = []
    run = lambda world: consumer(world, mules()).handle(as_records(messages))  # noqa: E731
    for where, world in crash_points(tmp_path, run):
        points.append(where)
        world.clock.advance(7)
        consumer(world, mules()).handle(as_records(messages))
        assert features(world) == rows, where
        found = emitted(world)
        assert set(found) == ids, where
        # Repeated events are the same to the byte, or a reader could see two answers.
        assert {len(bodies) for bodies in found.values()} == {1}, where
        flagged = {row["payment_id"]: row["decision"] for row in world.real_store.scan(FLAGGED)}
        assert flagged == {p: d for p, (d, _) in rows.items() if d != "allow"}, where
    calls = ["fetch", "count_window", "upsert", "upsert", "set_many", "append"]
    assert points == [f"before {c}" for c in calls] + [f"after {c}" for c in calls]


class SilentCache:
    """A cache of which some calls do not answer."""

    def __init__(self, inner: Any, silent: set[str]) -> None:
        self._inner = inner
        self._silent = silent

    def __getattr__(self, name: str) -> Any:
        if name in self._silent:
            raise Unavailable("the cache does not answer", place=name)
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    ("policy", "decision"), [(Decision.REVIEW, "review"), (Decision.ALLOW, "allow")]
)
def test_without_a_cache_the_policy_decides_and_is_counted(
    world: World, policy: Decision, decision: str
) -> None:
    silent = SilentCache(world.real_cache, {"count_window", "set_many"})
    fraud = consumer(world, cache=silent, scorer_down=policy)
    fraud.handle(as_records([*life(payment("small")), *life(payment("large", amount_paise=10**6))]))
    assert {k: v[0] for k, v in features(world).items()} == {"small": decision, "large": "review"}
    assert fraud.counters["scorer_down"] == 2
    assert fraud.counters["cache_failed"] == 2
    healed = consumer(world)
    healed.handle(as_records(life(payment("next")), first_offset=10))
    assert features(world)["next"] == ("allow", "amount")
    assert healed.counters["scorer_down"] == 0


def test_a_last_score_that_cannot_be_cached_costs_nothing_else(world: World) -> None:
    fraud = consumer(world, cache=SilentCache(world.real_cache, {"set_many"}))
    fraud.handle(as_records(life(payment("small"))))
    assert features(world) == {"small": ("allow", "amount")}
    assert fraud.counters["cache_failed"] == 1
    assert set(emitted(world)) == {"small.FraudScoreCalculated"}


def test_a_poison_message_fails_its_batch_and_leaves_nothing(world: World) -> None:
    good = as_records(life(payment("small")))
    bad = good[0]._replace(offset=2, value=b'{"type":"PaymentCompleted","time":"x","data":{}}')
    with pytest.raises(ValueError, match="payment_id"):
        consumer(world).handle([*good, bad])
    assert features(world) == {}
    consumer(world).handle(good)
    assert features(world) == {"small": ("allow", "amount")}


def test_lists_survive_in_the_store(world: World) -> None:
    lists = FraudLists(world.real_store, world.clock)
    lists.add(MULE, ["m1", "m2", "../m3"], note="seen in a ring")
    lists.remove(MULE, ["m2"])
    other = FraudLists(world.real_store, world.clock)
    assert other.mules == frozenset()
    other.load()
    assert other.mules == {"m1", "../m3"}
    assert other.frozen == frozenset()


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_decided_in_pieces_and_stored_together_is_the_same(world: World, pieces: int) -> None:
    messages, rows, ids = a_day()
    fraud = consumer(world, mules())
    records = as_records(messages)
    step = -(-len(records) // pieces)
    parts = [records[i : i + step] for i in range(0, len(records), step)]
    decided = [fraud.decide(part) for part in parts]
    assert features(world) == {}, "nothing is visible before it is stored"
    assert world.records(Topic.FRAUD) == []
    fraud.store(decided)
    fraud.forget(decided)
    assert features(world) == rows
    assert set(emitted(world)) == ids
    assert len(world.records(Topic.FRAUD)) == len(ids)
    fraud.handle(records)
    assert all(len(bodies) == 1 for bodies in emitted(world).values()), "a repeat says the same"


def test_a_payment_that_comes_again_while_it_is_being_stored_is_decided_once(world: World) -> None:
    fraud = consumer(world)
    records = as_records(life(payment("large", amount_paise=700_000)))
    first, again = fraud.decide(records), fraud.decide(records)
    assert (len(first.fresh), again.fresh, again.known) == (1, [], [])
    fraud.store([first, again])
    fraud.forget([first, again])
    assert len(world.records(Topic.FRAUD)) == 2
    assert fraud.counters["review"] == 1
    third = fraud.decide(records)
    assert (third.fresh, len(third.known)) == ([], 1), "stored, so it is known"


def test_what_could_not_be_stored_is_decided_again(world: World) -> None:
    fraud = consumer(world)
    records = as_records(life(payment("large", amount_paise=700_000)))
    world.real_store.available = False
    with pytest.raises(Unavailable):
        fraud.handle(records)
    world.real_store.available = True
    fraud.handle(records)
    assert features(world) == {"large": ("review", "amount")}
    assert len(world.records(Topic.FRAUD)) == 2
