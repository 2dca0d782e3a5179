"""Ending in order: a verb that must finish something first is told, not interrupted."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Told:
    """Whether the end was asked for. A ``threading.Event`` will not do: its ``set`` takes a lock,
    and a signal's handler runs in the middle of whatever its thread was doing; where that was
    ``wait``, which holds the lock at its start, the two would wait for each other for ever.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._told = False

    def is_set(self) -> bool:
        return self._told

    def wait(self, timeout_s: float) -> bool:
        """Until told, at most so long: whether it was."""
        if not self._told:
            self._poll.poll(max(0.0, timeout_s) * 1000)
        return self._told

    def set(self) -> None:
        """Safe in a signal's handler."""
        self._told = True
        with suppress(BlockingIOError):  # full: whoever waits has been woken
            os.write(self._write, b"!")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@contextmanager
def told_to_end() -> Iterator[Told]:
    """Set, instead of an interruption anywhere, by Ctrl-C, SIGTERM and the terminal's end."""
    told = Told()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup asks
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, lambda *_: told.set()) for number in numbers]
    try:
        yield told
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        told.close()
