"""Reads of the ledger: what is there, each payment once, in the order that was promised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab.core.errors import ShardUnavailable
from paytm_lab.core.ids import key_hash, parse_payment_id
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.ledger import queries
from paytm_lab.ledger.operations import Outcome, PaymentRequest
from tests.unit.ledger_world import LedgerWorld, Submitted


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    world = LedgerWorld(tmp_path)
    world.open_accounts(6, 1000)
    yield world
    world.close()


def test_a_payment_is_found_on_both_its_sides(world: LedgerWorld) -> None:
    crossing = world.pay("0", "1", 10)
    world.settle()
    local = world.pay("0", "3", 10)
    rows = queries.payment_on_all_sides(world.databases, 0, crossing.payment_id)
    assert [(row.role, row.status, row.amount) for row in rows] == [
        ("source", "COMPLETED", 10),
        ("destination", "COMPLETED", 10),
    ]
    assert rows[0].stamp == rows[1].stamp == crossing.stamp
    rows = queries.payment_on_all_sides(world.databases.values(), 0, local.payment_id)
    assert [row.role for row in rows] == ["local"]
    assert queries.payment_on_all_sides(world.databases, 0, b"\0" * 16) == []
    assert queries.payment_times(world.databases[0], local.payment_id)[0] > 0


def test_a_payment_is_found_by_its_key(world: LedgerWorld) -> None:
    request = PaymentRequest("0", "1", 10, idempotency_key="k", subject="s")
    world.engine.transfer(request)
    known, other = key_hash("s", "0", "k"), key_hash("s", "0", "other")
    assert queries.known_keys(world.databases[0], [other, known, known]) == {known}
    assert queries.known_keys(world.databases[1], [known]) == set()
    assert queries.known_keys(world.databases[0], [other]) == set()
    assert queries.known_keys(world.databases[0], []) == set()


def test_more_keys_than_a_statement_takes(world: LedgerWorld) -> None:
    request = PaymentRequest("0", "1", 10, idempotency_key="k", subject="s")
    world.engine.transfer(request)
    known = key_hash("s", "0", "k")
    others = [key_hash("s", "0", f"k{n}") for n in range(1_200)]
    assert queries.known_keys(world.databases[0], [*others, known]) == {known}


def test_the_work_list_holds_pending_sources_by_age(world: LedgerWorld) -> None:
    first = world.half_paid("0", "1", 1)
    between_us = world.clock.now_us()
    world.clock.advance(1)
    second = world.half_paid("0", "2", 2)
    world.pay("0", "3", 3, hold=True)
    database = world.databases[0]
    now_us = world.clock.now_us()
    assert [r.transaction_id for r in queries.open_payments(database, now_us)] == [first, second]
    assert [r.transaction_id for r in queries.open_payments(database, between_us)] == [first]
    assert [r.transaction_id for r in queries.open_payments(database, now_us, 1)] == [first]
    assert queries.open_counts(database) == {"PENDING": 2, "HELD": 1}
    world.recover()
    assert queries.open_payments(database, world.clock.now_us()) == []
    assert queries.open_counts(database) == {"HELD": 1}


def test_the_work_list_is_read_from_its_index(world: LedgerWorld) -> None:
    """A scan of all payments at every recovery pass would grow with the ledger."""
    plan = world.query(
        0,
        "EXPLAIN QUERY PLAN SELECT * FROM transactions WHERE open_since > 0 AND open_since <= 9"
        " AND status = 'PENDING' ORDER BY open_since, id",
    )
    assert "USING INDEX transactions_open" in plan[0][3]


def test_holds_and_when_they_expire(world: LedgerWorld) -> None:
    payment_id = world.pay("0", "3", 30, hold=True).payment_id
    database = world.databases[0]
    found = queries.hold(database, payment_id)
    assert found is not None and (found.amount, found.state) == (30, "active")
    assert queries.hold(database, b"\0" * 16) is None
    assert queries.expired_holds(database, found.expires_at - 1) == []
    assert [h.payment_id for h in queries.expired_holds(database, found.expires_at)] == [payment_id]
    world.holds.release(payment_id)
    assert queries.expired_holds(database, found.expires_at) == []


def test_an_account_as_it_stands(world: LedgerWorld) -> None:
    world.pay("0", "3", 300, hold=True)
    world.set_state("0", "frozen")
    account = queries.account(world.databases[0], "0")
    assert account is not None
    assert (account.balance_paise, account.held_paise, account.available_paise) == (1000, 300, 700)
    assert (account.state, account.currency, account.shard) == ("frozen", "INR", 0)
    assert queries.account(world.databases[1], "0") is None
    assert queries.account(world.databases[0], "system:funding") is None
    assert queries.user_ids(world.databases[0]) == ["0", "3"]
    assert queries.balances(world.databases[0]) == {"0": 1000, "3": 1000}


def test_reviews_by_state(world: LedgerWorld) -> None:
    paid = world.pay("0", "1", 10)
    world.reviews.apply_all([("e1", paid.payment_id, "review", "amount")])
    database = world.databases[0]
    (review,) = queries.list_reviews(database)
    assert (review.payment_id, review.rule, review.state) == (paid.payment_id, "amount", "open")
    assert (review.from_user_id, review.to_user_id, review.amount_paise) == ("0", "1", 10)
    world.reviews.approve(paid.payment_id, "me")
    assert queries.list_reviews(database) == []
    assert [r.decided_by for r in queries.list_reviews(database, None)] == ["me"]
    assert queries.review_state(database, paid.payment_id) == "approved"


def test_totals_count_each_payment_once_over_all_shards(world: LedgerWorld) -> None:
    world.pay("0", "1", 10)
    world.pay("0", "3", 10)
    world.pay("0", "1", 10_000)
    world.settle()
    totals = [queries.totals(database) for database in world.databases.values()]
    assert sum(t.balance_paise for t in totals) == 6000
    assert sum(t.accounts for t in totals) == 6
    assert sum(sum(t.payments.values()) for t in totals) == 6 + 3
    assert totals[0].payments == {"COMPLETED": 4, "FAILED": 1}
    assert sum(t.entries for t in totals) == 6 * 2 + 4 + 2
    assert sum(t.outbox_rows for t in totals) == 6 * 3 + 3 * 2


def test_a_runs_payments_as_columns(world: LedgerWorld) -> None:
    world.pay("0", "1", 1)
    marks = queries.payment_marks(world.databases)
    crossing = world.pay("1", "2", 20)
    refused = world.pay("2", "0", 10_000)
    world.settle()
    columns = queries.payment_columns(world.databases, marks)
    assert tuple(columns) == queries.PAYMENT_COLUMNS
    assert {len(values) for values in columns.values()} == {2}
    assert [parse_payment_id(text) for text in columns["payment_id"]] == [
        crossing.payment_id,
        refused.payment_id,
    ]
    assert columns["status"] == ["COMPLETED", "FAILED"]
    assert columns["reason"] == ["", "insufficient_funds"]
    assert columns["to_shard"] == [2, 0]
    everything = queries.payment_columns(world.databases, kinds=("funding", "transfer"))
    assert len(everything["payment_id"]) == 6 + 3


def test_a_shard_that_is_away_says_so(world: LedgerWorld) -> None:
    world.databases[0].path.rename(world.folder / "elsewhere")
    with pytest.raises(ShardUnavailable, match="gone"):
        queries.totals(world.databases[0])


def test_totals_of_more_money_than_a_number_of_64_bits_holds(tmp_path: Path) -> None:
    world = LedgerWorld(tmp_path, shards=1)
    answers = [Submitted() for _ in range(1_030)]
    for number, answer in enumerate(answers):
        world.engine.submit_account(str(number), AMOUNT_PAISE_MAX, answer)
    world.settle()
    assert all(isinstance(answer.result, Outcome) for answer in answers)
    world.execute(0, "UPDATE accounts SET held = balance WHERE state = 'active'")
    found = queries.totals(world.databases[0])
    world.close()
    assert found.balance_paise == found.held_paise == 1_030 * AMOUNT_PAISE_MAX > 2**63
