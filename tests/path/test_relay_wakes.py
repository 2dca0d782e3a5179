"""What a writer here has posted is relayed at once, not at the relay's next look."""

from __future__ import annotations

from pathlib import Path

import pytest

from paytm_lab import Lab
from paytm_lab.wiring import system
from tests.waiting import until


def test_a_commit_wakes_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "RELAY_IDLE_S", 60.0)
    with Lab(data=tmp_path, seed=1) as lab:
        for user in ("1", "2"):
            lab.create_account(user, 100)
        until(lambda: lab.system.is_drained(), "the accounts' events are relayed", 20)
        assert lab.transfer("1", "2", 10).status == "COMPLETED"
        until(lambda: lab.system.is_drained(), "and the payment's", 20)
        assert lab.event_counts()["PaymentCompleted"] == 3
        lab.audit().require_clean()
