"""Closing a lab: everything at once, in bounded time, and in one line what was not waited for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from paytm_lab import Lab
from paytm_lab.core.errors import ShardUnavailable, Unavailable
from paytm_lab.wiring.shutdown import ANSWER_S_MAX, Together
from tests.faults.load import Load
from tests.waiting import until

DEADLINE_S = 30.0


def test_calls_run_together_and_their_errors_are_kept_by_name() -> None:
    both = threading.Barrier(2)

    def meet() -> None:
        both.wait(DEADLINE_S)

    def fail() -> None:
        both.wait(DEADLINE_S)
        raise ValueError("why")

    running = Together({"meets": meet, "fails": fail})
    assert running.wait(DEADLINE_S)
    assert running.open == set()
    assert {name: str(error) for name, error in running.errors.items()} == {"fails": "why"}


def test_who_does_not_end_is_waited_for_as_long_as_one_says() -> None:
    free = threading.Event()
    running = Together({"waits": free.wait, "ends": lambda: None})
    assert not running.wait(0.05)
    until(lambda: running.open == {"waits"})
    free.set()
    assert running.wait(DEADLINE_S)


def test_unwell_is_who_is_away_or_says_nothing_not_who_has_another_trouble() -> None:
    def away() -> None:
        raise Unavailable("gone")

    def other() -> None:
        raise ValueError("not about a server")

    free = threading.Event()
    asked = Together({"away": away, "other": other, "well": lambda: None, "silent": free.wait})
    until(lambda: asked.open == {"silent"})
    assert asked.unwell(DEADLINE_S).keys() == {"away"}
    assert asked.unwell(0.0).keys() == {"away", "silent"}
    free.set()


def test_a_part_that_fails_on_closing_is_raised_when_all_others_are_closed(tmp_path: Path) -> None:
    lab = Lab(shards=2, seed=1, data=tmp_path).open()
    system = lab.system
    close = system.router.close

    def fail() -> None:
        close()
        raise ValueError("the map does not close")

    system.router.close = fail  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="does not close"):
        lab.close()
    assert not any(thread.name.startswith("writer-") for thread in threading.enumerate())
    for database in system.databases.values():
        with pytest.raises(ShardUnavailable):
            database.begin()


@pytest.mark.slow
def test_a_frozen_shard_is_named_and_what_it_left_is_finished_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(shards=4, seed=1, data=tmp_path, velocity_limit=10**6).open()
    with Load(lab, in_flight=2_000, pace_s=0.001) as load:
        load.wait_for("before", 50)
        load.phase = "frozen"
        with lab.fault("shard-2", "frozen"):
            until(lambda: len(load.of("frozen")) > 100)
            load.stop()
            began = time.monotonic()
            lab.close()
            assert time.monotonic() - began < ANSWER_S_MAX + 5
    (said,) = [r.getMessage() for r in caplog.records if "closed without" in r.message]
    assert "shard-2, which says nothing" in said
    assert {h.status for h in load.of("frozen", 2, other=True)} == {"COMPLETED"}
    with Lab(data=tmp_path, velocity_limit=10**6) as again:
        again.drain()
        again.audit().require_clean()
        for heard in load.heard:
            if heard.status == "COMPLETED":
                assert heard.outcome
                assert again.status(heard.outcome.payment).status == "COMPLETED"
