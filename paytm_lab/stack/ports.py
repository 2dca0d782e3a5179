"""Ports that somebody else has, with the owner."""

from __future__ import annotations

from collections.abc import Sequence

from paytm_lab.core.errors import MissingPart
from paytm_lab.stack.servers import Server
from paytm_lab.tcp_ports import is_taken, owner, refusal


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
    error = refusal(port)
    if error is None:
        return ""
    return f"taken by {owner(port)}" if is_taken(error) else error.strerror or str(error)
