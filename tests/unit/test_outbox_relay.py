"""The relay on a real shard file and a real log: nothing lost, order kept, repeats recognisable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.backends.embedded.shard_database import EmbeddedShardDatabase
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import StorageFull, Unavailable
from paytm_lab.core.events import PaymentData, UserCreatedData, encode, unwrap
from paytm_lab.core.ids import event_id
from paytm_lab.ledger import schema
from paytm_lab.messaging.outbox_relay import ACKED, DELETE_ROWS, LeadingRelay, OutboxRelay
from paytm_lab.messaging.topics import create_topics
from paytm_lab.ports.event_log import Message, Record
from paytm_lab.ports.shard_database import ShardMeta

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


class Crash(Exception):
    """Raised at a fault point in place of a crash."""


class World:
    """One shard, its log, and a relay between them."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimulatedClock(START_US)
        self.path = folder / "shard-2.sqlite"
        self.database = EmbeddedShardDatabase(self.path, 2, schema.metadata, schema.INSERT_COLUMNS)
        meta = ShardMeta(0, 1, bytes(128))
        self.database.create(
            schema.system_accounts(4), meta, schema.FIRST_USER_ACCOUNT_ID, START_US
        )
        self.log = EmbeddedEventLog(folder / "log", self.clock)
        create_topics(self.log)
        self.crash_at: str | None = None
        self.relay = self.make_relay()

    def make_relay(self, batch_rows_max: int = 100, **more: Any) -> OutboxRelay:
        return OutboxRelay(
            self.database, self.log, self.clock, batch_rows_max, fault=self.reach, **more
        )

    def reach(self, point: str) -> None:
        if point == self.crash_at:
            raise Crash(point)

    def post(self, *rows: tuple[str, str, str, bytes, str]) -> None:
        """Rows (event id, type, aggregate id, data, traceparent), in one transaction."""
        transaction = self.database.begin()
        transaction.insert(
            "outbox_events",
            [
                (i, kind, key, data.decode(), self.clock.now_us(), trace)
                for i, kind, key, data, trace in rows
            ],
        )
        transaction.commit()

    def records(self, topic: str) -> list[Record]:
        return [
            record
            for partition in range(self.log.partitions(topic))
            for record in self.log.read(topic, partition, 0, 100_000)
        ]

    def close(self) -> None:
        self.log.close()
        self.database.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def payment(number: int, **more: Any) -> PaymentData:
    return PaymentData(
        payment_id=f"p{number}",
        from_user_id="alice",
        to_user_id="bob",
        amount_paise=100 + number,
        from_shard=2,
        to_shard=1,
        stamp_us=START_US + number,
        at_us=START_US + number,
        **more,
    )


def row(kind: str, data: PaymentData, trace: str = "") -> tuple[str, str, str, bytes, str]:
    return (event_id(data.payment_id, kind), kind, data.payment_id, encode(data), trace)


def ids(records: Sequence[Record]) -> list[str]:
    return [unwrap(record.value).id for record in records]


def test_a_row_becomes_an_envelope_under_its_payments_key(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    data = payment(7)
    world.clock.advance(1.25)
    world.post(row("PaymentInitiated", data, trace), row("PaymentFailed", data))
    assert world.relay.step() == 2
    initiated, failed = world.records("payment_events")
    assert {initiated.key, failed.key} == {"p7"}
    assert msgspec.json.decode(initiated.value) == {
        "specversion": "1.0",
        "id": "p7.PaymentInitiated",
        "source": "/shards/2",
        "type": "PaymentInitiated",
        "subject": "p7",
        "time": "2026-01-01T00:00:01.250000Z",
        "datacontenttype": "application/json",
        "traceparent": trace,
        "data": msgspec.to_builtins(data),
    }
    assert unwrap(failed.value).type == "PaymentFailed"
    assert world.database.outbox_rows() == 0
    assert world.relay.step() == 0
    assert world.records("analytics_events") == []


def test_accounts_creation_goes_to_analytics(world: World) -> None:
    data = encode(UserCreatedData("alice", 2, 5_000))
    world.post(("alice.UserCreated", "UserCreated", "alice", data, ""))
    world.relay.step()
    (record,) = world.records("analytics_events")
    assert (record.key, unwrap(record.value).type) == ("alice", "UserCreated")
    assert world.records("payment_events") == []


@pytest.mark.parametrize(
    ("kind", "balances", "expected"),
    [
        ("PaymentInitiated", {"from_balance_paise": 5}, {"from-initiated": ("alice", 5)}),
        ("PaymentCompleted", {"to_balance_paise": 0}, {"to-completed": ("bob", 0)}),
        (
            "PaymentCompleted",
            {"to_balance_paise": 6, "from_balance_paise": 7},
            {"to-completed": ("bob", 6), "from-completed": ("alice", 7)},
        ),
        ("PaymentFailed", {"from_balance_paise": 8}, {"from-failed": ("alice", 8)}),
        ("PaymentFailed", {}, {}),
        ("PaymentCancelled", {"from_balance_paise": 8}, {}),
    ],
)
def test_balances_are_emitted_under_derived_ids(
    world: World, kind: str, balances: dict[str, int], expected: dict[str, tuple[str, int]]
) -> None:
    world.post(row(kind, payment(1, **balances)))
    world.relay.step()
    assert ids(world.records("payment_events")) == [f"p1.{kind}"]
    records = world.records("analytics_events")
    got = {unwrap(r.value).id: msgspec.json.decode(unwrap(r.value).data) for r in records}
    assert got == {
        f"p1.BalanceUpdated.{leg}": {
            "user_id": user_id,
            "balance_paise": balance,
            "payment_id": "p1",
            "stamp_us": START_US + 1,
        }
        for leg, (user_id, balance) in expected.items()
    }
    assert all((r.key, unwrap(r.value).type) == ("p1", "BalanceUpdated") for r in records)


def test_a_crash_between_ack_and_delete_repeats_the_same_events(world: World) -> None:
    world.post(*[row("PaymentInitiated", payment(i, from_balance_paise=i)) for i in range(20)])
    world.crash_at = ACKED
    with pytest.raises(Crash):
        world.relay.step()
    assert world.database.outbox_rows() == 20, "acknowledged, not deleted"
    world.crash_at = None
    assert world.make_relay().step() == 20
    for topic in ("payment_events", "analytics_events"):
        records = world.records(topic)
        assert len(records) == 40
        assert len({(r.key, r.value) for r in records}) == 20, "repeats are equal to the byte"


def test_nothing_is_deleted_that_was_not_acknowledged(world: World) -> None:
    class FullLog:
        def append(self, messages: Sequence[Message]) -> None:
            world.log.append(messages[: len(messages) // 2])
            raise StorageFull("no space left")

    world.post(*[row("PaymentInitiated", payment(i)) for i in range(10)])
    relay = OutboxRelay(world.database, FullLog(), world.clock)  # type: ignore[arg-type]
    with pytest.raises(StorageFull):
        relay.step()
    assert (world.database.outbox_rows(), relay.relayed) == (10, 0)
    world.relay.step()
    assert set(ids(world.records("payment_events"))) == {
        f"p{i}.PaymentInitiated" for i in range(10)
    }


def test_a_row_that_commits_late_under_a_lower_id_is_not_skipped(world: World) -> None:
    world.post(row("PaymentInitiated", payment(1)), row("PaymentInitiated", payment(2)))
    world.relay.step()
    with sqlite3.connect(world.path) as connection:
        connection.execute(
            "INSERT INTO outbox_events (id, event_id, event_type, aggregate_id, event_data,"
            " created_at, traceparent) VALUES (1, ?, ?, ?, ?, 0, '')",
            [
                part.decode() if isinstance(part, bytes) else part
                for part in row("PaymentInitiated", payment(9))[:4]
            ],
        )
    connection.close()
    assert world.relay.step() == 1
    assert "p9.PaymentInitiated" in ids(world.records("payment_events"))


def test_batches_are_bounded_and_in_id_order(world: World) -> None:
    data = payment(1)
    rows = [(f"e{i}", "PaymentInitiated", "p1", encode(data), "") for i in range(25)]
    world.post(*rows)
    relay = world.make_relay(batch_rows_max=10)
    assert [relay.step() for _ in range(4)] == [10, 10, 5, 0]
    assert ids(world.records("payment_events")) == [f"e{i}" for i in range(25)]
    assert (relay.relayed, relay.events) == (25, 25)


def test_acked_rows_are_deleted_together_and_never_sent_again(world: World) -> None:
    relay = world.make_relay(delete_after_s=0.1)
    for number in range(3):
        world.post(row("PaymentInitiated", payment(number)))
        assert relay.step() == 1
        assert world.database.outbox_rows() == number + 1, "acked, not deleted yet"
        world.clock.advance(0.02)
    assert relay.step() == 0
    assert world.database.outbox_rows() == 3
    world.clock.advance(0.05)
    world.post(row("PaymentInitiated", payment(3)))
    assert relay.step() == 1
    assert world.database.outbox_rows() == 0, "the oldest was acked long enough ago"
    sent = sorted(ids(world.records("payment_events")))
    assert sent == [f"p{i}.PaymentInitiated" for i in range(4)]
    assert (relay.relayed, relay.events) == (4, 4)


def test_a_relay_that_ends_leaves_no_acked_row_behind(world: World, tmp_path: Path) -> None:
    coordination = EmbeddedCoordination(tmp_path / "coordination")
    leading = LeadingRelay(world.make_relay(delete_after_s=3_600.0), coordination, 2)
    world.post(row("PaymentInitiated", payment(1)))
    assert leading.step() == 1
    world.post(row("PaymentInitiated", payment(2)))
    leading.close()
    left = [each.event_id for each in world.database.read_outbox(10)]
    assert left == ["p2.PaymentInitiated"], "only what was never relayed"
    assert ids(world.records("payment_events")) == ["p1.PaymentInitiated"]
    coordination.close()


def test_a_killed_relay_deletes_nothing_when_it_is_closed(world: World) -> None:
    relay = world.make_relay(delete_after_s=3_600.0)
    world.post(row("PaymentInitiated", payment(1)))
    assert relay.step() == 1
    relay.paused = True
    relay.settle()
    assert world.database.outbox_rows() == 1


def test_many_acked_rows_are_deleted_at_once(world: World) -> None:
    relay = world.make_relay(delete_after_s=3_600.0)
    world.post(*[row("PaymentInitiated", payment(i)) for i in range(DELETE_ROWS - 1)])
    relay.step()
    assert world.database.outbox_rows() == DELETE_ROWS - 1
    world.post(row("PaymentInitiated", payment(DELETE_ROWS)))
    assert relay.step() == 1
    assert world.database.outbox_rows() == 0


def test_a_row_under_the_id_of_an_acked_one_is_another_row(world: World) -> None:
    """Another relay led meanwhile and deleted it; the shard may then use the id again."""
    relay = world.make_relay(delete_after_s=0.1)
    world.post(row("PaymentInitiated", payment(1)))
    assert relay.step() == 1
    with sqlite3.connect(world.path) as connection:
        connection.execute("UPDATE outbox_events SET event_id = 'other', aggregate_id = 'p2'")
    connection.close()
    world.clock.advance(1.0)
    assert relay.step() == 1
    assert sorted(ids(world.records("payment_events"))) == ["other", "p1.PaymentInitiated"]


def test_a_delete_that_failed_is_tried_again(world: World) -> None:
    world.post(row("PaymentInitiated", payment(1)))
    relay = world.make_relay()
    relay._database = _DeletesOnce(world.database)  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        relay.step()
    assert relay.step() == 0
    assert world.database.outbox_rows() == 0
    assert len(world.records("payment_events")) == 1


class _DeletesOnce:
    """The real shard, whose first delete finds it away."""

    def __init__(self, database: EmbeddedShardDatabase) -> None:
        self._database = database
        self._refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def delete_outbox(self, row_ids: Sequence[int]) -> None:
        if not self._refused:
            self._refused = True
            raise Unavailable("away")
        self._database.delete_outbox(row_ids)


def test_a_stopped_relay_leaves_the_outbox_alone_and_catches_up(world: World) -> None:
    world.post(row("PaymentInitiated", payment(1)))
    world.relay.paused = True
    assert world.relay.step() == 0
    assert world.database.outbox_rows() == 1
    world.relay.paused = False
    assert world.relay.step() == 1


def test_what_nobody_knows_goes_to_a_dead_letter_topic_and_blocks_nothing(world: World) -> None:
    world.post(
        ("x1", "PaymentTeleported", "p1", b"{}", ""),
        ("x2", "PaymentCompleted", "p2", b'{"to_balance_paise": "much"}', ""),
        row("PaymentInitiated", payment(3)),
    )
    assert world.relay.step() == 3
    (dead,) = world.records("payment_events.dead_letter")
    assert b"PaymentTeleported" in dict(dead.headers)["error"]
    assert set(ids(world.records("payment_events"))) == {"x2", "p3.PaymentInitiated"}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["post", "post", "step", "time", "crash", "restart"]), max_size=14),
    st.sampled_from([0.0, 0.1]),
)
def test_any_history_delivers_every_event_and_keeps_each_keys_order(
    tmp_path_factory: pytest.TempPathFactory, history: list[str], delete_after_s: float
) -> None:
    world = World(tmp_path_factory.mktemp("history"))
    relay = world.make_relay(batch_rows_max=5, delete_after_s=delete_after_s)
    posted: list[str] = []
    for act in [*history, *["step"] * 20, "time", "step"]:
        if act == "time":
            world.clock.advance(2 * delete_after_s)
        elif act == "post":
            start = len(posted)
            rows = [
                (f"e{i}", "PaymentInitiated", f"k{i % 2}", b"{}", "")
                for i in range(start, start + 3)
            ]
            world.post(*rows)
            posted += [r[0] for r in rows]
        elif act == "restart":
            relay = world.make_relay(batch_rows_max=5, delete_after_s=delete_after_s)
        else:
            world.crash_at = ACKED if act == "crash" else None
            with suppress(Crash):
                relay.step()
    assert world.database.outbox_rows() == 0
    by_key: dict[str, list[str]] = {"k0": [], "k1": []}
    for record in world.records("payment_events"):
        by_key[record.key].append(unwrap(record.value).id)
    for k, delivered in by_key.items():
        assert list(dict.fromkeys(delivered)) == posted[int(k[1]) :: 2], "first deliveries in order"
    world.close()


def test_only_the_leader_relays_and_another_takes_over(world: World, tmp_path: Path) -> None:
    clients = [EmbeddedCoordination(tmp_path / "coordination") for _ in range(2)]
    first, second = (LeadingRelay(world.make_relay(), client, 2) for client in clients)
    try:
        world.post(row("PaymentInitiated", payment(1)))
        assert (first.step(), second.step()) == (1, 0)
        world.post(row("PaymentInitiated", payment(2)))
        assert (second.step(), second.leads(), first.leads()) == (0, False, True)
        first.close()
        first.close()
        assert (first.step(), second.step()) == (0, 1)
        assert (first.leads(), second.leads()) == (False, True)
    finally:
        for client in clients:
            client.close()


def test_a_leadership_that_was_lost_is_given_up_before_anything_is_produced(
    world: World, tmp_path: Path
) -> None:
    with_lock, other = (EmbeddedCoordination(tmp_path / "coordination") for _ in range(2))
    leading = LeadingRelay(world.make_relay(), with_lock, 2)
    try:
        leading.step()
        with_lock.close()  # its leaderships are gone, as with a session that expired
        rival = other.try_lead("relay-shard-2")
        assert rival is not None
        world.post(row("PaymentInitiated", payment(1)))
        with pytest.raises(Unavailable, match="closed"):  # it asks to lead again
            leading.step()
        assert not leading.leads()
        assert world.records("payment_events") == []
    finally:
        other.close()
        with_lock.close()
