"""Ports that somebody else has, with the owner."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

import psutil

from paytm_lab.core.errors import MissingPart
from paytm_lab.stack.connection import HOST
from paytm_lab.stack.servers import Server

COMMAND_CHARACTERS_MAX = 160


def require_free(servers: Sequence[Server]) -> None:
    """MissingPart (exit 3) that names each taken port of servers about to start, and its owner."""
    taken = [
        (server, port, problem)
        for server in servers
        for port in server.ports
        if (problem := _problem(port))
    ]
    if taken:
        lines = "".join(f"\n  port {p} for {server.name}: {why}" for server, p, why in taken)
        raise MissingPart(
            f"{len(taken)} port(s) of the stack cannot be used, nothing was started:{lines}",
            remedy="\nStop those programs, or shift all ports: paytm-lab stack up --port-offset N.",
        )


def _problem(port: int) -> str:
    """Why the port cannot be listened on; '' if it can."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return error.strerror or str(error)
        return f"taken by {_owner(port)}"
    return ""


def _owner(port: int) -> str:
    """'process 4711: /usr/sbin/mysqld --port=3306'"""
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
                command = " ".join(process.cmdline()) or process.name()
                return f"process {connection.pid}: {command[:COMMAND_CHARACTERS_MAX]}"
    return f"a process that is not shown here (try: lsof -i :{port})"
