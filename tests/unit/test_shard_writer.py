"""Group commit: what fails is tried again, then cut down to the one bad operation. Every caller
gets one answer, and nobody is told that nothing happened when something may have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from paytm_lab.core.clock import SimulatedClock, SystemClock
from paytm_lab.core.errors import (
    AccountExists,
    CommitOutcomeLost,
    ConnectionLost,
    Deadlock,
    DuplicateKey,
    LockTimeout,
    OutboxFull,
    OutcomeUnknown,
    PaytmLabError,
    ShardUnavailable,
    StorageCorrupt,
    StorageFull,
    StoreError,
)
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import (
    Complete,
    CreateAccount,
    Credit,
    Operation,
    Outcome,
    Pay,
    SetAccountState,
)
from paytm_lab.ledger.shard_writer import ATTEMPTS_MAX, ShardWriter, SimulatedCrash
from tests.unit.memory_shard import MemoryShard

OPENING = 10_000
DEADLINE_S = 30


class Failing:
    """Raises the given errors, one a call of the named method, then lets all through."""

    def __init__(self, shard: MemoryShard, method: str, *errors: Exception) -> None:
        self.left = list(errors)
        self.method = method
        self.calls = 0
        shard.before = self

    def __call__(self, name: str) -> None:
        if name == self.method:
            self.calls += 1
            if self.left:
                raise self.left.pop(0)


class World:
    def __init__(self, **settings: Any) -> None:
        self.clock = SimulatedClock()
        self.shard = MemoryShard()
        self.points: list[str] = []
        settings.setdefault("fault", self.points.append)
        self.writer = ShardWriter(self.shard, self.clock, **settings)
        self.run(account("a"), account("b"))
        self.shard.commits = 0
        self.points.clear()

    def run(self, *operations: Operation) -> list[Any]:
        """All in one batch; each operation's one answer, in order."""
        answers: list[list[Any]] = [[] for _ in operations]
        for operation, answer in zip(operations, answers, strict=True):
            self.writer.put(operation, answer.append)
        self.writer.step()
        assert [len(answer) for answer in answers] == [1] * len(operations)
        return [answer[0] for answer in answers]

    def total(self) -> int:
        return sum(self.shard.balances().values())


@pytest.fixture
def world() -> World:
    return World()


def account(user: str, opening: int = OPENING) -> CreateAccount:
    number = sum(user.encode()) % 200
    return CreateAccount(user, opening, "INR", 0, bytes([number]) * 16, b"c" * 16)


def pay(number: int, amount: int = 10, key: bool = False, to_shard: int = 0) -> Pay:
    payment_id = (1000 + number).to_bytes(16, "big")
    return Pay(
        payment_id, "a", "b", amount, "INR", 0, to_shard, 1, 5, key_hash=payment_id if key else None
    )


def lost(shard: MemoryShard, *then: Exception) -> None:
    """The next commit happens, but its answer is lost; every call of begin then raises ``then``."""

    def after_commit() -> None:
        shard.after_commit = lambda: None
        Failing(shard, "begin", *then)
        raise CommitOutcomeLost("lost")

    shard.after_commit = after_commit


# -- batches ---------------------------------------------------------------------------------------


def test_all_that_waits_is_one_commit(world: World) -> None:
    results = world.run(*(pay(n) for n in range(50)))
    assert {result.status for result in results} == {"COMPLETED"}
    assert world.shard.commits == 1
    assert world.writer.stats.operations == 2 + 50
    assert world.shard.account("a")["balance"] == OPENING - 500


def test_a_batch_is_bounded_and_the_rest_waits() -> None:
    world = World(batch_rows_max=20)
    answers: list[Any] = []
    for number in range(50):
        world.writer.put(pay(number), answers.append)
    steps = [world.writer.step() for _ in range(4)]
    assert steps == [20, 20, 10, 0]
    assert len(answers) == 50


def test_operations_see_those_before_them(world: World) -> None:
    results = world.run(*(pay(n, 4_000) for n in range(3)))
    assert [result.status for result in results] == ["COMPLETED", "COMPLETED", "FAILED"]
    assert results[2].reason == "insufficient_funds"


def test_an_account_made_in_a_batch_pays_in_it(world: World) -> None:
    new = account("new")
    payment = Pay(b"n" * 16, "new", "a", 10, "INR", 0, 0, 1, 5)
    hold = Pay(b"h" * 16, "new", "a", 20, "INR", 0, 0, 1, 5, hold=True, expires_at=2**60)
    results = world.run(new, payment, hold)
    assert [result.status for result in results] == ["active", "COMPLETED", "HELD"]
    row = world.shard.account("new")
    assert (row["balance"], row["held"]) == (OPENING - 10, 20)
    assert world.shard.entries_sum(row["id"]) == OPENING - 10
    assert world.shard.tables["holds"][0]["account_id"] == row["id"]


def test_lazy_operations_ride_along(world: World) -> None:
    world.run(pay(1, to_shard=1))
    answers: list[Any] = []
    world.writer.put_lazy(Complete(pay(1).payment_id), answers.append)
    world.run(pay(2))
    assert [answer.status for answer in answers] == ["COMPLETED"]
    assert world.shard.commits == 2
    row = world.shard.payment(pay(1).payment_id)
    assert row is not None and row["status"] == "COMPLETED"


def test_one_callback_that_fails_keeps_no_other_from_its_answer(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = []

    def bad(result: Any) -> None:
        raise ValueError("a caller's own mistake")

    world.writer.put(pay(1), bad)
    world.writer.put(pay(2), answers.append)
    world.writer.step()
    assert len(answers) == 1
    assert "callback failed" in caplog.text


# -- what fails is tried again ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Deadlock, LockTimeout, DuplicateKey, ConnectionLost])
@pytest.mark.parametrize("method", ["lock_accounts", "insert", "commit"])
@pytest.mark.parametrize("times", [1, ATTEMPTS_MAX - 1])
def test_a_passing_failure_is_not_seen(
    world: World, kind: type[StoreError], method: str, times: int
) -> None:
    failing = Failing(world.shard, method, *[kind("x") for _ in range(times)])
    results = world.run(pay(1), pay(2, key=True), account("c"))
    assert [result.status for result in results] == ["COMPLETED", "COMPLETED", "active"]
    assert failing.calls >= times + 1
    assert world.shard.commits == 1
    assert world.shard.account("a")["balance"] == OPENING - 20


def test_the_one_bad_operation_is_found(world: World) -> None:
    bad = pay(7, 13)

    batches: list[list[Operation]] = []
    _spy_on_batches(world, batches.append)

    def before(name: str) -> None:
        if name == "insert" and bad in batches[-1]:
            raise StoreError("this row cannot be stored")

    world.shard.before = before
    results = world.run(*(bad if n == 7 else pay(n) for n in range(16)))
    assert [type(result) for n, result in enumerate(results) if n != 7] == [Outcome] * 15
    assert type(results[7]) is StoreError and "cannot be stored" in str(results[7])
    assert world.shard.account("a")["balance"] == OPENING - 150
    assert world.shard.payment(bad.payment_id) is None
    assert world.writer.stats.bisections == 4


def _spy_on_batches(world: World, see: Callable[[list[Operation]], None]) -> None:
    attempt = world.writer._attempt

    def spy(operations: list[Operation], recheck: bool) -> Any:
        see(operations)
        return attempt(operations, recheck)

    world.writer._attempt = spy  # type: ignore[method-assign]


def test_an_error_that_nobody_named_is_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    Failing(world.shard, "meta", *[ValueError("what is this") for _ in range(99)])
    (result,) = world.run(pay(1))
    assert type(result) is StoreError and "what is this" in str(result)
    assert "shard-0" in str(result)
    world.shard.before = lambda name: None
    assert world.run(pay(2))[0].status == "COMPLETED"


@pytest.mark.parametrize("kind", [StorageFull, StorageCorrupt])
def test_a_full_or_damaged_disk_is_said_at_once(world: World, kind: type[StoreError]) -> None:
    failing = Failing(world.shard, "commit", kind("x"))
    results = world.run(pay(1), pay(2))
    assert [type(result) for result in results] == [kind, kind]
    assert failing.calls == 1
    assert world.total() == 2 * OPENING
    assert world.run(pay(1))[0].status == "COMPLETED"


# -- the answer of a commit is lost ----------------------------------------------------------------


def test_a_lost_answer_is_found_in_the_rows(world: World) -> None:
    operations = [
        pay(1), pay(2, key=True), pay(3, 99_999), pay(4, to_shard=1), account("c", 500),
        SetAccountState("b", "frozen"), Credit(b"x" * 16, "z", "a", 7, "INR", 1, 0, 1, 9, 5),
    ]  # fmt: skip
    lost(world.shard)
    results = world.run(*operations)
    assert [result.status for result in results] == [
        "COMPLETED", "COMPLETED", "FAILED", "PENDING", "active", "frozen", "COMPLETED",
    ]  # fmt: skip
    assert all(result.repeated for result in results)
    assert results[4].balance == 500
    assert world.shard.account("a")["balance"] == OPENING - 30 + 7
    assert len(world.shard.tables["transactions"]) == 3 + 5


def test_a_lost_answer_of_a_shard_that_stays_away_is_unknown(world: World) -> None:
    lost(world.shard, *[ShardUnavailable("away") for _ in range(9)])
    results = world.run(pay(1), pay(2))
    assert [type(result) for result in results] == [OutcomeUnknown] * 2
    assert results[0].payment_id == payment_id_text(pay(1).payment_id)
    assert world.writer.is_down
    world.shard.before = lambda name: None
    world.clock.advance(1)
    (again,) = world.run(pay(1))
    assert (again.status, again.repeated) == ("COMPLETED", True)
    assert world.shard.account("a")["balance"] == OPENING - 20


@pytest.mark.parametrize(
    "then",
    [
        [LockTimeout("x")] * 99,
        [Deadlock("x")] * 99,
        [StorageFull("x")],
        [StorageCorrupt("x")],
        [StoreError("x")] * 99,
        [ValueError("x")] * 99,
        [ConnectionLost("x")] * 99,
        [LockTimeout("x")] * 4 + [ShardUnavailable("x")] * 9,
        [CommitOutcomeLost("x")] * 99,
    ],
)
def test_after_a_lost_answer_nobody_says_that_nothing_happened(
    world: World, then: list[Exception]
) -> None:
    lost(world.shard, *then)
    results = world.run(pay(1), pay(2))
    assert [type(result) for result in results] == [OutcomeUnknown] * 2
    assert len(world.shard.tables["transactions"]) == 2 + 2  # they did happen


def test_every_commit_loses_its_answer(world: World) -> None:
    def lose() -> None:
        raise CommitOutcomeLost("again")

    world.shard.after_commit = lose
    results = world.run(pay(1), account("c"))
    assert [type(result) for result in results] == [OutcomeUnknown] * 2
    world.shard.after_commit = lambda: None
    assert world.shard.account("a")["balance"] == OPENING - 10


# -- a shard that is down --------------------------------------------------------------------------


def test_a_shard_that_is_away_is_left_alone_for_a_while(world: World) -> None:
    failing = Failing(world.shard, "begin", *[ShardUnavailable("away") for _ in range(2)])
    world.writer.require_up()
    (result,) = world.run(pay(1))
    assert type(result) is ShardUnavailable and result.retry_after_s > 0
    assert failing.calls == 1
    with pytest.raises(ShardUnavailable):
        world.writer.require_up()
    world.clock.advance(0.6)
    world.writer.require_up()  # this one may try
    with pytest.raises(ShardUnavailable):
        world.writer.require_up()  # and nobody beside it
    assert type(world.run(pay(1))[0]) is ShardUnavailable
    world.clock.advance(0.6)
    world.writer.require_up()
    assert world.run(pay(1))[0].status == "COMPLETED"
    world.writer.require_up()
    assert not world.writer.is_down
    assert world.shard.account("a")["balance"] == OPENING - 10


def test_a_connection_that_stays_lost_is_a_shard_that_is_down(world: World) -> None:
    failing = Failing(world.shard, "begin", *[ConnectionLost("gone") for _ in range(99)])
    results = world.run(pay(1), pay(2))
    assert [type(result) for result in results] == [ShardUnavailable] * 2
    assert failing.calls == ATTEMPTS_MAX
    assert world.writer.is_down


# -- a full outbox ---------------------------------------------------------------------------------


def full_world() -> World:
    world = World(outbox_rows_max=20)
    world.run(pay(0, key=True), pay(50, to_shard=1), pay(51, to_shard=1))
    while world.shard.outbox_rows() < 20:
        world.run(pay(100 + world.shard.outbox_rows()))
    return world


def test_a_full_outbox_refuses_what_is_new_and_ends_what_is_open() -> None:
    world = full_world()
    before = world.shard.balances()
    results = world.run(
        pay(1), account("c"), Credit(b"x" * 16, "z", "a", 7, "INR", 1, 0, 1, 9, 5),
        Complete(pay(50).payment_id),
    )  # fmt: skip
    assert [type(result) for result in results[:2]] == [OutboxFull] * 2
    assert [result.status for result in results[2:]] == ["COMPLETED", "COMPLETED"]
    assert world.shard.balances() == before | {"a": before["a"] + 7}
    world.shard.delete_outbox([row.id for row in world.shard.read_outbox(99)])
    assert world.run(pay(1))[0].status == "COMPLETED"


def test_a_known_payment_answers_though_the_outbox_is_full() -> None:
    world = full_world()
    (again,) = world.run(pay(0, key=True))
    assert (again.status, again.repeated) == ("COMPLETED", True)
    (made,) = world.run(account("a"))
    assert (made.status, made.repeated) == ("active", True)
    (other,) = world.run(account("a", 1))
    assert type(other) is AccountExists


def test_a_payment_whose_own_events_filled_the_outbox_is_not_called_refused() -> None:
    world = World(outbox_rows_max=8)
    assert world.shard.outbox_rows() < 8
    lost(world.shard)
    results = world.run(pay(1), pay(2, key=True))
    assert world.shard.outbox_rows() >= 8
    assert [result.status for result in results] == ["COMPLETED", "COMPLETED"]


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "committed"), [("writer:before_commit", 0), ("writer:committed", 1)]
)
def test_a_crash_ends_the_writer_where_it_is(point: str, committed: int) -> None:
    world = World()

    def fault(reached: str) -> None:
        if reached == point:
            world.writer.kill()
            raise SimulatedCrash(point)

    world.writer._fault = fault
    answers: list[Any] = []
    for number in range(4):
        world.writer.put(pay(number), answers.append)
    world.writer.step()
    world.writer.put(pay(9), answers.append)
    assert world.writer.step() == 0
    assert answers == []
    assert world.shard.commits == committed
    assert world.writer.queue_depth() == 0


def test_a_killed_writer_loses_its_queue(world: World) -> None:
    answers: list[Any] = []
    world.writer.put(pay(1), answers.append)
    world.writer.put_lazy(Complete(pay(0).payment_id), answers.append)
    world.writer.kill()
    assert world.writer.step() == 0
    world.writer.stop()
    assert answers == [] and world.shard.commits == 0


def test_stopping_finishes_what_waits() -> None:
    shard = MemoryShard()
    writer = ShardWriter(shard, SystemClock())
    writer.start()
    answers: list[Any] = []
    writer.put(account("a"), answers.append)
    writer.put(account("b"), answers.append)
    for number in range(200):
        writer.put(pay(number), answers.append)
    writer.put_lazy(Complete(b"z" * 16), answers.append)
    writer.stop()
    assert len(answers) == 203
    assert shard.account("b")["balance"] == OPENING + 2_000


def test_lazy_operations_go_alone_after_a_moment() -> None:
    writer = ShardWriter(MemoryShard(), SystemClock(), idle_finalise_s=0.05)
    writer.start()
    arrived = threading.Event()
    writer.put_lazy(Complete(b"z" * 16), lambda result: arrived.set())
    assert not arrived.wait(0.01)
    assert arrived.wait(0.4)  # not only when something else wakes the writer
    writer.stop()


def test_an_error_is_an_answer_and_never_an_exception(world: World) -> None:
    result = world.run(SetAccountState("nobody", "frozen"))[0]
    assert isinstance(result, PaytmLabError)
