"""The three consumers behind the real runner on the real log: one flow, and what disturbs it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.analytics.consumer import AnalyticsConsumer
from paytm_lab.analytics.rollups import COMPLETED, FAILED, INITIATED, SCORED, Sum, read_rollups
from paytm_lab.analytics.tables import EVENTS
from paytm_lab.core.events import PaymentData, Topic
from paytm_lab.fraud.consumer import FraudConsumer
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.scorer import Scorer
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.messaging.consumer import ConsumerRunner, Handler
from paytm_lab.messaging.topics import (
    ANALYTICS,
    FRAUD,
    GROUPS,
    NOTIFICATIONS,
    create_topics,
    dead_letter,
)
from paytm_lab.notifications.channels import (
    TAKEN,
    Answer,
    MemoryChannel,
    Outgoing,
    Verdict,
    every_kind,
)
from paytm_lab.notifications.consumer import NotificationConsumer
from paytm_lab.notifications.records import decode_parcel, notification_totals
from paytm_lab.notifications.tables import DEAD_LETTERS
from paytm_lab.ports.event_log import Message
from tests.unit.consumer_world import (
    START_US,
    Crash,
    World,
    payment,
    payment_message,
)

SETTINGS = RuleSettings(velocity_limit=1_000)


class Services:
    """The three consumers of one process; ``restart``: of the next one, on the same stores."""

    def __init__(self, world: World, channel: Any) -> None:
        self.world = world
        self.channel = channel
        self.restart()

    def restart(self) -> None:
        world = self.world
        scorer = Scorer(SETTINGS, world.cache)
        self.fraud = FraudConsumer(scorer, world.store, world.cache, world.log, world.clock)
        self.analytics = AnalyticsConsumer(world.store, world.clock)
        self.notifications = NotificationConsumer(
            world.store, every_kind(self.channel), world.log, world.clock
        )
        self.runners = {
            group: self._runner(group, handler)
            for group, handler in [
                (FRAUD, self.fraud),
                (ANALYTICS, self.analytics),
                (NOTIFICATIONS, self.notifications),
            ]
        }

    def _runner(self, group: str, handler: Handler) -> ConsumerRunner:
        world = self.world
        return ConsumerRunner(
            world.real_log, group, GROUPS[group], handler, world.clock, records_max=50
        )

    def close(self) -> None:
        for runner in self.runners.values():
            runner.close()

    def drain(self, rng: random.Random) -> None:
        """Step the runners in a random order until nothing is left to do."""
        while any(runner.lag() for runner in self.runners.values()):
            runner = rng.choice(list(self.runners.values()))
            runner.step()
            self.world.clock.advance(0.1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    create_topics(world.real_log)
    yield world
    world.close()


def traffic(count: int, rng: random.Random) -> tuple[list[PaymentData], list[Message]]:
    """Payments, and their events as several relays would bring them: mixed up, some twice."""
    payments = []
    messages = []
    for n in range(count):
        fails = rng.random() < 0.1
        data = payment(
            f"{n:05d}",
            from_user_id=f"user-{rng.randrange(20)}",
            to_user_id=f"user-{20 + rng.randrange(20)}",
            amount_paise=rng.randrange(1, 1_400_000),
            from_shard=rng.randrange(4),
            to_shard=rng.randrange(4),
            at_us=START_US + rng.randrange(48 * 3_600_000_000),
            reason="insufficient_funds" if fails else "",
        )
        payments.append(data)
        messages.append(payment_message(INITIATED, data))
        messages.append(payment_message(FAILED if fails else COMPLETED, data))
    messages += rng.sample(messages, count // 5)
    rng.shuffle(messages)
    return payments, messages


def require_all_done(world: World, payments: Sequence[PaymentData]) -> None:
    """What the three must have left behind, from the payments alone."""
    done = [p for p in payments if not p.reason]
    review = [p for p in done if p.amount_paise >= 700_000]
    assert review
    totals = read_rollups(world.real_store)
    assert totals.outcome(COMPLETED) == Sum(len(done), sum(p.amount_paise for p in done))
    refused = [p for p in payments if p.reason]
    assert totals.reasons(FAILED) == {
        "insufficient_funds": Sum(len(refused), sum(p.amount_paise for p in refused))
    }
    assert totals.outcome(INITIATED) == Sum(len(payments), sum(p.amount_paise for p in payments))
    same = [p.amount_paise for p in done if p.from_shard == p.to_shard]
    assert totals.same_and_cross()[0] == Sum(len(same), sum(same))
    by_decision = {k: v.payments for k, v in totals.fraud_decisions().items()}
    assert by_decision == {
        ("allow", "amount"): len(done) - len(review),
        ("review", "amount"): len(review),
    }
    assert world.real_store.count(FEATURES) == len(done)
    assert world.real_store.count(EVENTS) == 2 * len(payments) + len(done) + len(review)
    ids = {e.id for e in world.events(Topic.FRAUD)}
    assert ids == {f"{p.payment_id}.{SCORED}" for p in done} | {
        f"{p.payment_id}.ManualReviewRequired" for p in review
    }
    sent = notification_totals(world.real_store)
    sent = Counter({k: n for k, n in sent.items() if k[1] != "possible_repeat"})
    assert sent == {
        ("email", "sent"): len(payments),
        ("push", "sent"): len(done),
        ("sms", "sent"): len(review),
    }
    assert len({e.id for e in world.events(Topic.NOTIFICATION)}) == sent.total()


@pytest.mark.parametrize("seed", range(3))
def test_a_mixed_flow_ends_the_same_in_every_interleaving(world: World, seed: int) -> None:
    rng = random.Random(seed)
    payments, messages = traffic(200, rng)
    channel = MemoryChannel()
    services = Services(world, channel)
    for start in range(0, len(messages), 60):  # the relays go on while the consumers work
        world.append(messages[start : start + 60])
        for runner in services.runners.values():
            if rng.random() < 0.5:
                runner.step()
    services.drain(rng)
    services.close()
    require_all_done(world, payments)
    assert channel.sent == len({m.notification_id for m in channel.messages()})
    assert all(r.counts.dead_lettered == 0 for r in services.runners.values())


def test_processes_that_die_again_and_again_lose_and_double_nothing(world: World) -> None:
    rng = random.Random(5)
    payments, messages = traffic(120, rng)
    world.append(messages)
    channel = MemoryChannel()
    services = Services(world, channel)
    crashes = 0
    while any(runner.lag() for runner in services.runners.values()):
        plan = world.plan
        plan.calls, plan.at, plan.after = 0, rng.randrange(1, 14), rng.random() < 0.5
        try:
            for _ in range(4):
                rng.choice(list(services.runners.values())).step()
                world.clock.advance(0.1)
        except Crash:
            crashes += 1
            services.close()
            services.restart()
    plan = world.plan
    plan.at = 0
    services.close()
    assert crashes >= 10
    require_all_done(world, payments)
    # The channel itself never crashes here, so a second copy can only be one that says so.
    copies = Counter(m.notification_id for m in channel.messages())
    extra = sum(n - 1 for n in copies.values())
    shown = notification_totals(world.real_store)
    assert extra <= sum(n for k, n in shown.items() if k[1] == "possible_repeat")


def test_poison_is_set_aside_by_each_and_blocks_nothing(world: World) -> None:
    rng = random.Random(6)
    payments, messages = traffic(60, rng)
    poison = Message(str(Topic.PAYMENT), "poison", b'{"type":"PaymentCompleted","data":7}')
    messages[20:20] = [poison]
    world.append(messages)
    channel = MemoryChannel()
    services = Services(world, channel)
    services.drain(rng)
    services.close()
    require_all_done(world, payments)
    assert channel.sent == len({m.notification_id for m in channel.messages()})
    dead = world.real_log.read(dead_letter(Topic.PAYMENT), 0, 0, 100)
    assert [r.value for r in dead] == [poison.value] * 3
    assert {dict(r.headers)["group"] for r in dead} == {b"fraud", b"analytics", b"notifications"}


class Refusing(MemoryChannel):
    """A provider that has no address for some users."""

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        good = [m for m in messages if m.user_id != "user-3"]
        super().send(good)
        refused = Answer(Verdict.REFUSED, "no such address")
        return [refused if m.user_id == "user-3" else TAKEN for m in messages]


def test_who_cannot_be_reached_is_dead_lettered_and_nobody_else_notices(world: World) -> None:
    rng = random.Random(7)
    payments, messages = traffic(60, rng)
    world.append(messages)
    channel = Refusing()
    services = Services(world, channel)
    services.drain(rng)
    services.close()
    refused = {m.user_id for m in channel.messages()} & {"user-3"}
    assert refused == set()
    totals = notification_totals(world.real_store)
    from_three = [p for p in payments if p.from_user_id == "user-3"]
    assert from_three
    assert totals["email", "failed"] == len(from_three)
    assert totals["email", "sent"] == len(payments) - len(from_three)
    assert channel.sent == len({m.notification_id for m in channel.messages()})
    letters = list(world.real_store.scan(DEAD_LETTERS))
    parcels = [decode_parcel(row["parcel"]) for row in letters]
    assert {p.message.payment_id for p in parcels} == {p.payment_id for p in from_three}
    assert {row["error"] for row in letters} == {"no such address"}
    assert world.real_log.read(dead_letter(Topic.PAYMENT), 0, 0, 1000) == []  # no event's fault
