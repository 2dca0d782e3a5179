"""Random histories on two shards against an oracle: a plain bank that knows balances, holds and
payments and nothing of entries, rows or batches. Money is compared after every batch.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import (
    ApplyFraud,
    Capture,
    Complete,
    CreateAccount,
    Credit,
    GiveBack,
    Operation,
    Pay,
    Release,
    SetAccountState,
)
from paytm_lab.ledger.schema import (
    FIRST_USER_ACCOUNT_ID,
    FUNDING_ID,
    IN_TRANSIT_ID_BASE,
    RECEIVABLE_ID,
)
from paytm_lab.ledger.shard_writer import ShardWriter
from tests.unit.memory_shard import MemoryShard

USERS = ("0", "1", "2", "3")
HOLD_US = 10_000_000


class BankAccount:
    def __init__(self, balance: int) -> None:
        self.balance, self.held, self.state = balance, 0, "active"

    @property
    def available(self) -> int:
        return self.balance - self.held


class BankPayment:
    """``credited``: the receiver's side answered (None: not asked yet)."""

    def __init__(self, sender: str, receiver: str, amount: int, kind: str, expires_us: int) -> None:
        self.sender, self.receiver, self.amount, self.kind = sender, receiver, amount, kind
        self.asked, self.expires_us = amount, expires_us
        self.status = ""
        self.reason = ""
        self.credited: bool | None = None


class Bank:
    """The oracle: what each operation must lead to, in the order of arrival."""

    def __init__(self) -> None:
        self.accounts: dict[str, BankAccount] = {}
        self.payments: dict[bytes, BankPayment] = {}
        self.funded = self.owed = 0

    def create(self, user: str, opening: int) -> str:
        if user in self.accounts:
            return "account_exists"
        self.accounts[user] = BankAccount(opening)
        self.funded += opening
        return "active"

    def pay(self, payment_id: bytes, payment: BankPayment, hold: bool) -> str:
        self.payments[payment_id] = payment
        sender = self.accounts.get(payment.sender)
        payment.status = "FAILED"
        if sender is None:
            payment.reason = "unknown_sender"
        elif payment.kind == "transfer" and sender.state != "active":
            payment.reason = "sender_closed" if sender.state == "closed" else "sender_frozen"
        elif payment.kind == "transfer" and sender.available < payment.amount:
            payment.reason = "insufficient_funds"
        elif hold:
            sender.held += payment.amount
            payment.status = "HELD"
        elif shard_of(payment.sender) != shard_of(payment.receiver):
            self._debit(payment)
            payment.status = "PENDING"
        elif reason := self._refusal(payment):
            payment.reason = reason
        else:
            self._debit(payment)
            self.accounts[payment.receiver].balance += payment.amount
            payment.status = "COMPLETED"
        return payment.status

    def _debit(self, payment: BankPayment) -> None:
        sender = self.accounts[payment.sender]
        taken = payment.amount
        if payment.kind == "refund":
            taken = min(taken, sender.available)
        sender.balance -= taken
        self.owed += payment.amount - taken

    def _refusal(self, payment: BankPayment) -> str:
        receiver = self.accounts.get(payment.receiver)
        if receiver is None:
            return "unknown_receiver"
        if payment.kind == "refund":
            return ""
        return {"frozen_all": "receiver_frozen", "closed": "receiver_closed"}.get(
            receiver.state, ""
        )

    def credit(self, payment_id: bytes) -> str:
        payment = self.payments[payment_id]
        if payment.credited is None:
            payment.credited = not self._refusal(payment)
            if payment.credited:
                self.accounts[payment.receiver].balance += payment.amount
        return "COMPLETED" if payment.credited else "FAILED"

    def finish(self, payment_id: bytes) -> str:
        payment = self.payments[payment_id]
        if payment.status == "PENDING":
            payment.status = "COMPLETED" if payment.credited else "FAILED"
            if not payment.credited:
                self.accounts[payment.sender].balance += payment.amount
        return payment.status

    def capture(self, payment_id: bytes, amount: int | None, now_us: int) -> str:
        payment = self.payments[payment_id]
        if payment.status != "HELD":
            return payment.status
        sender = self.accounts[payment.sender]
        amount = payment.asked if amount is None else amount
        if amount > payment.asked:
            return "invalid_amount"
        if now_us >= payment.expires_us:
            return self.release(payment_id, "expired", now_us)
        if sender.state != "active":
            return "HELD"
        sender.held -= payment.asked
        local = shard_of(payment.sender) == shard_of(payment.receiver)
        if local and self._refusal(payment):
            payment.status = "FAILED"
        else:
            sender.balance -= amount
            payment.amount = amount
            payment.status = "COMPLETED" if local else "PENDING"
            if local:
                self.accounts[payment.receiver].balance += amount
        return payment.status

    def release(self, payment_id: bytes, reason: str, now_us: int) -> str:
        payment = self.payments[payment_id]
        if payment.status == "HELD" and (reason != "expired" or now_us >= payment.expires_us):
            self.accounts[payment.sender].held -= payment.asked
            payment.status = "CANCELLED"
        return payment.status

    def set_state(self, user: str, state: str) -> str:
        account = self.accounts.get(user)
        if account is None:
            return "invalid_user_id"
        is_empty = not account.balance and not account.held and not self.is_pending(user)
        if account.state != "closed" and (state != "closed" or is_empty):
            account.state = state
        return account.state

    def is_pending(self, user: str) -> bool:
        return any(p.sender == user and p.status == "PENDING" for p in self.payments.values())

    def in_flight(self, source: int) -> int:
        return sum(
            payment.amount
            for payment in self.payments.values()
            if payment.status == "PENDING" and not payment.credited
            if shard_of(payment.sender) == source
        )


def shard_of(user: str) -> int:
    return int(user) % 2


class Expected(NamedTuple):
    operation: Operation
    status: str
    results: list[Any]


class TwoShards(RuleBasedStateMachine):
    """Operations wait in the queue of their shard until a batch is run, often several together."""

    payments = Bundle("payments")

    def __init__(self) -> None:
        super().__init__()
        self.clock = SimulatedClock()
        self.bank = Bank()
        self.shards = [MemoryShard(n, b"\x55" * 128 if n == 0 else b"\xaa" * 128) for n in (0, 1)]
        self.writers = [ShardWriter(shard, self.clock) for shard in self.shards]
        self.waiting: list[Expected] = []
        self.number = 0

    # -- running ----------------------------------------------------------------------------------

    def put(self, shard: int, operation: Operation, status: str) -> None:
        expected = Expected(operation, status, [])
        self.waiting.append(expected)
        self.writers[shard].put(operation, expected.results.append)

    def flush(self) -> None:
        for writer in self.writers:
            writer.step()
            assert writer.stats.bisections == 0
        for operation, status, results in self.waiting:
            (result,) = results
            found = getattr(result, "status", "") or getattr(result, "code", "")
            assert found == status, (operation, result, status)
        self.waiting.clear()

    def next_id(self) -> bytes:
        self.number += 1
        return self.number.to_bytes(16, "big")

    # -- what happens -----------------------------------------------------------------------------

    @initialize(target=payments, openings=st.tuples(*[st.integers(200, 500)] * 3))
    def open(self, openings: tuple[int, ...]) -> bytes:
        for user, opening in zip(USERS, openings, strict=False):
            self.create(user, opening)
        return self._pay("0", "1", 100, "transfer", False, None)

    def create(self, user: str, opening: int) -> None:
        operation = CreateAccount(user, opening, "INR", int(user), self.next_id(), self.next_id())
        self.put(shard_of(user), operation, self.bank.create(user, opening))

    @rule(
        target=payments,
        sender=st.sampled_from(USERS),
        step=st.integers(1, 3),
        amount=st.integers(1, 150),
    )
    def pay(self, sender: str, step: int, amount: int) -> bytes:
        receiver = USERS[(int(sender) + step) % len(USERS)]
        return self._pay(sender, receiver, amount, "transfer", False, None)

    @rule(
        target=payments,
        sender=st.sampled_from(USERS),
        step=st.integers(1, 3),
        amount=st.integers(1, 150),
    )
    def hold(self, sender: str, step: int, amount: int) -> bytes:
        receiver = USERS[(int(sender) + step) % len(USERS)]
        return self._pay(sender, receiver, amount, "transfer", True, None)

    @rule(target=payments, of=payments)
    def refund(self, of: bytes) -> bytes:
        first = self.bank.payments[of]
        if first.status != "COMPLETED":
            return of
        return self._pay(first.receiver, first.sender, first.amount, "refund", False, of)

    def _pay(
        self, sender: str, receiver: str, amount: int, kind: str, hold: bool, of: bytes | None
    ) -> bytes:
        payment_id = self.next_id()
        expires_us = self.clock.now_us() + HOLD_US
        operation = Pay(
            payment_id, sender, receiver, amount, "INR", int(sender), shard_of(receiver), 1, 5,
            kind, payment_id, hold=hold, expires_at=expires_us, refund_of=of,
        )  # fmt: skip
        payment = BankPayment(sender, receiver, amount, kind, expires_us)
        self.put(shard_of(sender), operation, self.bank.pay(payment_id, payment, hold))
        return payment_id

    @rule(payment_id=payments)
    def repeat(self, payment_id: bytes) -> None:
        """The same key again, in the same batch or later: the payment as it stands."""
        first = self.bank.payments[payment_id]
        operation = Pay(
            self.next_id(), first.sender, first.receiver, first.asked, "INR", int(first.sender),
            shard_of(first.receiver), 1, 5, first.kind, payment_id,
        )  # fmt: skip
        self.put(shard_of(first.sender), operation, first.status)

    @rule(payment_id=payments, amount=st.one_of(st.none(), st.integers(1, 150)))
    def capture(self, payment_id: bytes, amount: int | None) -> None:
        self.flush()
        payment = self.bank.payments[payment_id]
        operation = Capture(payment_id, amount, shard_of(payment.receiver), 1)
        status = self.bank.capture(payment_id, amount, self.clock.now_us())
        self.put(shard_of(payment.sender), operation, status)

    @rule(payment_id=payments, reason=st.sampled_from(["released", "rejected", "expired"]))
    def release(self, payment_id: bytes, reason: str) -> None:
        self.flush()
        status = self.bank.release(payment_id, reason, self.clock.now_us())
        shard = shard_of(self.bank.payments[payment_id].sender)
        self.put(shard, Release(payment_id, reason), status)

    @rule(payment_id=payments, recheck=st.booleans(), times=st.integers(1, 3))
    def credit(self, payment_id: bytes, recheck: bool, times: int) -> None:
        """Leg (b), also when it was done before, and several times in one batch."""
        payment = self.bank.payments[payment_id]
        if payment.status != "PENDING":
            return
        self.flush()
        source, target = shard_of(payment.sender), shard_of(payment.receiver)
        for _ in range(times):
            operation = Credit(
                payment_id, payment.sender, payment.receiver, payment.amount, "INR", source,
                int(payment.receiver), 1, 9, 5, payment.kind, recheck=recheck,
            )  # fmt: skip
            self.put(target, operation, self.bank.credit(payment_id))

    @rule(payment_id=payments)
    def finish(self, payment_id: bytes) -> None:
        """Leg (c), also when it was done before."""
        payment = self.bank.payments[payment_id]
        if payment.credited is None:
            return
        self.flush()
        operation = Complete(payment_id) if payment.credited else GiveBack(payment_id, "refused")
        self.put(shard_of(payment.sender), operation, self.bank.finish(payment_id))

    @rule(
        user=st.sampled_from(USERS),
        what=st.sampled_from(["active"] * 4 + ["frozen", "frozen_all", "closed", "create"]),
    )
    def change_account(self, user: str, what: str) -> None:
        if what == "create":
            self.create(user, 100)
        else:
            self.put(shard_of(user), SetAccountState(user, what), self.bank.set_state(user, what))

    @rule(
        payment_id=payments,
        what=st.sampled_from(["commit", "commit", "a second", "a hold's time", "block"]),
    )
    def pass_time(self, payment_id: bytes, what: str) -> None:
        self.flush()
        if what == "block":
            self._block(payment_id)
        elif what != "commit":
            self.clock.advance(1.0 if what == "a second" else HOLD_US / 1e6)

    def _block(self, payment_id: bytes) -> None:
        sender = self.bank.payments[payment_id].sender
        answer = ApplyFraud(f"fraud-{payment_id.hex()}", payment_id, "block", "velocity")
        applied = self.shards[shard_of(sender)].tables["applied_events"]
        account = self.bank.accounts.get(sender)
        is_new = answer.event_id not in {row["event_id"] for row in applied}
        if is_new and account is not None and account.state == "active":
            account.state = "frozen"
        self.put(shard_of(sender), answer, "applied")

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def money_is_where_the_bank_says(self) -> None:
        if self.waiting:
            return
        bank, shards = self.bank, self.shards
        found = {
            row["user_id"]: (row["balance"], row["held"], row["state"])
            for shard in shards
            for row in shard.tables["accounts"]
        }
        assert found == {u: (a.balance, a.held, a.state) for u, a in bank.accounts.items()}
        users = sum(account.balance for account in bank.accounts.values())
        opened = bank.in_flight(0) + bank.in_flight(1)
        assert users + opened == bank.funded + bank.owed
        for shard in shards:
            for row in shard.tables["accounts"]:
                assert shard.entries_sum(row["id"]) == row["balance"]
            entries = shard.tables["ledger_entries"]
            accounts = {row["account_id"] for row in entries}
            assert sum(shard.entries_sum(account) for account in accounts) == 0
            assert all(a >= FIRST_USER_ACCOUNT_ID or a < 20 for a in accounts)
        assert sum(shard.entries_sum(FUNDING_ID) for shard in shards) == -bank.funded
        assert sum(shard.entries_sum(RECEIVABLE_ID) for shard in shards) == -bank.owed
        transit = sum(shards[n].entries_sum(IN_TRANSIT_ID_BASE + 1 - n) for n in (0, 1))
        assert transit == opened

    @invariant()
    def payments_stand_as_the_bank_says(self) -> None:
        if self.waiting:
            return
        for payment_id, payment in self.bank.payments.items():
            row = self.shards[shard_of(payment.sender)].payment(payment_id)
            assert row is not None
            assert (row["status"], row["amount"]) == (payment.status, payment.amount)
            assert (row["open_since"] is not None) == (payment.status in ("HELD", "PENDING"))
            text = payment_id_text(payment_id)
            events = Counter(event for shard in self.shards for event in shard.events_of(text))
            assert events.pop("PaymentInitiated") == 1
            if payment.status == "PENDING":
                assert events == ({"PaymentCompleted": 1} if payment.credited else {})
            elif payment.status != "HELD":
                assert events == {f"Payment{payment.status.capitalize()}": 1}
            else:
                assert events == {}

    def teardown(self) -> None:
        self.flush()
        self.money_is_where_the_bank_says()
        self.payments_stand_as_the_bank_says()


TwoShards.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestTwoShards = TwoShards.TestCase


@pytest.mark.parametrize("seed", range(20))
def test_long_histories(seed: int) -> None:
    """The same machine, driven evenly: this one visits everything, without shrinking."""
    rng = random.Random(seed)
    machine = TwoShards()
    payments = [machine.open(tuple(rng.randint(200, 500) for _ in range(3)))]
    steps = ("pay", "hold", "account", "refund", "repeat", "capture", "release", "credit", "finish",
             "finish", "time")  # fmt: skip
    for _ in range(250):
        step, payment = rng.choice(steps), rng.choice(payments[-12:])
        if step in ("pay", "hold"):
            start = getattr(machine, step)
            payments.append(start(rng.choice(USERS), rng.randint(1, 3), rng.randint(1, 150)))
        elif step == "account":
            states = ("active", "active", "active", "active", "frozen", "frozen_all", "closed")
            machine.change_account(rng.choice(USERS), rng.choice((*states, "create")))
        elif step == "refund":
            payments.append(machine.refund(payment))
        elif step == "repeat":
            machine.repeat(payment)
        elif step == "capture":
            machine.capture(payment, rng.choice((None, rng.randint(1, 150))))
        elif step == "release":
            machine.release(payment, rng.choice(("released", "rejected", "expired")))
        elif step == "credit":
            machine.credit(payment, rng.random() < 0.5, rng.randint(1, 3))
        elif step == "finish":
            machine.finish(payment)
        else:
            machine.pass_time(payment, rng.choice(("commit", "a second", "a hold's time", "block")))
        machine.money_is_where_the_bank_says()
        machine.payments_stand_as_the_bank_says()
    machine.teardown()
