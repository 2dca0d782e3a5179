"""Reviews: approve captures, reject releases or refunds; a refund is a payment, made once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import BadInput, Conflict, OutcomeUnknown, Unavailable
from paytm_lab.core.events import FraudData, encode, wrap
from paytm_lab.core.ids import event_id, parse_payment_id
from paytm_lab.fraud.lists import FROZEN
from paytm_lab.ledger.operations import DecideReview
from paytm_lab.ports.event_log import Record
from tests.path.conftest import OPENING_PAISE, USERS, MakeLab
from tests.path.ways import crash_at, events_of, rows, shard_path, step_writer, total_paise

ALL_PAISE = USERS * OPENING_PAISE
PRICE = "100"
PRICE_PAISE = 10_000


def flag(lab: Lab, payment_id: str, decision: str = "review") -> None:
    raw = parse_payment_id(payment_id)
    lab.system.reviews.apply_all([(f"test.{payment_id}", raw, decision, "amount")])


def debts(lab: Lab) -> list[tuple[str, int, str]]:
    found: list[Any] = []
    for shard in lab.system.databases:
        with closing(sqlite3.connect(shard_path(lab, shard))) as connection:
            found += connection.execute("SELECT user_id, amount, state FROM debts")
    return found


def refunds_of(lab: Lab, payment_id: str) -> int:
    count = 0
    for shard in lab.system.databases:
        with closing(sqlite3.connect(shard_path(lab, shard))) as connection:
            (found,) = connection.execute(
                "SELECT count(*) FROM transactions WHERE refund_of = ? AND role <> 'destination'",
                (parse_payment_id(payment_id),),
            ).fetchone()
            count += found
    return count


def state_of(lab: Lab, payment_id: str) -> str:
    (review,) = [r for r in lab.reviews(None) if r.payment_id == parse_payment_id(payment_id)]
    return review.state


@pytest.fixture(params=["5", "2"], ids=["same-shard", "cross-shard"])
def receiver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_reviews_are_listed_oldest_first(lab: Lab) -> None:
    paid = [lab.transfer(str(n), str(n + 4), "1") for n in range(4)]
    for outcome in paid:
        flag(lab, outcome.payment)
    listed = lab.reviews()
    assert [r.payment_id for r in listed] == [o.payment_id for o in paid]
    assert {(r.state, r.rule, r.amount_paise, r.status) for r in listed} == {
        ("open", "amount", 100, "COMPLETED")
    }
    lab.approve(paid[0].payment)
    assert len(lab.reviews()) == 3 and len(lab.reviews(None)) == 4
    assert [r.state for r in lab.reviews("approved")] == ["approved"]
    lab.audit().require_clean()


def test_an_approved_hold_is_captured(lab: Lab, receiver: str) -> None:
    hold = lab.transfer("1", receiver, PRICE, hold=True)
    flag(lab, hold.payment)
    for _ in range(2):
        assert lab.approve(hold.payment, "ann").status == "COMPLETED"
        lab.drain()
    assert lab.balances()[receiver] == OPENING_PAISE + PRICE_PAISE
    assert state_of(lab, hold.payment) == "approved"
    with pytest.raises(Conflict):
        lab.reject(hold.payment)
    lab.audit().require_clean()


def test_a_rejected_hold_is_cancelled(lab: Lab, receiver: str) -> None:
    hold = lab.transfer("1", receiver, PRICE, hold=True)
    flag(lab, hold.payment)
    for _ in range(2):
        outcome = lab.reject(hold.payment, "ann")
        assert (outcome.status, outcome.reason) == ("CANCELLED", "rejected")
    assert state_of(lab, hold.payment) == "rejected"
    assert refunds_of(lab, hold.payment) == 0
    with pytest.raises(Conflict):
        lab.approve(hold.payment)
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    lab.audit().require_clean()


def test_a_rejected_payment_is_refunded_once(lab: Lab, receiver: str) -> None:
    paid = lab.transfer("1", receiver, PRICE)
    flag(lab, paid.payment)
    refund = lab.reject(paid.payment, "ann")
    assert (refund.status, refund.kind, refund.receivable) == ("COMPLETED", "refund", 0)
    again = lab.reject(paid.payment, "bob")
    assert (again.payment, again.repeated) == (refund.payment, True)
    lab.drain()
    assert lab.status(paid.payment).status == "COMPLETED"  # it stays what it was
    assert rows(lab, refund.payment)[0].refund_of == paid.payment_id
    assert refunds_of(lab, paid.payment) == 1
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    assert events_of(lab, refund.payment) == ["PaymentCompleted", "PaymentInitiated"]
    assert lab.replay().verdict == "passed"
    lab.audit().require_clean()


def test_what_the_receiver_has_spent_becomes_a_debt(lab: Lab, receiver: str) -> None:
    paid = lab.transfer("1", receiver, PRICE)
    lab.transfer(receiver, "3", "1060")  # 40 of it are left
    flag(lab, paid.payment)
    refund = lab.reject(paid.payment)
    assert (refund.status, refund.receivable) == ("COMPLETED", 6_000)
    lab.drain()
    assert lab.balances()["1"] == OPENING_PAISE
    assert lab.balances()[receiver] == 0
    assert debts(lab) == [(receiver, 6_000, "open")]
    assert total_paise(lab) == ALL_PAISE + 6_000
    assert lab.replay().verdict == "passed"
    lab.audit().require_clean()


def test_what_the_receiver_holds_for_others_is_not_taken(lab: Lab, receiver: str) -> None:
    paid = lab.transfer("1", receiver, PRICE)
    hold = lab.transfer(receiver, "3", "1100", hold=True)
    flag(lab, paid.payment)
    refund = lab.reject(paid.payment)
    assert refund.receivable == PRICE_PAISE
    assert lab.capture(hold.payment).status == "COMPLETED"
    lab.drain()
    assert debts(lab) == [(receiver, PRICE_PAISE, "open")]
    lab.audit().require_clean()


@pytest.mark.parametrize("credits_too", [False, True])
def test_a_frozen_account_pays_and_gets_refunds(lab: Lab, receiver: str, credits_too: bool) -> None:
    paid = lab.transfer("1", receiver, PRICE)
    flag(lab, paid.payment)
    lab.freeze(receiver, credits_too)
    lab.freeze("1", credits_too)
    assert lab.reject(paid.payment).status == "COMPLETED"
    lab.drain()
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    lab.audit().require_clean()


def test_closed_accounts_pay_by_debt_and_get_refunds(lab: Lab, receiver: str) -> None:
    paid = lab.transfer("1", receiver, "1000")
    lab.transfer(receiver, "3", "2000")
    lab.drain()
    assert {lab.close_account(user).status for user in ("1", receiver)} == {"closed"}
    flag(lab, paid.payment)
    refund = lab.reject(paid.payment)
    assert (refund.status, refund.receivable) == ("COMPLETED", 100_000)
    lab.drain()
    assert lab.balances()["1"] == 100_000
    lab.audit().require_clean()


def test_a_part_captured_hold_is_refunded_by_what_was_captured(lab: Lab, receiver: str) -> None:
    hold = lab.transfer("1", receiver, PRICE, hold=True)
    lab.capture(hold.payment, "30")
    lab.drain()
    flag(lab, hold.payment)
    assert lab.reject(hold.payment).amount == 3_000
    lab.drain()
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    lab.audit().require_clean()


def test_rejecting_a_refused_payment_pays_nothing(lab: Lab, receiver: str) -> None:
    refused = lab.transfer("1", receiver, "1000.01")
    flag(lab, refused.payment)
    assert lab.reject(refused.payment).status == "FAILED"
    assert state_of(lab, refused.payment) == "rejected"
    assert refunds_of(lab, refused.payment) == 0
    lab.audit().require_clean()


def test_a_payment_under_way_is_finished_before_it_is_undone(lab: Lab) -> None:
    ticket = lab.submit("1", "2", PRICE)
    step_writer(lab, 1)
    flag(lab, ticket.payment_id)
    with lab.fault("shard-2", "down"), pytest.raises(Unavailable):
        lab.reject(ticket.payment_id)
    lab.system.clock.advance(1)  # type: ignore[attr-defined]
    assert lab.reject(ticket.payment_id).kind == "refund"
    lab.drain()
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    assert refunds_of(lab, ticket.payment_id) == 1
    lab.audit().require_clean()


def test_a_payment_without_review_cannot_be_decided(lab: Lab) -> None:
    paid = lab.transfer("1", "2", "1")
    for decide in (lab.approve, lab.reject):
        with pytest.raises(BadInput):
            decide(paid.payment)
    assert refunds_of(lab, paid.payment) == 0
    lab.audit().require_clean()


def test_a_block_freezes_the_sender_and_opens_a_review(lab: Lab) -> None:
    paid = lab.transfer("1", "2", "1")
    for _ in range(2):
        flag(lab, paid.payment, "block")
    assert lab.transfer("1", "2", "1").reason == "sender_frozen"
    lab.unfreeze("1")
    flag(lab, paid.payment, "block")  # the same answer again freezes nobody
    assert lab.transfer("1", "2", "1").status == "COMPLETED"
    assert len(lab.reviews()) == 1
    lab.audit().require_clean()


def test_a_block_that_comes_again_lists_nobody_who_may_pay_by_now(lab: Lab) -> None:
    """The ledger decides who is frozen; the fraud side's list only follows it."""
    paid = lab.transfer("1", "2", "1")
    data = FraudData(paid.payment, "1", 100, 1.0, "block", "velocity", "default", "2", 1)
    body = wrap(
        event_id=event_id(paid.payment, "TransactionBlocked"),
        event_type="TransactionBlocked",
        subject=paid.payment,
        source="/fraud",
        time_us=1,
        data=encode(data),
    )
    record = Record("fraud_events", 0, 0, paid.payment, body, (), 1)
    system = lab.system
    system.fraud_answers.handle([record])
    assert system.fraud_lists.frozen == {"1"}
    lab.unfreeze("1")
    system.fraud_answers.handle([record])  # whoever read it died before it was committed
    assert system.fraud_lists.frozen == set()
    lab.freeze("1")
    system.fraud_lists.remove(FROZEN, ["1"])
    system.fraud_answers.handle([record])  # one that died before it told is made up for
    assert system.fraud_lists.frozen == {"1"}


@pytest.mark.parametrize("point", ["writer:before_commit", "writer:committed"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_rejection_cut_by_a_crash_is_finished_on_opening(
    lab: Lab, receiver: str, point: str, nth: int
) -> None:
    """Commits: rejecting, the refund's legs, rejected. Whatever is lost, there is one refund."""
    paid = lab.transfer("1", receiver, PRICE)
    flag(lab, paid.payment)
    lab.drain()
    crash_at(lab, point, nth)
    try:
        lab.reject(paid.payment, "ann")
    except OutcomeUnknown:
        assert lab.crashed_at == point
    lab.system.fault_points.clear()
    lab.recover()
    if (point, nth) == ("writer:before_commit", 1):
        assert state_of(lab, paid.payment) == "open"
        lab.reject(paid.payment, "ann")
    lab.drain()
    assert state_of(lab, paid.payment) == "rejected"
    assert refunds_of(lab, paid.payment) == 1
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    lab.reject(paid.payment)
    assert refunds_of(lab, paid.payment) == 1
    lab.audit().require_clean()


def test_a_rejection_whose_shard_is_away_waits_and_keeps_nobody_from_others(lab: Lab) -> None:
    away, near = lab.transfer("1", "2", PRICE), lab.transfer("1", "3", PRICE)
    engine, reviews = lab.system.engine, lab.system.reviews
    for paid in (away, near):
        flag(lab, paid.payment)
        writer = lab.system.writers[engine.source_of(paid.payment_id)]
        cut = DecideReview(paid.payment_id, "rejecting", "ann")
        engine.wait(partial(writer.put, cut))
    lab.drain()
    with lab.fault("shard-2", "down"):
        assert reviews.resume_rejections() == 1
    assert (state_of(lab, near.payment), state_of(lab, away.payment)) == ("rejected", "rejecting")
    lab.system.clock.advance(1)  # type: ignore[attr-defined]  # the shard is asked again
    assert reviews.resume_rejections() == 1
    lab.drain()
    assert state_of(lab, away.payment) == "rejected"
    assert [refunds_of(lab, paid.payment) for paid in (away, near)] == [1, 1]
    lab.audit().require_clean()


def test_a_capture_beside_a_rejection(make_lab: MakeLab) -> None:
    """Captured by its owner and rejected by a reviewer: the money ends with its payer."""
    lab = make_lab()
    hold = lab.transfer("1", "2", PRICE, hold=True)
    flag(lab, hold.payment)
    results: list[Any] = []
    lab.system.engine.capture(hold.payment_id, "2", None, results.append)
    lab.reject(hold.payment)
    lab.drain()
    assert len(results) == 1
    assert state_of(lab, hold.payment) == "rejected"
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    lab.audit().require_clean()
