"""Clocks that jump, slots that move under a payment, one damaged row: no money comes or goes by it,
and nobody else waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.backends.embedded.coordination import EmbeddedCoordination
from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import BadInput, OutcomeUnknown
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger import as_of, recovery
from paytm_lab.ledger.housekeeping import Housekeeping
from paytm_lab.ledger.operations import Outcome, PaymentRequest
from tests.unit.ledger_world import LedgerWorld, Submitted

HOUR_S = 3_600.0


class SetClock(SimulatedClock):
    """Its wall time can be set, as an operator or NTP does; ``monotonic_s`` only ever goes on."""

    def __init__(self) -> None:
        super().__init__()
        self._set_by_us = 0

    def now_us(self) -> int:
        return super().now_us() + self._set_by_us

    def set_back(self, seconds: float) -> None:
        self._set_by_us -= round(seconds * 1e6)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld(tmp_path, clock=SetClock())
    made.open_accounts(9, 1_000)
    yield made
    made.close()


def status(world: LedgerWorld, payment_id: bytes) -> str:
    rows = world.query(
        world.engine.source_of(payment_id),
        f"SELECT status FROM transactions WHERE transaction_id = x'{payment_id.hex()}'"
        " AND role <> 'destination'",
    )
    return str(rows[0].status)


def balance(world: LedgerWorld, user: str) -> int:
    shard = int(user) % 3
    rows = world.query(shard, f"SELECT balance FROM accounts WHERE user_id = '{user}'")
    return int(rows[0].balance)


# -- clocks ---------------------------------------------------------------------------------------


def test_opening_finishes_what_was_begun_before_the_clock_was_set_back(world: LedgerWorld) -> None:
    caught = world.half_paid("0", "1", 70)
    world.clock.set_back(HOUR_S)
    report = world.recovery.run(age_us=0)
    assert (report.found, report.completed) == (1, 1)
    world.settle()
    assert (status(world, caught), balance(world, "1")) == ("COMPLETED", 1_070)
    world.relay()
    world.audit().require_clean()


def test_a_running_lab_finishes_it_too(world: LedgerWorld) -> None:
    caught = world.half_paid("0", "1", 70)
    world.clock.set_back(HOUR_S)
    fresh = world.submit("3", "4", 70)
    world.step(0)
    report = world.recovery.run()
    assert (report.found, report.completed) == (1, 1)
    world.settle()
    assert status(world, caught) == "COMPLETED"
    assert isinstance(fresh.result, Outcome)


def test_what_a_clock_that_is_a_little_ahead_began_is_left_to_its_process(
    world: LedgerWorld,
) -> None:
    world.submit("0", "1", 70)
    world.step(0)
    world.clock.set_back(30)
    assert world.recovery.run().found == 0


def test_a_pass_ends_though_another_machine_goes_on_paying_in_the_future(
    world: LedgerWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ROUND_ROWS_MAX", 2)
    ahead = SetClock()
    ahead.set_back(-HOUR_S)
    other = LedgerWorld(tmp_path, seed=2, clock=ahead)
    for _ in range(5):
        other.submit("0", "1", 1)
    other.step(0)
    resume, resumed = world.engine.resume, 0

    def resume_and_pay_on(*arguments: Any) -> None:
        nonlocal resumed
        resumed += 1
        assert resumed < 50, "it does not end"
        other.submit("0", "1", 1)
        other.step(0)
        resume(*arguments)

    monkeypatch.setattr(world.engine, "resume", resume_and_pay_on)
    report = world.recovery.run(age_us=0)
    assert 5 <= report.found < 20
    other.close()


def test_a_pass_leaves_what_is_begun_after_it_began(
    world: LedgerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live audit pushes payments all the time, and must not run after new ones for ever."""
    monkeypatch.setattr(recovery, "ROUND_ROWS_MAX", 1)
    caught = [world.half_paid("0", "1", 1) for _ in range(3)]
    resume = world.engine.resume

    def resume_and_pay_on(*arguments: Any) -> None:
        world.clock.advance(0.001)
        world.submit("0", "1", 1)
        world.step(0)
        resume(*arguments)

    monkeypatch.setattr(world.engine, "resume", resume_and_pay_on)
    assert world.recovery.run(age_us=0).found == len(caught)


@pytest.mark.parametrize("home", [False, True], ids=["given back", "ended at home"])
def test_what_comes_back_is_never_there_before_it_left(world: LedgerWorld, home: bool) -> None:
    """As of a time between the two, the money would be there twice."""
    world.clock.advance(2 * HOUR_S)
    caught = world.half_paid("0", "1", 70)
    world.clock.set_back(HOUR_S)
    if home:
        world.move_slot("1", 0)
    else:
        world.set_state("1", "frozen_all")
    world.recover()
    assert status(world, caught) == ("COMPLETED" if home else "FAILED")
    world.clock.advance(HOUR_S / 2)
    closed = as_of.close_stamp(world.databases, world.clock.now_us())
    seen = as_of.ledger_as_of(world.databases, closed)
    assert (seen.difference_paise, seen.balances["0"]) == (0, 1_000)
    world.clock.advance(HOUR_S)
    later = as_of.close_stamp(world.databases, world.clock.now_us())
    assert as_of.ledger_as_of(world.databases, later).difference_paise == 0
    assert as_of.ledger_as_of(world.databases, closed) == seen
    world.relay()
    world.audit().require_clean()


# -- slots ----------------------------------------------------------------------------------------


def test_a_credit_that_comes_after_its_receiver_moved_is_not_paid_twice(
    world: LedgerWorld, tmp_path: Path
) -> None:
    """Its own process is slow, another one's recovery is faster, and then the slot moves."""
    slow = world.submit("0", "1", 70)
    world.step(0)
    other = LedgerWorld(tmp_path, seed=2, clock=world.clock)
    other.recovery.run(age_us=0)
    other.crash()  # before its leg (c)
    other.close()
    assert (balance(world, "1"), status(world, slow.payment_id)) == (1_070, "PENDING")
    world.move_slot("1", 2)
    world.settle()
    assert isinstance(slow.result, Outcome) and slow.result.status == "COMPLETED"
    moved_to = world.query(2, "SELECT balance FROM accounts WHERE user_id = '1'")
    assert [row.balance for row in moved_to] == [0]
    world.relay()
    world.audit().require_clean()


# -- a thread that is interrupted ------------------------------------------------------------------


@pytest.mark.parametrize("point", ["writer:before_commit", "writer:committed"])
def test_who_is_interrupted_in_a_batch_leaves_nobody_in_it_without_an_answer(
    world: LedgerWorld, point: str
) -> None:
    """A caller that waits runs the batch in its own thread, and others' payments are in it."""

    def interrupt(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    paid = [world.submit("0", "1", 70), world.submit("3", "6", 70)]
    world.writers[0]._fault = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.step(0)
    assert [type(each.result) for each in paid] == [OutcomeUnknown] * 2
    assert world.engine.admission.in_flight == 0
    world.writers[0]._fault = None
    world.recover()
    done = point == "writer:committed"
    assert [balance(world, user) for user in "016"] == [930, 1_070, 1_070] if done else [1_000] * 3
    world.relay()
    world.audit().require_clean()


# -- one damaged row ------------------------------------------------------------------------------


def held_and_flagged(world: LedgerWorld, sender: str) -> bytes:
    held = world.pay(sender, "1", 50, hold=True)
    world.reviews.apply_all([(f"test.{held.payment}", held.payment_id, "review", "test")])
    return held.payment_id


def rejecting(world: LedgerWorld, payment_id: bytes) -> None:
    world.execute(
        world.engine.source_of(payment_id),
        f"UPDATE reviews SET state = 'rejecting' WHERE payment_id = x'{payment_id.hex()}'",
    )


def test_a_rejection_that_cannot_be_finished_keeps_no_other_from_it(
    world: LedgerWorld, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = held_and_flagged(world, "0"), held_and_flagged(world, "3")
    for payment_id in (broken, whole):
        rejecting(world, payment_id)
    world.execute(0, f"DELETE FROM holds WHERE payment_id = x'{broken.hex()}'")
    assert [world.reviews.resume_rejections() for _ in range(3)] == [1, 0, 0]
    said = [record.getMessage() for record in caplog.records]
    assert [f"{payment_id_text(broken)} is HELD without a hold" in text for text in said] == [True]
    assert (status(world, broken), status(world, whole)) == ("HELD", "CANCELLED")


def test_a_hold_that_cannot_be_ended_keeps_no_other_from_its_end(world: LedgerWorld) -> None:
    broken = world.pay("0", "1", 50, hold=True).payment_id
    world.clock.advance(1)
    whole = world.pay("3", "1", 50, hold=True).payment_id
    world.execute(0, f"DELETE FROM transactions WHERE transaction_id = x'{broken.hex()}'")
    world.clock.advance(25 * HOUR_S)
    with pytest.raises(BadInput, match="is not known") as raised:
        world.holds.expire()
    assert raised.value.place == "shard-0"
    assert status(world, whole) == "CANCELLED"


def test_a_hold_that_cannot_be_ended_keeps_no_rejection_from_its_end(
    world: LedgerWorld, tmp_path: Path
) -> None:
    broken, flagged = world.pay("0", "1", 50, hold=True).payment_id, held_and_flagged(world, "3")
    rejecting(world, flagged)
    world.execute(0, f"DELETE FROM transactions WHERE transaction_id = x'{broken.hex()}'")
    world.execute(0, f"UPDATE holds SET expires_at = 1 WHERE payment_id = x'{broken.hex()}'")
    coordination = EmbeddedCoordination(tmp_path / "coordination")
    keeping = Housekeeping(
        world.recovery, world.holds, world.reviews, world.databases, coordination, world.clock
    )
    world.clock.advance(2)
    keeping.step()
    assert status(world, flagged) == "CANCELLED"
    keeping.close()
    coordination.close()


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        {"idempotency_key": "k\ud800"},
        {"idempotency_key": "k", "subject": "s\ud800"},
        {"at_us": -1},
        {"at_us": 2**63},
        {"at_us": "2026-01-01"},
        {"at_us": 1.5},
        {"traceparent": "x" * 65},
        {"traceparent": "\ud800"},
    ],
    ids=str,
)
def test_words_that_no_shard_could_keep_are_refused_and_leave_nothing(
    world: LedgerWorld, words: dict[str, object]
) -> None:
    request = PaymentRequest("0", "3", 10, **words)  # type: ignore[arg-type]
    with pytest.raises(BadInput):
        world.engine.submit(request, Submitted())
    world.settle()
    assert balance(world, "0") == 1_000
    assert world.engine.admission.in_flight == 0


@pytest.mark.parametrize(
    ("event_id", "rule", "decided_by"),
    [("e" * 161, "r", "b"), ("e", "r" * 33, "b"), ("e", "règle", "b"), ("e", "r", "b" * 65)],
    ids=["event id", "rule", "rule that is not ASCII", "reviewer"],
)
def test_words_about_a_review_that_no_shard_could_keep(
    world: LedgerWorld, event_id: str, rule: str, decided_by: str
) -> None:
    """Refused by name, not by the store: a consumer would wait for that one, and for ever."""
    held = world.pay("0", "1", 50, hold=True).payment_id

    def decided() -> None:
        world.reviews.apply_all([(event_id, held, "review", rule)])
        world.reviews.reject(held, decided_by)

    with pytest.raises(BadInput):
        decided()
    assert status(world, held) == "HELD"
    kept = ("é" * 160, held, "block", "r" * 32)
    world.reviews.apply_all([kept])
    assert world.reviews.reject(held, "\U0001f600" * 64).status == "CANCELLED"


@pytest.mark.parametrize("cursor", [f"{2**63}-1", f"1-{2**63}", "9" * 40 + "-1"])
def test_a_cursor_past_every_number_is_no_cursor(world: LedgerWorld, cursor: str) -> None:
    with pytest.raises(BadInput, match="is not a cursor"):
        as_of.statement(world.databases[0], "0", None, cursor)
