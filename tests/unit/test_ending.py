"""Told to end: by a signal at any moment, the worst ones included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Timer

import pytest

from paytm_lab.verbs.ending import told_to_end

# A signal at each instruction of a wait in turn, the ones that hold a lock among them.
AT_EACH = """
import signal, sys
from paytm_lab.verbs.ending import told_to_end

def struck(nth):
    '''How many instructions one wait has, and that a signal at the nth is heard.'''
    seen = 0
    def trace(frame, event, _):
        nonlocal seen
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == nth:
                signal.raise_signal(signal.SIGINT)
        return trace
    with told_to_end() as told:
        sys.settrace(trace)
        try:
            told.wait(0.0001)
        finally:
            sys.settrace(None)
        assert told.is_set() == (nth > 0), nth
    return seen

count = struck(0)
assert count > 5, count
for nth in range(1, count + 1):
    struck(nth)
print("all heard")
"""


def test_a_signal_at_any_instruction_of_a_wait_is_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EACH], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "all heard\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_wait_at_once_and_its_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with told_to_end() as told:
        assert not told.wait(0.001)
        Timer(0.05, os.kill, (os.getpid(), number)).start()
        began = time.monotonic()
        assert told.wait(60)
        assert time.monotonic() - began < 30
        assert told.wait(0), "it stays told"
    assert signal.getsignal(number) is before


def test_more_signals_than_anybody_reads_block_nobody() -> None:
    with told_to_end() as told:
        for _ in range(100_000):  # a pipe holds 65,536 bytes
            told.set()
        assert told.wait(60)
