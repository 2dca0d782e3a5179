"""One key, one payment: whatever its state, however often and by whomever it is repeated, and
whatever is lost on the way.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import (
    AccountExists,
    IdempotencyConflict,
    OutcomeUnknown,
    ShardUnavailable,
)
from paytm_lab.ledger.operations import Outcome, PaymentRequest, Result
from tests.path.conftest import OPENING_PAISE, USERS, MakeLab
from tests.path.ways import rows, step_until, step_writer, tables, total_paise, wait_for

ALL_PAISE = USERS * OPENING_PAISE
DEADLINE_S = 60


def payments(lab: Lab) -> int:
    """How many payments there are, openings left out."""
    count = 0
    for name, found in tables(lab).items():
        if name.endswith(" transactions"):
            count += sum(row[9] != "funding" and row[2] != "destination" for row in found)
    return count


def test_the_columns_that_payments_are_counted_by(lab: Lab) -> None:
    assert payments(lab) == 0
    lab.transfer("1", "2", "1")
    lab.transfer("1", "5", "1")
    lab.drain()
    assert payments(lab) == 2


# -- the first outcome, whatever the state ---------------------------------------------------------


def prepare(lab: Lab, state: str) -> str:
    """A payment of 10 rupees from '1' to '2' under the key 'k' in this state; its id."""
    hold = state in ("HELD", "CANCELLED", "CAPTURED")
    if state == "FAILED":
        lab.freeze("1")
    ticket = lab.submit("1", "2", "10", key="k", hold=hold)
    step_writer(lab, 1)
    if state == "COMPLETED":
        step_until(lab, lambda: ticket.answered, "it completes")
        lab.drain()
    elif state == "FAILED":
        lab.unfreeze("1")
    elif state == "CANCELLED":
        lab.release(ticket.payment_id)
    elif state == "CAPTURED":
        lab.capture(ticket.payment_id, "4")
        lab.drain()
    return ticket.payment_id


@pytest.mark.parametrize(
    "state", ["HELD", "PENDING", "COMPLETED", "FAILED", "CANCELLED", "CAPTURED"]
)
def test_a_repeat_gets_the_first_outcome(lab: Lab, state: str) -> None:
    payment_id = prepare(lab, state)
    status = "COMPLETED" if state == "CAPTURED" else state
    assert rows(lab, payment_id)[0].status == status
    again = lab.transfer("1", "2", "10", key="k")
    assert (again.payment, again.repeated) == (payment_id, True)
    # A pending one is on its way; whoever asks again waits for its end too.
    assert again.status == ("COMPLETED" if state == "PENDING" else status)
    for sender, receiver, rupees in (("1", "2", "10.01"), ("1", "3", "10"), ("1", "5", "10")):
        with pytest.raises(IdempotencyConflict) as raised:
            lab.transfer(sender, receiver, rupees, key="k")
        assert raised.value.exit_code == 2
    lab.drain()
    assert payments(lab) == 1
    lab.audit().require_clean()


def test_a_part_capture_does_not_change_what_the_key_stands_for(lab: Lab) -> None:
    prepare(lab, "CAPTURED")
    with pytest.raises(IdempotencyConflict):
        lab.transfer("1", "2", "4", key="k")
    assert lab.transfer("1", "2", "10", key="k").amount == 400
    lab.audit().require_clean()


def test_a_key_belongs_to_its_subject_and_sender(lab: Lab) -> None:
    engine = lab.system.engine
    seen = {
        engine.transfer(PaymentRequest(sender, "2", 100, "INR", "k", subject)).payment
        for sender in ("1", "5")
        for subject in ("alice", "bob")
    }
    assert len(seen) == 4
    lab.drain()
    assert payments(lab) == 4
    lab.audit().require_clean()


def test_no_key_is_no_promise(lab: Lab) -> None:
    assert lab.transfer("1", "2", "1").payment != lab.transfer("1", "2", "1").payment
    lab.audit().require_clean()


def test_an_account_under_a_key(lab: Lab) -> None:
    first = lab.create_account("20", "50", key="k")
    lab.transfer("20", "1", "20")
    again = lab.create_account("20", "50", key="k")
    assert (again.status, again.balance, again.repeated) == (first.status, first.balance, True)
    for rupees, key in (("51", "k"), ("50", "other"), ("50", "")):
        with pytest.raises(AccountExists):
            lab.create_account("20", rupees, key=key)
    lab.audit().require_clean()


# -- many at once ----------------------------------------------------------------------------------


def at_once(lab: Lab, requests: list[PaymentRequest], threads: int = 8) -> list[Result]:
    """Submit all from several threads that start together; every answer."""
    results: list[Result] = []
    barrier = threading.Barrier(threads)

    def submit(part: list[PaymentRequest]) -> None:
        barrier.wait()
        for request in part:
            lab.system.engine.submit(request, results.append)

    workers = [
        threading.Thread(target=submit, args=(requests[n::threads],)) for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
    wait_for(lambda: len(results) == len(requests), "every one is answered")
    return results


@pytest.mark.parametrize("receiver", ["2", "5"])
@pytest.mark.parametrize("hold", [False, True])
def test_parallel_duplicates_are_one_payment(running_lab: Lab, receiver: str, hold: bool) -> None:
    lab = running_lab
    request = PaymentRequest("1", receiver, 1_000, "INR", "k", hold=hold)
    results = at_once(lab, [request] * 80)
    assert all(isinstance(result, Outcome) for result in results)
    assert len({result.payment for result in results if isinstance(result, Outcome)}) == 1
    lab.drain()
    assert payments(lab) == 1
    account = lab.account("1")
    assert account is not None and account.available_paise == OPENING_PAISE - 1_000
    lab.audit().require_clean()


@pytest.mark.parametrize("receiver", ["2", "5"])
def test_of_parallel_duplicates_with_changed_bodies_one_body_wins(
    running_lab: Lab, receiver: str
) -> None:
    lab = running_lab
    requests = [PaymentRequest("1", receiver, 1_000 + n % 4, "INR", "k") for n in range(80)]
    random.Random(4).shuffle(requests)
    results = at_once(lab, requests)
    good = [result for result in results if isinstance(result, Outcome)]
    bad = [result for result in results if not isinstance(result, Outcome)]
    assert len(good) == 20 and len({result.payment for result in good}) == 1
    assert len({result.amount for result in good}) == 1
    assert {type(result) for result in bad} == {IdempotencyConflict}
    lab.drain()
    assert payments(lab) == 1
    assert lab.balances()["1"] == OPENING_PAISE - good[0].amount
    lab.audit().require_clean()


def test_many_keys_many_times_each_once(running_lab: Lab) -> None:
    lab = running_lab
    requests = [
        PaymentRequest(str(key % USERS), str((key + 1 + key % 5) % USERS), 100, "INR", f"k{key}")
        for key in range(60)
        for _ in range(8)
    ]
    random.Random(5).shuffle(requests)
    results = at_once(lab, requests)
    assert len({r.payment for r in results if isinstance(r, Outcome)}) == 60
    lab.drain()
    assert payments(lab) == 60
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


# -- answers that are lost -------------------------------------------------------------------------


@pytest.mark.parametrize("shard", [1, 2])
@pytest.mark.parametrize("key", ["", "k"])
def test_a_lost_commit_answer_goes_unnoticed(lab: Lab, shard: int, key: str) -> None:
    with lab.fault(f"shard-{shard}", "lost-commit"):
        outcome = lab.transfer("1", "2", "10", key=key)
    assert outcome.status == "COMPLETED"
    lab.drain()
    assert payments(lab) == 1
    assert lab.balances()["2"] == OPENING_PAISE + 1_000
    lab.audit().require_clean()


def test_a_lost_commit_of_leg_c_goes_unnoticed(lab: Lab) -> None:
    lab.freeze("4", credits_too=True)
    ticket, refused = lab.submit("1", "2", "10"), lab.submit("1", "4", "10")
    for shard in (1, 0, 2):
        step_writer(lab, shard)
    with lab.fault("shard-1", "lost-commit"):
        step_writer(lab, 1)
    lab.drain()
    assert {row.status for row in rows(lab, ticket.payment_id)} == {"COMPLETED"}
    assert {row.status for row in rows(lab, refused.payment_id)} == {"FAILED"}
    assert lab.balances()["1"] == OPENING_PAISE - 1_000
    lab.audit().require_clean()


@pytest.mark.parametrize("receiver", ["2", "5"])
def test_a_lost_answer_of_a_shard_that_stays_away(lab: Lab, receiver: str) -> None:
    with lab.fault("shard-1", "lost-commit-down"):
        with pytest.raises(OutcomeUnknown) as raised:
            lab.transfer("1", receiver, "10", key="k")
        assert raised.value.exit_code == 4 and "same key" in raised.value.remedy
        with pytest.raises(ShardUnavailable):
            lab.transfer("1", receiver, "10", key="k")
    lab.system.clock.advance(1)  # type: ignore[attr-defined]
    again = lab.transfer("1", receiver, "10", key="k")
    assert (again.status, again.payment) == ("COMPLETED", raised.value.payment_id)
    assert lab.status(raised.value.payment_id).status == "COMPLETED"
    lab.drain()
    assert payments(lab) == 1
    assert lab.balances()["1"] == OPENING_PAISE - 1_000
    lab.audit().require_clean()


def test_a_lost_answer_of_a_destination_that_stays_away_is_pending(lab: Lab) -> None:
    with lab.fault("shard-2", "lost-commit-down"):
        outcome = lab.transfer("1", "2", "10", key="k")
        assert (outcome.status, outcome.reason) == ("PENDING", "outcome_unknown")
    lab.system.clock.advance(1)  # type: ignore[attr-defined]
    again = lab.transfer("1", "2", "10", key="k")
    assert (again.status, again.payment) == ("COMPLETED", outcome.payment)
    lab.drain()
    assert payments(lab) == 1
    assert lab.balances()["2"] == OPENING_PAISE + 1_000
    lab.audit().require_clean()


@pytest.mark.parametrize("completed", [False, True])
def test_a_known_key_is_answered_while_its_receiver_s_shard_is_down(
    lab: Lab, completed: bool
) -> None:
    first = lab.submit("1", "2", "10", key="k")
    step_writer(lab, 1)
    if completed:
        lab.drain()
    with lab.fault("shard-2", "down"):
        while not lab.system.writers[2].is_down:
            lab.submit("2", "6", "1")
            step_writer(lab, 2)
        again = lab.transfer("1", "2", "10", key="k")
        expected = "COMPLETED" if completed else "PENDING"
        assert (again.payment, again.status) == (first.payment_id, expected)
        with pytest.raises(ShardUnavailable):
            lab.transfer("1", "2", "10", key="another")
    lab.system.clock.advance(1)  # type: ignore[attr-defined]
    lab.recover()
    lab.drain()
    assert payments(lab) == 1
    lab.audit().require_clean()


def test_a_repeat_after_the_process_died_is_the_same_payment(make_lab: MakeLab) -> None:
    lab = make_lab()
    for number, kind in enumerate(("crash-after-commit", "crash-after-leg-a", "crash-after-leg-b")):
        ticket = lab.submit("1", "2", "10", key=f"k{number}")
        with lab.fault("process", kind):
            step_until(lab, lambda: bool(lab.crashed_at), "the crash")
        lab.recover()
        again = lab.transfer("1", "2", "10", key=f"k{number}")
        assert (again.status, again.payment) == ("COMPLETED", ticket.payment_id)
    lab.drain()
    assert payments(lab) == 3
    lab.audit().require_clean()


# -- two processes ---------------------------------------------------------------------------------

KEYS = 150


def test_duplicates_over_two_processes_of_which_one_is_killed(
    make_lab: MakeLab, start_posting: Callable[..., subprocess.Popen[str]]
) -> None:
    make_lab().close()
    killed, living = (start_posting("keys", str(KEYS), rounds) for rounds in ("1000", "4"))
    for process in (killed, living):
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in (killed, living):
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert killed.stdout is not None
    said = [killed.stdout.readline() for _ in range(KEYS + KEYS // 2)]
    killed.send_signal(signal.SIGKILL)
    said += killed.stdout.readlines()
    output, _ = living.communicate(timeout=DEADLINE_S)
    lines = output.splitlines()
    assert lines.pop() == "done"
    lab = make_lab(deterministic=False)
    lab.drain()
    answers: dict[str, set[str]] = defaultdict(set)
    for line in (*said, *lines):
        payment_id, status, key = line.split()
        assert status in ("COMPLETED", "FAILED", "PENDING"), line
        answers[key].add(payment_id)
    assert len(answers) == KEYS
    assert all(len(ids) == 1 for ids in answers.values())
    assert payments(lab) == KEYS
    for (payment_id,) in answers.values():
        assert lab.status(payment_id).status in ("COMPLETED", "FAILED")
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()
