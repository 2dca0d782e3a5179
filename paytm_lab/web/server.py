"""Runs applications on their ports in one process, until a signal; then finishes what was begun."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from paytm_lab.core.errors import MissingPart
from paytm_lab.tcp_ports import is_taken, owner
from paytm_lab.web.frame import Frame
from paytm_lab.web.protocol import GuardedProtocol

GRACE_S = 10  # for requests that are under way when a signal comes
CONNECTIONS_MAX = 4_096
BACKLOG = 2_048
IDLE_S_MAX = 10  # an idle connection is kept so long
# New objects, and collections, until the collector looks: at some 20,000 objects in one go.
COLLECTED = (5_000, 4, 2_000)


class Listening(NamedTuple):
    """``app`` at ``host``:``port``; ``shared``: with other processes, each gets a part of the
    connections.
    """

    name: str
    app: ASGIApp
    host: str
    port: int
    shared: bool = False


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: one handler stops all of them."""
        yield


def run(listening: Sequence[Listening], on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM. ``on_ready`` is called when all ports take connections.

    Stopping takes connections no more, waits for answers under way (at most ``GRACE_S``), and
    returns. MissingPart names the ports that cannot be listened on; then nothing was served.
    """
    with ExitStack() as opened:
        sockets = _bound(listening, opened)
        opened.enter_context(settled())
        asyncio.run(_serve(listening, sockets, on_ready))


@contextmanager
def settled() -> Iterator[None]:
    """Within, the garbage collector leaves alone what is there now (modules, schemas, drivers): to
    go through it took 0.1 s each time, in which nobody was answered. What is new it goes through in
    small parts: under bulk payments 50,000 at once took 43 to 95 ms, and these parts take 17 to 28;
    together 6 % of the processor time, not 1.5 %.
    """
    frozen, thresholds = gc.get_freeze_count(), gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not frozen:  # or what somebody else left out would be gone through again
            gc.unfreeze()


def _bound(listening: Sequence[Listening], opened: ExitStack) -> list[socket.socket]:
    places = [(each.name, each.host, each.port) for each in listening]
    sockets = bound(places, opened, any(each.shared for each in listening))
    for place in sockets:
        place.listen(BACKLOG)
    return sockets


def bound(
    places: Sequence[tuple[str, str, int]], opened: ExitStack, shared: bool = False
) -> list[socket.socket]:
    """Sockets that hold these (name, host, port), and do not listen yet. MissingPart names all that
    cannot be had, and by whom they are taken.
    """
    sockets, problems = [], []
    for name, host, port in places:
        # The protocol by name: asyncio turns Nagle's algorithm off only where it reads TCP, and an
        # answer, which is two writes, would take 40 ms.
        place = opened.enter_context(
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        )
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            place.bind((host, port))
        except OSError as error:
            why = f"taken by {owner(port)}" if is_taken(error) else error.strerror
            problems.append(f"port {port} for {name}: {why}")
            continue
        sockets.append(place)
    if problems:
        raise MissingPart(
            f"{len(problems)} port(s) cannot be listened on, nothing is served: "
            + "; ".join(problems),
            remedy="Stop those programs, or choose other ports (paytm-lab config names them).",
        )
    return sockets


def server_of(listening: Listening) -> uvicorn.Server:
    """uvicorn's server of it, as patient as this project is."""
    return _Server(
        uvicorn.Config(
            listening.app,
            http=GuardedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=IDLE_S_MAX,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


async def _serve(
    listening: Sequence[Listening], sockets: Sequence[socket.socket], on_ready: Callable[[], None]
) -> None:
    servers = [server_of(each) for each in listening]

    def stop() -> None:
        for each, server in zip(listening, servers, strict=True):
            server.should_exit = True
            if isinstance(each.app, Frame):
                each.app.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    tasks = [
        asyncio.ensure_future(server.serve([place]))
        for server, place in zip(servers, sockets, strict=True)
    ]
    while not all(server.started for server in servers):
        if any(task.done() for task in tasks):
            break
        await asyncio.sleep(0.01)
    else:
        on_ready()
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop()
    await asyncio.wait(tasks)
    for task in done:
        task.result()
