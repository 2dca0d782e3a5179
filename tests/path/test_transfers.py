"""A payment's three legs: what each leaves behind, what is refused and how, and a process that dies
between any two steps.
"""

from __future__ import annotations

import itertools
import random

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import (
    BadInput,
    InvalidAmount,
    InvalidCurrency,
    InvalidUserId,
    OutboxFull,
    OutcomeUnknown,
    PaytmLabError,
    SameAccount,
    ShardUnavailable,
    StorageFull,
)
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.ledger.operations import Outcome, PaymentRequest
from paytm_lab.ledger.shard_writer import SimulatedCrash
from paytm_lab.simulation.faults import CRASH_POINTS
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


def test_a_same_shard_payment_is_done_at_once(lab: Lab) -> None:
    outcome = lab.transfer("1", "5", "10")
    assert (outcome.status, outcome.balance) == ("COMPLETED", OPENING_PAISE - 1_000)
    (row,) = rows(lab, outcome.payment)
    assert (row.role, row.status) == ("local", "COMPLETED")
    assert events_of(lab, outcome.payment) == ["PaymentCompleted", "PaymentInitiated"]
    lab.audit().require_clean()


def test_a_cross_shard_payment_leg_by_leg(lab: Lab) -> None:
    ticket = lab.submit("1", "2", "10")
    payment_id = ticket.payment_id
    assert rows(lab, payment_id) == []
    step_writer(lab, 1)
    (source,) = rows(lab, payment_id)
    assert (source.role, source.status, source.to_shard) == ("source", "PENDING", 2)
    assert not ticket.answered
    assert lab.status(payment_id).status == "PENDING"
    assert total_paise(lab) == ALL_PAISE - 1_000
    step_writer(lab, 2)
    source, destination = rows(lab, payment_id)
    assert (source.status, destination.status) == ("PENDING", "COMPLETED")
    assert destination.stamp == source.stamp
    assert ticket.outcome is not None and ticket.outcome.status == "COMPLETED"
    assert lab.status(payment_id).status == "COMPLETED"  # the destination is asked
    assert total_paise(lab) == ALL_PAISE
    step_writer(lab, 1)
    assert [row.status for row in rows(lab, payment_id)] == ["COMPLETED", "COMPLETED"]
    assert events_of(lab, payment_id) == ["PaymentCompleted", "PaymentInitiated"]
    lab.audit().require_clean()


def test_a_refused_credit_is_given_back(lab: Lab) -> None:
    lab.freeze("2", credits_too=True)
    ticket = lab.submit("1", "2", "10")
    step_writer(lab, 1)
    step_writer(lab, 2)
    assert not ticket.answered  # FAILED is answered only once the money is back
    step_writer(lab, 1)
    assert ticket.outcome is not None
    assert (ticket.outcome.status, ticket.outcome.reason) == ("FAILED", "receiver_frozen")
    assert ticket.outcome.balance == OPENING_PAISE
    assert [row.status for row in rows(lab, ticket.payment_id)] == ["FAILED", "FAILED"]
    assert events_of(lab, ticket.payment_id) == ["PaymentFailed", "PaymentInitiated"]
    assert lab.balances() == {str(n): OPENING_PAISE for n in range(USERS)}
    lab.audit().require_clean()


@pytest.mark.parametrize(
    ("sender", "receiver", "rupees", "reason"),
    [
        ("1", "5", "1000.01", "insufficient_funds"),
        ("1", "2", "1000.01", "insufficient_funds"),
        ("nobody", "1", "1", "unknown_sender"),
        ("1", "nobody here", "1", "unknown_receiver"),
        ("1", "1001", "1", "unknown_receiver"),
        ("1", "1002", "1", "unknown_receiver"),
        ("3", "1", "1", "sender_frozen"),
        ("3", "7", "1", "sender_frozen"),
        ("1", "4", "1", "receiver_frozen"),
        ("0", "4", "1", "receiver_frozen"),
        ("6", "1", "1", "sender_closed"),
        ("1", "6", "1", "receiver_closed"),
        ("2", "6", "1", "receiver_closed"),
    ],
)
def test_a_refusal_is_an_outcome_with_a_row_and_two_events(
    lab: Lab, sender: str, receiver: str, rupees: str, reason: str
) -> None:
    lab.freeze("3")
    lab.freeze("4", credits_too=True)
    lab.transfer("6", "10", "1000")
    assert lab.close_account("6").status == "closed"
    before = lab.balances()
    outcome = lab.transfer(sender, receiver, rupees)
    assert (outcome.status, outcome.reason) == ("FAILED", reason)
    row = rows(lab, outcome.payment)[0]
    assert (row.status, row.reason) == ("FAILED", reason)
    assert events_of(lab, outcome.payment) == ["PaymentFailed", "PaymentInitiated"]
    assert lab.balances() == before
    lab.audit().require_clean()


MALFORMED: list[tuple[PaymentRequest, type[PaytmLabError]]] = [
    (PaymentRequest("1", "1", 5), SameAccount),
    (PaymentRequest("", "1", 5), InvalidUserId),
    (PaymentRequest("1", "x" * 65, 5), InvalidUserId),
    (PaymentRequest("1", "a\x00", 5), InvalidUserId),
    (PaymentRequest("1", "e\u0301", 5), InvalidUserId),
    (PaymentRequest("system:funding", "1", 5), InvalidUserId),
    (PaymentRequest("1", "system:receivable", 5), InvalidUserId),
    (PaymentRequest("1", "2", 0), InvalidAmount),
    (PaymentRequest("1", "2", -5), InvalidAmount),
    (PaymentRequest("1", "2", AMOUNT_PAISE_MAX + 1), InvalidAmount),
    (PaymentRequest("1", "2", 5.0), InvalidAmount),  # type: ignore[arg-type]
    (PaymentRequest("1", "2", True), InvalidAmount),
    (PaymentRequest("1", "2", 5, currency="EUR"), InvalidCurrency),
]


def test_what_is_malformed_leaves_nothing(lab: Lab) -> None:
    before = tables(lab)
    for request, error in MALFORMED:
        with pytest.raises(error) as raised:
            lab.system.engine.submit(request, lambda result: None)
        assert raised.value.exit_code == 2 and raised.value.remedy, request
    for text in ("1e3", "NaN", "1_000", "-1", "1.234", "", " 1", "१", "0", "0.00"):
        with pytest.raises(InvalidAmount):
            lab.transfer("1", "2", text)
    assert tables(lab) == before
    assert lab.system.engine.admission.in_flight == 0
    lab.audit().require_clean()


def test_a_balance_is_refused_past_its_limit(lab: Lab) -> None:
    most = f"{(AMOUNT_PAISE_MAX - 500) // 100}.{(AMOUNT_PAISE_MAX - 500) % 100:02d}"
    for user, sender in (("13", "1"), ("14", "1")):  # same shard, and another one
        lab.create_account(user, most)
        refused = lab.transfer(sender, user, "5.01")
        assert (refused.status, refused.reason) == ("FAILED", "balance_limit")
        assert lab.transfer(sender, user, "5").status == "COMPLETED"
        assert lab.balances()[user] == AMOUNT_PAISE_MAX
    lab.audit().require_clean()


# -- a process that dies between two steps ---------------------------------------------------------


def scenario(lab: Lab, name: str) -> str:
    """Start a payment without waiting; its id."""
    if name == "same shard":
        return lab.submit("1", "5", "10").payment_id
    if name == "refused":
        return lab.submit("1", "4", "10").payment_id
    return lab.submit("1", "2", "10").payment_id


# (scenario, point, how often it is reached before the crash) -> what recovery makes of the payment.
CRASHES = {
    ("same shard", "writer:before_commit", 1): "",
    ("same shard", "writer:committed", 1): "COMPLETED",
    ("cross shard", "writer:before_commit", 1): "",
    ("cross shard", "writer:committed", 1): "COMPLETED",
    ("cross shard", "leg_a:committed", 1): "COMPLETED",
    ("cross shard", "writer:before_commit", 2): "COMPLETED",
    ("cross shard", "writer:committed", 2): "COMPLETED",
    ("cross shard", "leg_b:committed", 1): "COMPLETED",
    ("cross shard", "writer:before_commit", 3): "COMPLETED",
    ("cross shard", "writer:committed", 3): "COMPLETED",
    ("cross shard", "leg_c:committed", 1): "COMPLETED",
    ("refused", "leg_a:committed", 1): "FAILED",
    ("refused", "writer:before_commit", 2): "FAILED",
    ("refused", "writer:committed", 2): "FAILED",
    ("refused", "leg_b:refused", 1): "FAILED",
    ("refused", "writer:before_commit", 3): "FAILED",
    ("refused", "writer:committed", 3): "FAILED",
    ("refused", "leg_c:given_back", 1): "FAILED",
}


@pytest.mark.parametrize(("name", "point", "nth"), CRASHES)
def test_a_crash_between_any_two_steps(lab: Lab, name: str, point: str, nth: int) -> None:
    lab.freeze("4", credits_too=True)
    lab.drain()
    expected = CRASHES[name, point, nth]
    crash_at(lab, point, nth)
    payment_id = scenario(lab, name)
    step_until(lab, lambda: bool(lab.crashed_at), f"{point} is reached {nth} times")
    report = lab.recover()
    found = [row.status for row in rows(lab, payment_id)]
    assert bool(found) == bool(expected)
    assert report.found <= 1
    lab.drain()
    assert {row.status for row in rows(lab, payment_id)} == ({expected} if expected else set())
    assert total_paise(lab) == ALL_PAISE
    moved = 1_000 if expected == "COMPLETED" else 0
    assert lab.balances()["1"] == OPENING_PAISE - moved
    if expected:
        assert len(events_of(lab, payment_id)) == 2
    lab.audit().require_clean()


@pytest.mark.parametrize("point", ["writer:before_commit", "writer:committed", "leg_b:committed"])
def test_a_crash_in_recovery_is_recovered_from(lab: Lab, point: str) -> None:
    ticket = lab.submit("1", "2", "10")
    step_writer(lab, 1)
    lab.crash()

    def die() -> None:
        lab.system.crash(point)
        raise SimulatedCrash(point)

    lab._fault_points[point] = die
    with pytest.raises(OutcomeUnknown):
        lab.recover()
    assert lab.crashed_at == point
    lab._fault_points.clear()
    lab.recover()
    lab.drain()
    assert [row.status for row in rows(lab, ticket.payment_id)] == ["COMPLETED", "COMPLETED"]
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


LEDGER_CRASHES = [k for k, point in CRASH_POINTS.items() if point.startswith(("writer:", "leg_"))]


@pytest.mark.parametrize("kind", LEDGER_CRASHES)
def test_what_was_answered_before_a_crash_under_load_is_kept(make_lab: MakeLab, kind: str) -> None:
    lab = make_lab(deterministic=False)
    lab.freeze("4", credits_too=True)
    rng = random.Random(kind)
    users = [str(n) for n in range(USERS)]
    tickets = []

    def some(count: int) -> None:
        for _ in range(count):
            sender, receiver = rng.sample(users, 2)
            try:
                tickets.append(lab.submit(sender, receiver, "1"))
            except PaytmLabError:
                return  # dead already

    some(100)
    wait_for(lambda: sum(t.answered for t in tickets) > 50, "half of them are answered")
    with lab.fault("process", kind):
        some(300)
        wait_for(lambda: bool(lab.crashed_at), f"{kind} is reached")
    said = {t.payment_id: t.outcome.status for t in tickets if t.outcome is not None}
    lab.recover()
    lab.drain()
    assert len(said) > 50
    for payment_id, status in said.items():
        assert lab.status(payment_id).status == status
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


# -- shards that are away --------------------------------------------------------------------------


@pytest.mark.parametrize(("sender", "receiver"), [("1", "2"), ("2", "1"), ("2", "6")])
def test_a_shard_known_to_be_down_is_said_before_the_debit(
    lab: Lab, sender: str, receiver: str
) -> None:
    with lab.fault("shard-2", "down"):
        with pytest.raises(ShardUnavailable):
            lab.transfer("2", "6", "1")  # somebody finds out
        before = _balances_but(lab, 2)
        with pytest.raises(ShardUnavailable) as raised:
            lab.submit(sender, receiver, "1")
        assert raised.value.retry_after_s > 0
        assert lab.transfer("1", "3", "1").status == "COMPLETED"
        assert _balances_but(lab, 2)["0"] == before["0"]
        assert lab.system.engine.admission.in_flight == 0
    lab.system.clock.advance(1)  # type: ignore[attr-defined]
    assert lab.transfer(sender, receiver, "1").status == "COMPLETED"
    lab.audit().require_clean()


def _balances_but(lab: Lab, shard: int) -> dict[str, int]:
    from paytm_lab.ledger import queries

    found: dict[str, int] = {}
    for number, database in lab.system.databases.items():
        if number != shard:
            found.update(queries.balances(database))
    return found


def test_a_shard_that_goes_down_after_the_debit_leaves_it_pending(lab: Lab) -> None:
    ticket = lab.submit("1", "2", "10")
    with lab.fault("shard-2", "down"):
        step_writer(lab, 1)
        step_writer(lab, 2)
        assert ticket.outcome is not None
        assert (ticket.outcome.status, ticket.outcome.reason) == ("PENDING", "shard_unavailable")
        assert lab.recover().still_pending == 1
        assert lab.system.engine.admission.in_flight == 0
    assert lab.recover().completed == 1
    lab.drain()
    assert [row.status for row in rows(lab, ticket.payment_id)] == ["COMPLETED", "COMPLETED"]
    lab.audit().require_clean()


def test_a_pending_payment_is_finished_by_the_lab_itself(make_lab: MakeLab) -> None:
    lab = make_lab(deterministic=False, pending_age_s=0.05, recovery_interval_s=0.05)
    with lab.fault("shard-2", "down"):
        lab.system.writers[2]._is_down = False
        outcome = lab.transfer("1", "2", "10")
        assert outcome.status == "PENDING"
    payment_id = outcome.payment
    wait_for(
        lambda: [r.status for r in rows(lab, payment_id)] == ["COMPLETED", "COMPLETED"],
        "housekeeping completes it",
    )
    lab.audit().require_clean()


def test_a_full_outbox_refuses_new_payments_and_open_ones_finish(make_lab: MakeLab) -> None:
    lab = make_lab(outbox_rows_max=40)
    lab.drain()
    with lab.fault("relay", "stopped"):
        pending = lab.submit("1", "2", "10")
        step_writer(lab, 1)
        answers: list[object] = []
        for shard, number in itertools.product(range(4), range(21)):
            user, other = str(shard), str(shard + 4)
            request = PaymentRequest(user, other, 100 + number)
            lab.system.engine.submit(request, answers.append)
            for each in range(4):
                if each != 2:
                    step_writer(lab, each)
        with pytest.raises(OutboxFull):
            lab.transfer("1", "5", "1")
        step_until(lab, lambda: pending.answered, "the open payment finishes")
        assert pending.outcome is not None and pending.outcome.status == "COMPLETED"
    lab.drain()
    assert lab.transfer("1", "5", "1").status == "COMPLETED"
    assert any(isinstance(answer, OutboxFull) for answer in answers)
    assert any(isinstance(answer, Outcome) for answer in answers)
    lab.audit().require_clean()


@pytest.mark.parametrize("full", [1, 2])
def test_a_full_disk_is_said_and_heals(lab: Lab, full: int) -> None:
    """SQLite's own bound on a file's pages, on the one connection that a deterministic lab has."""
    lab.drain()
    connection = lab.system.databases[full].inner._connection()  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    tickets = [lab.submit("1", "2", "1") for _ in range(400)]
    step_until(lab, lambda: all(t.answered for t in tickets), "all are answered")
    if full == 1:
        assert {type(t.error) for t in tickets} == {StorageFull}
        assert lab.balances()["1"] == OPENING_PAISE
    else:
        found = {(t.outcome.status, t.outcome.reason) for t in tickets if t.outcome is not None}
        assert found == {("PENDING", "storage_full")}
    assert lab.transfer("0", "3", "1").status == "COMPLETED"
    connection.execute("PRAGMA max_page_count=1000000")
    lab.recover()
    lab.drain()
    assert lab.balances()["1"] == OPENING_PAISE - (0 if full == 1 else 400 * 100)
    assert total_paise(lab) == ALL_PAISE
    lab.audit().require_clean()


def test_an_unknown_payment_id_is_bad_input(lab: Lab) -> None:
    outcome = lab.transfer("1", "2", "1")
    unknown = outcome.payment[:-1] + ("0" if outcome.payment[-1] != "0" else "1")
    for ask in (lab.status, lab.capture, lab.release):
        with pytest.raises(BadInput):
            ask(unknown)
    lab.audit().require_clean()
