"""Holds: reserved on every path, captured once (all or a part) or let go, whoever races whom."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import BadInput, InvalidAmount, PaytmLabError
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.ledger.operations import Capture, Outcome, PaymentRequest, Release
from tests.path.conftest import OPENING_PAISE, USERS, MakeLab
from tests.path.ways import (
    crash_at,
    events_of,
    rows,
    step_until,
    step_writer,
    tables,
    total_paise,
    wait_for,
)

ALL_PAISE = USERS * OPENING_PAISE


def money(lab: Lab, user: str) -> tuple[int, int]:
    """(balance, available) in paise."""
    account = lab.account(user)
    assert account is not None
    return account.balance_paise, account.available_paise


@pytest.mark.parametrize("receiver", ["5", "2"])
def test_a_hold_reserves_and_a_capture_posts(lab: Lab, receiver: str) -> None:
    hold = lab.transfer("1", receiver, "10", hold=True)
    assert hold.status == "HELD"
    assert money(lab, "1") == (OPENING_PAISE, OPENING_PAISE - 1_000)
    assert money(lab, receiver) == (OPENING_PAISE, OPENING_PAISE)
    captured = lab.capture(hold.payment)
    assert (captured.status, captured.amount) == ("COMPLETED", 1_000)
    assert money(lab, "1") == (OPENING_PAISE - 1_000, OPENING_PAISE - 1_000)
    assert money(lab, receiver)[0] == OPENING_PAISE + 1_000
    assert events_of(lab, hold.payment) == ["PaymentCompleted", "PaymentInitiated"]
    lab.audit().require_clean()


@pytest.mark.parametrize("receiver", ["5", "2"])
def test_a_part_capture_releases_the_rest(lab: Lab, receiver: str) -> None:
    hold = lab.transfer("1", receiver, "10", hold=True)
    captured = lab.capture(hold.payment, "4")
    assert (captured.status, captured.amount) == ("COMPLETED", 400)
    assert money(lab, "1") == (OPENING_PAISE - 400, OPENING_PAISE - 400)
    again = lab.capture(hold.payment, "6")  # one capture only: the first outcome
    assert (again.status, again.amount, again.repeated) == ("COMPLETED", 400, True)
    lab.drain()
    assert money(lab, receiver)[0] == OPENING_PAISE + 400
    assert lab.replay().verdict == "passed"
    lab.audit().require_clean()


@pytest.mark.parametrize("rupees", ["10.01", "0"])
def test_no_more_than_the_hold_and_no_nothing_is_captured(lab: Lab, rupees: str) -> None:
    hold = lab.transfer("1", "2", "10", hold=True)
    before = tables(lab)
    with pytest.raises(InvalidAmount):
        lab.capture(hold.payment, rupees)
    assert tables(lab)["shard-1 holds"] == before["shard-1 holds"]
    assert lab.status(hold.payment).status == "HELD"
    assert lab.system.engine.admission.in_flight == 0
    assert lab.capture(hold.payment, "10").status == "COMPLETED"
    lab.audit().require_clean()


def test_a_released_hold_is_free_again_once(lab: Lab) -> None:
    hold = lab.transfer("1", "2", "10", hold=True)
    first, second = lab.release(hold.payment), lab.release(hold.payment)
    assert (first.status, first.reason, first.repeated) == ("CANCELLED", "released", False)
    assert (second.status, second.reason, second.repeated) == ("CANCELLED", "released", True)
    assert money(lab, "1") == (OPENING_PAISE, OPENING_PAISE)
    assert lab.capture(hold.payment).status == "CANCELLED"
    assert events_of(lab, hold.payment) == ["PaymentCancelled", "PaymentInitiated"]
    lab.audit().require_clean()


def test_what_is_held_cannot_be_spent_on_any_path(lab: Lab) -> None:
    lab.transfer("1", "2", "990", hold=True)
    for receiver, hold in (("2", False), ("5", False), ("2", True)):
        refused = lab.transfer("1", receiver, "10.01", hold=hold)
        assert (refused.status, refused.reason) == ("FAILED", "insufficient_funds")
    assert lab.transfer("1", "5", "10").status == "COMPLETED"
    assert money(lab, "1") == (99_000, 0)
    lab.audit().require_clean()


def test_holds_and_the_states_of_accounts(lab: Lab) -> None:
    hold = lab.transfer("1", "2", "1000", hold=True)
    assert lab.close_account("1").reason == "balance_not_zero"
    lab.freeze("1")
    stays = lab.capture(hold.payment)
    assert (stays.status, stays.reason) == ("HELD", "sender_frozen")
    assert lab.transfer("1", "2", "1", hold=True).reason == "sender_frozen"
    lab.unfreeze("1")
    assert lab.capture(hold.payment).status == "COMPLETED"
    lab.drain()
    assert lab.close_account("1").status == "closed"
    lab.audit().require_clean()


def test_a_frozen_senders_hold_is_released(lab: Lab) -> None:
    hold = lab.transfer("1", "2", "10", hold=True)
    lab.freeze("1")
    assert lab.release(hold.payment).status == "CANCELLED"
    lab.audit().require_clean()


@pytest.mark.parametrize("receiver", ["5", "2"])
def test_a_receiver_that_refuses_a_capture(lab: Lab, receiver: str) -> None:
    hold = lab.transfer("1", receiver, "10", hold=True)
    lab.freeze(receiver, credits_too=True)
    captured = lab.capture(hold.payment, "4")
    assert (captured.status, captured.reason) == ("FAILED", "receiver_frozen")
    assert money(lab, "1") == (OPENING_PAISE, OPENING_PAISE)
    assert events_of(lab, hold.payment) == ["PaymentFailed", "PaymentInitiated"]
    assert lab.replay().verdict == "passed"
    lab.audit().require_clean()


def test_a_hold_for_an_unknown_receiver_fails_at_its_capture(lab: Lab) -> None:
    hold = lab.transfer("1", "nobody", "10", hold=True)
    assert hold.status == "HELD"
    captured = lab.capture(hold.payment)
    assert (captured.status, captured.reason) == ("FAILED", "unknown_receiver")
    assert money(lab, "1") == (OPENING_PAISE, OPENING_PAISE)
    lab.audit().require_clean()


def test_a_payment_that_is_no_hold_is_neither_captured_nor_released(lab: Lab) -> None:
    paid = lab.transfer("1", "2", "10")
    lab.drain()
    assert lab.capture(paid.payment).status == "COMPLETED"
    assert lab.release(paid.payment).status == "COMPLETED"
    assert money(lab, "1")[0] == OPENING_PAISE - 1_000
    with pytest.raises(BadInput):
        lab.capture("not an id")
    lab.audit().require_clean()


# -- expiry ----------------------------------------------------------------------------------------


def test_a_hold_past_its_time_is_not_captured_even_before_the_sweep(make_lab: MakeLab) -> None:
    lab = make_lab(hold_ttl_s=10, recovery_interval_s=10_000)
    late, swept, kept = (lab.transfer("1", "2", "10", hold=True) for _ in range(3))
    assert lab.expire_holds() == 0
    lab.capture(kept.payment)
    lab.system.clock.advance(10)  # type: ignore[attr-defined]
    refused = lab.capture(late.payment)
    assert (refused.status, refused.reason) == ("CANCELLED", "expired")
    assert lab.expire_holds() == 1
    assert lab.expire_holds() == 0
    assert (lab.status(swept.payment).reason, lab.status(kept.payment).status) == (
        "expired", "COMPLETED",
    )  # fmt: skip
    assert money(lab, "1") == (OPENING_PAISE - 1_000, OPENING_PAISE - 1_000)
    lab.audit().require_clean()


def test_the_lab_sweeps_by_itself(make_lab: MakeLab) -> None:
    lab = make_lab(deterministic=False, hold_ttl_s=0.05, recovery_interval_s=0.05)
    holds = [lab.transfer(str(n), "0", "10", hold=True) for n in range(1, 9)]
    wait_for(
        lambda: all(lab.status(h.payment).status == "CANCELLED" for h in holds), "all are swept"
    )
    lab.audit().require_clean()


def race(lab: Lab, rng: random.Random) -> list[tuple[Outcome, set[str]]]:
    """50 holds, each captured and swept around its time in either order; the answers to both."""
    engine = lab.system.engine
    holds: list[Outcome] = []
    for _ in range(50):
        engine.submit(PaymentRequest("1", rng.choice("25"), 100, hold=True), holds.append)
    step_until(lab, lambda: len(holds) == 50, "all are held")
    answers: dict[bytes, list[Outcome]] = {hold.payment_id: [] for hold in holds}
    expires_us = max(hold.stamp for hold in holds) + 10_000_000
    left_s = (expires_us - lab.system.clock.now_us()) / 1e6 - rng.uniform(0, 0.4)
    lab.system.clock.advance(left_s)  # type: ignore[attr-defined]

    def capture(hold: Outcome) -> None:
        engine.capture(hold.payment_id, hold.to_user_id, None, answers[hold.payment_id].append)

    def sweep(hold: Outcome) -> None:
        release = Release(hold.payment_id, "expired")
        engine.writers[1].put(release, answers[hold.payment_id].append)

    for hold in holds:
        for start in rng.sample((capture, sweep), 2):
            start(hold)
            if rng.random() < 0.3:
                lab.step()
    step_until(lab, lambda: all(len(a) == 2 for a in answers.values()), "all end")
    return [(hold, {a.status for a in answers[hold.payment_id]}) for hold in holds]


def test_capture_against_expiry_a_thousand_times(make_lab: MakeLab) -> None:
    """Around the time of the hold, in either order: one of the two happens, never both."""
    lab = make_lab(hold_ttl_s=10, recovery_interval_s=10_000)
    rng = random.Random(7)
    seen: Counter[str] = Counter()
    for _ in range(20):
        for hold, said in race(lab, rng):
            final = lab.status(hold.payment)
            assert final.status in ("COMPLETED", "CANCELLED")
            assert final.status in said <= {final.status, "HELD", "PENDING"}
            assert final.reason == ("expired" if final.status == "CANCELLED" else "")
            seen[final.status] += 1
    assert seen.total() == 1_000
    assert seen["COMPLETED"] > 100 and seen["CANCELLED"] > 100
    lab.drain()
    left = OPENING_PAISE - 100 * seen["COMPLETED"]
    assert money(lab, "1") == (left, left)
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


def test_capture_against_release_on_threads(running_lab: Lab) -> None:
    lab = running_lab
    engine = lab.system.engine
    holds: list[Outcome] = []
    for n in range(200):
        engine.submit(PaymentRequest("1", "25"[n % 2], 100, hold=True), holds.append)
    wait_for(lambda: len(holds) == 200, "all are held")
    answers: list[Outcome | PaytmLabError] = []
    barrier = threading.Barrier(2)

    def capture() -> None:
        barrier.wait()
        for hold in holds:
            engine.capture(hold.payment_id, hold.to_user_id, 60, answers.append)

    def release() -> None:
        barrier.wait()
        for hold in holds:
            engine.writers[1].put(Release(hold.payment_id, "released"), answers.append)

    threads = [threading.Thread(target=capture), threading.Thread(target=release)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_for(lambda: len(answers) == 400, "all end")
    lab.drain()
    ends = Counter(lab.status(hold.payment).status for hold in holds)
    assert ends["COMPLETED"] + ends["CANCELLED"] == 200
    spent = 60 * ends["COMPLETED"]
    assert money(lab, "1") == (OPENING_PAISE - spent, OPENING_PAISE - spent)
    lab.audit().require_clean()


def test_parallel_holds_against_one_balance(running_lab: Lab) -> None:
    """1,000 rupees, 60 holds of 30 rupees from eight threads: 33 fit and no more."""
    lab = running_lab
    outcomes: list[Outcome] = []
    barrier = threading.Barrier(8)

    def hold(share: int) -> None:
        barrier.wait()
        for _ in range(share):
            outcomes.append(lab.transfer("1", "2", "30", hold=True))

    threads = [threading.Thread(target=hold, args=(8 if n < 4 else 7,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(o.status for o in outcomes) == {"HELD": 33, "FAILED": 27}
    assert money(lab, "1") == (OPENING_PAISE, 1_000)
    captured = [lab.capture(o.payment) for o in outcomes if o.status == "HELD"]
    assert {c.status for c in captured} == {"COMPLETED"}
    assert money(lab, "1") == (1_000, 1_000)
    lab.audit().require_clean()


# -- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("receiver", ["5", "2", "4"])
@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("writer:before_commit", 1), ("writer:committed", 1), ("leg_a:committed", 1),
        ("writer:before_commit", 2), ("writer:committed", 2), ("writer:committed", 3),
    ],
)  # fmt: skip
def test_a_crash_in_a_capture(lab: Lab, receiver: str, point: str, nth: int) -> None:
    """'4' refuses credits: the capture is given back."""
    hold = lab.transfer("1", receiver, "10", hold=True)
    lab.freeze("4", credits_too=True)
    lab.drain()
    raw = parse_payment_id(hold.payment)
    crash_at(lab, point, nth)
    to_shard = int(receiver) % 4
    results: list[object] = []
    operation = Capture(raw, 600, to_shard, lab.system.router.version)
    assert operation.to_shard == to_shard
    lab.system.engine.capture(raw, receiver, 600, results.append)
    if receiver == "5" and (nth > 1 or point.startswith("leg")):
        step_until(lab, lambda: bool(results), "a same-shard capture has one step only")
        lab.system.fault_points.clear()
    else:
        step_until(lab, lambda: bool(lab.crashed_at), f"{point} is reached {nth} times")
    lab.recover()
    lab.drain()
    before_capture = (point, nth) == ("writer:before_commit", 1)
    expected = "HELD" if before_capture else "FAILED" if receiver == "4" else "COMPLETED"
    assert lab.status(hold.payment).status == expected
    spent = 600 if expected == "COMPLETED" else 0
    assert money(lab, "1")[0] == OPENING_PAISE - spent
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()
    if before_capture and receiver != "4":
        assert lab.capture(hold.payment, "6").status == "COMPLETED"
        lab.audit().require_clean()


def test_a_capture_that_is_under_way_answers_its_repeat(lab: Lab) -> None:
    hold = lab.transfer("1", "2", "10", hold=True)
    results: list[Outcome] = []
    lab.system.engine.capture(hold.payment_id, "2", None, results.append)
    step_writer(lab, 1)
    assert rows(lab, hold.payment)[0].status == "PENDING"
    assert lab.capture(hold.payment).status == "COMPLETED"
    lab.drain()
    assert money(lab, "2")[0] == OPENING_PAISE + 1_000
    lab.audit().require_clean()
