"""Threads that repeat a step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from paytm_lab.messaging.worker import REST_AFTER, Worker, WorkerState

DEADLINE_S = 20.0


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def test_it_steps_until_it_is_stopped() -> None:
    worker = Worker("counter", lambda: 2, idle_wait_s=10)
    assert worker.state is WorkerState.NEW
    worker.start()
    until(lambda: worker.done >= 100)
    assert worker.state is WorkerState.WORKING
    assert worker.stop()
    assert (worker.state, worker.alive()) == (WorkerState.STOPPED, False)
    done = worker.done
    assert worker.stop()
    assert worker.done == done


def test_an_idle_worker_waits_and_can_be_woken() -> None:
    steps = threading.Semaphore(0)

    def step() -> int:
        steps.release()
        return 0

    worker = Worker("idle", step, idle_wait_s=3_600).start()
    assert steps.acquire(timeout=DEADLINE_S)
    until(lambda: worker.state is WorkerState.IDLE)
    worker.wake()
    assert steps.acquire(timeout=DEADLINE_S), "woken long before its wait was over"
    started = time.monotonic()
    assert worker.stop()
    assert time.monotonic() - started < DEADLINE_S


def test_a_worker_that_finds_nothing_for_long_rests_until_it_is_woken_or_finds_something() -> None:
    steps = threading.Semaphore(0)
    work = [0]

    def step() -> int:
        steps.release()
        return work.pop() if work else 0

    worker = Worker("relay", step, idle_wait_s=0.001, rest_wait_s=3_600).start()
    for found in (0, 3):
        for _ in range(REST_AFTER + 1):
            assert steps.acquire(timeout=DEADLINE_S), "it looks often for a while"
        assert not steps.acquire(timeout=0.2), "and then it rests"
        work.append(found)
        worker.wake()
    assert steps.acquire(timeout=DEADLINE_S), "one step that found something"
    for _ in range(REST_AFTER + 1):
        assert steps.acquire(timeout=DEADLINE_S), "and all those after it"
    assert not steps.acquire(timeout=0.2)
    assert worker.stop()


def test_a_worker_that_did_little_waits_for_its_wake() -> None:
    steps = threading.Semaphore(0)
    did = iter([5, 5, 4, 5, 0])

    def step() -> int:
        done = next(did, 0)
        steps.release()
        return done

    worker = Worker("relay", step, idle_wait_s=3_600, again_from=5).start()
    for _ in range(3):
        assert steps.acquire(timeout=DEADLINE_S)
    until(lambda: worker.done == 14)
    worker.wake()
    for _ in range(2):
        assert steps.acquire(timeout=DEADLINE_S), "after 4 it waited, after 5 it went on"
    assert worker.stop()
    assert next(did, None) is None
    assert not steps.acquire(blocking=False), "after 4 and after 0 it waited to be woken"


def test_a_step_that_raises_is_shown_and_tried_again() -> None:
    failures = [OSError("one"), OSError("two")]
    go_on = threading.Event()

    def step() -> int:
        if failures:
            if len(failures) == 1:
                assert go_on.wait(DEADLINE_S)
            raise failures.pop(0)
        return 1

    worker = Worker("failing", step, idle_wait_s=0).start()
    until(lambda: worker.errors == 1)
    assert (str(worker.error), worker.state) == ("one", WorkerState.FAILING)
    go_on.set()
    until(lambda: worker.done)
    assert (worker.error, worker.errors) == (None, 2)
    assert worker.state is WorkerState.WORKING
    assert worker.stop()


def test_a_failing_step_is_said_once_and_being_well_again_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures_left = [5]

    def step() -> int:
        if failures_left[0]:
            failures_left[0] -= 1
            raise OSError("no answer")
        return 1

    worker = Worker("relay", step, idle_wait_s=0)
    worker.start()
    until(lambda: worker.errors == 1)
    while worker.done == 0:
        worker.wake()
    assert worker.stop()
    assert worker.errors == 5
    assert [r.message for r in caplog.records] == [
        "relay fails: OSError: no answer",
        "relay is well again",
    ]
    assert "in step" in (caplog.records[0].exc_text or ""), "nobody foresaw it: with its traceback"


def test_stopping_lets_the_step_under_way_end() -> None:
    entered, leave = threading.Event(), threading.Event()
    ended = []

    def step() -> int:
        entered.set()
        assert leave.wait(DEADLINE_S)
        ended.append(True)
        return 0

    worker = Worker("slow", step, idle_wait_s=0).start()
    assert entered.wait(DEADLINE_S)
    assert not worker.stop(timeout_s=0.05), "the step is still under way"
    leave.set()
    assert worker.stop()
    assert ended == [True]


@pytest.mark.parametrize("stops", [1, 2])
def test_a_worker_that_never_started_can_be_stopped(stops: int) -> None:
    worker = Worker("never", lambda: 0, idle_wait_s=0)
    for _ in range(stops):
        assert worker.stop()
    assert worker.state is WorkerState.STOPPED
