"""A plain client of an ASGI application for tests that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx

PASSWORD = "correct horse battery"


class Client:
    """``client("POST", "/login", json={...})``. Any thread may call; one loop serves all."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._http = httpx.AsyncClient(transport=transport, base_url="http://lab")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __call__(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        call = self._http.request(method, path, headers=headers, **more)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(60)

    def register(self, user_id: str, password: str = PASSWORD) -> None:
        made = self("POST", "/register", json={"user_id": user_id, "password": password})
        assert made.status_code == 201, made.text

    def login(self, user_id: str, password: str = PASSWORD) -> dict[str, Any]:
        done = self("POST", "/login", json={"user_id": user_id, "password": password})
        assert done.status_code == 200, done.text
        return dict(done.json())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
