"""Asks a server in its own protocol. An open port is not enough: some open it before they serve."""

from __future__ import annotations

import socket

from paytm_lab.stack.connection import HOST

ANSWER_WAIT_S_MAX = 1.0
ANSWER_BYTES_MAX = 65_536


def ask(port: int, question: bytes, enough: int, until_closed: bool = False) -> bytes:
    """What the server answers within a second, at least ``enough`` bytes of it; b'' if nothing."""
    answer = b""
    try:
        with socket.create_connection((HOST, port), timeout=ANSWER_WAIT_S_MAX) as connection:
            if question:
                connection.sendall(question)
            while len(answer) < ANSWER_BYTES_MAX and (until_closed or len(answer) < enough):
                piece = connection.recv(4096)
                if not piece:
                    break
                answer += piece
    except OSError:
        return b"" if not until_closed else answer
    return answer if len(answer) >= enough else b""
