from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.core.events import FraudData, NotificationData, Topic
from paytm_lab.notifications.channels import (
    TAKEN,
    Answer,
    FileChannel,
    MemoryChannel,
    Outgoing,
    Verdict,
    every_kind,
)
from paytm_lab.notifications.consumer import NotificationConsumer
from paytm_lab.notifications.dead_letters import DeadLetters
from paytm_lab.notifications.inbox import FileInbox
from paytm_lab.notifications.preferences import REFRESH_S, Preferences
from paytm_lab.notifications.records import (
    HOURS_END,
    notification_id,
    notification_key,
    notification_totals,
)
from paytm_lab.notifications.tables import DEAD_LETTERS, INBOX, INBOX_HOURS, NOTIFICATIONS
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
    outcomes = []
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
        outcomes.append((where, max(sent.values()), consumer.counters["possible_repeat"] > 0))
        states = {row["state"] for row in world.real_store.scan(NOTIFICATIONS)}
        assert states == {"sent"}, where
        assert {row["state"] for row in world.real_store.scan(INBOX)} == {"sent"}, where
        assert world.real_store.count(INBOX) == len(ALL_TOLD), where
        marked = {(r["user_id"], r["hours_left"]) for r in world.real_store.scan(INBOX_HOURS)}
        shown = {(r["user_id"], HOURS_END - r["hour"]) for r in world.real_store.scan(INBOX)}
        assert shown == marked, where  # what is there can be found
        assert len({e.id for e in world.events(Topic.NOTIFICATION)}) == len(ALL_TOLD), where
    assert outcomes == [
        ("before scan", 1, False),
        ("before insert_if_absent", 1, False),
        # From the claim to the record nobody can know, so these say so; two of them did repeat.
        ("before send", 1, True),
        ("before upsert", 2, True),
        ("before upsert", 1, False),  # of the inbox' hours
        ("before upsert", 1, False),  # of the inbox
        ("before append", 1, False),
        ("after scan", 1, False),
        ("after insert_if_absent", 1, True),
        ("after send", 2, True),
        ("after upsert", 1, False),
        ("after append", 1, False),
        ("after upsert", 1, False),
        ("after upsert", 1, False),
    ]


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


def test_what_was_given_up_is_in_the_inbox_and_a_dead_letter_wherever_it_crashed(
    tmp_path: Path,
) -> None:
    records = as_records([payment_message("PaymentFailed", payment("p"))])
    crashes = 0
    for where, world in crash_points(
        tmp_path, lambda w: notifier(w, Picky(Verdict.REFUSED, "sender-p")).handle(records)
    ):
        notifier(world, Picky(Verdict.REFUSED, "sender-p")).handle(records)
        (row,) = world.real_store.scan(NOTIFICATIONS)
        (shown,) = world.real_store.scan(INBOX)
        assert (row["state"], shown["state"]) == ("failed", "failed"), where
        assert world.real_store.count(DEAD_LETTERS) == 1, where
        assert not world.events(Topic.NOTIFICATION), where
        crashes += 1
    assert crashes >= 10


class Picky:
    """A provider that says ``verdict`` to some users, or cannot be reached."""

    def __init__(self, verdict: Verdict = Verdict.REFUSED, *users: str) -> None:
        self.memory = MemoryChannel()
        self.verdict = verdict
        self.users = set(users)
        self.reachable = True
        self.calls = 0

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        self.calls += 1
        if not self.reachable:
            raise Unavailable("nobody answers", place="provider")
        self.memory.send([m for m in messages if m.user_id not in self.users])
        return [
            Answer(self.verdict, "no such address") if m.user_id in self.users else TAKEN
            for m in messages
        ]


def row_of(world: World, *about: str) -> dict[str, Any]:
    key = notification_key(notification_id(*about))
    return world.real_store.fetch(NOTIFICATIONS, [key])[key]


PAID = ("paid", "PaymentCompleted", "sender-paid", "email")


def test_one_that_is_refused_for_good_is_a_dead_letter_alone(world: World) -> None:
    channel = Picky(Verdict.REFUSED, "sender-paid")
    consumer = notifier(world, channel)
    records = as_records(all_sorts())
    consumer.handle(records)
    consumer.handle(records)  # what comes again stays given up
    assert channel.calls == 1
    assert told(channel.memory.messages()) == ALL_TOLD - {("sender-paid", "email", "paid")}
    announced = {event.id for event in world.events(Topic.NOTIFICATION)}
    assert len(announced) == len(ALL_TOLD) - 1
    assert consumer.counters["failed"] == 1
    row = row_of(world, *PAID)
    assert (row["state"], row["attempts"], row["possible_repeat"]) == ("failed", 1, 0)
    letters = DeadLetters(world.real_store, consumer.delivery.waiting, world.clock)
    (letter,) = letters.of_day("2026-01-01", "", 10)
    assert (letter.parcel.id, letter.error) == (notification_id(*PAID), "no such address")


def test_a_provider_that_is_busy_is_asked_again_later(world: World) -> None:
    channel = Picky(Verdict.LATER, "sender-paid")
    consumer = notifier(world, channel)
    consumer.handle(as_records(all_sorts()))
    consumer.handle(as_records(all_sorts()))
    assert channel.calls == 1  # the others are done, and this one waits
    row = row_of(world, *PAID)
    assert (row["state"], row["attempts"]) == ("waiting", 1)
    assert 2e6 <= row["due_at_us"] - world.clock.now_us() <= 3e6
    assert channel.memory.sent == len(ALL_TOLD) - 1


def test_a_provider_that_is_away_keeps_nothing_back(world: World) -> None:
    away, here = Picky(), MemoryChannel()
    away.reachable = False
    consumer = NotificationConsumer(
        world.store, {"email": away, "sms": here, "push": here}, world.log, world.clock
    )
    consumer.handle(as_records(all_sorts()))
    assert {m.channel for m in here.messages()} == {"sms", "push"}
    assert notification_totals(world.real_store)["email", "waiting"] == 4
    # It is left alone for a while, and that is no try of anything.
    consumer.handle(as_records([payment_message("PaymentFailed", payment("more"))]))
    assert away.calls == 1 and consumer.delivery.away_s("email") > 0
    row = row_of(world, "more", "PaymentFailed", "sender-more", "email")
    assert (row["state"], row["attempts"], row["possible_repeat"]) == ("waiting", 0, 0)


def test_an_answer_that_was_lost_may_repeat_and_says_so(world: World) -> None:
    channel = Picky(Verdict.UNKNOWN, "sender-paid")
    consumer = notifier(world, channel)
    consumer.handle(as_records(all_sorts()))
    row = row_of(world, *PAID)
    assert (row["state"], row["attempts"], row["possible_repeat"]) == ("waiting", 1, 1)


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
