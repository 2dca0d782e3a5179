"""Corners of ``evaluate`` where money or an answer could go wrong, in one batch or at a boundary.

Users '0' .. '7' lie on slot 0 .. 7; shard 0 owns the even slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paytm_lab.core import errors
from paytm_lab.ledger.evaluate import TRANSITIONS, Batch
from paytm_lab.ledger.operations import (
    MOVED,
    ApplyFraud,
    Capture,
    Complete,
    CreateAccount,
    Credit,
    GiveBack,
    Operation,
    Outcome,
    Pay,
    PaymentRequest,
    Release,
    Retarget,
    SetAccountState,
)
from paytm_lab.ports.shard_database import AccountRow, HoldRow, PaymentRow, ShardMeta
from tests.unit.ledger_world import LedgerWorld, Submitted

EVEN_SLOTS = ShardMeta(0, 1, bytes([0b0101_0101] * 128))
NOW, EXPIRES = 1_000, 2_000
P = b"\x01" * 16
KEY = b"k" * 16


def account(user: str, balance: int = 100, held: int = 0, state: str = "active") -> AccountRow:
    return AccountRow(2_000 + int(user), user, balance, held, "INR", state, int(user), 0, None)


def payment(status: str, to_user: str = "1", to_shard: int = 1, **more: Any) -> PaymentRow:
    role = "local" if to_shard == 0 else "source"
    row = PaymentRow(
        P, role, "0", to_user, 50, "INR", status, "", "transfer", 0, to_shard, 1, 5, 5, KEY, None
    )
    return row._replace(**more)


def hold(amount: int = 50) -> HoldRow:
    return HoldRow(P, 2_000, amount, 0, "active", EXPIRES)


def batch(*accounts: AccountRow, now_us: int = NOW, **loaded: Any) -> Batch:
    return Batch(0, EVEN_SLOTS, now_us, accounts or (account("0"),), **loaded)


def pay(number: int, to_user: str, to_shard: int, amount: int = 50, **more: Any) -> Pay:
    return Pay(bytes([number] * 16), "0", to_user, amount, "INR", 0, to_shard, 1, 5, **more)


def done(state: Batch, operation: Operation) -> Outcome:
    result = state.apply(operation)
    assert isinstance(result, Outcome), result
    return result


def moved_paise(state: Batch) -> int:
    """Debits less credits of the entries; zero, whatever happened."""
    return sum(row[2] if row[3] == "debit" else -row[2] for row in state.entry_rows)


def test_a_repeat_after_a_part_capture_must_ask_for_what_was_asked_first() -> None:
    captured = payment("COMPLETED", "2", 0, amount=30)
    loaded = {"keys": [captured], "holds": [hold(50)._replace(state="captured", captured=30)]}
    repeat = done(batch(**loaded), pay(9, "2", 0, 50, key_hash=KEY))
    assert (repeat.payment_id, repeat.amount, repeat.repeated) == (P, 30, True)
    other = batch(**loaded).apply(pay(9, "2", 0, 30, key_hash=KEY))
    assert isinstance(other, errors.IdempotencyConflict)


def test_a_repeat_sees_what_its_own_batch_has_made_of_the_payment() -> None:
    held = payment("HELD", "2", 0)
    state = batch(account("0", held=50), account("2"), payments=[held], keys=[held], holds=[hold()])
    done(state, Capture(P, 20, 0, 1))
    repeat = done(state, pay(9, "2", 0, 50, key_hash=KEY))
    assert (repeat.status, repeat.amount, repeat.repeated) == ("COMPLETED", 20, True)


def test_two_payments_of_one_key_in_one_batch_are_one() -> None:
    state = batch(account("0"), account("2"))
    first = done(state, pay(1, "2", 0, key_hash=KEY))
    second = done(state, pay(2, "2", 0, key_hash=KEY))
    assert (second.payment_id, second.repeated) == (first.payment_id, True)
    assert state.accounts["0"].balance == 50
    assert isinstance(state.apply(pay(3, "4", 0, key_hash=KEY)), errors.IdempotencyConflict)


@pytest.mark.parametrize("status", sorted(set(TRANSITIONS) - {"", "PENDING", "FAILED"}))
def test_only_a_pending_payment_is_given_back(status: str) -> None:
    state = batch(account("0", held=50), payments=[payment(status)], holds=[hold()])
    assert isinstance(state.apply(GiveBack(P, "why")), errors.IllegalTransition)
    assert (state.entry_rows, state.accounts["0"].balance) == ([], 100)


def test_a_payment_that_this_batch_completes_is_neither_given_back_nor_pointed_elsewhere() -> None:
    state = batch(payments=[payment("PENDING")])
    done(state, Complete(P))
    assert isinstance(state.apply(GiveBack(P, "why")), errors.IllegalTransition)
    assert done(state, Retarget(P, 3, 2)).status == "COMPLETED"
    assert state.entry_rows == []


def test_giving_back_twice_pays_once() -> None:
    state = batch(payments=[payment("PENDING")])
    first, second = done(state, GiveBack(P, "why")), done(state, GiveBack(P, "why"))
    assert (first.status, second.status, second.repeated) == ("FAILED", "FAILED", True)
    assert state.accounts["0"].balance == 150
    assert moved_paise(state) == 0


def test_an_account_is_not_closed_over_a_payment_that_its_own_batch_sent() -> None:
    state = batch(account("0", 50))
    assert done(state, pay(1, "1", 1)).status == "PENDING"
    refused = done(state, SetAccountState("0", "closed"))
    assert (refused.status, refused.reason) == ("active", "payments_pending")


def test_a_receiver_whose_slot_is_elsewhere_is_moved_and_never_missing() -> None:
    """'1' lies on a slot that shard 0 does not own, '4' on one that it owns."""
    state = batch(account("0", held=50), payments=[payment("HELD", "1", 0)], holds=[hold()])
    assert state.apply(Capture(P, None, 0, 1)) is MOVED
    assert state.apply(pay(2, "1", 0)) is MOVED
    pending = batch(account("0"), payments=[payment("PENDING", "1", 1)])
    assert pending.apply(Retarget(P, 0, 2)) is MOVED
    assert (state.entry_rows, state.payment_rows, state.hold_updates) == ([], [], {})
    assert (pending.entry_rows, pending.payment_updates) == ([], {})
    assert done(state, pay(3, "4", 0)).reason == "unknown_receiver"


def test_a_retarget_to_the_same_shard_changes_nothing() -> None:
    state = batch(payments=[payment("PENDING")])
    same = done(state, Retarget(P, 1, 2))
    assert (same.status, same.to_shard, same.repeated) == ("PENDING", 1, True)
    assert (state.entry_rows, state.payment_updates) == ([], {})


def test_a_retarget_home_ends_the_payment_there() -> None:
    paid = batch(account("0"), account("2"), payments=[payment("PENDING", "2", 1)])
    assert done(paid, Retarget(P, 0, 2)).status == "COMPLETED"
    assert (paid.accounts["2"].balance, moved_paise(paid)) == (150, 0)
    closed = account("2", 0, state="closed")
    back = batch(account("0"), closed, payments=[payment("PENDING", "2", 1)])
    refused = done(back, Retarget(P, 0, 2))
    assert (refused.status, refused.reason) == ("FAILED", "receiver_closed")
    assert (back.accounts["0"].balance, moved_paise(back)) == (150, 0)


def test_two_credits_of_one_payment_in_one_batch_are_one() -> None:
    state = batch(account("2"))
    credit = Credit(P, "1", "2", 50, "INR", 1, 2, 1, 5, 5)
    first, second = done(state, credit), done(state, credit)
    assert (first.status, second.status, second.repeated) == ("COMPLETED", "COMPLETED", True)
    assert (state.accounts["2"].balance, len(state.payment_rows)) == (150, 1)
    other = state.apply(Credit(P, "1", "2", 51, "INR", 1, 2, 1, 5, 5))
    assert isinstance(other, errors.FingerprintMismatch)


@pytest.mark.parametrize("state_of", ["closed", "frozen_all"])
def test_a_refund_is_credited_whatever_the_receivers_state(state_of: str) -> None:
    state = batch(account("0", 30), account("2", 0, state=state_of))
    refund = done(state, pay(1, "2", 0, 50, kind="refund", refund_of=P))
    assert (refund.status, refund.receivable) == ("COMPLETED", 20)
    assert (state.accounts["0"].balance, state.accounts["2"].balance) == (0, 50)
    assert moved_paise(state) == 0


@pytest.mark.parametrize(
    ("now_us", "captured", "swept"),
    [(EXPIRES - 1, "COMPLETED", "HELD"), (EXPIRES, "CANCELLED", "CANCELLED")],
)
def test_a_hold_ends_exactly_at_its_time(now_us: int, captured: str, swept: str) -> None:
    def held() -> Batch:
        row = payment("HELD", "2", 0)
        accounts = account("0", held=50), account("2")
        return batch(*accounts, now_us=now_us, payments=[row], holds=[hold()])

    assert done(held(), Capture(P, None, 0, 1)).status == captured
    assert done(held(), Release(P, "expired")).status == swept


@pytest.mark.parametrize("amount", [0, -1, 51])
def test_a_capture_is_of_something_and_at_most_of_the_hold(amount: int) -> None:
    held = payment("HELD", "2", 0)
    state = batch(account("0", held=50), account("2"), payments=[held], holds=[hold()])
    assert isinstance(state.apply(Capture(P, amount, 0, 1)), errors.InvalidAmount)
    assert (state.entry_rows, state.hold_updates) == ([], {})


def test_two_creations_of_one_user_in_one_batch() -> None:
    state = batch()
    make = CreateAccount("2", 70, "INR", 2, P, KEY)
    first, again = done(state, make), done(state, make)
    assert (first.status, first.balance, first.repeated) == ("active", 70, False)
    assert (again.status, again.balance, again.repeated) == ("active", 70, True)
    assert (len(state.new_accounts), moved_paise(state)) == (1, 0)
    other = CreateAccount("2", 70, "INR", 2, b"\x02" * 16, b"o" * 16)
    assert isinstance(state.apply(other), errors.AccountExists)


def test_a_repeated_creation_answers_as_the_first_after_the_balance_has_changed() -> None:
    state = batch(account("0"))
    make = CreateAccount("2", 70, "INR", 2, P, KEY)
    done(state, make)
    done(state, pay(5, "2", 0))
    done(state, SetAccountState("2", "frozen"))
    again = done(state, make)
    assert (again.status, again.amount, again.balance, again.repeated) == ("active", 70, 70, True)


def test_a_block_of_an_unknown_senders_payment_freezes_nobody() -> None:
    refused = payment("FAILED", "2", 0, from_user_id="6", reason="unknown_sender")
    state = batch(account("0"), payments=[refused])
    assert done(state, ApplyFraud("e", P, "block", "velocity")).status == "applied"
    assert state.accounts["0"].state == "active"


# -- with real shards ----------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld(tmp_path)
    made.open_accounts(6, 10_000)
    yield made
    made.close()


def test_many_repeats_of_one_key_across_shards_need_no_second_try(world: LedgerWorld) -> None:
    request = PaymentRequest("0", "1", 500, idempotency_key="one")
    answers = [Submitted() for _ in range(8)]
    for answer in answers:
        world.engine.submit(request, answer)
    world.settle()
    outcomes = [answer.result for answer in answers]
    assert all(isinstance(o, Outcome) and o.status == "COMPLETED" for o in outcomes)
    assert len({o.payment_id for o in outcomes if isinstance(o, Outcome)}) == 1
    assert world.writers[1].stats.retries == world.writers[1].stats.bisections == 0
    world.relay()
    world.audit().require_clean()


def test_a_capture_that_races_a_rejection_waits_for_the_reviewer(world: LedgerWorld) -> None:
    held = world.pay("0", "1", 500, hold=True)
    world.reviews.apply_all([("e", held.payment_id, "review", "test")])
    captured = Submitted()
    world.engine.capture(held.payment_id, "1", None, captured)
    # It waits in the writer's queue: it comes after the look at the row and before the release.
    rejected = world.reviews.reject(held.payment_id, "someone")
    assert (rejected.kind, rejected.status, rejected.reason) == (
        "transfer", "CANCELLED", "rejected",
    )  # fmt: skip
    assert isinstance(captured.result, Outcome)
    assert (captured.result.status, captured.result.reason) == ("HELD", "under_review")
    world.settle()
    balances = [
        row.balance for row in world.query(0, "SELECT balance FROM accounts WHERE user_id = '0'")
    ]
    assert balances == [10_000]
    world.relay()
    world.audit().require_clean()
