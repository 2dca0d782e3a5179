"""How exactly the timed waits of a process end (Linux: prctl(2), PR_SET_TIMERSLACK)."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_SET_TIMERSLACK, _GET_TIMERSLACK = 29, 30


@contextlib.contextmanager
def timer_slack(slack_ns: int) -> Iterator[None]:
    """What this thread starts meanwhile has that slack, and hands it on to its threads. Does
    nothing for 0, and where the system is not Linux.
    """
    if not slack_ns or sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    before_ns = prctl(_GET_TIMERSLACK, 0, 0, 0, 0)
    prctl(_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_TIMERSLACK, ctypes.c_ulong(before_ns), 0, 0, 0)
