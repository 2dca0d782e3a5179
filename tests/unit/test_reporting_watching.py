"""A lab watched step by step: the seed decides, money in transit is seen, crashes end it."""

from __future__ import annotations

import pandas as pd
import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.errors import BadInput
from paytm_lab.reporting.watching import backlog_steps, payment_steps, submit_all


def watched(seed: int) -> pd.DataFrame:
    with Lab(shards=4, seed=seed, deterministic=True) as lab:
        for user in ("1", "2"):
            lab.create_account(user, 1_000)
        lab.drain()
        payment = lab.submit("1", "2", 250)
        first = payment_steps(lab, payment, until="PENDING")
        return pd.concat([first, payment_steps(lab, payment)])


def test_money_is_in_transit_between_the_legs_and_nowhere_else() -> None:
    steps = watched(7)
    assert set(steps["users_paise"] + steps["in_transit_paise"]) == {200_000}
    assert (steps["in_transit_paise"] == 25_000).equals(steps["status"] == "PENDING")
    assert steps["status"].iloc[-1] == "COMPLETED"
    assert {"writer of shard 1", "writer of shard 2"} <= set(steps["actor"])


def test_the_seed_decides_the_order() -> None:
    pd.testing.assert_frame_equal(watched(7), watched(7))
    assert any(list(watched(seed)["actor"]) != list(watched(7)["actor"]) for seed in (8, 9, 10))


def test_a_status_that_never_comes_is_an_error() -> None:
    with Lab(shards=4, seed=7, deterministic=True) as lab:
        for user in ("1", "2"):
            lab.create_account(user, 10)
        with pytest.raises(BadInput, match="never became CANCELLED"):
            payment_steps(lab, lab.submit("1", "2", 5), until="CANCELLED")


def test_backlog_rises_and_ends_at_zero_unless_the_relay_stands_still() -> None:
    with Lab(shards=4, seed=7, deterministic=True) as lab:
        tickets = submit_all(lab, Workload(users=20, payments=60))
        steps = backlog_steps(lab)
        assert all(ticket.answered for ticket in tickets)
        places = steps.drop(columns="at_s")
        assert (places.max() > 0).all() and (places.iloc[-1] == 0).all()
        assert steps["at_s"].is_monotonic_increasing
        with lab.fault("relay", "stopped"):
            submit_all(lab, Workload(users=20, payments=10))
            waiting = backlog_steps(lab).iloc[-1]
        assert waiting["outboxes"] >= 20 and waiting.filter(like="consumer").sum() == 0


@pytest.mark.parametrize("kind", ["crash-after-leg-a", "crash-after-relay-ack"])
def test_watching_ends_where_the_process_dies(kind: str) -> None:
    with Lab(shards=4, seed=7, deterministic=True) as lab:
        for user in ("1", "2"):
            lab.create_account(user, 1_000)
        lab.drain()
        payment = lab.submit("1", "2", 250)
        with lab.fault("process", kind):
            payment_steps(lab, payment)
        assert lab.crashed_at
        lab.recover()
        lab.drain()
        assert lab.status(payment.payment_id).status == "COMPLETED"
        lab.audit().require_clean()
