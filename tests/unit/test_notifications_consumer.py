from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paytm_lab.core.errors import BadInput, DeliveryFailed, Unavailable
from paytm_lab.core.events import FraudData, NotificationData, Topic
from paytm_lab.notifications.channels import FileChannel, MemoryChannel, Outgoing, every_kind
from paytm_lab.notifications.consumer import (
    NotificationConsumer,
    notification_id,
    notification_key,
    notification_totals,
)
from paytm_lab.notifications.inbox import FileInbox
from paytm_lab.notifications.preferences import REFRESH_S, Preferences
from paytm_lab.notifications.tables import NOTIFICATIONS
from paytm_lab.ports.event_log import Message
from tests.unit.consumer_world import (
    Port,
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


def notifier(world: World, channel: Any, **options: Any) -> NotificationConsumer:
    return NotificationConsumer(world.store, every_kind(channel), world.log, world.clock, **options)


def alert(payment_id: str, decision: str) -> Message:
    event_type = {
        "allow": "FraudScoreCalculated",
        "review": "ManualReviewRequired",
        "block": "TransactionBlocked",
    }[decision]
    data = FraudData(payment_id, f"sender-{payment_id}", 100, 1.0, decision, "amount")
    return fraud_message(event_type, data)


def told(messages: Sequence[Outgoing]) -> set[tuple[str, str, str]]:
    return {(m.user_id, m.channel, m.template) for m in messages}


def all_sorts() -> list[Message]:
    return [
        payment_message("PaymentInitiated", payment("paid")),
        payment_message("PaymentCompleted", payment("paid")),
        payment_message("PaymentCompleted", payment("back", kind="refund")),
        payment_message("PaymentCompleted", payment("opening", kind="funding")),
        payment_message("PaymentFailed", payment("poor", reason="insufficient_funds")),
        payment_message("PaymentCancelled", payment("held", reason="expired")),
        alert("paid", "allow"),
        alert("odd", "review"),
        alert("bad", "block"),
    ]


ALL_TOLD = {
    ("sender-paid", "email", "paid"),
    ("receiver-paid", "push", "received"),
    ("sender-back", "email", "refund_paid"),
    ("receiver-back", "push", "refund_received"),
    ("sender-poor", "email", "failed"),
    ("sender-held", "email", "cancelled"),
    ("sender-odd", "sms", "under_review"),
    ("sender-bad", "sms", "blocked"),
}


def test_who_is_told_what_by_which_channel(world: World) -> None:
    channel = MemoryChannel()
    consumer = notifier(world, channel)
    consumer.handle(as_records(all_sorts()))
    assert told(channel.messages()) == ALL_TOLD
    assert channel.sent == len(ALL_TOLD)
    assert notification_totals(world.real_store) == {
        ("email", "sent"): 4, ("push", "sent"): 2, ("sms", "sent"): 2,
    }  # fmt: skip
    assert consumer.counters == {
        "sent": 8, "email": 4, "push": 2, "sms": 2, "repeated": 0, "possible_repeat": 0,
    }  # fmt: skip
    events = world.events(Topic.NOTIFICATION)
    assert Counter(e.type for e in events) == {
        "EmailSent": 4, "PushNotificationSent": 2, "SMSSent": 2,
    }  # fmt: skip
    (sms,) = [e for e in events if e.subject == "odd"]
    id_ = notification_id("odd", "ManualReviewRequired", "sender-odd", "sms")
    assert sms.id == f"{id_}.SMSSent"
    assert msgspec.json.decode(sms.data, type=NotificationData) == NotificationData(
        id_, "sender-odd", "sms", "under_review", "odd"
    )
    row = world.real_store.fetch(NOTIFICATIONS, [notification_key(id_)])[notification_key(id_)]
    assert (row["state"], row["attempts"], row["possible_repeat"]) == ("sent", 1, 0)
    assert row["payment_id"] == "odd"


def test_every_order_with_duplicates_tells_each_once(world: World) -> None:
    channel = MemoryChannel()
    count = 0
    for number, order in enumerate(itertools.permutations(range(5))):
        p = f"p-{number}"
        sorts = [
            payment_message("PaymentInitiated", payment(p)),
            payment_message("PaymentCompleted", payment(p)),
            payment_message("PaymentCompleted", payment(p)),
            alert(p, "review"),
            alert(p, "review"),
        ]
        records = as_records([sorts[i] for i in order])
        cut = number % 5
        for batch in (records[:cut], records[cut:]):
            notifier(world, channel).handle(batch)
        count += 1
    assert channel.sent == 3 * count
    assert len({m.notification_id for m in channel.messages()}) == 3 * count
    assert sum(notification_totals(world.real_store).values()) == 3 * count


def test_what_was_sent_is_announced_again_but_not_sent_again(world: World) -> None:
    channel = MemoryChannel()
    notifier(world, channel).handle(as_records(all_sorts()))
    world.clock.advance(60)
    again = notifier(world, channel)
    again.handle(as_records(all_sorts(), first_offset=100))
    assert channel.sent == len(ALL_TOLD)
    assert again.counters["repeated"] == len(ALL_TOLD)
    bodies: dict[str, set[bytes]] = {}
    for record, event in zip(
        world.records(Topic.NOTIFICATION), world.events(Topic.NOTIFICATION), strict=True
    ):
        bodies.setdefault(event.id, set()).add(record.value)
    assert len(bodies) == len(ALL_TOLD)
    assert {len(b) for b in bodies.values()} == {1}  # repeated to the byte


def test_only_a_crash_around_the_provider_may_repeat_and_it_is_counted(tmp_path: Path) -> None:
    outcomes = {}
    channels: dict[int, MemoryChannel] = {}

    def consumer_of(world: World) -> NotificationConsumer:
        channel = channels.setdefault(id(world), MemoryChannel())
        return notifier(world, Port(channel, world.plan))

    def run(world: World) -> None:
        channels.pop(id(world), None)
        consumer_of(world).handle(as_records(all_sorts()))

    for where, world in crash_points(tmp_path, run):
        consumer = consumer_of(world)
        consumer.handle(as_records(all_sorts()))
        sent = Counter(m.notification_id for m in channels[id(world)].messages())
        assert told(channels[id(world)].messages()) == ALL_TOLD, where  # nothing is ever lost
        assert len(set(sent.values())) == 1, where
        outcomes[where] = (max(sent.values()), consumer.counters["possible_repeat"] > 0)
        states = {row["state"] for row in world.real_store.scan(NOTIFICATIONS)}
        assert states == {"sent"}, where
        assert len({e.id for e in world.events(Topic.NOTIFICATION)}) == len(ALL_TOLD), where
    assert outcomes == {
        "before scan": (1, False),
        "after scan": (1, False),
        "before insert_if_absent": (1, False),
        # From the claim to the record nobody can know, so these say so; two of them did repeat.
        "after insert_if_absent": (1, True),
        "before send": (1, True),
        "after send": (2, True),
        "before upsert": (2, True),
        "after upsert": (1, False),
        "before append": (1, False),
        "after append": (1, False),
    }


def test_possible_repeats_are_shown_for_good(tmp_path: Path) -> None:
    channel = MemoryChannel()
    for where, world in crash_points(
        tmp_path, lambda w: notifier(w, Port(channel, w.plan)).handle(as_records(all_sorts()))
    ):
        if where != "after send":
            continue
        notifier(world, channel).handle(as_records(all_sorts()))
        totals = notification_totals(world.real_store)
        assert {k: n for k, n in totals.items() if k[1] == "possible_repeat"} == {
            ("email", "possible_repeat"): 4,
            ("push", "possible_repeat"): 2,
            ("sms", "possible_repeat"): 2,
        }
        return
    pytest.fail("there was no crash after the provider")


class Picky:
    """A provider that refuses some users, so many times each, or cannot be reached."""

    def __init__(self, refuse: dict[str, int] | None = None) -> None:
        self.memory = MemoryChannel()
        self.refuse = dict(refuse or {})
        self.reachable = True
        self.calls = 0

    def send(self, messages: Sequence[Outgoing]) -> list[str]:
        self.calls += 1
        if not self.reachable:
            raise Unavailable("nobody answers", place="provider")
        errors = []
        for m in messages:
            left = self.refuse.get(m.user_id, 0)
            self.refuse[m.user_id] = left - 1
            errors.append("no such address" if left > 0 else "")
            if left <= 0:
                self.memory.send([m])
        return errors


def test_a_provider_that_refuses_twice_is_asked_again_at_once(world: World) -> None:
    channel = Picky({"sender-paid": 2})
    consumer = notifier(world, channel)
    consumer.handle(as_records(all_sorts()))
    assert told(channel.memory.messages()) == ALL_TOLD
    assert channel.memory.sent == len(ALL_TOLD)
    id_ = notification_id("paid", "PaymentCompleted", "sender-paid", "email")
    row = world.real_store.fetch(NOTIFICATIONS, [notification_key(id_)])[notification_key(id_)]
    assert (row["state"], row["attempts"]) == ("sent", 3)


def test_one_that_is_refused_for_good_fails_alone(world: World) -> None:
    channel = Picky({"sender-paid": 1000})
    consumer = notifier(world, channel)
    records = as_records(all_sorts())
    with pytest.raises(DeliveryFailed, match=r"1 notifications were refused.*no such address"):
        consumer.handle(records)
    assert channel.calls == 3  # bounded
    assert told(channel.memory.messages()) == ALL_TOLD - {("sender-paid", "email", "paid")}
    announced = len(world.events(Topic.NOTIFICATION))
    assert announced == len(ALL_TOLD) - 1
    assert consumer.counters["failed"] == 1
    # The runner comes again with the halves; those that are done are neither sent nor announced.
    for record in records:
        if b"PaymentCompleted" in record.value and record.key == "paid":
            with pytest.raises(DeliveryFailed):
                consumer.handle([record])
        else:
            consumer.handle([record])
    assert len(world.events(Topic.NOTIFICATION)) == announced
    assert channel.memory.sent == len(ALL_TOLD) - 1
    assert notification_totals(world.real_store)["email", "failed"] == 1
    # Once the provider takes it, the same record goes through, and is known not to be a repeat.
    channel.refuse.clear()
    consumer.handle(records)
    assert told(channel.memory.messages()) == ALL_TOLD
    totals = notification_totals(world.real_store)
    assert totals["email", "sent"] == 4
    assert totals["email", "failed"] == totals["email", "possible_repeat"] == 0


def test_a_provider_that_is_away_makes_the_batch_wait_and_repeats_nothing(world: World) -> None:
    channel = Picky()
    channel.reachable = False
    consumer = notifier(world, channel)
    for _ in range(3):
        with pytest.raises(Unavailable, match="nobody answers"):
            consumer.handle(as_records(all_sorts()))
    assert channel.memory.sent == 0
    assert world.events(Topic.NOTIFICATION) == []
    channel.reachable = True
    consumer.handle(as_records(all_sorts()))
    assert told(channel.memory.messages()) == ALL_TOLD
    assert consumer.counters["possible_repeat"] == 0


def test_one_provider_away_does_not_keep_back_the_other(world: World) -> None:
    away, here = Picky(), MemoryChannel()
    away.reachable = False
    consumer = NotificationConsumer(
        world.store, {"email": away, "sms": here, "push": here}, world.log, world.clock
    )
    with pytest.raises(Unavailable):
        consumer.handle(as_records(all_sorts()))
    assert {m.channel for m in here.messages()} == {"sms", "push"}
    away.reachable = True
    consumer.handle(as_records(all_sorts()))
    assert here.sent == 4
    assert told([*here.messages(), *away.memory.messages()]) == ALL_TOLD


def test_the_file_channel_ends_in_the_users_inbox(world: World) -> None:
    directory = world.folder / "inbox"
    consumer = notifier(world, FileChannel(directory, world.clock))
    hostile = payment("p", from_user_id="../../etc/passwd", to_user_id="नमस्ते")
    consumer.handle(as_records([payment_message("PaymentCompleted", hostile)]))
    (mail,) = FileInbox(directory).messages("../../etc/passwd")
    assert mail.body.startswith("You paid ₹50.00 to नमस्ते.")
    (push,) = FileInbox(directory).messages("नमस्ते")
    assert push.body == "You received ₹50.00 from ../../etc/passwd."


def test_preferences(world: World) -> None:
    preferences = Preferences(world.real_store, world.clock)
    preferences.choose("sender-a", "paid", ["sms", "push", "sms"])
    preferences.choose("receiver-a", "received", [])
    channel = MemoryChannel()
    consumer = notifier(world, channel)
    consumer.handle(as_records([payment_message("PaymentCompleted", payment("a"))]))
    assert told(channel.messages()) == {("sender-a", "sms", "paid"), ("sender-a", "push", "paid")}
    # Another process changes its mind; it is seen after a while.
    preferences.choose("sender-b", "paid", [])
    preferences.choose("sender-b", "alert", ["email"])
    world.clock.advance(REFRESH_S + 1)
    consumer.handle(
        as_records([payment_message("PaymentCompleted", payment("b")), alert("b", "block")])
    )
    assert told(channel.messages()) >= {
        ("receiver-b", "push", "received"),
        ("sender-b", "email", "blocked"),
    }
    assert channel.sent == 4
    with pytest.raises(BadInput, match="pigeon"):
        preferences.choose("asha", "paid", ["pigeon"])
    with pytest.raises(BadInput, match="birthday"):
        preferences.choose("asha", "birthday", ["email"])


def test_ids_depend_on_every_part() -> None:
    ids = {
        notification_id(p, t, u, c)
        for p in ("1", "2")
        for t in ("PaymentCompleted", "PaymentFailed")
        for u in ("asha", "asha|email", "ravi")
        for c in ("email", "sms")
    }
    assert len(ids) == 24
    assert {i.partition(".")[0] for i in ids} == {"1", "2"}


def test_a_poison_message_fails_its_batch_and_leaves_nothing(world: World) -> None:
    channel = MemoryChannel()
    good = as_records(all_sorts())
    with pytest.raises(msgspec.DecodeError):
        notifier(world, channel).handle([*good, good[0]._replace(value=b"{")])
    assert channel.sent == 0
    assert world.real_store.count(NOTIFICATIONS) == 0
