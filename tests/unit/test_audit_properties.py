"""Whatever is done to a ledger, in any order, and wherever it is cut off: the audit is clean."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from paytm_lab.core.errors import Conflict, Unavailable
from paytm_lab.ledger import as_of
from paytm_lab.ledger.operations import Outcome
from paytm_lab.ledger.replay import replay
from tests.unit.ledger_world import LedgerWorld

USERS = 6
user = st.integers(0, USERS - 1).map(str)
amount = st.sampled_from([1, 40, 99, 100, 101, 250])
operation = st.one_of(
    st.tuples(st.just("pay"), user, user, amount),
    st.tuples(st.just("pay"), user, user, amount),
    st.tuples(st.just("pay"), user, st.just("nobody"), amount),
    st.tuples(st.just("hold"), user, user, amount),
    st.tuples(st.just("capture"), st.integers(0, 5), amount),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("expire")),
    st.tuples(
        st.just("state"), user, st.sampled_from(["active", "frozen", "frozen_all", "closed"])
    ),
    st.tuples(st.just("refund"), st.integers(0, 5)),
    # A payment cut off after so many steps of writers (0: before anything), then a crash.
    st.tuples(st.just("cut"), user, user, amount, st.lists(st.integers(0, 2), max_size=4)),
    st.tuples(st.just("recover")),
    st.tuples(st.just("relay")),
    st.tuples(st.just("close")),
)


class Play:
    """Carries operations out and remembers what later ones may name."""

    def __init__(self, world: LedgerWorld) -> None:
        self.world = world
        self.held: list[Outcome] = []
        self.paid: list[Outcome] = []
        self.closed: list[as_of.AsOf] = []

    def run(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)

    def pay(self, sender: str, receiver: str, paise: int) -> None:
        if sender != receiver:
            outcome = self.world.pay(sender, receiver, paise)
            self.paid += [outcome] if outcome.status == "COMPLETED" else []

    def hold(self, sender: str, receiver: str, paise: int) -> None:
        if sender != receiver:
            outcome = self.world.pay(sender, receiver, paise, hold=True)
            self.held += [outcome] if outcome.status == "HELD" else []

    def capture(self, which: int, paise: int) -> None:
        if self.held:
            held = self.held[which % len(self.held)]
            self.world.holds.capture(held.payment_id, min(paise, held.amount))

    def release(self, which: int) -> None:
        if self.held:
            self.world.holds.release(self.held[which % len(self.held)].payment_id)

    def expire(self) -> None:
        self.world.clock.advance(90_000.0)
        self.world.holds.expire()

    def state(self, user_id: str, state: str) -> None:
        self.world.set_state(user_id, state)

    def refund(self, which: int) -> None:
        if self.paid:
            try:
                self.world.refund(self.paid[which % len(self.paid)].payment_id)
            except (Conflict, Unavailable):
                return  # rejected before, or still on its way

    def cut(self, sender: str, receiver: str, paise: int, steps: list[int]) -> None:
        if sender != receiver:
            self.world.submit(sender, receiver, paise)
            for shard in steps:
                self.world.step(shard)
            self.world.crash()

    def recover(self) -> None:
        self.world.recover()

    def relay(self) -> None:
        self.world.relay()

    def close(self) -> None:
        stamp_us = as_of.close_stamp(
            self.world.databases,
            self.world.clock.now_us(),
            lambda _: self.world.recover(),
            wait=lambda _: None,
        ).stamp_us
        self.closed.append(as_of.ledger_as_of(self.world.databases, stamp_us))


def check(play: Play) -> None:
    """Nothing but payments cut off and not recovered yet may be wrong, at any moment."""
    world = play.world
    report = world.audit()
    wrong = {check.name for check in report.not_passed()}
    assert wrong <= {"no_pending_after_drain"}, str(report)
    replayed = replay(world.log, world.databases, clock=world.clock)
    assert replayed.verdict == "passed", str(replayed)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(operation, min_size=3, max_size=20))
def test_the_audit_is_clean_after_every_operation(operations: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = LedgerWorld(Path(folder))
        world.open_accounts(USERS, 100)
        play = Play(world)
        for name, *arguments in operations:
            play.run(name, *arguments)
            check(play)
        live = world.audit("live", help=lambda _: world.recover())
        assert live.verdict == "passed", str(live)
        world.recover()
        final = world.audit()
        assert final.verdict == "passed", str(final)
        for before in play.closed:
            assert before.difference_paise == 0
            assert as_of.ledger_as_of(world.databases, before.stamp_us) == before
            assert replay(world.log, world.databases, before.stamp_us).verdict == "passed"
        world.close()
