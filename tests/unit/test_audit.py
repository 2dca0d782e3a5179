"""Every check of the audit passes on an honest ledger and names the one thing that was broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from paytm_lab.core.errors import IntegrityError, InvalidSetting, Unavailable
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.audit import AuditReport
from tests.unit.ledger_world import LedgerWorld, make_honest_ledger

EVENTS = "one_initiated_one_terminal_event"
QUIESCENT_CHECKS = [
    "shards_readable",
    "shard_debits_equal_credits",
    "balances_equal_entries",
    "available_not_negative",
    "held_equals_active_holds",
    "one_role_per_shard",
    "entries_match_payments",
    "receivable_matches_debts",
    "states_agree_across_shards",
    "in_transit_matches_pending",
    "funding_matches_users_and_open",
    "no_pending_after_drain",
    EVENTS,
]


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


def not_passed(report: AuditReport) -> set[str]:
    return {check.name for check in report.not_passed()}


@pytest.mark.parametrize("mode", ["quiescent", "live"])
def test_an_honest_ledger_passes(world: LedgerWorld, mode: str) -> None:
    report = world.audit(mode)
    assert not_passed(report) == set(), str(report)
    assert report.verdict == "passed"
    assert report.exit_code == 0
    report.require_clean()
    assert report.funded_paise == 9 * 1000_00
    assert report.users_paise == report.funded_paise + 300_00
    assert report.receivable_paise == -300_00
    assert report.open_payments == ()


def test_the_checks_have_fixed_names(world: LedgerWorld) -> None:
    assert [check.name for check in world.audit().checks] == QUIESCENT_CHECKS
    live = ["stamp_closed", *QUIESCENT_CHECKS]
    live.remove("no_pending_after_drain")
    assert [check.name for check in world.audit("live").checks] == live


class Break(NamedTuple):
    """SQL on one shard, and the checks that must then fail: the first is what it is about; others
    stand where one wrong row makes two statements untrue.
    """

    failed: tuple[str, ...]
    shard: int
    sql: tuple[str, ...]


ENTRY = "INSERT INTO ledger_entries (payment_id, account_id, amount, direction, created_at, stamp)"


def account(user_id: str) -> str:
    return f"(SELECT id FROM accounts WHERE user_id = '{user_id}')"


SOURCE_ROW = "role = 'source' AND status = 'COMPLETED'"
PAID_BY_0 = (
    "(SELECT transaction_id FROM transactions WHERE kind = 'transfer' AND role = 'local'"
    " AND status = 'COMPLETED' AND from_user_id = '0')"
)
TRANSFER_ROW = "kind = 'transfer' AND role = 'local' AND status = 'COMPLETED'"

BREAKS = {
    "an entry grew": Break(
        ("shard_debits_equal_credits", "entries_match_payments", "funding_matches_users_and_open"),
        0,
        (
            "UPDATE ledger_entries SET amount = amount + 7 WHERE id = (SELECT max(id) FROM"
            f" ledger_entries WHERE account_id = {account('0')} AND direction = 'credit')",
            "UPDATE accounts SET balance = balance + 7 WHERE user_id = '0'",
        ),
    ),
    "a balance was set": Break(
        ("balances_equal_entries",),
        0,
        ("UPDATE accounts SET balance = balance + 1 WHERE user_id = '0'",),
    ),
    "a system account stores a balance": Break(
        ("balances_equal_entries",), 0, ("UPDATE accounts SET balance = 5 WHERE id = 1",)
    ),
    "an account is gone": Break(
        ("balances_equal_entries",), 0, ("DELETE FROM accounts WHERE user_id = '0'",)
    ),
    "held was raised": Break(
        ("held_equals_active_holds",),
        0,
        ("UPDATE accounts SET held = held + 1 WHERE user_id = '0'",),
    ),
    "a hold was lost": Break(
        ("held_equals_active_holds",), 0, ("DELETE FROM holds WHERE state = 'active'",)
    ),
    "held and hold were raised together": Break(
        ("held_equals_active_holds",),
        0,
        (
            "UPDATE accounts SET held = held + 1 WHERE user_id = '6'",
            "UPDATE holds SET amount = amount + 1 WHERE state = 'active'",
        ),
    ),
    "a hold is of another user than its payment": Break(
        ("held_equals_active_holds",),
        0,
        ("UPDATE transactions SET from_user_id = '3' WHERE status = 'HELD'",),
    ),
    "an in_transit entry went to another peer": Break(
        ("in_transit_matches_pending",),
        0,
        (
            "UPDATE ledger_entries SET account_id = 12 WHERE id ="
            " (SELECT id FROM ledger_entries WHERE account_id = 11 AND direction = 'credit')",
        ),
    ),
    "the receiver differs between the sides": Break(
        ("states_agree_across_shards",),
        0,
        (f"UPDATE transactions SET to_user_id = '8' WHERE {SOURCE_ROW}",),
    ),
    "the stamp differs between the sides": Break(
        ("states_agree_across_shards", "entries_match_payments"),
        0,
        (f"UPDATE transactions SET stamp = stamp + 1 WHERE {SOURCE_ROW}",),
    ),
    "a state that does not exist": Break(
        ("states_agree_across_shards", EVENTS),
        0,
        (f"UPDATE transactions SET status = 'DONE' WHERE {TRANSFER_ROW}",),
    ),
    "the source says failed, the destination completed": Break(
        ("states_agree_across_shards", "entries_match_payments", EVENTS),
        0,
        (f"UPDATE transactions SET status = 'FAILED' WHERE {SOURCE_ROW}",),
    ),
    "the source row is gone": Break(
        ("states_agree_across_shards", "entries_match_payments"),
        0,
        (f"DELETE FROM transactions WHERE {SOURCE_ROW}",),
    ),
    "the destination row is gone": Break(
        ("states_agree_across_shards", "entries_match_payments"),
        1,
        ("DELETE FROM transactions WHERE role = 'destination' AND kind = 'transfer'",),
    ),
    "a payment has two rows on one shard": Break(
        ("one_role_per_shard",),
        0,
        (
            "INSERT INTO transactions SELECT NULL, transaction_id, 'destination', from_user_id,"
            " to_user_id, amount, currency, status, reason, kind, from_shard, to_shard,"
            " map_version, stamp, occurred_at, NULL, refund_of, receivable, NULL, fraud_decision,"
            " fraud_score, fraud_rule, created_at, updated_at FROM transactions"
            f" WHERE {TRANSFER_ROW}",
        ),
    ),
    "a transfer calls itself funding": Break(
        ("funding_matches_users_and_open",),
        0,
        (f"UPDATE transactions SET kind = 'funding' WHERE {TRANSFER_ROW}",),
    ),
    "a payment's amount is not its entries'": Break(
        ("entries_match_payments",),
        0,
        (f"UPDATE transactions SET amount = amount + 1 WHERE {TRANSFER_ROW}",),
    ),
    "a credit went to another user": Break(
        ("entries_match_payments",),
        0,
        (
            f"UPDATE ledger_entries SET account_id = {account('6')} WHERE direction = 'credit' AND"
            f" account_id = {account('3')} AND payment_id IN {PAID_BY_0}",
            "UPDATE accounts SET balance = balance - 10000 WHERE user_id = '3'",
            "UPDATE accounts SET balance = balance + 10000 WHERE user_id = '6'",
        ),
    ),
    "another user paid": Break(
        ("entries_match_payments",),
        0,
        (
            f"UPDATE ledger_entries SET account_id = {account('3')} WHERE direction = 'debit' AND"
            f" account_id = {account('0')} AND amount = 20000",
            "UPDATE accounts SET balance = balance + 20000 WHERE user_id = '0'",
            "UPDATE accounts SET balance = balance - 20000 WHERE user_id = '3'",
        ),
    ),
    "another user paid a part": Break(
        ("entries_match_payments",),
        0,
        (
            f"{ENTRY} SELECT payment_id, {account('3')}, 50, 'debit', created_at, stamp"
            f" FROM ledger_entries WHERE account_id = {account('0')} AND amount = 20000",
            f"UPDATE ledger_entries SET amount = 19950 WHERE account_id = {account('0')}"
            " AND amount = 20000",
            "UPDATE accounts SET balance = balance + 50 WHERE user_id = '0'",
            "UPDATE accounts SET balance = balance - 50 WHERE user_id = '3'",
        ),
    ),
    "a debit bears another time": Break(
        ("entries_match_payments",),
        0,
        (
            "UPDATE ledger_entries SET stamp = stamp - 1 WHERE direction = 'debit'"
            f" AND account_id = {account('0')} AND payment_id IN {PAID_BY_0}",
        ),
    ),
    "a credit bears another time": Break(
        ("entries_match_payments",),
        0,
        (
            "UPDATE ledger_entries SET stamp = stamp + 1 WHERE direction = 'credit'"
            f" AND account_id = {account('3')} AND payment_id IN {PAID_BY_0}",
        ),
    ),
    "a credit from another shard bears another time": Break(
        ("entries_match_payments",),
        1,
        (
            "UPDATE ledger_entries SET stamp = stamp + 1 WHERE direction = 'credit'"
            f" AND account_id = {account('1')} AND amount = 20000",
        ),
    ),
    "a debt was forgiven": Break(
        ("receivable_matches_debts",), 2, ("UPDATE debts SET amount = amount - 1",)
    ),
    "a PaymentInitiated is gone": Break(
        (EVENTS,),
        0,
        (
            "DELETE FROM outbox_events WHERE id ="
            " (SELECT max(id) FROM outbox_events WHERE event_type = 'PaymentInitiated')",
        ),
    ),
    "a PaymentCompleted is gone": Break(
        (EVENTS,),
        0,
        (
            "DELETE FROM outbox_events WHERE id ="
            " (SELECT max(id) FROM outbox_events WHERE event_type = 'PaymentCompleted')",
        ),
    ),
    "a second terminal event": Break(
        (EVENTS,),
        0,
        (
            "INSERT INTO outbox_events SELECT NULL, replace(event_id, 'Completed', 'Failed'),"
            " 'PaymentFailed', aggregate_id, event_data, created_at, traceparent"
            " FROM outbox_events WHERE event_type = 'PaymentCompleted' LIMIT 1",
        ),
    ),
    "a second id for one event": Break(
        (EVENTS,),
        0,
        (
            "INSERT INTO outbox_events SELECT NULL, event_id || '.again', event_type, aggregate_id,"
            " event_data, created_at, traceparent FROM outbox_events"
            " WHERE event_type = 'PaymentCompleted' LIMIT 1",
        ),
    ),
    "an event of no payment": Break(
        (EVENTS,),
        0,
        (
            "INSERT INTO outbox_events SELECT NULL, 'f' || substr(event_id, 2), event_type,"
            " 'f' || substr(aggregate_id, 2), event_data, created_at, traceparent"
            " FROM outbox_events WHERE event_type = 'PaymentCompleted' LIMIT 1",
        ),
    ),
}


@pytest.mark.parametrize("mode", ["quiescent", "live"])
@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_named(world: LedgerWorld, name: str, mode: str) -> None:
    broken = BREAKS[name]
    world.execute(broken.shard, *broken.sql)
    report = world.audit(mode)
    assert not_passed(report) == set(broken.failed), str(report)
    check = report.check(broken.failed[0])
    assert check.state == "failed"
    assert check.offenders and check.offenders_total >= len(check.offenders)
    assert report.verdict == "failed"
    assert report.exit_code == 1
    with pytest.raises(IntegrityError, match=broken.failed[0]) as raised:
        report.require_clean()
    assert raised.value.exit_code == 1


def test_money_that_is_held_can_not_be_spent(world: LedgerWorld) -> None:
    """A double spend that is otherwise perfect: rows, entries, balances and events all agree."""
    receiver = "3"
    done = world.pay("3", "0", 1)  # a row to copy
    payment = done.payment_id.hex()
    other = (done.payment_id[:-1] + bytes([done.payment_id[-1] ^ 1])).hex()
    name = payment_id_text(bytes.fromhex(other))
    world.execute(
        0,
        f"INSERT INTO transactions SELECT NULL, x'{other}', role, '6', '{receiver}', 50000,"
        " currency, status, reason, kind, from_shard, to_shard, map_version, stamp, occurred_at,"
        " NULL, refund_of, receivable, open_since, fraud_decision, fraud_score, fraud_rule,"
        f" created_at, updated_at FROM transactions WHERE transaction_id = x'{payment}'",
        f"{ENTRY} SELECT x'{other}', {account('6')}, 50000, 'debit', 1, {done.stamp}",
        f"{ENTRY} SELECT x'{other}', {account(receiver)}, 50000, 'credit', 1, {done.stamp}",
        "UPDATE accounts SET balance = balance - 50000 WHERE user_id = '6'",
        f"UPDATE accounts SET balance = balance + 50000 WHERE user_id = '{receiver}'",
        f"INSERT INTO outbox_events SELECT NULL, '{name}' || substr(event_id, 37), event_type,"
        f" '{name}', event_data, created_at, traceparent FROM outbox_events"
        f" WHERE aggregate_id = '{payment_id_text(done.payment_id)}'",
    )
    report = world.audit()
    assert not_passed(report) == {"available_not_negative"}, str(report)
    assert report.check("available_not_negative").offenders == ("6",)


def test_a_pending_payment_fails_only_the_quiescent_audit(world: LedgerWorld) -> None:
    payment_id = world.half_paid("0", "1", 77)
    report = world.audit()
    assert not_passed(report) == {"no_pending_after_drain"}
    assert report.check("no_pending_after_drain").offenders == (payment_id_text(payment_id),)
    assert (report.open_total, report.open_paise) == (1, 77)
    assert world.audit(drain=world.recover).verdict == "passed"


def test_a_drain_that_does_not_end_leaves_the_verdict_open(world: LedgerWorld) -> None:
    def drain() -> None:
        raise Unavailable("the relay is stopped")

    report = world.audit(drain=drain)
    assert not_passed(report) == {"drained"}
    assert (report.verdict, report.exit_code) == ("unknown", 4)
    with pytest.raises(IntegrityError, match="unknown") as raised:
        report.require_clean()
    assert raised.value.exit_code == 4


def test_only_two_modes_exist(world: LedgerWorld) -> None:
    with pytest.raises(InvalidSetting, match="quiescent or live"):
        world.audit("lively")
