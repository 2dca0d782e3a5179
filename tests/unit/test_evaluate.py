"""Every transition of the table: each operation meets each state, and either happens or changes
nothing and says why.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import (
    BadInput,
    FingerprintMismatch,
    IdempotencyConflict,
    IllegalTransition,
    InvalidAmount,
    PaytmLabError,
)
from paytm_lab.core.money import AMOUNT_PAISE_MAX
from paytm_lab.ledger.evaluate import TRANSITIONS, require_transition
from paytm_lab.ledger.operations import (
    ApplyFraud,
    Capture,
    Complete,
    CreateAccount,
    Credit,
    DecideReview,
    GiveBack,
    Operation,
    Outcome,
    Pay,
    Release,
    Retarget,
    SetAccountState,
)
from paytm_lab.ledger.rules_reviews import REVIEW_TRANSITIONS
from paytm_lab.ledger.schema import FUNDING_ID, IN_TRANSIT_ID_BASE, RECEIVABLE_ID
from paytm_lab.ledger.shard_writer import ShardWriter
from tests.unit.memory_shard import MemoryShard

HERE, THERE, ELSEWHERE = 0, 1, 2
OPENING = 10_000
AMOUNT = 300
PAYMENT = b"p" * 16
KEY = b"k" * 16


class OneShard:
    """Shard 0 with the users 'sender' and 'near'; 'far' lives on shard 1."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.shard = MemoryShard(HERE)
        self.writer = ShardWriter(self.shard, self.clock)
        for number, user in enumerate(("sender", "near")):
            self.run(CreateAccount(user, OPENING, "INR", 0, bytes([number]) * 16, b"c" * 16))

    def run(self, *operations: Operation) -> Any:
        """All in one batch; the last one's result."""
        results: list[Any] = []
        for operation in operations:
            self.writer.put(operation, results.append)
        self.writer.step()
        assert len(results) == len(operations)
        return results[-1]

    def status(self) -> str:
        row = self.shard.payment(PAYMENT)
        return "" if row is None else str(row["status"])

    def later(self) -> None:
        self.clock.advance(100)

    def money(self) -> int:
        """All entries of the shard: always zero."""
        return sum(
            row["amount"] if row["direction"] == "credit" else -row["amount"]
            for row in self.shard.tables["ledger_entries"]
        )


@pytest.fixture
def world() -> OneShard:
    return OneShard()


def pay(world: OneShard, to: str = "far", amount: int = AMOUNT, **changes: Any) -> Pay:
    expires_at = world.clock.now_us() + 50_000_000
    to_shard = THERE if to == "far" else HERE
    operation = Pay(
        PAYMENT, "sender", to, amount, "INR", 0, to_shard, 1, 5, key_hash=KEY, expires_at=expires_at
    )
    for name, value in changes.items():
        setattr(operation, name, value)
    return operation


def reach(world: OneShard, state: str) -> None:
    """Bring the payment into a state by the ledger's own operations."""
    if state in ("HELD", "HELD near", "HELD expired", "HELD frozen", "CANCELLED"):
        world.run(pay(world, "near" if state == "HELD near" else "far", hold=True))
        if state == "HELD expired":
            world.later()
        elif state == "HELD frozen":
            world.run(SetAccountState("sender", "frozen"))
        elif state == "CANCELLED":
            world.run(Release(PAYMENT, "released"))
    elif state in ("PENDING", "COMPLETED", "FAILED after pending"):
        world.run(pay(world))
        if state == "COMPLETED":
            world.run(Complete(PAYMENT))
        elif state == "FAILED after pending":
            world.run(GiveBack(PAYMENT, "unknown_receiver"))
    elif state == "COMPLETED near":
        world.run(pay(world, "near"))
    elif state == "FAILED":
        world.run(pay(world, amount=OPENING + 1))
    assert world.status() == state.split()[0] if state else world.status() == ""


STATES = (
    "", "HELD", "HELD near", "HELD expired", "HELD frozen", "PENDING", "COMPLETED",
    "COMPLETED near", "FAILED", "FAILED after pending", "CANCELLED",
)  # fmt: skip
OPERATIONS: dict[str, Operation] = {
    "complete": Complete(PAYMENT),
    "give back": GiveBack(PAYMENT, "unknown_receiver"),
    "retarget": Retarget(PAYMENT, ELSEWHERE, 2),
    "retarget home": Retarget(PAYMENT, HERE, 2),
    "capture": Capture(PAYMENT, None, THERE, 1),
    "capture near": Capture(PAYMENT, None, HERE, 1),
    "capture a part": Capture(PAYMENT, 100, THERE, 1),
    "capture too much": Capture(PAYMENT, AMOUNT + 1, THERE, 1),
    "release": Release(PAYMENT, "released"),
    "reject": Release(PAYMENT, "rejected"),
    "expire": Release(PAYMENT, "expired"),
}
# What happens; everything else changes nothing.
HAPPENS: dict[tuple[str, str], str] = {
    ("PENDING", "complete"): "COMPLETED",
    ("PENDING", "give back"): "FAILED",
    ("PENDING", "retarget"): "PENDING",
    ("PENDING", "retarget home"): "FAILED",  # 'far' has no account here: given back
    **{("HELD", name): "PENDING" for name in ("capture", "capture a part")},
    ("HELD", "capture near"): "FAILED",
    **{("HELD near", name): "PENDING" for name in ("capture", "capture a part")},
    ("HELD near", "capture near"): "COMPLETED",
    **{
        (state, name): "CANCELLED"
        for state in ("HELD", "HELD near", "HELD frozen")
        for name in ("release", "reject")
    },
    **{
        ("HELD expired", name): "CANCELLED"
        for name in ("release", "reject", "expire", "capture", "capture near", "capture a part")
    },
}
NAMED_ERRORS: dict[tuple[str, str], type[PaytmLabError]] = {
    **{("", name): BadInput for name in OPERATIONS if name != "complete"},
    **{
        (state, "give back"): IllegalTransition
        for state in STATES
        if state.split(" ")[0] in ("HELD", "COMPLETED", "CANCELLED")
    },
    **{
        (state, "capture too much"): InvalidAmount
        for state in ("HELD", "HELD near", "HELD expired", "HELD frozen")
    },
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_in_each_state(world: OneShard, state: str, name: str) -> None:
    reach(world, state)
    before = copy.deepcopy(world.shard.tables)
    result = world.run(OPERATIONS[name])
    if (state, name) in HAPPENS:
        expected = HAPPENS[state, name]
        assert isinstance(result, Outcome) and result.status == world.status() == expected
        assert not result.repeated
        assert expected == state.split()[0] or expected in TRANSITIONS[state.split()[0]]
        assert world.money() == 0
        return
    assert world.shard.tables == before
    error = NAMED_ERRORS.get((state, name))
    if error is not None:
        assert type(result) is error
        return
    assert isinstance(result, Outcome)
    if name != "complete":
        assert result.status == world.status()
        assert result.repeated or state.startswith("HELD")
    if state == "HELD frozen" and name.startswith("capture"):
        assert result.reason == "sender_frozen"


def test_every_allowed_transition_happens_somewhere() -> None:
    seen = {("", "PENDING"), ("", "HELD"), ("", "COMPLETED"), ("", "FAILED")}  # see ``reach``
    seen |= {(state.split()[0], new) for (state, _), new in HAPPENS.items()}
    table = {(old, new) for old, news in TRANSITIONS.items() for new in news}
    assert seen - {("PENDING", "PENDING")} == table


@pytest.mark.parametrize("old", TRANSITIONS)
@pytest.mark.parametrize("new", [state for state in TRANSITIONS if state])
def test_the_table_is_kept(old: str, new: str) -> None:
    if new in TRANSITIONS[old]:
        require_transition(old, new, PAYMENT)
    else:
        with pytest.raises(IllegalTransition, match=f"to {new}"):
            require_transition(old, new, PAYMENT)


@pytest.mark.parametrize("state", STATES[1:])
def test_a_repeat_answers_as_the_payment_stands(world: OneShard, state: str) -> None:
    reach(world, state)
    asked = OPENING + 1 if state == "FAILED" else AMOUNT
    to = "near" if "near" in state else "far"
    before = copy.deepcopy(world.shard.tables)
    other_id = b"q" * 16  # a repeat comes with an id of its own; its key is what tells
    result = world.run(pay(world, to, asked, payment_id=other_id))
    assert (result.status, result.payment_id, result.repeated) == (world.status(), PAYMENT, True)
    assert world.shard.tables == before


@pytest.mark.parametrize("state", STATES[1:])
@pytest.mark.parametrize("change", [{"amount": 299}, {"to_user_id": "other"}, {"currency": "EUR"}])
def test_another_body_under_the_same_key_conflicts(
    world: OneShard, state: str, change: dict[str, Any]
) -> None:
    reach(world, state)
    before = copy.deepcopy(world.shard.tables)
    result = world.run(pay(world, payment_id=b"q" * 16, **change))
    assert type(result) is IdempotencyConflict
    assert world.shard.tables == before


def test_another_body_under_the_same_id_is_named(world: OneShard) -> None:
    world.run(pay(world, key_hash=None))
    world.shard.before = _duplicate_once()  # so that the writer looks which ids exist
    result = world.run(pay(world, amount=299, key_hash=None))
    assert type(result) is FingerprintMismatch


def _duplicate_once() -> Any:
    from paytm_lab.core.errors import DuplicateKey

    left = [1]

    def before(name: str) -> None:
        if name == "insert" and left:
            left.clear()
            raise DuplicateKey("once")

    return before


# -- starting a payment ----------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["near", "far"])
@pytest.mark.parametrize(
    ("prepare", "change", "reason"),
    [
        ([], {"from_user_id": "nobody"}, "unknown_sender"),
        ([SetAccountState("sender", "frozen")], {}, "sender_frozen"),
        ([SetAccountState("sender", "frozen_all")], {}, "sender_frozen"),
        ([], {"amount": OPENING + 1}, "insufficient_funds"),
        ([], {"refusal": "fraud_blocked"}, "fraud_blocked"),
        ([], {"currency": "EUR"}, "currency_mismatch"),
    ],
)
@pytest.mark.parametrize("hold", [False, True])
def test_a_refusal_leaves_a_row_and_two_events(
    world: OneShard,
    to: str,
    prepare: list[Operation],
    change: dict[str, Any],
    reason: str,
    hold: bool,
) -> None:
    for operation in prepare:
        world.run(operation)
    before = world.shard.balances()
    result = world.run(pay(world, to, hold=hold, **change))
    assert (result.status, result.reason) == ("FAILED", reason)
    row = world.shard.payment(PAYMENT)
    assert row is not None and (row["status"], row["reason"]) == ("FAILED", reason)
    assert row["open_since"] is None
    assert world.shard.events_of(result.payment) == ["PaymentInitiated", "PaymentFailed"]
    assert world.shard.balances() == before
    assert world.shard.tables["holds"] == []


@pytest.mark.parametrize(
    ("prepare", "amount", "reason"),
    [
        ([SetAccountState("near", "frozen_all")], AMOUNT, "receiver_frozen"),
        ([Pay(b"x" * 16, "near", "sender", OPENING, "INR", 0, HERE, 1, 5),
          SetAccountState("near", "closed")], AMOUNT, "receiver_closed"),
    ],
)  # fmt: skip
def test_a_receiver_may_refuse(
    world: OneShard, prepare: list[Operation], amount: int, reason: str
) -> None:
    for operation in prepare:
        world.run(operation)
    before = world.shard.balances()
    result = world.run(pay(world, "near", amount))
    assert (result.status, result.reason) == ("FAILED", reason)
    assert world.shard.balances() == before


def test_an_unknown_receiver_is_refused(world: OneShard) -> None:
    result = world.run(pay(world, "nobody"))
    assert (result.status, result.reason) == ("FAILED", "unknown_receiver")


def test_a_frozen_receiver_is_credited(world: OneShard) -> None:
    world.run(SetAccountState("near", "frozen"))
    assert world.run(pay(world, "near")).status == "COMPLETED"


@pytest.mark.parametrize("cross_shard", [False, True])
def test_a_balance_stops_at_its_limit(world: OneShard, cross_shard: bool) -> None:
    full = AMOUNT_PAISE_MAX - AMOUNT
    world.run(CreateAccount("rich", full, "INR", 0, b"r" * 16, b"c" * 16))
    for number, (amount, expected) in enumerate([(AMOUNT + 1, "FAILED"), (AMOUNT, "COMPLETED")]):
        payment_id = bytes([100 + number]) * 16
        if cross_shard:
            result = world.run(credit(payment_id, "rich", amount))
        else:
            result = world.run(
                pay(world, "near", amount, to_user_id="rich", payment_id=payment_id, key_hash=None)
            )
        assert result.status == expected
        assert result.reason == ("balance_limit" if expected == "FAILED" else "")
    assert world.shard.account("rich")["balance"] == AMOUNT_PAISE_MAX


def test_an_account_in_another_currency_is_a_mismatch(world: OneShard) -> None:
    world.run(CreateAccount("euro", 500, "EUR", 0, b"e" * 16, b"c" * 16))
    result = world.run(pay(world, "near", to_user_id="euro"))
    assert (result.status, result.reason) == ("FAILED", "currency_mismatch")


def test_available_is_balance_less_holds_on_every_path(world: OneShard) -> None:
    world.run(pay(world, amount=OPENING - 100, hold=True))
    for number, (to, hold) in enumerate([("near", False), ("far", False), ("near", True)]):
        payment_id = bytes([50 + number]) * 16
        result = world.run(pay(world, to, 101, payment_id=payment_id, key_hash=None, hold=hold))
        assert (result.status, result.reason) == ("FAILED", "insufficient_funds")
    assert world.run(pay(world, "near", 100, payment_id=b"z" * 16, key_hash=None)).status == (
        "COMPLETED"
    )


# -- leg (b) ---------------------------------------------------------------------------------------


def credit(payment_id: bytes, to: str, amount: int = AMOUNT, **changes: Any) -> Credit:
    operation = Credit(payment_id, "far", to, amount, "INR", THERE, 0, 1, 7, 5)
    for name, value in changes.items():
        setattr(operation, name, value)
    return operation


@pytest.mark.parametrize(
    ("state", "expected", "reason"),
    [
        ("active", "COMPLETED", ""),
        ("frozen", "COMPLETED", ""),
        ("frozen_all", "FAILED", "receiver_frozen"),
        ("closed", "FAILED", "receiver_closed"),
        ("missing", "FAILED", "unknown_receiver"),
    ],
)
def test_a_credit_happens_once_and_its_answer_stays(
    world: OneShard, state: str, expected: str, reason: str
) -> None:
    if state == "closed":
        world.run(Pay(b"x" * 16, "near", "sender", OPENING, "INR", 0, HERE, 1, 5))
    to = "nobody" if state == "missing" else "near"
    if state != "missing":
        world.run(SetAccountState("near", state))
    first = world.run(credit(PAYMENT, to))
    assert (first.status, first.reason) == (expected, reason)
    after = copy.deepcopy(world.shard.tables)
    if state != "missing":
        world.run(SetAccountState("near", "active"))
    after["accounts"] = copy.deepcopy(world.shard.tables["accounts"])
    for again in (credit(PAYMENT, to, recheck=True), credit(PAYMENT, to)):
        result = world.run(again)
        assert (result.status, result.reason, result.repeated) == (expected, reason, True)
    assert world.shard.tables == after
    assert world.shard.entries_sum(IN_TRANSIT_ID_BASE + THERE) == (
        -AMOUNT if expected == "COMPLETED" else 0
    )


def test_a_credit_with_other_contents_is_an_integrity_error(world: OneShard) -> None:
    world.run(credit(PAYMENT, "near"))
    before = copy.deepcopy(world.shard.tables)
    result = world.run(credit(PAYMENT, "near", AMOUNT + 1, recheck=True))
    assert type(result) is FingerprintMismatch
    assert world.shard.tables == before


# -- refunds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["active", "frozen", "frozen_all"])
def test_a_refund_takes_what_is_there_and_the_rest_becomes_a_debt(
    world: OneShard, state: str
) -> None:
    world.run(pay(world, amount=OPENING - 100, payment_id=b"h" * 16, hold=True, key_hash=None))
    world.run(SetAccountState("sender", state))
    refund = pay(world, "near", AMOUNT, kind="refund", refund_of=b"o" * 16)
    result = world.run(refund)
    assert (result.status, result.receivable) == ("COMPLETED", 200)
    assert world.shard.account("sender")["balance"] == OPENING - 100
    assert world.shard.account("near")["balance"] == OPENING + AMOUNT
    assert world.shard.entries_sum(RECEIVABLE_ID) == -200
    (debt,) = world.shard.tables["debts"]
    assert (debt["user_id"], debt["amount"], debt["state"]) == ("sender", 200, "open")
    assert world.money() == 0


def test_a_refund_within_the_balance_makes_no_debt(world: OneShard) -> None:
    world.run(pay(world, "near", AMOUNT, kind="refund", refund_of=b"o" * 16))
    assert world.shard.tables["debts"] == []
    assert world.shard.entries_sum(RECEIVABLE_ID) == 0


# -- accounts --------------------------------------------------------------------------------------

ACCOUNT_STATES = ("active", "frozen", "frozen_all", "closed")


@pytest.mark.parametrize("old", ACCOUNT_STATES)
@pytest.mark.parametrize("new", ACCOUNT_STATES)
def test_account_states(world: OneShard, old: str, new: str) -> None:
    world.run(CreateAccount("empty", 0, "INR", 0, b"e" * 16, None))
    world.run(SetAccountState("empty", old))
    result = world.run(SetAccountState("empty", new))
    expected = "closed" if old == "closed" else new
    assert result.status == world.shard.account("empty")["state"] == expected
    assert result.reason == ("closed_for_good" if old == "closed" != new else "")
    assert result.repeated == (old == new)


def test_what_keeps_an_account_open(world: OneShard) -> None:
    close = SetAccountState("sender", "closed")
    assert world.run(close).reason == "balance_not_zero"
    world.run(pay(world, amount=OPENING))
    assert world.run(close).reason == "payments_pending"
    world.run(Complete(PAYMENT))
    assert world.run(close).status == "closed"
    assert world.run(pay(world, payment_id=b"n" * 16, key_hash=None)).reason == "sender_closed"
    assert world.run(credit(b"m" * 16, "sender")).reason == "receiver_closed"


def test_an_unknown_account_has_no_state(world: OneShard) -> None:
    assert isinstance(world.run(SetAccountState("nobody", "frozen")), BadInput)


def test_an_opening_balance_is_a_payment_with_its_events(world: OneShard) -> None:
    result = world.run(CreateAccount("new", 700, "INR", 0, PAYMENT, b"c" * 16))
    assert (result.status, result.balance) == ("active", 700)
    row = world.shard.payment(PAYMENT)
    assert row is not None and (row["kind"], row["status"]) == ("funding", "COMPLETED")
    assert world.shard.events_of(result.payment) == ["PaymentInitiated", "PaymentCompleted"]
    assert world.shard.events_of("new") == ["UserCreated"]
    assert world.shard.entries_sum(FUNDING_ID) == -(2 * OPENING + 700)


def test_an_empty_account_is_no_payment(world: OneShard) -> None:
    world.run(CreateAccount("new", 0, "INR", 0, PAYMENT, None))
    assert world.shard.payment(PAYMENT) is None
    assert world.shard.events_of("new") == ["UserCreated"]


# -- fraud answers and reviews ---------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES[1:])
@pytest.mark.parametrize("decision", ["review", "block"])
def test_a_fraud_answer_flags_a_payment_in_any_state_once(
    world: OneShard, state: str, decision: str
) -> None:
    reach(world, state)
    before = world.status()
    answer = ApplyFraud("event-1", PAYMENT, decision, "velocity")
    assert world.run(answer).status == "applied"
    after = copy.deepcopy(world.shard.tables)
    assert world.run(answer).repeated
    assert world.shard.tables == after
    (review,) = world.shard.tables["reviews"]
    assert (review["state"], review["decision"], review["rule"]) == ("open", decision, "velocity")
    assert world.status() == before
    frozen = decision == "block" or state == "HELD frozen"
    assert world.shard.account("sender")["state"] == ("frozen" if frozen else "active")


def test_the_same_answer_twice_in_one_batch_counts_once(world: OneShard) -> None:
    reach(world, "COMPLETED")
    answer = ApplyFraud("event-1", PAYMENT, "block", "velocity")
    assert world.run(answer, answer).repeated
    assert len(world.shard.tables["applied_events"]) == 1


def test_a_fraud_answer_to_an_unknown_payment_is_refused(world: OneShard) -> None:
    before = copy.deepcopy(world.shard.tables)
    assert isinstance(world.run(ApplyFraud("e", b"u" * 16, "block", "velocity")), BadInput)
    assert world.shard.tables == before


REVIEW_STATES = ("open", "approved", "rejecting", "rejected")
PATHS = {"open": (), "approved": ("approved",), "rejecting": ("rejecting",)}
PATHS["rejected"] = ("rejecting", "rejected")


@pytest.mark.parametrize("old", REVIEW_STATES)
@pytest.mark.parametrize("new", REVIEW_STATES)
def test_review_states(world: OneShard, old: str, new: str) -> None:
    reach(world, "COMPLETED")
    world.run(ApplyFraud("event-1", PAYMENT, "review", "amount"))
    for step in PATHS[old]:
        assert isinstance(world.run(DecideReview(PAYMENT, step, "me")), Outcome)
    before = copy.deepcopy(world.shard.tables)
    result = world.run(DecideReview(PAYMENT, new, "you"))
    (review,) = world.shard.tables["reviews"]
    if new in REVIEW_TRANSITIONS[old]:
        assert (review["state"], review["decided_by"]) == (new, "you")
        assert result.status == "COMPLETED"
    else:
        assert world.shard.tables == before
        assert result.repeated if old == new else result.code == "conflict"


def test_a_payment_without_review_cannot_be_decided(world: OneShard) -> None:
    reach(world, "COMPLETED")
    assert isinstance(world.run(DecideReview(PAYMENT, "approved", "me")), BadInput)
