"""Ports of 127.0.0.1 that cannot be listened on, and whose they are."""

from __future__ import annotations

import contextlib
import errno
import socket

import psutil

HOST = "127.0.0.1"
COMMAND_CHARACTERS_MAX = 160


def refusal(port: int) -> OSError | None:
    """Why the port cannot be listened on; None if it can."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        return error
    return None


def is_taken(error: OSError) -> bool:
    """Whether it is somebody else's, rather than not allowed."""
    return error.errno == errno.EADDRINUSE


def owner(port: int) -> str:
    """The program that listens on a port: 'mysqld (process 4711: /usr/sbin/mysqld --port=3306)'."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:  # macOS shows all sockets to root only
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            if connection.pid is None:
                return "a process of another user"
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())[:COMMAND_CHARACTERS_MAX]
                return f"{process.name()} (process {connection.pid}: {command})"
    return f"a process that is not shown here (try: lsof -i :{port})"
