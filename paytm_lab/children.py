"""Verbs of this command line as processes of their own, and what one asks them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

STOP_S_MAX = 60.0
ANSWER_S_MAX = 30.0


def command(words: Sequence[str]) -> list[str]:
    """``paytm-lab WORDS`` by the Python that runs this."""
    return [sys.executable, "-m", "paytm_lab.cli", *words]


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """What a child gets: this process's, and settings by their names in ``Settings``."""
    return os.environ | {f"PAYTM_LAB_{n.upper()}": str(value) for n, value in settings.items()}


@contextmanager
def running(
    words: Sequence[str],
    settings: Mapping[str, object],
    output: IO[Any] | None = None,
    supervised: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A verb that runs; at the end it is asked to stop, and killed where it does not within
    ``STOP_S_MAX``. ``output``: where it writes; None: nowhere. ``supervised``: a verb that has
    ``--supervised-by`` ends by itself when this process is killed.
    """
    where = subprocess.DEVNULL if output is None else output
    ours, theirs = socket.socketpair()
    by = ["--supervised-by", str(theirs.fileno())] if supervised else []
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - words of our own
            command([*words, *by]),
            env=environment(settings),
            stdout=where,
            stderr=where,
            pass_fds=[theirs.fileno()] if supervised else [],
            start_new_session=True,  # a Ctrl-C is ours to tell
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ours.close()


def ask(host: str, port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """What a service that runs as a child says: the status and the JSON. OSError where nobody
    answers within ``ANSWER_S_MAX``.
    """
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S_MAX)
    try:
        given = None if body is None else json.dumps(body)
        connection.request(method, path, given, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()
