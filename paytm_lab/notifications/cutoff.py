"""Ends a conversation that takes too long, whatever the other side is doing: a time limit on each
read does not, where one byte comes at a time.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def cutoff(find: Callable[[], socket.socket | None], within_s: float) -> Iterator[threading.Event]:
    """After ``within_s`` the socket is shut, so that what waits for it gets an OSError or nothing
    more to read. The event says whether that has happened.
    """
    fired = threading.Event()

    def cut() -> None:
        fired.set()
        found = find()
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(within_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield fired
    finally:
        timer.cancel()
