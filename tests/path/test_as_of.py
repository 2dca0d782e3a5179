"""Reads as of a closed stamp: they add up across shards, and never change afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab.core.errors import BadInput, InvalidUserId, ShardUnavailable, Unavailable
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger import as_of, closing
from paytm_lab.ledger.replay import replay
from tests.unit.ledger_world import LedgerWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    world = LedgerWorld(tmp_path)
    world.open_accounts(6, 1000_00)
    yield world
    world.close()


def close(world: LedgerWorld) -> int:
    return as_of.close_stamp(
        world.databases, world.clock.now_us(), lambda _: world.recover(), wait=lambda _: None
    ).stamp_us


# -- closing ---------------------------------------------------------------------------------------


def test_a_payment_after_the_closing_is_stamped_later_though_the_clock_stands(
    world: LedgerWorld,
) -> None:
    stamp_us = world.clock.now_us() + 3_600_000_000  # an hour past the clock
    as_of.close_at(world.databases, stamp_us)
    assert world.pay("0", "3", 1).stamp > stamp_us
    assert world.pay("0", "1", 1).stamp > stamp_us


def test_closing_again_covers_what_came_in_between_though_the_clock_stands(
    world: LedgerWorld,
) -> None:
    now_us = world.clock.now_us()
    first = as_of.close_stamp(world.databases, now_us).stamp_us
    tx = world.databases[0].begin()
    stamp_us = max(now_us, tx.meta().stamp + 1)  # as a batch at this very time would draw it
    tx.rollback()
    assert first < stamp_us <= as_of.close_stamp(world.databases, now_us).stamp_us


def test_closing_waits_for_an_open_transaction(world: LedgerWorld) -> None:
    """Its stamp was drawn from the old value, so whatever it commits belongs to S."""
    tx = world.databases[1].begin()
    drawn_us = max(world.clock.now_us(), tx.meta().stamp + 1)
    stamp_us = drawn_us + 10
    done = threading.Event()

    def run() -> None:
        as_of.close_at(world.databases, stamp_us)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    # The shard before it in line is closed at once; this one not while its transaction is open.
    deadline = threading.Event()
    while closing.closed_up_to(world.databases[0]) < stamp_us and not deadline.wait(0.001):
        assert thread.is_alive()
    assert not done.is_set()
    assert closing.closed_up_to(world.databases[1]) < stamp_us
    tx.commit()
    assert done.wait(30)
    thread.join()
    assert closing.closed_up_to(world.databases[1]) == stamp_us


def test_closing_helps_payments_that_lack_their_destination(world: LedgerWorld) -> None:
    payment_id = world.half_paid("0", "1", 5)
    helped = []

    def help_(rows: list[object]) -> None:
        helped.extend(row.transaction_id for row in rows)  # type: ignore[attr-defined]
        world.recover()

    closed = as_of.close_stamp(
        world.databases,
        world.clock.now_us(),
        help_,
        wait=lambda _: None,  # type: ignore[arg-type]
    )
    assert helped == [payment_id]
    assert closed.rounds == 1
    assert as_of.balance_as_of(world.databases[1], "1", closed.stamp_us) == 1000_05


def test_closing_gives_up_and_names_what_is_missing(world: LedgerWorld) -> None:
    payment_id = world.half_paid("0", "1", 5)
    waits: list[float] = []
    with pytest.raises(Unavailable, match=payment_id_text(payment_id)):
        as_of.close_stamp(world.databases, world.clock.now_us(), wait_s=1.0, wait=waits.append)
    assert 1.0 <= sum(waits) <= 1.1


def test_a_shard_that_is_away_can_not_be_closed(world: LedgerWorld) -> None:
    world.databases[2].path.rename(world.folder / "elsewhere")
    with pytest.raises(ShardUnavailable):
        as_of.close_stamp(world.databases, world.clock.now_us())


def test_a_younger_pending_payment_does_not_hold_up_an_older_stamp(world: LedgerWorld) -> None:
    stamp_us = world.clock.now_us()
    world.clock.advance(1)
    world.half_paid("0", "1", 5)
    assert as_of.close_at(world.databases, stamp_us) == (stamp_us, 0)


# -- balances and open payments --------------------------------------------------------------------


def test_every_kind_of_payment_adds_up_as_of_every_stamp(world: LedgerWorld) -> None:
    stamps = [close(world)]
    world.pay("0", "3", 100)
    stamps.append(close(world))
    world.pay("0", "1", 200)
    stamps.append(close(world))
    held = world.pay("2", "0", 300, hold=True)
    stamps.append(close(world))
    world.holds.capture(held.payment_id, 120)
    stamps.append(close(world))
    paid = world.pay("4", "5", 500_00)
    world.pay("5", "0", 1400_00)
    stamps.append(close(world))
    assert world.refund(paid.payment_id).receivable == 400_00
    stamps.append(close(world))
    seen = [as_of.ledger_as_of(world.databases, stamp) for stamp in stamps]
    assert [ledger.difference_paise for ledger in seen] == [0] * len(stamps)
    assert [ledger.balances["0"] for ledger in seen[:3]] == [1000_00, 999_00, 997_00]
    assert [ledger.balances["2"] for ledger in seen[2:5]] == [1000_00, 1000_00, 998_80]
    assert seen[-1].receivable_paise == -400_00
    assert seen[-1].balances["5"] == 0
    assert seen[-1].funded_paise == 6 * 1000_00


def refused(world: LedgerWorld, receiver: str, amount_paise: int) -> tuple[bytes, int]:
    """A payment from '0' that its destination refused, and a stamp closed before the give-back."""
    submitted = world.submit("0", receiver, amount_paise)
    world.step(0)
    world.step(world.shard_of(receiver))
    return submitted.payment_id, as_of.close_stamp(world.databases, world.clock.now_us()).stamp_us


def test_a_refused_payment_stays_open_as_of_a_stamp_before_its_give_back(
    world: LedgerWorld,
) -> None:
    world.set_state("1", "frozen_all")
    payment_id, before_us = refused(world, "1", 70)
    open_before = as_of.open_payments_as_of(world.databases, before_us)
    assert [(p.payment_id, p.amount_paise, p.refused) for p in open_before] == [
        (payment_id, 70, True)
    ]
    first = as_of.ledger_as_of(world.databases, before_us)
    world.settle()
    after_us = close(world)
    assert as_of.ledger_as_of(world.databases, before_us) == first
    assert first.balances["0"] == 999_30
    assert first.difference_paise == 0
    after = as_of.ledger_as_of(world.databases, after_us)
    assert (after.balances["0"], after.open_payments, after.difference_paise) == (1000_00, [], 0)
    assert world.audit("live").verdict == "passed"


def test_the_live_audit_passes_between_refusal_and_give_back(world: LedgerWorld) -> None:
    world.set_state("1", "frozen_all")
    payment_id, _ = refused(world, "1", 70)
    report = world.audit("live", help=None)
    assert report.verdict == "passed", str(report)
    assert report.open_payments == (payment_id_text(payment_id),)
    assert report.open_paise == 70


@pytest.mark.parametrize("new_shard", [2, 0])
def test_a_payment_whose_receiver_moved_adds_up(world: LedgerWorld, new_shard: int) -> None:
    """Re-targeted to a third shard, or home to the source's own, after the stamp was drawn."""
    payment_id = world.half_paid("0", "1", 90)
    world.move_slot("1", new_shard)
    stamp_us = close(world)  # recovery re-targets while the stamp is being closed
    ledger = as_of.ledger_as_of(world.databases, stamp_us)
    assert ledger.difference_paise == 0
    if new_shard == 2:
        assert ledger.open_payments == []
        assert ledger.balances["1"] == 1000_90
    else:
        assert [p.payment_id for p in ledger.open_payments] == [payment_id]
        assert ledger.balances["1"] == 1000_00
    assert world.audit("live").verdict == "passed"
    report = world.audit()
    assert report.verdict == "passed", str(report)
    world.relay()
    assert replay(world.log, world.databases).verdict == "passed"
    assert replay(world.log, world.databases, stamp_us).verdict == "passed"
    later = as_of.ledger_as_of(world.databases, close(world))
    assert (later.balances["1"], later.open_payments, later.difference_paise) == (1000_90, [], 0)
    assert as_of.ledger_as_of(world.databases, stamp_us) == ledger


def test_a_balance_as_of_is_none_without_an_account(world: LedgerWorld) -> None:
    stamp_us = close(world)
    assert as_of.balance_as_of(world.databases[0], "0", stamp_us) == 1000_00
    assert as_of.balance_as_of(world.databases[0], "1", stamp_us) is None
    assert as_of.balance_as_of(world.databases[0], "system:funding", stamp_us) is None
    assert as_of.balance_as_of(world.databases[0], "0", 0) == 0


# -- statements ------------------------------------------------------------------------------------


def test_a_statement_pages_through_all_entries_once(world: LedgerWorld) -> None:
    for amount in range(1, 12):
        world.pay("0", "3" if amount % 2 else "1", amount)
        world.pay("4", "0", 1000 + amount)
    stamp_us = close(world)
    database = world.databases[0]
    whole = as_of.statement(database, "0", stamp_us, rows_max=1000)
    assert (len(whole.rows), whole.cursor, whole.opening_balance_paise) == (23, "", 0)
    rows, cursor, balance = [], "", 0
    while True:
        page = as_of.statement(database, "0", stamp_us, cursor, rows_max=5)
        assert page.opening_balance_paise == balance
        rows += page.rows
        balance, cursor = page.rows[-1].balance_paise, page.cursor
        if not cursor:
            break
    assert rows == whole.rows
    assert balance == as_of.balance_as_of(database, "0", stamp_us)
    assert [(r.stamp_us, r.entry_id) for r in rows] == sorted(
        (r.stamp_us, r.entry_id) for r in rows
    )
    assert (rows[0].kind, rows[0].other_user_id, rows[0].direction) == (
        "funding", "system:funding", "credit",
    )  # fmt: skip
    assert {row.other_user_id for row in rows[1:]} == {"1", "3", "4"}


def test_a_statement_as_of_a_closed_stamp_never_changes(world: LedgerWorld) -> None:
    world.pay("0", "1", 10)
    submitted = world.submit("4", "0", 20)
    world.step(1)  # debited; the credit will carry this older stamp
    stamp_us = close(world)
    before = as_of.statement(world.databases[0], "0", stamp_us)
    assert [row.amount_paise for row in before.rows] == [1000_00, 10, 20]
    world.settle()
    assert submitted.payment_id == before.rows[-1].payment_id
    world.pay("0", "1", 30)
    world.pay("4", "0", 40)
    assert as_of.statement(world.databases[0], "0", stamp_us) == before
    assert len(as_of.statement(world.databases[0], "0").rows) == 5


def test_a_statement_says_what_is_wrong(world: LedgerWorld) -> None:
    with pytest.raises(InvalidUserId, match="'77' has no account"):
        as_of.statement(world.databases[0], "77")
    with pytest.raises(BadInput, match="rows a page"):
        as_of.statement(world.databases[0], "0", rows_max=0)
    for cursor in ("x", "1-", "1-2-3", "-1-2", "١-٢"):
        with pytest.raises(BadInput, match="not a cursor"):
            as_of.statement(world.databases[0], "0", after=cursor)
