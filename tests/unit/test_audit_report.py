"""What an audit says when it could not look everywhere, and how it says it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab.core.money import in_words
from paytm_lab.ledger.audit import AuditReport
from paytm_lab.ledger.audit.report import EXIT_CODES, Check, checked, verdict_of
from paytm_lab.ports.event_log import Message
from tests.unit.ledger_world import LedgerWorld, make_honest_ledger

EVENTS = "one_initiated_one_terminal_event"
ENTRY = "INSERT INTO ledger_entries (payment_id, account_id, amount, direction, created_at, stamp)"


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


def test_a_missing_shard_is_unknown_not_a_traceback(world: LedgerWorld) -> None:
    world.databases[1].path.rename(world.folder / "elsewhere")
    report = world.audit()
    assert report.verdict == "unknown"
    assert report.check("shards_readable").offenders == ("shard-1",)
    assert "shard-1" in report.check("in_transit_matches_pending").detail
    assert {check.state for check in report.checks} == {"unknown"}


def test_a_missing_shard_hides_no_other_failure(world: LedgerWorld) -> None:
    world.databases[1].path.rename(world.folder / "elsewhere")
    world.execute(0, "UPDATE accounts SET balance = balance + 1 WHERE user_id = '0'")
    report = world.audit()
    assert report.verdict == "failed"
    assert report.check("balances_equal_entries").offenders == ("0",)


@pytest.mark.parametrize("table", ["ledger_entries", "transactions", "accounts"])
@pytest.mark.parametrize("mode", ["quiescent", "live"])
def test_a_damaged_shard_fails_by_name(world: LedgerWorld, mode: str, table: str) -> None:
    ((page,),) = world.query(2, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    world.databases[2].close()
    with world.databases[2].path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    world.reopen(2)
    report = world.audit(mode)
    assert report.verdict == "failed"
    assert report.check("shards_readable").offenders == ("shard-2",)
    assert "malformed" in report.check("shards_readable").detail


def test_a_log_that_lost_its_beginning_is_unknown(world: LedgerWorld) -> None:
    world.log.delete_records("payment_events", 0, 1)
    report = world.audit()
    assert not_passed(report) == {EVENTS}
    assert report.check(EVENTS).state == "unknown"
    assert "offset 1" in report.check(EVENTS).detail
    assert report.verdict == "unknown"


def test_a_poison_message_is_counted_and_harmless(world: LedgerWorld) -> None:
    world.log.append([Message("payment_events", "x", b"\xff not an event")])
    report = world.audit()
    assert report.verdict == "passed"
    assert "1 undecodable" in report.check(EVENTS).detail


def test_events_may_be_delivered_twice(world: LedgerWorld) -> None:
    copies = world.log.read("payment_events", 0, 0, 1000) + world.log.read(
        "payment_events", 1, 0, 1000
    )
    assert copies
    world.log.append([Message(r.topic, r.key, r.value) for r in copies])
    assert world.audit().verdict == "passed"


def test_without_a_log_there_is_no_check_of_events(world: LedgerWorld) -> None:
    world.log = None  # type: ignore[assignment]
    report = world.audit()
    world.log = LedgerWorld(world.folder).log
    assert EVENTS not in [check.name for check in report.checks]
    assert report.events is None
    assert report.verdict == "passed"


def test_sums_beyond_64_bits_are_exact(world: LedgerWorld) -> None:
    amount = 2**53 - 1
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)"
    for account_id, direction in ((11, "debit"), (12, "credit")):
        world.execute(
            0,
            f"{ENTRY} {numbers} SELECT randomblob(16), {account_id}, {amount}, '{direction}', 1, 1"
            " FROM n",
        )
    report = world.audit()
    assert "shard_debits_equal_credits" not in not_passed(report)
    assert report.check("in_transit_matches_pending").state == "failed"
    assert in_words(1100 * amount) in str(report.check("in_transit_matches_pending"))


def test_the_report_as_plain_data(world: LedgerWorld) -> None:
    world.execute(0, "UPDATE accounts SET balance = balance + 1 WHERE user_id = '0'")
    report = world.audit()
    plain = json.loads(json.dumps(report.to_dict()))
    assert (plain["verdict"], plain["exit_code"], plain["mode"]) == ("failed", 1, "quiescent")
    assert [check["name"] for check in plain["checks"]] == [check.name for check in report.checks]
    row = next(row for row in report.rows() if row["check"] == "balances_equal_entries")
    assert (row["state"], row["offenders"]) == ("failed", "0")
    assert str(report).splitlines()[-1] == "money verdict: failed"
    assert "<td>balances_equal_entries</td><td>failed</td>" in report._repr_html_()
    with pytest.raises(KeyError):
        report.check("no_such_check")


def test_offenders_are_bounded_and_counted() -> None:
    check = checked("x", [str(i) for i in range(500)], "good", "things are wrong")
    assert (len(check.offenders), check.offenders_total) == (20, 500)
    assert check.detail == "500 things are wrong"


def test_failed_outweighs_unknown_outweighs_passed() -> None:
    passed, failed, unknown = (Check("x", state, "") for state in EXIT_CODES)
    assert verdict_of([passed]) == "passed"
    assert verdict_of([passed, unknown]) == "unknown"
    assert verdict_of([passed, unknown, failed]) == "failed"
    assert verdict_of([]) == "unknown"


def test_openings_are_counted_apart_and_amounts_are_rupees(world: LedgerWorld) -> None:
    report = world.audit()
    openings = sum(
        count
        for shard in world.databases
        for (count,) in world.query(
            shard, "SELECT COUNT(*) FROM accounts WHERE user_id NOT LIKE 'system:%'"
        )
    )
    payments = report.payments - openings
    assert payments > 0
    counted = f"{payments} payments and {openings} openings"
    assert report.check("states_agree_across_shards").detail == f"both sides of {counted} agree"
    assert report.check(EVENTS).detail.startswith(f"{counted}, ")
    funding = report.check("funding_matches_users_and_open").detail
    assert f"funded {in_words(report.funded_paise)}" in funding
    assert "paise" not in str(report) and report.to_dict()["funded_paise"] == report.funded_paise
