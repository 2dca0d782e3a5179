"""The cycle collector is told to look less often by `paytm-lab`, and never where it is a guest."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paytm_lab.web.server import COLLECTED, settled
from tests.faults import processes
from tests.path.command_line import Cli

VERBS = ("run --users 8 --payments 20 --quiet --data {}", "bench routing --quick --data {}")
# What its collector was told, when the program that is started as `paytm-lab` has ended.
PROGRAM = """
import gc, sys
from paytm_lab.cli import main
try:
    main()
finally:
    print("collector", *gc.get_threshold(), gc.get_freeze_count() > 50_000, file=sys.stderr)
"""


@pytest.fixture
def collector() -> Iterator[tuple[int, int, int]]:
    """Set to what nobody would set it to."""
    before, set_to = gc.get_threshold(), (40_001, 21, 11)
    gc.set_threshold(*set_to)
    yield set_to
    gc.set_threshold(*before)


@pytest.mark.parametrize("verb", VERBS)
def test_the_program_collects_less(verb: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *verb.format(tmp_path).split()],
        cwd=processes.ROOT, env=processes.environment(), capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "collector 50000 25 50 True"


@pytest.mark.parametrize("verb", VERBS)
def test_a_guest_leaves_the_collector_alone(
    verb: str, tmp_path: Path, cli: Cli, collector: tuple[int, int, int]
) -> None:
    frozen = gc.get_freeze_count()
    assert cli(*verb.format(tmp_path).split()).code == 0
    assert gc.get_threshold() == collector
    assert gc.get_freeze_count() <= frozen, "what was frozen before may have been let go since"


def test_who_serves_collects_in_small_parts_as_long_as_it_does(
    collector: tuple[int, int, int],
) -> None:
    with settled():
        assert gc.get_threshold() == COLLECTED
        assert COLLECTED[0] * COLLECTED[1] <= 20_000, "objects looked at in one go"
    assert gc.get_threshold() == collector


def test_who_serves_takes_nothing_back_that_was_left_out_before() -> None:
    with settled():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() > 0, "tests leave out what was collected"
    gc.unfreeze()
    try:
        with settled():
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0
    finally:
        gc.collect()
        gc.freeze()
