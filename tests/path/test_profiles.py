"""The main job on whichever backends were asked for: payments, events, consumers, audit, replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paytm_lab import Lab, Workload, wiring
from paytm_lab.core.errors import BadInput, IdempotencyConflict
from paytm_lab.core.ids import payment_id_text
from paytm_lab.fraud.tables import FEATURES
from tests import servers
from tests.waiting import until


def place(profile: str, folder: Path) -> dict[str, Any]:
    """What opens the same lab again."""
    given: dict[str, Any] = {"profile": profile, "data": folder, "seed": 7}
    if profile == "servers" and servers.STACK_DIR:
        given["stack_dir"] = Path(servers.STACK_DIR)
    return given


@pytest.fixture
def lab_place(profile: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    given = place(profile, tmp_path / "lab")
    yield given
    wiring.remove(Lab(**given).settings)


def test_a_workload_is_posted_scored_counted_and_audited(lab_place: dict[str, Any]) -> None:
    with Lab(**lab_place) as lab:
        run = lab.run(Workload(users=60, payments=400, zipf_s=0.5))
        lab.audit().require_clean()
        statuses = run.payments.status.value_counts()
        assert statuses.sum() == 400
        assert statuses["COMPLETED"] > 300
        features = {row["payment_id"] for row in lab.system.wide.scan(FEATURES)}
        completed = run.payments[run.payments.status == "COMPLETED"].payment_id
        assert set(completed) <= features
        lab.replay().require_clean()
    # Another process finds the same lab, and its money.
    with Lab(**lab_place, read_only=True) as again:
        again.audit().require_clean()


def test_a_repeat_answers_the_first_outcome(lab_place: dict[str, Any]) -> None:
    with Lab(**lab_place) as lab:
        for user in ("1", "2", "5", "ü🙂"):
            lab.create_account(user, 100)
        cross = lab.transfer("1", "2", "10.50", key="once")
        assert (cross.status, cross.balance) == ("COMPLETED", 8_950)
        again = lab.transfer("1", "2", "10.50", key="once")
        assert again.repeated
        assert again.payment_id == cross.payment_id
        with pytest.raises(IdempotencyConflict):
            lab.transfer("1", "2", "10.51", key="once")
        assert lab.transfer("1", "5", 10).status == "COMPLETED"
        assert lab.transfer("1", "ü🙂", 10).status == "COMPLETED"
        refused = lab.transfer("2", "1", 1_000)
        assert (refused.status, refused.reason) == ("FAILED", "insufficient_funds")
        assert lab.transfer("1", "nobody", 1).status == "FAILED"
        lab.drain()
        assert lab.status(payment_id_text(cross.payment_id)).status == "COMPLETED"
        lab.audit().require_clean()


def test_a_crash_between_the_legs_is_recovered(lab_place: dict[str, Any]) -> None:
    with Lab(**lab_place) as lab:
        for user in ("1", "2"):
            lab.create_account(user, 100)
        with lab.fault("process", "crash-after-leg-a"):
            ticket = lab.submit("1", "2", 10)
            until(lambda: lab.crashed_at)
            lab.recover()
        balances = {user: lab.account(user) for user in ("1", "2")}
        assert {u: a.balance_paise for u, a in balances.items() if a} == {"1": 9_000, "2": 11_000}
        assert lab.status(ticket.payment_id).status == "COMPLETED"
        lab.drain()
        lab.audit().require_clean()


def test_the_lab_with_the_plain_names_is_never_removed_by_a_program() -> None:
    with pytest.raises(BadInput, match="plain names"):
        wiring.remove(servers.settings(namespace="", mysql_password="unused"))
