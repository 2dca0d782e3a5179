"""Draining: consumers do not wait for company meanwhile, and do again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.errors import Unavailable
from paytm_lab.verbs import run
from paytm_lab.verbs.common import Common


def test_a_drain_that_ends_leaves_another_in_a_hurry(tmp_path: Path) -> None:
    with Lab(shards=2, seed=1, data=tmp_path) as lab:
        system, runner = lab.system, lab.system.runners["analytics"]
        runner.paused = True
        lab.run(Workload(users=10, payments=20), drain=False)
        hurried = []

        def meanwhile(_: int) -> None:
            hurried.append(runner.hurry)
            if len(hurried) == 1:
                with pytest.raises(Unavailable, match="not drained"):
                    system.drain(deadline_s=0.0)
            runner.paused = len(hurried) < 3

        system.drain(on_progress=meanwhile)
        assert hurried[:3] == [True, True, True]
        assert not any(each.hurry for each in system.runners.values())


def test_consumers_that_work_to_the_logs_end_hurry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a steady load who waits for company is never at the end."""
    hurried = []
    waiting = run._waiting

    def look(lab: Lab, relay: bool, consumers: tuple[str, ...]) -> bool:
        hurried.append({each.hurry for each in lab.system.runners.values()})
        return waiting(lab, relay, consumers)

    monkeypatch.setattr(run, "_waiting", look)
    assert run.consume(Common(data=tmp_path, quiet=True), ("analytics",), True) == 0
    assert hurried[-1] == {True}
