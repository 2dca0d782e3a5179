"""Clocks: the system's, and one that moves only when told."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytm_lab.core.clock import Clock, SimulatedClock, SystemClock


def test_the_system_clock_tells_the_time() -> None:
    clock: Clock = SystemClock()
    before_us = time.time_ns() // 1000
    now_us = clock.now_us()
    assert before_us <= now_us <= time.time_ns() // 1000
    readings = [clock.monotonic_s() for _ in range(100)]
    assert readings == sorted(readings)


def test_a_simulated_clock_stands_still() -> None:
    clock: Clock = SimulatedClock()
    assert [clock.now_us() for _ in range(3)] == [1_767_225_600_000_000] * 3
    assert datetime.fromtimestamp(clock.now_us() / 1e6, UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.monotonic_s() == 0


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(0, 2**53))
def test_a_simulated_clock_moves_as_told(steps_s: list[float], start_us: int) -> None:
    one, other = SimulatedClock(start_us), SimulatedClock(start_us)
    for step_s in steps_s:
        before_us, before_s = one.now_us(), one.monotonic_s()
        one.advance(step_s)
        other.advance(step_s)
        assert one.now_us() - before_us == round(step_s * 1e6)
        assert one.monotonic_s() >= before_s
    assert one.now_us() == other.now_us()
    assert one.monotonic_s() == (one.now_us() - start_us) / 1e6


@pytest.mark.parametrize("seconds", [-1, -1e-9, float("nan"), float("-inf")])
def test_time_does_not_go_back(seconds: float) -> None:
    clock = SimulatedClock()
    with pytest.raises(ValueError):
        clock.advance(seconds)
    assert clock.now_us() == SimulatedClock().now_us()
