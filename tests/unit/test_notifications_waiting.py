"""What waits: quiet hours, busy providers, providers that are away; every crash in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import NotFound, Unavailable
from paytm_lab.core.events import Topic
from paytm_lab.notifications.channels import (
    TAKEN,
    Answer,
    MemoryChannel,
    Outgoing,
    Verdict,
    every_kind,
)
from paytm_lab.notifications.consumer import NotificationConsumer
from paytm_lab.notifications.dead_letters import DeadLetters
from paytm_lab.notifications.delivery import Delivery
from paytm_lab.notifications.preferences import DEFAULTS, Choice
from paytm_lab.notifications.quiet import QuietHours
from paytm_lab.notifications.records import notification_totals
from paytm_lab.notifications.sweeper import Sweeper
from paytm_lab.notifications.tables import DEAD_LETTERS, INBOX, NOTIFICATIONS, WAITING
from paytm_lab.notifications.user_inbox import UserInbox
from paytm_lab.notifications.waiting import LANES, MINUTE_US, Waiting
from paytm_lab.ports.event_log import Record
from tests.unit.consumer_world import (
    START_US,
    Crash,
    Plan,
    Port,
    World,
    as_records,
    payment,
    payment_message,
)

HOUR_S = 3_600.0
# START_US is 05:30 in Kolkata.
NIGHT = QuietHours(22 * 60, 7 * 60)


class Fickle(MemoryChannel):
    """Answers from a list of verdicts, then takes everything; None: nobody answers."""

    def __init__(self, *verdicts: Verdict | None) -> None:
        super().__init__()
        self.verdicts = list(verdicts)
        self.calls = 0

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        self.calls += 1
        verdict = self.verdicts.pop(0) if self.verdicts else Verdict.TAKEN
        if verdict is None:
            raise Unavailable("nobody answers", place="provider")
        if verdict in (Verdict.TAKEN, Verdict.UNKNOWN):
            super().send(messages)
        return [TAKEN if verdict is Verdict.TAKEN else Answer(verdict, "451 busy")] * len(messages)


class Mailing:
    """Consumer and sweeper over one world, as one process has them."""

    def __init__(self, world: World, channel: Any, **options: Any) -> None:
        self.world = world
        self.consumer = NotificationConsumer(
            world.store, every_kind(channel), world.log, world.clock
        )
        self.delivery = self.consumer.delivery
        for name, value in options.items():
            setattr(self.delivery, f"_{name}", value)
        self.coordination = EmbeddedCoordination(world.folder / "coordination")
        self.sweeper = Sweeper(world.store, self.delivery, self.coordination, world.clock)

    def handle(self, records: Sequence[Record]) -> None:
        self.consumer.handle(records)

    def sweep(self, seconds: float = 0.0, every_s: float = 1.0) -> int:
        """Step through so much time; how many rows were dealt with."""
        done = self.sweeper.step()
        while seconds > 0:
            self.world.clock.advance(min(every_s, seconds))
            seconds -= every_s
            done += self.sweeper.step()
        return done

    def close(self) -> None:
        self.sweeper.close()
        self.coordination.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    yield world
    world.close()


def quiet(world: World, *users: str, hours: QuietHours = NIGHT) -> None:
    from paytm_lab.notifications.preferences import Preferences

    preferences = Preferences(world.real_store, world.clock)
    for user in users:
        preferences.store(user, Choice(dict(DEFAULTS), hours))


def paid(*names: str) -> list[Record]:
    return as_records([payment_message("PaymentCompleted", payment(name)) for name in names])


def states(world: World) -> Counter[str]:
    return Counter(row["state"] for row in world.real_store.scan(NOTIFICATIONS))


def sent_ids(channel: MemoryChannel) -> Counter[str]:
    return Counter(m.notification_id for m in channel.messages())


def test_quiet_hours_keep_it_until_they_end(world: World) -> None:
    quiet(world, "sender-a")
    channel = MemoryChannel()
    mailing = Mailing(world, channel)
    mailing.handle(paid("a"))
    assert [m.user_id for m in channel.messages()] == ["receiver-a"]
    inbox = UserInbox(world.real_store, world.clock)
    (row,) = inbox.page("sender-a", 10).rows
    assert (row["state"], row["due_at_us"]) == ("waiting", START_US + 5_400_000_000)
    mailing.sweep(1.5 * HOUR_S - 2, every_s=60)
    assert channel.sent == 1
    mailing.sweep(5)
    (mine,) = channel.messages("sender-a")
    assert 0 <= mine.sent_us - row["due_at_us"] <= 2_000_000
    (row,) = inbox.page("sender-a", 10).rows
    assert (row["state"], row["ended_at_us"]) == ("sent", mine.sent_us)
    assert world.real_store.count(WAITING) == 0
    assert len({e.id for e in world.events(Topic.NOTIFICATION)}) == 2
    mailing.sweep(2 * HOUR_S, every_s=60)
    mailing.handle(paid("a"))
    mailing.sweep(HOUR_S, every_s=60)
    assert channel.sent == 2
    mailing.close()


def test_a_redelivered_event_finds_what_waits_and_makes_no_second(world: World) -> None:
    quiet(world, "sender-a")
    channel = MemoryChannel()
    mailing = Mailing(world, channel)
    for _ in range(3):
        mailing.handle(paid("a"))
        world.clock.advance(600)
    assert world.real_store.count(WAITING) == 1
    mailing.sweep(2 * HOUR_S, every_s=30)
    mailing.handle(paid("a"))
    mailing.sweep(HOUR_S, every_s=30)
    assert set(sent_ids(channel).values()) == {1} and channel.sent == 2
    mailing.close()


def test_a_busy_provider_is_asked_with_growing_waits_then_given_up(world: World) -> None:
    channel = Fickle(*[Verdict.LATER] * 20)
    mailing = Mailing(world, {"email": channel}, attempts_max=4)
    mailing.consumer.delivery.channels.update(email=channel, push=MemoryChannel())
    mailing.handle(paid("a"))
    calls = []
    for _ in range(60):
        before = channel.calls
        mailing.sweep(1)
        if channel.calls > before:
            calls.append(world.clock.monotonic_s())
    assert channel.calls == 4
    waits = [calls[0], *(later - sooner for sooner, later in pairwise(calls))]
    expected = [(2, 4), (4, 7), (8, 12)]
    assert all(lo <= wait <= hi for wait, (lo, hi) in zip(waits, expected, strict=True))
    assert states(world) == {"failed": 1, "sent": 1}
    assert world.real_store.count(WAITING) == 0
    # An admin lets it be tried again, as if it were new.
    letters = DeadLetters(world.real_store, mailing.delivery.waiting, world.clock)
    (letter,) = letters.of_day("2026-01-01", "", 10)
    assert (letter.error, letter.attempts) == ("451 busy", 4)
    channel.verdicts = [Verdict.LATER] * 3
    letters.retry(letter.parcel.id)
    with pytest.raises(NotFound):
        letters.retry(letter.parcel.id)
    assert letters.of_day("2026-01-01", "", 10) == []
    mailing.sweep(60)
    assert channel.calls == 8 and sent_ids(channel) == {letter.parcel.id: 1}
    with pytest.raises(NotFound):
        letters.retry(letter.parcel.id)
    with pytest.raises(NotFound):
        letters.retry("nobody's")
    mailing.close()


def test_an_outage_of_hours_loses_nothing_and_counts_as_no_try(world: World) -> None:
    channel = Fickle(*[None] * 500)
    mailing = Mailing(world, channel, attempts_max=2)
    mailing.handle(paid("a", "b"))
    mailing.sweep(3 * HOUR_S, every_s=5)
    assert channel.sent == 0 and states(world) == {"waiting": 4}
    assert 150 <= channel.calls <= 300  # once a minute, not for each that waits
    channel.verdicts.clear()
    mailing.sweep(120)
    assert states(world) == {"sent": 4} and set(sent_ids(channel).values()) == {1}
    rows = list(world.real_store.scan(NOTIFICATIONS))
    assert {(r["attempts"], r["possible_repeat"]) for r in rows} == {(1, 0)}
    mailing.close()


def test_one_that_no_provider_can_handle_fails_alone(world: World) -> None:
    class Choking(MemoryChannel):
        def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
            if any(m.user_id == "sender-bad" for m in messages):
                raise ValueError("cannot be written")
            return super().send(messages)

    quiet(world, "sender-a", "sender-bad", "sender-c")
    channel = Choking()
    mailing = Mailing(world, channel)
    mailing.handle(paid("a", "bad", "c"))
    mailing.sweep(2 * HOUR_S, every_s=60)
    assert states(world) == {"sent": 5, "failed": 1}
    letters = DeadLetters(world.real_store, mailing.delivery.waiting, world.clock)
    (letter,) = letters.of_day("2026-01-01", "", 10)
    assert letter.error == "ValueError: cannot be written"
    mailing.close()


def test_many_that_are_due_at_one_time_all_go(world: World) -> None:
    names = [f"n{i}" for i in range(3_000)]
    quiet(world, *(f"sender-{name}" for name in names))
    channel = MemoryChannel()
    mailing = Mailing(world, channel)
    mailing.delivery.waiting = Waiting(world.store, world.clock, lane_rows_max=100)
    for start in range(0, 3_000, 500):
        mailing.handle(paid(*names[start : start + 500]))
    assert states(world)["waiting"] == 3_000
    lanes = Counter((r["minute"], r["lane"]) for r in world.real_store.scan(WAITING))
    assert max(lanes.values()) <= 100 and len(lanes) >= 30  # spread over minutes
    mailing.sweep(1.5 * HOUR_S, every_s=60)
    mailing.sweep(15 * 60, every_s=5)
    assert states(world) == {"sent": 6_000} and set(sent_ids(channel).values()) == {1}
    assert world.real_store.count(WAITING) == 0
    mailing.close()


def test_where_an_hour_is_full_events_wait_in_the_log(world: World) -> None:
    quiet(world, *(f"sender-n{i}" for i in range(400)))
    mailing = Mailing(world, MemoryChannel())
    mailing.delivery.waiting = Waiting(world.store, world.clock, lane_rows_max=1)
    with pytest.raises(Unavailable, match="too many"):
        mailing.handle(paid(*(f"n{i}" for i in range(400))))
    assert world.real_store.count(WAITING) <= 60 * LANES
    mailing.close()


def test_one_that_took_minutes_to_store_is_found_all_the_same(world: World) -> None:
    class Slow(Port):
        stalls = 1

        def __getattr__(self, name: str) -> Any:
            method = super().__getattr__(name)

            def call(*arguments: Any, **named: Any) -> Any:
                if name == "upsert" and arguments[0] == WAITING and self.stalls:
                    Slow.stalls -= 1
                    world.clock.advance(600)
                return method(*arguments, **named)

            return call

    world.store = Slow(world.real_store, Plan())
    channel = Fickle(Verdict.LATER)
    mailing = Mailing(world, channel)
    mailing.sweep()
    mailing.handle(paid("a"))
    mailing.sweep(240)
    assert states(world) == {"sent": 2} and set(sent_ids(channel).values()) == {1}
    mailing.close()


class _Ahead:
    """The clock of a machine that is ten minutes ahead."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.monotonic_s = clock.monotonic_s

    def now_us(self) -> int:
        return self._clock.now_us() + 10 * MINUTE_US


def test_one_that_a_clock_puts_where_another_has_swept_is_found_all_the_same(world: World) -> None:
    channel = Fickle(Verdict.LATER, Verdict.TAKEN, Verdict.LATER)
    here = Mailing(world, channel)
    there = Delivery(world.store, every_kind(channel), world.log, _Ahead(world.clock))
    sweeper = Sweeper(world.store, there, here.coordination, _Ahead(world.clock))
    here.handle(paid("a"))
    sweeper.step()
    here.handle(paid("b"))
    for _ in range(15):
        world.clock.advance(60)
        sweeper.step()
    assert states(world) == {"sent": 4}
    assert set(sent_ids(channel).values()) == {1}
    assert list(world.real_store.scan(WAITING)) == []
    sweeper.close()
    here.close()


def test_only_one_process_sweeps_and_another_takes_over(world: World) -> None:
    quiet(world, "sender-a", "sender-b")
    channel = MemoryChannel()
    first, second = Mailing(world, channel), Mailing(world, channel)
    first.handle(paid("a"))
    second.handle(paid("b"))
    first.sweep()
    world.clock.advance(1.5 * HOUR_S)
    assert second.sweep(5) == 0
    first.close()
    assert second.sweep(10) == 2
    assert set(sent_ids(channel).values()) == {1} and channel.sent == 4
    second.close()


def test_nobody_swept_for_days(world: World) -> None:
    quiet(world, "sender-a")
    channel = MemoryChannel()
    mailing = Mailing(world, channel)
    mailing.handle(paid("a"))
    mailing.close()
    world.clock.advance(4 * 24 * HOUR_S)
    again = Mailing(world, channel)
    again.sweep(40)
    assert states(world) == {"sent": 2} and channel.sent == 2
    again.close()


class Changing(Port):
    """Only calls that change something count: a crash at a read is one before the next of them."""

    def __getattr__(self, name: str) -> Any:
        if name in ("upsert", "insert_if_absent", "delete", "append", "send"):
            return super().__getattr__(name)
        return getattr(self._inner, name)


def crashed_world(
    folder: Path, verdicts: Sequence[Verdict | None], at: int, after: bool
) -> tuple[World, Fickle, str, bool]:
    """Deliver and sweep through the end of quiet hours, dying at the ``at``-th change; then what
    was not committed comes again, to another process. The last: whether there were so many.
    """
    world = World(folder)
    world.store = Changing(world.real_store, world.plan)
    world.log = Changing(world.real_log, world.plan)
    quiet(world, "sender-a", hours=NIGHT._replace(to_minute=5 * 60 + 32))
    channel, crashed = Fickle(*verdicts), ""
    world.plan.at, world.plan.after, world.plan.calls = at, after, 0
    mailing = Mailing(world, Changing(channel, world.plan))
    try:
        mailing.handle(paid("a", "b"))
        mailing.sweep(360, every_s=10)
    except Crash as crash:
        crashed = str(crash)
    was_reached, world.plan.at = world.plan.calls >= at, 0
    mailing.close()
    again = Mailing(world, channel)
    again.handle(paid("a", "b"))
    again.sweep(360, every_s=10)
    again.close()
    return world, channel, crashed, was_reached


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verdicts", [(Verdict.LATER, Verdict.LATER), (None, None), ()])
def test_a_crash_anywhere_loses_nothing_and_repeats_only_what_it_says(
    tmp_path: Path, verdicts: tuple[Verdict | None, ...], after: bool
) -> None:
    at = repeats = 0
    while True:
        at += 1
        world, channel, crashed, was_reached = crashed_world(
            tmp_path / f"{at}", verdicts, at, after
        )
        where = f"{crashed} ({at})"
        assert states(world) == {"sent": 4}, where
        assert {r["state"] for r in world.real_store.scan(INBOX)} == {"sent"}, where
        assert world.real_store.count(INBOX) == 4, where
        assert world.real_store.count(WAITING) == 0, where
        assert len({e.id for e in world.events(Topic.NOTIFICATION)}) == 4, where
        copies = sent_ids(channel)
        assert len(copies) == 4 and max(copies.values()) <= 2, where
        rows = world.real_store.scan(NOTIFICATIONS)
        shown = {row["notification_id"] for row in rows if row["possible_repeat"]}
        assert {id_ for id_, count in copies.items() if count > 1} <= shown, where
        repeats += max(copies.values()) - 1
        world.close()
        if not was_reached:
            break
    assert at > 12 and 1 <= repeats <= 4


class Refusing(MemoryChannel):
    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        return [Answer(Verdict.REFUSED, "550 no such user")] * len(messages)


@pytest.mark.parametrize("after", [False, True])
def test_what_the_sweeper_gave_up_is_shown_as_failed_wherever_it_crashed(
    tmp_path: Path, after: bool
) -> None:
    at, was_reached = 0, True
    while was_reached:
        at += 1
        world = World(tmp_path / f"{at}")
        quiet(world, "sender-a", hours=NIGHT._replace(to_minute=5 * 60 + 32))
        Mailing(world, Refusing()).handle(paid("a"))
        world.store = Changing(world.real_store, world.plan)
        world.log = Changing(world.real_log, world.plan)
        world.plan.at, world.plan.after, world.plan.calls = at, after, 0
        mailing = Mailing(world, Refusing())
        with suppress(Crash):
            mailing.sweep(360, every_s=10)
        was_reached, world.plan.at = world.plan.calls >= at, 0
        mailing.close()
        again = Mailing(world, Refusing())
        again.sweep(360, every_s=10)
        again.close()
        assert states(world) == {"failed": 2}, at
        assert {r["state"] for r in world.real_store.scan(INBOX)} == {"failed"}, at
        assert world.real_store.count(DEAD_LETTERS) == 2, at
        assert world.real_store.count(WAITING) == 0, at
        world.close()
    assert at > 5


def test_totals_show_what_waits(world: World) -> None:
    quiet(world, "sender-a")
    mailing = Mailing(world, MemoryChannel())
    mailing.handle(paid("a"))
    assert notification_totals(world.real_store) == {
        ("email", "waiting"): 1, ("push", "sent"): 1,
    }  # fmt: skip
    (row,) = world.real_store.scan(WAITING)
    assert row["due_us"] // MINUTE_US == row["minute"] and 0 <= row["lane"] < LANES
    mailing.close()
