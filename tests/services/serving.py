"""A service on a port of its own, in a thread of the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.waiting import until


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The application's address while it is served, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        config = uvicorn.Config(
            app, http="httptools", ws="none", log_config=None, access_log=False,
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([place],), daemon=True)
        thread.start()
        until(lambda: server.started, "it is served")
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        app.stop()
        server.should_exit = True
        thread.join(10)
