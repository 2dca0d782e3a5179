"""Recovery beside live writers, and users whose slot moves while their payments are under way."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing

import pytest

from paytm_lab import Lab
from paytm_lab.ledger.operations import CreateAccount
from paytm_lab.routing.shard_map import ShardMap, publish
from tests.path.conftest import OPENING_PAISE, USERS, MakeLab
from tests.path.ways import (
    crash_at,
    events_of,
    rows,
    shard_path,
    step_until,
    step_writer,
    total_paise,
    wait_for,
)

ALL_PAISE = USERS * OPENING_PAISE


def test_nothing_pending_is_said(lab: Lab) -> None:
    lab.drain()
    report = lab.recover()
    assert report.found == 0
    assert str(report) == "recovery: nothing was pending"


def test_many_pending_payments_after_a_crash(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.freeze("4", credits_too=True)
    rng = random.Random(3)
    tickets = []
    for _ in range(600):
        sender, receiver = rng.sample(range(USERS), 2)
        tickets.append(lab.submit(str(sender), str(receiver), "1"))
    for shard in range(4):
        step_writer(lab, shard)  # leg (a) of all
    lab.crash()
    report = lab.recover()
    cross = [t for t in tickets if len(rows(lab, t.payment_id)) == 2]
    assert report.found == len(cross) > 300
    assert report.completed + report.failed == report.found
    assert report.failed > 0 and report.still_pending == 0
    lab.drain()
    assert all(len({r.status for r in rows(lab, t.payment_id)}) == 1 for t in cross)
    assert total_paise(lab) == ALL_PAISE
    assert lab.recover().found == 0
    lab.audit().require_clean()


def test_recovery_races_the_payment_s_own_legs(lab: Lab) -> None:
    """Recovery takes up a payment whose process is alive: its credit waits in the same queue."""
    tickets = [lab.submit("1", "2", "10") for _ in range(20)]
    step_writer(lab, 1)
    report = lab.system.recovery.run(age_us=0)
    assert (report.found, report.completed) == (20, 20)
    lab.drain()
    assert all(t.outcome is not None and t.outcome.status == "COMPLETED" for t in tickets)
    assert lab.balances()["2"] == OPENING_PAISE + 20 * 1_000
    assert lab.system.writers[2].stats.bisections == 0
    lab.audit().require_clean()


def test_recovery_runs_all_the_time_beside_load(running_lab: Lab) -> None:
    lab = running_lab
    lab.freeze("4", credits_too=True)
    stop = threading.Event()
    errors: list[BaseException] = []

    def recover() -> None:
        try:
            while not stop.is_set():
                lab.system.recovery.run(age_us=0)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=recover)
    thread.start()
    rng = random.Random(5)
    users = [str(n) for n in range(USERS)]
    tickets = [lab.submit(*rng.sample(users, 2), "1") for _ in range(1_500)]
    wait_for(lambda: all(t.answered for t in tickets), "all are answered")
    stop.set()
    thread.join(60)
    assert errors == []
    lab.drain()
    for ticket in tickets:
        assert ticket.outcome is not None
        if ticket.outcome.status != "PENDING":
            assert lab.status(ticket.payment_id).status == ticket.outcome.status
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


def test_a_payment_under_way_is_left_to_its_process(lab: Lab) -> None:
    lab.submit("1", "2", "10")
    step_writer(lab, 1)
    assert lab.system.recovery.run().found == 0  # younger than pending_age_s
    lab.system.clock.advance(2)  # type: ignore[attr-defined]
    assert lab.system.recovery.run().found == 1
    lab.audit().require_clean()


def test_one_shard_that_is_away_keeps_no_other_from_recovery(lab: Lab) -> None:
    to_2, to_3 = lab.submit("1", "2", "10"), lab.submit("1", "3", "10")
    from_2 = lab.submit("2", "3", "10")
    for shard in (1, 2):
        step_writer(lab, shard)
    lab.crash()
    lab.open()
    with lab.fault("shard-2", "down"):
        lab.system.clock.advance(2)  # type: ignore[attr-defined]
        report = lab.system.recovery.run(age_us=0)
        assert report.unreachable == (2,)
    lab.recover()
    lab.drain()
    for ticket in (to_2, to_3, from_2):
        assert [row.status for row in rows(lab, ticket.payment_id)] == ["COMPLETED", "COMPLETED"]
    lab.audit().require_clean()


# -- slots that move -------------------------------------------------------------------------------


def move_slot(lab: Lab, slot: int, new: int) -> None:
    """What a reshard does to the map in the end: bitmaps of both shards, then the document."""
    old = lab.system.router.shard_of_slot(slot)
    version = lab.system.router.version + 1

    def changed(stored: ShardMap) -> ShardMap:
        owner = list(stored.owner)
        owner[slot] = new
        return ShardMap(stored.version + 1, tuple(owner))

    for shard, owns in ((old, False), (new, True)):
        with closing(sqlite3.connect(shard_path(lab, shard))) as connection:
            (owned,) = connection.execute("SELECT owned_slots FROM shard_meta").fetchone()
            bits = bytearray(owned)
            if owns:
                bits[slot >> 3] |= 1 << (slot & 7)
            else:
                bits[slot >> 3] &= ~(1 << (slot & 7))
            connection.execute(
                "UPDATE shard_meta SET owned_slots = ?, map_version = ?", (bytes(bits), version)
            )
            connection.commit()
    publish(lab.system.coordination, changed)


def open_account_on(lab: Lab, shard: int, user: str) -> None:
    """The account alone, with no step of any other shard."""
    payment_id = bytes([200 + int(user)]) * 16
    results: list[object] = []
    operation = CreateAccount(user, 0, "INR", int(user), payment_id, payment_id)
    lab.system.writers[shard].put(operation, results.append)
    while not results:
        step_writer(lab, shard)
    assert lab.balances()[user] == 0


def see_the_map(lab: Lab) -> None:
    wait_for(lambda: lab.system.router.version > 1, "the router sees the new map")


@pytest.mark.parametrize("seen", ["at once", "late"])
@pytest.mark.parametrize("target", [3, 1])
def test_a_receiver_that_moves_before_the_credit_is_followed(
    lab: Lab, target: int, seen: str
) -> None:
    """'14' has slot 14 on shard 2 and no account yet; it opens one where its slot has gone."""
    ticket = lab.submit("1", "14", "10")
    step_writer(lab, 1)
    (row,) = rows(lab, ticket.payment_id)
    assert (row.status, row.to_shard) == ("PENDING", 2)
    move_slot(lab, 14, target)
    open_account_on(lab, target, "14")
    if seen == "late":
        step_writer(lab, 2)  # "moved", and the router may not know whither
    see_the_map(lab)
    lab.system.clock.advance(2)  # type: ignore[attr-defined]
    lab.recover()
    lab.drain()
    found = rows(lab, ticket.payment_id)
    assert {row.status for row in found} == {"COMPLETED"}
    assert found[0].to_shard == target
    assert [row.role for row in found] == (["local"] if target == 1 else ["source", "destination"])
    assert lab.balances()["14"] == 1_000
    assert events_of(lab, ticket.payment_id) == ["PaymentCompleted", "PaymentInitiated"]
    lab.audit().require_clean()


@pytest.mark.parametrize("target", [3, 1])
def test_a_receiver_that_has_moved_and_is_unknown_there_is_refused(lab: Lab, target: int) -> None:
    ticket = lab.submit("1", "14", "10")
    step_writer(lab, 1)
    move_slot(lab, 14, target)
    see_the_map(lab)
    step_until(lab, lambda: ticket.answered, "the payment ends")
    assert ticket.outcome is not None
    assert (ticket.outcome.status, ticket.outcome.reason) == ("FAILED", "unknown_receiver")
    lab.drain()
    assert lab.balances()["1"] == OPENING_PAISE
    assert events_of(lab, ticket.payment_id) == ["PaymentFailed", "PaymentInitiated"]
    lab.audit().require_clean()


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        (
            "writer:before_commit",
            2,
        ),  # the retarget (the first: the answer "moved", nothing written)
        ("writer:committed", 2),
        ("writer:before_commit", 3),  # the credit
        ("writer:committed", 3),
        ("leg_b:committed", 1),
        ("leg_c:committed", 1),
    ],
)
def test_a_crash_while_a_payment_follows_its_receiver(lab: Lab, point: str, nth: int) -> None:
    ticket = lab.submit("1", "14", "10")
    step_writer(lab, 1)
    move_slot(lab, 14, 3)
    see_the_map(lab)
    open_account_on(lab, 3, "14")
    crash_at(lab, point, nth)
    step_until(lab, lambda: bool(lab.crashed_at), f"{point} is reached {nth} times")
    lab.recover()
    lab.drain()
    assert {row.status for row in rows(lab, ticket.payment_id)} == {"COMPLETED"}
    assert lab.balances()["14"] == 1_000
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


def test_a_sender_whose_slot_moved_pays_from_its_new_shard(lab: Lab) -> None:
    """The request was routed by the old map; the old shard answers "moved" and nothing is lost."""
    ticket = lab.submit("14", "1", "0.50")
    move_slot(lab, 14, 3)
    see_the_map(lab)
    open_account_on(lab, 3, "14")
    assert lab.system.writers[3].queue_depth() == 0
    step_until(lab, lambda: ticket.answered, "the payment ends")
    assert ticket.outcome is not None
    # It has no money there, which only its new shard can know.
    assert (ticket.outcome.status, ticket.outcome.reason) == ("FAILED", "insufficient_funds")
    assert ticket.outcome.from_shard == 3
    lab.drain()
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


@pytest.mark.parametrize("target", [3, 1])
def test_a_hold_whose_receiver_moves_is_captured_there(lab: Lab, target: int) -> None:
    hold = lab.transfer("1", "14", "10", hold=True)
    move_slot(lab, 14, target)
    see_the_map(lab)
    lab.create_account("14", "0")
    captured = lab.capture(hold.payment, "4")
    assert (captured.status, captured.amount) == ("COMPLETED", 400)
    lab.drain()
    assert lab.balances()["14"] == 400
    lab.audit().require_clean()


def test_a_receiver_beside_the_sender_that_moves_away_is_followed(lab: Lab) -> None:
    """'13' is on the sender's own shard when the payment is submitted, elsewhere when it posts."""
    ticket = lab.submit("1", "13", "7")
    move_slot(lab, 13, 2)
    see_the_map(lab)
    open_account_on(lab, 2, "13")
    step_until(lab, lambda: ticket.answered, "the payment ends")
    lab.drain()
    assert lab.balances()["13"] == 700
    assert [row.role for row in rows(lab, ticket.payment_id)] == ["source", "destination"]
    lab.audit().require_clean()
