"""The numbers that requests to Cassandra bear, against answers that bear a wrong one."""

from __future__ import annotations

import struct
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

from cassandra.protocol import ErrorMessage

from paytm_lab.backends.servers.cassandra_session import _Connection

NUMBERS = 20
TOO_OLD = b"Query timed out before it could start"


def connection() -> Any:
    """The driver's, with our numbers, and no socket: what it would read is handed to it."""
    made = object.__new__(_Connection)
    made.lock = threading.RLock()
    made._requests = {}
    made._continuous_paging_sessions = {}
    made.orphaned_request_ids = set()
    made.request_ids = deque(range(NUMBERS))
    made.highest_request_id = NUMBERS - 1
    made.max_request_id = 1_000
    made.in_flight = 0
    made.user_type_map = {}
    made.decompressor = None
    return made


def answer(made: Any, number: int) -> None:
    header = SimpleNamespace(version=4, stream=number, flags=0, opcode=ErrorMessage.opcode)
    body = struct.pack(">iH", 0x1001, len(TOO_OLD)) + TOO_OLD
    made.process_msg(header, body)


def test_answers_to_nobody_give_no_two_requests_one_number() -> None:
    made = connection()
    first = [made.get_request_id() for _ in range(5)]
    for _ in range(30):
        answer(made, 0)  # as a server that was frozen sends them
    then = [made.get_request_id() for _ in range(40)]
    assert 0 not in first + then
    assert len(set(first + then)) == 45


def test_answers_to_requests_give_their_numbers_back() -> None:
    made = connection()
    heard: list[int] = []
    for number in (taken := [made.get_request_id() for _ in range(NUMBERS - 1)]):
        made._requests[number] = (
            lambda _, number=number: heard.append(number),
            lambda *_: "answered",
            None,
        )
    for number in taken:
        answer(made, number)
    assert heard == taken
    assert sorted(made.get_request_id() for _ in taken) == sorted(taken)
