"""The facade as notebooks use it, and what a running lab does by itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.errors import (
    BadInput,
    InvalidSetting,
    InvalidUserId,
    OutcomeUnknown,
    ShardUnavailable,
    Unavailable,
)
from paytm_lab.core.events import TOPIC_OF, EventType, unwrap
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.ledger.audit import audit
from paytm_lab.messaging.topics import GROUPS
from tests.faults.load import Load, until

Action = Callable[[Lab], object]


def overspend(lab: Lab) -> object:
    return lab.transfer("1", "2", "99999999")


def let_a_hold_go(lab: Lab) -> object:
    return lab.release(lab.transfer("1", "2", "10", hold=True).payment)


def spend_too_often(lab: Lab) -> object:
    return [lab.transfer("3", "4", "1") for _ in range(4)]


# What somebody does, and the types of events that come of it and were not there before.
HAPPENINGS: tuple[tuple[str, Action, set[EventType]], ...] = (
    ("the lab is opened", lambda lab: None, {EventType.SYSTEM_HEALTH_CHECK}),
    (
        "an account is opened",
        lambda lab: lab.create_account("1", "100000"),
        {
            EventType.USER_CREATED,
            EventType.PAYMENT_INITIATED,
            EventType.PAYMENT_COMPLETED,
            EventType.BALANCE_UPDATED,
        },
    ),
    (
        "a payment is made",
        lambda lab: (lab.create_account("2"), lab.transfer("1", "2", "10")),
        {
            EventType.FRAUD_SCORE_CALCULATED,
            EventType.EMAIL_SENT,
            EventType.PUSH_NOTIFICATION_SENT,
        },
    ),
    ("a payment is refused", overspend, {EventType.PAYMENT_FAILED}),
    ("a hold is let go", let_a_hold_go, {EventType.PAYMENT_CANCELLED}),
    (
        "a payment is large",
        lambda lab: lab.transfer("1", "2", "8000"),
        {EventType.MANUAL_REVIEW_REQUIRED, EventType.SMS_SENT},
    ),
    (
        "a payer is in a hurry",
        lambda lab: (lab.create_account("3", "50"), lab.create_account("4"), spend_too_often(lab)),
        {EventType.TRANSACTION_BLOCKED},
    ),
)


def test_routes_of_new_accounts_are_published_for_other_readers(lab: Lab) -> None:
    lab.create_account("reader-1", 1)
    lab.open_accounts({"reader-2": 0, "asha": 100})
    users = ["reader-1", "reader-2", "asha"]
    assert lab.system.routes.read(users) == {u: lab.system.router.locate(u)[1] for u in users}
    with lab.fault("cache", "gone"):
        lab.create_account("reader-3", 1)  # no account depends on the cache
    assert lab.account("reader-3") is not None
    assert lab.system.routes.failures == 1


def test_all_13_types_of_events_come_of_something_that_happened(tmp_path: Path) -> None:
    seen: set[str] = set()
    with Lab(data=tmp_path, velocity_limit=3) as lab:
        for what, action, expected in HAPPENINGS:
            action(lab)
            wanted = seen | {str(event_type) for event_type in expected}
            until(lambda wanted=wanted: wanted <= lab.event_counts().keys(), what)
            lab.drain()
            new = lab.event_counts().keys() - seen
            assert {str(event_type) for event_type in expected} == new, what
            seen |= new
        assert seen == {str(event_type) for event_type in EventType}
        assert len(seen) == 13
        envelopes = [(record, unwrap(record.value)) for record in lab.system.all_records()]
        lab.audit().require_clean()
        account = lab.account("3")
        assert account is not None
        assert account.state == "frozen", "the hurried one is stopped"
    ids = Counter(envelope.id for _, envelope in envelopes)
    assert max(ids.values()) == 1, "without a crash nothing is delivered twice"
    for record, envelope in envelopes:
        assert record.topic == str(TOPIC_OF[envelope.type])
        assert envelope.specversion == "1.0"
        assert envelope.source
        assert envelope.subject == record.key
        assert envelope.time.endswith("Z")


# -- opening and closing ---------------------------------------------------------------------------


def test_three_lines_in_a_notebook() -> None:
    with Lab(profile="embedded", shards=4, seed=7) as lab:
        run = lab.run(Workload(users=50, payments=200, zipf_s=0.99))
        lab.audit().require_clean()
        frame = run.payments
        for column in ("payment_id", "from_shard", "to_shard", "amount_paise", "status"):
            assert column in frame.columns
        assert len(frame) == 200
        assert frame.latency_ms.notna().all()
        assert lab.trace(frame.payment_id.iloc[0])
        assert "shards" in lab._repr_html_()
        folder = lab.data
        assert folder.exists()
    assert not folder.exists(), "a temporary lab leaves nothing behind"
    assert "closed" in lab._repr_html_()
    with pytest.raises(BadInput, match="not open"):
        lab.balances()


def test_a_lab_says_what_it_is(tmp_path: Path) -> None:
    lab = Lab(data=tmp_path / "lab", shards=1)
    assert repr(lab) == f"<Lab embedded, {tmp_path}/lab, 1 shard, closed>"
    with lab:
        assert repr(lab) == f"<Lab embedded, {tmp_path}/lab, 1 shard, open>"
    assert repr(lab).endswith("closed>")
    with Lab(data=tmp_path / "lab", read_only=True) as reader:
        assert repr(reader).endswith("1 shard, open, read-only>")
    assert "4 shards" in repr(Lab(data=tmp_path / "other"))
    assert not (tmp_path / "other").exists(), "looking makes nothing"


ASKED_BY_NUMBER: dict[str, Action] = {
    "create_account": lambda lab: lab.create_account(7, 5),  # type: ignore[arg-type]
    "transfer from": lambda lab: lab.transfer(7, "2", 5),  # type: ignore[arg-type]
    "transfer to": lambda lab: lab.transfer("2", 7, 5),  # type: ignore[arg-type]
    "account": lambda lab: lab.account(7),  # type: ignore[arg-type]
    "statement": lambda lab: lab.statement(7),  # type: ignore[arg-type]
    "freeze": lambda lab: lab.freeze(7),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("asked", ASKED_BY_NUMBER)
def test_a_user_who_is_named_by_a_number_is_refused_in_words(asked: str, lab: Lab) -> None:
    with pytest.raises(InvalidUserId, match="7 is not a user id: it must be text, not int"):
        ASKED_BY_NUMBER[asked](lab)


def test_a_lab_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InvalidSetting):
        Lab(shards=0)
    assert list(tmp_path.iterdir()) == []


def test_a_lab_keeps_its_state_its_shards_and_its_last_run(tmp_path: Path) -> None:
    with Lab(data=tmp_path / "lab", shards=3, seed=1) as lab:
        assert lab.open() is lab, "opening twice is one opening"
        first = lab.run(Workload(users=30, payments=100))
        payments = list(first.payments.payment_id)
        balances = lab.balances()
    with Lab(data=tmp_path / "lab", read_only=True) as lab:
        assert len(lab.system.databases) == 3
        assert lab.balances() == balances
        assert lab.last_run().answers == first.answers
        assert list(lab.last_run().payments.payment_id) == payments
        assert lab.audit().exit_code == 0
        assert lab.replay().exit_code == 0
        with pytest.raises(BadInput, match="read-only"):
            lab.run(Workload(users=30, payments=10))
    with pytest.raises(InvalidSetting, match="has 3 shards"):
        Lab(data=tmp_path / "lab", shards=4).open()
    with pytest.raises(BadInput, match="no lab"):
        Lab(data=tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_read_only_lab_refuses_every_change_at_once(tmp_path: Path) -> None:
    with Lab(data=tmp_path / "lab") as lab:
        lab.create_account("a", 100)
        lab.create_account("b")
        lab.drain()
        balances = lab.balances()
    with Lab(data=tmp_path / "lab", read_only=True) as lab:
        payment = "0" * 8 + "-0000-7000-8000-" + "0" * 12
        changes: list[Callable[[], object]] = [
            lambda: lab.transfer("a", "b", 1),
            lambda: lab.submit("a", "b", 1),
            lambda: lab.create_account("c", 1),
            lambda: lab.open_accounts({"c": 100}),
            lambda: lab.freeze("a"),
            lambda: lab.unfreeze("a"),
            lambda: lab.close_account("b"),
            lambda: lab.capture(payment),
            lambda: lab.release(payment),
            lab.expire_holds,
            lambda: lab.approve(payment),
            lambda: lab.reject(payment),
            lambda: lab.recover(),
            lambda: lab.fault("shard-0", "down").__enter__(),
        ]
        for change in changes:
            with pytest.raises(BadInput, match="read-only"):
                change()
        lab.drain()
        assert lab.audit().exit_code == 0
        assert lab.balances() == balances


def test_a_read_only_audit_of_a_crashed_lab_says_unknown_at_once(tmp_path: Path) -> None:
    lab = Lab(data=tmp_path / "lab", seed=1, deterministic=True).open()
    lab.create_account("1", 100)
    lab.create_account("2")
    lab.drain()
    with lab.fault("process", "crash-after-leg-a"):
        lab.submit("1", "2", 10)
        while lab.step() is not None:
            pass
    lab.crash()
    with Lab(data=tmp_path / "lab", read_only=True) as looking:
        with pytest.raises(Unavailable, match="drains nothing"):
            looking.drain()
        report = looking.audit()
        assert report.verdict == "unknown", str(report)
        undrained = {c.name for c in report.checks if c.state != "passed"}
        assert undrained == {"drained", "no_pending_after_drain"}
    with Lab(data=tmp_path / "lab") as healed:
        healed.audit().require_clean()


def test_closing_finishes_what_was_submitted(tmp_path: Path) -> None:
    with Lab(data=tmp_path) as lab:
        lab.open_accounts({"1": 10**6, "2": 0})
        tickets = [lab.submit("1", "2", "1.00") for _ in range(200)]
    assert {ticket.outcome.status for ticket in tickets if ticket.outcome} == {"COMPLETED"}
    assert all(ticket.answered for ticket in tickets)
    with Lab(data=tmp_path) as lab:
        assert lab.balances() == {"1": 10**6 - 20_000, "2": 20_000}
        lab.audit().require_clean()


def test_whoever_waits_hears_of_the_death_at_once(tmp_path: Path) -> None:
    lab = Lab(data=tmp_path).open()
    lab.open_accounts({"1": 10**6, "2": 0})
    heard: list[Exception] = []

    def pay() -> None:
        try:
            lab.transfer("1", "2", "1.00")
        except OutcomeUnknown as error:
            heard.append(error)

    lab.system.switches[1].slow_s = 1.0  # so that the payment is under way when the lab dies
    payer = threading.Thread(target=pay)
    payer.start()
    until(lambda: lab.system.engine.admission.in_flight)
    started = time.monotonic()
    lab.crash()
    payer.join(lab.settings.deadline_s)
    assert time.monotonic() - started < lab.settings.deadline_s / 2
    assert len(heard) == 1
    lab.recover()
    lab.audit().require_clean()
    lab.close()


# -- what it does by itself ------------------------------------------------------------------------


def test_holds_past_their_time_end_by_themselves(tmp_path: Path) -> None:
    with Lab(data=tmp_path, hold_ttl_s=0.05, recovery_interval_s=0.05) as lab:
        lab.open_accounts({"1": 10_000, "2": 0})
        held = lab.transfer("1", "2", "40.00", hold=True)
        assert held.status == "HELD"
        until(lambda: lab.status(held.payment).status == "CANCELLED")
        assert lab.status(held.payment).reason == "expired"
        until(lambda: lab.event_counts().get("PaymentCancelled") == 1)
        lab.audit().require_clean()


def test_payments_of_a_dead_process_are_completed_by_a_living_one(tmp_path: Path) -> None:
    """Nobody opens anything anew: the living one finds them when they are old enough."""
    with Lab(data=tmp_path, recovery_interval_s=0.05, pending_age_s=0.2) as living:
        living.open_accounts({str(n): 10**6 for n in range(1, 9)})
        dying = Lab(data=tmp_path).open()
        with dying.fault("process", "crash-after-leg-a"):
            ticket = dying.submit("1", "2", "5.00")
            until(lambda: dying.crashed_at)
        dying.crash()
        assert not ticket.answered
        until(lambda: living.status(ticket.payment_id).status == "COMPLETED")
        until(lambda: living.balances()["2"] == 10**6 + 500)
        living.audit().require_clean()


def test_a_broken_shard_is_asked_by_one_payment_at_a_time(tmp_path: Path) -> None:
    lab = Lab(data=tmp_path, deterministic=True, seed=1).open()
    lab.open_accounts({"1": 10**6, "2": 0, "6": 0})
    clock = lab.system.clock
    with lab.fault("shard-2", "down"):
        assert lab.transfer("1", "2", "1.00").status == "PENDING", "nobody knew yet"
        for _ in range(3):  # known to be down: refused before the debit, but for one that tries it
            with pytest.raises(ShardUnavailable):
                lab.submit("1", "2", "1.00")
            clock.advance(lab.settings.breaker_probe_s)
            lab.submit("1", "2", "1.00")
            with pytest.raises(ShardUnavailable):
                lab.submit("1", "6", "1.00")
            assert lab.transfer("1", "5", "1.00").reason == "unknown_receiver", "others go on"
    clock.advance(lab.settings.breaker_probe_s)
    lab.drain()
    assert lab.balances()["2"] == 400
    lab.audit().require_clean()
    lab.close()


def test_an_audit_at_rest_while_another_process_posts_gives_no_false_alarm(tmp_path: Path) -> None:
    with Lab(data=tmp_path, velocity_limit=10**6) as posting, Load(posting) as load:
        load.wait_for("before", 20)
        with Lab(data=tmp_path, read_only=True) as looking:
            reports = [
                audit(looking.system.databases, looking.system.log, mode="quiescent")
                for _ in range(8)
            ]
            failed = {
                check.name
                for report in reports
                for check in report.checks
                if check.state == "failed"
            }
            # Nobody drained here: where the posting process gets no turn for as long as an audit
            # takes, its payments are PENDING indeed.
            assert failed <= {"no_pending_after_drain"}
            verdicts = Counter(report.verdict for report in reports)
            assert verdicts["unknown"] > 0, "what was seen at different moments proves nothing"
            assert looking.audit("live").verdict == "passed"
            load.stop()
            posting.drain()
            assert looking.audit().verdict == "passed"


def test_two_labs_on_one_folder_handle_each_event_once(tmp_path: Path) -> None:
    settings = {"velocity_limit": 10**6, "notification_channel": "memory"}
    with Lab(data=tmp_path, **settings) as one, Lab(data=tmp_path, **settings) as other:
        with Load(one, 1) as first, Load(other, 2) as second:
            first.wait_for("before", 150)
            second.wait_for("before", 150)
        one.drain()
        other.drain()
        one.audit().require_clean()
        assert one.replay().exit_code == 0
        completed = sum(h.status == "COMPLETED" for h in [*first.heard, *second.heard])
        assert completed >= 300
        payments = {h.outcome.payment for h in [*first.heard, *second.heard] if h.outcome}
        scored = [row["payment_id"] for row in one.system.wide.scan(FEATURES)]
        assert sorted(scored) == sorted(payments)
        sent = Counter(
            message.notification_id
            for lab in (one, other)
            for message in lab.system.channel.messages()
        )
        assert max(sent.values()) == 1
        assert all(lab.system.lag(group) == 0 for lab in (one, other) for group in GROUPS)
