"""All balances rebuilt from the event log are the ledger's, and a difference is named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from paytm_lab.backends.embedded.event_log import EmbeddedEventLog
from paytm_lab.core.errors import IntegrityError
from paytm_lab.core.events import PaymentData, encode, wrap
from paytm_lab.ledger import as_of
from paytm_lab.ledger.replay import Drift, ReplayReport, replay
from paytm_lab.ports.event_log import Message, Record
from tests.unit.ledger_world import LedgerWorld, make_honest_ledger


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    make_honest_ledger(folder)
    return folder


@pytest.fixture
def world(honest: Path, tmp_path: Path) -> Iterator[LedgerWorld]:
    folder = tmp_path / "ledger"
    shutil.copytree(honest, folder)
    world = LedgerWorld(folder, seed=2)  # not the ids of the first world again
    yield world
    world.close()


def rebuilt(world: LedgerWorld, stamp_us: int | None = None) -> ReplayReport:
    return replay(world.log, world.databases, stamp_us, world.clock)


def records(world: LedgerWorld) -> list[Record]:
    return [r for p in range(2) for r in world.log.read("payment_events", p, 0, 10_000)]


def test_nothing_drifts_whether_events_were_relayed_or_not(world: LedgerWorld) -> None:
    """Refunds with a receivable, captures of a part, releases, refusals and holds among them."""
    before = rebuilt(world)
    assert (before.verdict, before.exit_code, before.drift_total) == ("passed", 0, 0), str(before)
    assert before.not_relayed > 0
    world.relay()
    after = rebuilt(world)
    assert (after.verdict, after.not_relayed) == ("passed", 0)
    assert (after.applied, after.accounts) == (before.applied, 9)
    after.require_clean()


def test_an_event_counts_once_however_often_it_came(world: LedgerWorld) -> None:
    world.relay()
    once = rebuilt(world)
    world.log.append([Message(r.topic, r.key, r.value) for r in records(world)])
    twice = rebuilt(world)
    assert (twice.verdict, twice.duplicates, twice.applied) == (
        "passed",
        once.applied,
        once.applied,
    )
    assert twice.events == 2 * once.events


def test_the_order_of_arrival_does_not_matter(world: LedgerWorld) -> None:
    world.relay()
    original = records(world)
    for seed in range(5):
        shuffled = original.copy()
        random.Random(seed).shuffle(shuffled)
        log = EmbeddedEventLog(world.folder / f"shuffled-{seed}", world.clock)
        log.create_topics({"payment_events": 3})
        log.append([Message(r.topic, r.key, r.value) for r in shuffled])
        report = replay(log, world.databases)
        log.close()
        assert report.verdict == "passed", str(report)


def test_the_debit_of_a_pending_payment_is_added_back(world: LedgerWorld) -> None:
    world.half_paid("0", "1", 77)
    world.relay()
    report = rebuilt(world)
    assert (report.verdict, report.added_back, report.added_back_paise) == ("passed", 1, 77)
    world.recover()
    world.relay()
    report = rebuilt(world)
    assert (report.verdict, report.added_back) == ("passed", 0)


def test_a_pending_payment_that_was_credited_is_not_added_back(world: LedgerWorld) -> None:
    world.submit("0", "1", 77)
    world.step(0)
    world.step(1)  # leg (b), but never leg (c)
    world.crash()
    world.relay()
    report = rebuilt(world)
    assert (report.verdict, report.added_back) == ("passed", 0)


def test_a_pending_refund_adds_back_each_part_where_it_came_from(world: LedgerWorld) -> None:
    paid = world.pay("1", "2", 500_00)
    world.pay("2", "0", 1300_00)
    world.reviews.apply_all([("test.refund", paid.payment_id, "review", "test")])

    class Lost(Exception):
        pass

    def lose() -> None:
        raise Lost

    world.engine.faults["leg_a:committed"] = lose
    with pytest.raises(RuntimeError, match="nothing moves"):
        world.reviews.reject(paid.payment_id, "test")
    world.crash()
    world.relay()
    report = rebuilt(world)
    assert (report.verdict, report.added_back) == ("passed", 1), str(report)
    assert world.audit().check("funding_matches_users_and_open").state == "passed"


def test_a_balance_that_drifted_is_named_with_its_drift(world: LedgerWorld) -> None:
    world.execute(0, "UPDATE accounts SET balance = balance + 5 WHERE user_id = '0'")
    report = rebuilt(world)
    assert (report.verdict, report.exit_code, report.drift_total) == ("failed", 1, 1)
    (row,) = report.rows()
    assert (row["user_id"], row["drift_paise"]) == ("0", -5)
    said = r"1 balance drifts from the ledger: 0 by -0\.05 rupees$"
    with pytest.raises(IntegrityError, match=said) as raised:
        report.require_clean()
    assert raised.value.exit_code == 1


def test_a_report_speaks_of_rupees_and_counts_those_that_it_does_not_name(
    world: LedgerWorld,
) -> None:
    report = rebuilt(world)
    some = (Drift("0", 250_000_05, 0), Drift("a", 0, 7))
    drifted = msgspec.structs.replace(
        report,
        verdict="failed",
        drift=some,
        drift_total=25,
        added_back=2,
        added_back_paise=1_500_00,
    )
    assert "2 payments under way with 1,500.00 rupees" in str(drifted)
    said = (
        "25 balances drift from the ledger: 0 by 250,000.05 rupees, a by -0.07 rupees, and 23 more"
    )
    assert said in str(drifted) and said in drifted._repr_html_()
    assert "under way with" not in str(report)


def test_a_forged_event_is_drift_on_both_sides(world: LedgerWorld) -> None:
    payment = "00000000-0000-7000-8000-000000000000"
    data = encode(PaymentData(payment, "0", "3", 9, 0, 0, 1, 1))
    name = "PaymentCompleted"
    forged = wrap(
        event_id=f"{payment}.{name}",
        event_type=name,
        subject=payment,
        source="/shards/0",
        time_us=1,
        data=data,
    )
    world.log.append([Message("payment_events", payment, forged)])
    report = rebuilt(world)
    assert {row["user_id"]: row["drift_paise"] for row in report.rows()} == {"0": -9, "3": 9}


def test_a_lost_event_is_drift(world: LedgerWorld) -> None:
    world.execute(
        0,
        "DELETE FROM outbox_events WHERE id IN (SELECT max(id) FROM outbox_events"
        " WHERE event_type = 'PaymentCompleted')",
    )
    assert rebuilt(world).verdict == "failed"


def test_a_log_that_does_not_start_at_zero_is_unknown(world: LedgerWorld) -> None:
    world.log.delete_records("payment_events", 1, 2)
    report = rebuilt(world)
    assert (report.verdict, report.exit_code) == ("unknown", 4)
    assert "partition 1 starts at offset 2" in report.unknown[0]
    with pytest.raises(IntegrityError, match="unknown") as raised:
        report.require_clean()
    assert raised.value.exit_code == 4


def test_a_missing_shard_is_unknown(world: LedgerWorld) -> None:
    world.databases[1].path.rename(world.folder / "elsewhere")
    report = rebuilt(world)
    assert report.verdict == "unknown"
    assert "shard-1" in report.unknown[0]


def test_an_outbox_row_that_is_no_event_is_unknown(world: LedgerWorld) -> None:
    world.execute(
        0,
        "UPDATE outbox_events SET event_data = '{' WHERE event_type = 'PaymentCompleted'",
    )
    report = rebuilt(world)
    assert report.verdict == "unknown"
    assert "outbox row" in report.unknown[0]


def test_a_poison_message_changes_nothing(world: LedgerWorld) -> None:
    world.log.append(
        [Message("payment_events", "x", b"\xff"), Message("payment_events", "x", b"{}")]
    )
    assert rebuilt(world).verdict == "passed"


def test_as_of_a_stamp_only_what_is_stamped_by_it_counts(world: LedgerWorld) -> None:
    world.clock.advance(10)
    stamp_us = as_of.close_stamp(world.databases, world.clock.now_us()).stamp_us
    applied = rebuilt(world, stamp_us).applied
    world.pay("3", "0", 1)
    world.pay("3", "1", 1)
    assert rebuilt(world, stamp_us).verdict == "passed"
    assert rebuilt(world, stamp_us).applied == applied
    assert rebuilt(world).applied == applied + 2
    # A difference as of the stamp is seen as well.
    world.execute(0, "UPDATE ledger_entries SET amount = amount + 1 WHERE id = 2")
    assert rebuilt(world, stamp_us).verdict == "failed"


def test_the_report_as_plain_data(world: LedgerWorld) -> None:
    report = rebuilt(world)
    plain = json.loads(json.dumps(report.to_dict()))
    assert (plain["verdict"], plain["exit_code"], plain["drift"]) == ("passed", 0, [])
    assert str(report).splitlines()[-1] == "money verdict: passed"
    assert "drift is zero" in report._repr_html_()
