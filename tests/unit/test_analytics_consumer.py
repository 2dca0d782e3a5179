from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from paytm_lab.analytics import consumer as module
from paytm_lab.analytics.consumer import AnalyticsConsumer
from paytm_lab.analytics.rollups import (
    COMPLETED,
    DAY_US,
    FAILED,
    HOUR_US,
    INITIATED,
    Sum,
    Totals,
    read_rollups,
)
from paytm_lab.analytics.tables import EVENTS, EVENTS_BY_HOUR
from paytm_lab.core.errors import BadInput
from paytm_lab.core.events import (
    FraudData,
    PaymentData,
    Topic,
    read_fraud_event,
    read_payment_event,
)
from paytm_lab.ports.event_log import Message, Record
from tests.unit.consumer_world import (
    START_US,
    Crash,
    World,
    as_records,
    crash_points,
    fraud_message,
    payment,
    payment_message,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    yield world
    world.close()


def analytics(world: World) -> AnalyticsConsumer:
    return AnalyticsConsumer(world.store, world.clock)


def scored(data: PaymentData, decision: str = "allow") -> Message:
    score = min(1.0, data.amount_paise / 10**6)
    fraud = FraudData(
        data.payment_id, data.from_user_id, data.amount_paise, score, decision, "amount",
        at_us=data.at_us,
    )  # fmt: skip
    return fraud_message("FraudScoreCalculated", fraud)


def some_payments(count: int, seed: int = 1) -> list[Message]:
    """All sorts, over ten days and four shards, each with its whole life."""
    rng = random.Random(seed)
    messages = []
    for n in range(count):
        at_us = START_US + rng.randrange(10 * DAY_US)
        end = rng.choice([COMPLETED] * 8 + [FAILED, "PaymentCancelled"])
        data = payment(
            f"{seed}-{n}",
            amount_paise=rng.randrange(1, 2_000_000),
            from_shard=rng.randrange(4),
            to_shard=rng.randrange(4),
            at_us=at_us,
            kind=rng.choice(["transfer"] * 8 + ["funding", "refund"]),
            reason="" if end == COMPLETED else rng.choice(["insufficient_funds", "expired"]),
        )
        messages.append(payment_message(INITIATED, data))
        messages.append(payment_message(end, data, START_US + rng.randrange(10**6)))
        if end == COMPLETED and data.kind == "transfer":
            messages.append(scored(data))
    return messages


def contents(totals: Totals) -> tuple[object, ...]:
    return (totals.cells, {d: c for d, c in totals.days.items() if c}, totals.latency)


def expected(messages: Sequence[Message]) -> Totals:
    """Counted the plain way: each (payment, type) once."""
    totals = Totals()
    for message in {m.value: m for m in messages}.values():
        if message.topic == Topic.FRAUD:
            fraud = read_fraud_event(message.value)
            totals.add_fraud(fraud.type, fraud.data)
            continue
        event = read_payment_event(message.value)
        latency_us = None
        if event.type == COMPLETED and event.data.kind == "transfer":
            latency_us = int(event.time[17:19]) * 1_000_000 + int(event.time[20:26])
        totals.add_payment(event.type, event.data, latency_us)
    return totals


def batches(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[i : i + size] for i in range(0, len(records), size)]


def test_totals_equal_a_plain_count_over_many_partitions_and_batches(world: World) -> None:
    messages = some_payments(300)
    world.append(messages)
    records = [*world.records(Topic.PAYMENT), *world.records(Topic.FRAUD)]
    assert len({(r.topic, r.partition) for r in records}) == 4
    consumer = analytics(world)
    for batch in batches(records, 37):
        consumer.handle(batch)
    totals = read_rollups(world.real_store)
    assert contents(totals) == contents(expected(messages))
    assert world.real_store.count(EVENTS) == len(messages)
    assert world.real_store.count(EVENTS_BY_HOUR) == len(messages)
    assert consumer.counters["counted"] == len(messages)
    assert consumer.counters["duplicates"] == 0
    body = world.real_store.fetch(EVENTS, [("1-0", INITIATED)])[("1-0", INITIATED)]["body"]
    assert body.encode() == messages[0].value


def test_completed_payments_are_told_apart_by_kind_and_refusals_are_not_among_them(
    world: World,
) -> None:
    messages = [
        payment_message(COMPLETED, payment("a", amount_paise=100)),
        payment_message(COMPLETED, payment("b", amount_paise=200, from_shard=1, to_shard=1)),
        payment_message(COMPLETED, payment("c", amount_paise=10**6, kind="funding")),
        payment_message(COMPLETED, payment("d", amount_paise=50, kind="refund")),
        payment_message(FAILED, payment("e", amount_paise=7, reason="insufficient_funds")),
    ]
    analytics(world).handle(as_records(messages))
    totals = read_rollups(world.real_store)
    assert totals.outcome(COMPLETED) == Sum(2, 300)
    assert totals.outcome(COMPLETED, "funding") == Sum(1, 10**6)
    assert totals.outcome(COMPLETED, "refund") == Sum(1, 50)
    assert totals.reasons(FAILED) == {"insufficient_funds": Sum(1, 7)}
    assert totals.same_and_cross() == (Sum(1, 200), Sum(1, 100))


def test_every_order_with_duplicates_counts_each_event_once(world: World) -> None:
    """Copies come at other offsets, in the same batch and in later ones."""
    count = 0
    offset = 0
    for number, order in enumerate(itertools.permutations(range(5))):
        data = payment(f"p-{number}")
        sorts = [
            payment_message(INITIATED, data),
            payment_message(COMPLETED, data),
            payment_message(COMPLETED, data),
            scored(data),
            scored(data),
        ]
        records = as_records([sorts[i] for i in order], first_offset=offset)
        offset += len(order)
        consumer = analytics(world)
        cut = number % 5
        for batch in (records[:cut], records[cut:]):
            consumer.handle(batch)
        count += 1
    totals = read_rollups(world.real_store)
    assert totals.outcome(INITIATED) == totals.outcome(COMPLETED) == Sum(count, count * 5_000)
    assert sum(totals.score_histogram()) == count
    assert sum(totals.latency.values()) == count
    assert world.real_store.count(EVENTS) == 3 * count


def test_a_crash_at_any_call_counts_everything_once(tmp_path: Path) -> None:
    messages = some_payments(20)
    records = as_records(messages)
    first, second = records[:30], records[30:]
    want = contents(expected(messages))

    def run(world: World) -> None:
        consumer = analytics(world)
        consumer.handle(first)
        consumer.handle(second)

    points = []
    for where, world in crash_points(tmp_path, run):
        points.append(where)
        # What comes again after a crash: all that was not committed, in batches of another size.
        consumer = analytics(world)
        for batch in batches(records, 11):
            consumer.handle(batch)
        assert contents(read_rollups(world.real_store)) == want, where
        assert world.real_store.count(EVENTS) == len(messages), where
        assert world.real_store.count(EVENTS_BY_HOUR) == len(messages), where
    one_batch = ["fetch", "fetch", "upsert", "upsert", "fetch", "upsert"]
    calls = one_batch + one_batch[: (len(points) // 2) - len(one_batch)]
    assert points == [f"before {c}" for c in calls] + [f"after {c}" for c in calls]
    assert len(calls) >= 11


def test_a_store_that_fails_once_does_not_leave_memory_ahead(world: World) -> None:
    messages = some_payments(20)
    records = as_records(messages)
    consumer = analytics(world)
    consumer.handle(records[:20])
    for at in (1, 2, 3, 4, 5):  # each of the calls that a batch makes which was stored, not counted
        world.plan.calls, world.plan.at = 0, at
        with pytest.raises(Crash, match="before"):
            consumer.handle(records[20:])
    world.plan.at = 0
    consumer.handle(records[20:])  # the same object, as after an outage
    assert contents(read_rollups(world.real_store)) == contents(expected(messages))


def test_another_member_may_take_over_and_give_back(world: World) -> None:
    messages = some_payments(60)
    records = as_records(messages)
    members = itertools.cycle([analytics(world), analytics(world)])
    for batch in batches(records, 13):
        next(members).handle(batch)
    assert contents(read_rollups(world.real_store)) == contents(expected(messages))


def test_days_beyond_the_cache_are_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DAYS_CACHED_MAX", 2)
    messages = some_payments(100)
    consumer = analytics(world)
    for batch in batches(as_records(messages), 7):
        consumer.handle(batch)
        assert all(len(p.totals.days) <= 2 for p in consumer._partitions.values())
    assert contents(read_rollups(world.real_store)) == contents(expected(messages))


def test_history_by_hour_is_found_by_its_hour(world: World) -> None:
    data = payment("p", at_us=START_US + 5 * HOUR_US + 17, amount_paise=123)
    record = as_records([payment_message(COMPLETED, data)])[0]._replace(partition=1)
    analytics(world).handle([record, *as_records([scored(data)])])
    hour = (START_US + 5 * HOUR_US) // HOUR_US
    (row,) = world.real_store.partition(EVENTS_BY_HOUR, (hour, 1))
    assert (row["at_us"], row["type"]) == (data.at_us, COMPLETED)
    (fraud,) = world.real_store.partition(EVENTS_BY_HOUR, (hour, 0))
    assert (fraud["at_us"], fraud["type"]) == (data.at_us, "FraudScoreCalculated")
    # Each names the event itself.
    keys = [(row["payment_id"], row["type"]), (fraud["payment_id"], fraud["type"])]
    assert set(world.real_store.fetch(EVENTS, keys)) == set(keys)


def test_latency_is_from_the_stamp_to_the_completion(world: World) -> None:
    data = payment("p")
    analytics(world).handle(as_records([payment_message(COMPLETED, data, START_US + 40_000)]))
    latency_ms = read_rollups(world.real_store).latency_ms(0.5)
    assert latency_ms is not None
    assert 40.0 <= latency_ms <= 45.0


def _bad_time(record: Record) -> Record:
    return record._replace(value=record.value.replace(b'"time":"2026', b'"time":"then'))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_bad_time, BadInput),
        (lambda r: r._replace(value=b"\xff\xfe"), ValueError),
        (lambda r: r._replace(value=b"[]"), msgspec.ValidationError),
    ],
)
def test_a_poison_message_fails_its_batch_and_leaves_nothing(
    world: World, spoil: Callable[[Record], Record], error: type[Exception]
) -> None:
    good, bad = as_records([payment_message(COMPLETED, payment(p)) for p in ("a", "b")])
    consumer = analytics(world)
    with pytest.raises(error):
        consumer.handle([good, spoil(bad)])
    assert world.real_store.count(EVENTS) == 0
    consumer.handle([good])
    assert read_rollups(world.real_store).outcome(COMPLETED) == Sum(1, 5_000)


def test_other_topics_are_not_read(world: World) -> None:
    record = as_records([payment_message(COMPLETED, payment("a"))])[0]
    analytics(world).handle([record._replace(topic="analytics_events")])
    assert contents(read_rollups(world.real_store)) == contents(Totals())
    assert Counter(world.real_store.scan(EVENTS)) == Counter()


def test_an_event_that_cannot_be_counted_undoes_what_its_batch_had_counted(world: World) -> None:
    good = as_records([scored(payment("a"))])[0]
    endless = FraudData("b", "asha", 100, 1e308, "allow", "amount", at_us=START_US)
    bad = as_records([fraud_message("FraudScoreCalculated", endless)], first_offset=1)[0]
    consumer = analytics(world)
    with pytest.raises(OverflowError):
        consumer.handle([good, bad])
    consumer.handle([good])  # what is left when the runner has set the bad one aside
    assert sum(read_rollups(world.real_store).score_histogram()) == 1
