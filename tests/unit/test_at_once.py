"""Calls that wait for different things, made at the same time."""

from __future__ import annotations

import threading

import pytest

from paytm_lab.wiring.at_once import at_once


def test_all_run_at_the_same_time() -> None:
    met = threading.Barrier(3)
    at_once([lambda: met.wait(30)] * 3)  # one after the other they would not meet
    at_once([])


def test_the_first_error_in_order_is_raised_when_all_have_ended() -> None:
    failed, done = threading.Event(), []

    def early() -> None:
        failed.wait(30)
        raise KeyError("the first")

    def late() -> None:
        failed.set()
        raise ValueError("the second, and sooner")

    def last() -> None:
        failed.wait(30)
        done.append(True)

    with pytest.raises(KeyError, match="the first"):
        at_once([early, late, last])
    assert done == [True]
