"""A deterministic lab: the same seed repeats every event and balance, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.errors import BadInput, OutcomeUnknown, Unavailable
from paytm_lab.simulation.faults import CRASH_POINTS
from paytm_lab.simulation.stepping import Moved

SMALL = Workload(users=40, payments=150)
History = list[Moved]
Story = Callable[[Lab], None]


def plain(lab: Lab) -> None:
    lab.run(SMALL)


def crashes_and_recoveries(lab: Lab) -> None:
    """The process dies three times: by hand, and at two points of the protocol."""
    lab.run(SMALL, drain=False)
    for n in range(20):
        lab.submit(str(n % 10 + 1), str(n % 7 + 20), "3.50")
        lab.step()
    lab.crash()
    lab.recover()
    for kind in ("crash-after-leg-a", "crash-after-relay-ack"):
        with lab.fault("process", kind):
            for n in range(20):
                lab.submit(str(n % 10 + 1), str(n % 7 + 21), "1.25")
            while not lab.crashed_at:
                lab.step()
        lab.recover()
    lab.run(SMALL)


def faults_in_between(lab: Lab) -> None:
    lab.run(SMALL)
    for target, kind in (("shard-2", "down"), ("shard-1", "lost-commit"), ("cache", "gone")):
        with lab.fault(target, kind):
            for n in range(30):
                try:
                    lab.submit(str(n % 30 + 1), str(n % 7 + 31), "2.00")
                except Unavailable:
                    continue
                lab.step()
    lab.drain()


def holds_and_reviews(lab: Lab) -> None:
    """Captures, a release, an expiry, decided reviews, a refund."""
    lab.open_accounts({str(n): 10**8 for n in range(1, 41)})
    held = [lab.transfer(str(n), str(n + 11), "40.00", hold=True) for n in range(1, 6)]
    lab.capture(held[0].payment)
    lab.capture(held[1].payment, "10.00")
    lab.release(held[2].payment)
    lab.transfer("7", "8", "9000")  # large enough for a review
    lab.transfer("9", "12", "9500")
    lab.drain()
    for review, decide in zip(lab.reviews(), (lab.approve, lab.reject), strict=True):
        decide(review.payment)
    lab.run(SMALL)


def state_of(
    folder: Path, seed: int, story: Story, **settings: Any
) -> tuple[str, tuple[History, ...]]:
    """The hash after the story, and every step that was made, by opening of the lab."""
    histories: list[History] = []
    with Lab(data=folder, seed=seed, deterministic=True, **settings) as lab:
        make_stepper = lab._make_stepper

        def noted(system: Any) -> Any:
            stepper = make_stepper(system)
            histories.append(stepper.history)
            return stepper

        lab._make_stepper = noted  # type: ignore[method-assign]
        assert lab._stepper is not None
        histories.append(lab._stepper.history)
        story(lab)
        lab.drain()
        lab.audit().require_clean()
        return lab.state_hash(), tuple(histories)


@pytest.mark.parametrize(
    ("story", "settings"),
    [
        (plain, {}),
        (plain, {"fraud_gate": "before", "velocity_limit": 5}),
        (plain, {"fraud_gate": "off", "shards": 3}),
        (crashes_and_recoveries, {}),
        (faults_in_between, {}),
        (holds_and_reviews, {}),
    ],
    ids=["plain", "gate-before", "gate-off", "crashes", "faults", "holds"],
)
def test_the_same_seed_repeats_every_event(
    story: Story, settings: dict[str, Any], tmp_path: Path
) -> None:
    first = state_of(tmp_path / "first", 7, story, **settings)
    again = state_of(tmp_path / "again", 7, story, **settings)
    other = state_of(tmp_path / "other", 8, story, **settings)
    assert first == again
    assert other[0] != first[0]
    actors = [[moved.actor for moved in history] for history in first[1]]
    other_actors = [[moved.actor for moved in history] for history in other[1]]
    assert actors != other_actors, "another seed is another interleaving"
    assert len(actors[0]) > 30
    assert len(set(actors[0])) >= 8, "writers, relays and consumers take turns"


def opened(tmp_path: Path, **settings: Any) -> Lab:
    lab = Lab(data=tmp_path / "lab", seed=3, deterministic=True, **settings).open()
    lab.open_accounts({"1": 100_000, "2": 0, "5": 0, "6": 0})
    lab.drain()
    return lab


def step_until(lab: Lab, actor: str) -> Moved:
    """Step until this part did something; what others do meanwhile is theirs."""
    for _ in range(500):
        moved = lab.step()
        if moved is not None and moved.actor == actor:
            return moved
    raise AssertionError(f"{actor} never moved")


def rows_of(lab: Lab, payment_id: str) -> list[tuple[int, str, str]]:
    """(shard, role, status) of the payment's rows."""
    return sorted(
        (shard, role, status)
        for shard, database in lab.system.databases.items()
        for role, status in _rows_on(database, payment_id)
    )


def _rows_on(database: Any, payment_id: str) -> list[tuple[str, str]]:
    from paytm_lab.core.ids import parse_payment_id
    from paytm_lab.ledger import queries

    rows = queries.payment_rows(database, parse_payment_id(payment_id))
    return [(row.role, row.status) for row in rows]


def test_a_payment_walks_leg_by_leg(tmp_path: Path) -> None:
    lab = opened(tmp_path)
    ticket = lab.submit("1", "2", "10.00")
    assert not ticket.answered
    assert rows_of(lab, ticket.payment_id) == [], "nothing happens until it is stepped"
    step_until(lab, "writer of shard 1")
    assert rows_of(lab, ticket.payment_id) == [(1, "source", "PENDING")]
    assert not ticket.answered
    step_until(lab, "writer of shard 2")
    assert rows_of(lab, ticket.payment_id) == [
        (1, "source", "PENDING"),
        (2, "destination", "COMPLETED"),
    ]
    assert ticket.outcome is not None
    assert ticket.outcome.status == "COMPLETED", "answered after leg (b)"
    assert lab.status(ticket.payment_id).status == "COMPLETED", "a status read asks the destination"
    step_until(lab, "writer of shard 1")
    assert rows_of(lab, ticket.payment_id)[0] == (1, "source", "COMPLETED")
    lab.drain()
    lab.audit().require_clean()
    lab.close()


@pytest.mark.parametrize("legs", [0, 1, 2, 3])
def test_a_payment_is_killed_between_legs_and_recovered(legs: int, tmp_path: Path) -> None:
    lab = opened(tmp_path)
    ticket = lab.submit("1", "2", "10.00", key="walk")
    for actor in ("writer of shard 1", "writer of shard 2", "writer of shard 1")[:legs]:
        step_until(lab, actor)
    lab.crash()
    with pytest.raises(BadInput, match="not open"):
        lab.step()
    report = lab.recover()
    assert report.found == (1 if legs in (1, 2) else 0)
    assert report.completed == report.found
    rows = rows_of(lab, ticket.payment_id)
    if legs == 0:
        assert rows == [], "it was never posted"
    else:
        assert lab.status(ticket.payment_id).status == "COMPLETED"
    # Whoever heard nothing asks again with the same key, and pays once.
    repeat = lab.transfer("1", "2", "10.00", key="walk")
    assert repeat.repeated == (legs > 0)
    assert lab.balances() == {"1": 99_000, "2": 1_000, "5": 0, "6": 0}
    lab.drain()
    lab.audit().require_clean()
    assert lab.replay().exit_code == 0
    lab.close()


def test_a_refused_credit_is_given_back_leg_by_leg(tmp_path: Path) -> None:
    lab = opened(tmp_path)
    lab.close_account("2")
    ticket = lab.submit("1", "2", "10.00")
    step_until(lab, "writer of shard 1")
    assert lab.balances()["1"] == 99_000
    step_until(lab, "writer of shard 2")
    assert not ticket.answered, "FAILED is answered after leg (c)"
    step_until(lab, "writer of shard 1")
    assert ticket.outcome is not None
    assert (ticket.outcome.status, ticket.outcome.reason) == ("FAILED", "receiver_closed")
    assert lab.balances()["1"] == 100_000
    lab.drain()
    lab.audit().require_clean()
    lab.close()


def test_what_another_process_gave_back_is_no_repeat_of_the_caller(tmp_path: Path) -> None:
    lab = opened(tmp_path)
    lab.close_account("2")
    ticket = lab.submit("1", "2", "10.00")
    step_until(lab, "writer of shard 1")
    with Lab(data=tmp_path / "lab", seed=4, deterministic=True) as other:
        assert other.recovered is not None
        assert other.recovered.failed == 1
    lab.drain()
    assert ticket.outcome is not None
    assert (ticket.outcome.status, ticket.outcome.repeated) == ("FAILED", False)
    assert lab.balances()["1"] == 100_000
    lab.audit().require_clean()
    lab.close()


def test_a_payment_on_one_shard_is_one_step(tmp_path: Path) -> None:
    lab = opened(tmp_path)
    ticket = lab.submit("1", "5", "10.00")
    step_until(lab, "writer of shard 1")
    assert rows_of(lab, ticket.payment_id) == [(1, "local", "COMPLETED")]
    lab.close()


@pytest.mark.parametrize("kind", CRASH_POINTS)
def test_a_deterministic_lab_that_dies_at_a_point_says_so_and_recovers(
    kind: str, tmp_path: Path
) -> None:
    lab = opened(tmp_path)
    lab.close_account("2")  # so that the refusal's points are reached too
    with lab.fault("process", kind):
        ticket = lab.submit("1", "6" if kind[-5:-1] == "leg-" else "2", "1.00")
        other = lab.submit("5", "1", "0.50")
        for _ in range(500):
            if lab.crashed_at:
                break
            lab.step()
    assert lab.crashed_at == CRASH_POINTS[kind]
    assert lab.step() is None, "the dead do not move"
    with pytest.raises(Unavailable, match="died"):
        lab.drain()
    with pytest.raises(OutcomeUnknown, match="died"):
        lab.transfer("1", "5", "1.00")
    lab.recover()
    assert lab.crashed_at == ""
    lab.drain()
    lab.audit().require_clean()
    assert ticket.payment_id != other.payment_id
    lab.close()


def test_only_a_deterministic_lab_is_stepped(tmp_path: Path) -> None:
    with Lab(data=tmp_path) as lab, pytest.raises(BadInput, match="moves by itself"):
        lab.step()
