"""What a process is started with tells how exactly its timed waits end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from paytm_lab.stack.timers import timer_slack

SLACK_NS = 123_000
_SHOW = "open('/proc/self/timerslack_ns').read().strip() if sys.platform == 'linux' else ''"


def _of_a_child() -> str:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; print({_SHOW})"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def test_a_child_has_the_slack_and_what_comes_after_it_has_not() -> None:
    before = _of_a_child()
    with timer_slack(SLACK_NS):
        inside = _of_a_child()
    with timer_slack(0):
        untouched = _of_a_child()
    on_linux = Path("/proc/self/timerslack_ns").exists()
    assert inside == (str(SLACK_NS) if on_linux else before)
    assert untouched == _of_a_child() == before
