"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from paytm_lab.core.errors import Unavailable


def until(condition: Callable[[], object], what: str = "", within_s: float = 60.0) -> float:
    """How long it took, in seconds; AssertionError when it took longer than ``within_s``."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - began


def answers(call: Callable[[], object]) -> bool:
    """Whether the store that is called is there."""
    with suppress(Unavailable):
        call()
        return True
    return False
