"""Draining: consumers do not wait for company meanwhile, and do again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from paytm_lab import Lab, Workload
from paytm_lab.core.errors import Unavailable


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
