"""Threads for what blocks, with a bound on what waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from paytm_lab.core.errors import Overloaded, Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class BoundedPool:
    """``waiting_max``: calls that may wait for a thread; one more is Overloaded at once.
    ``within_s``: how long a caller waits at most, for a thread and the call together.
    """

    def __init__(
        self, name: str, threads: int, waiting_max: int, within_s: float | None = None
    ) -> None:
        self.name = name
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._calls_max = threads + waiting_max
        self._within_s = within_s
        self._lock = threading.Lock()
        self.calls = 0

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, or what it raised; Unavailable past ``within_s``. A call that has
        begun goes on without its caller.
        """
        with self._lock:
            if self.calls >= self._calls_max:
                raise Overloaded(
                    f"{self.calls} calls wait", place=self.name, remedy="Repeat it in a moment."
                )
            self.calls += 1
        under_way = self.executor.submit(partial(call, *args, **kwargs))
        under_way.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._within_s):
                return await asyncio.wrap_future(under_way)
        except TimeoutError:
            raise Unavailable(
                f"no answer within {self._within_s:g} s", place=self.name, remedy="Repeat it later."
            ) from None

    def _ended(self, _: object) -> None:
        with self._lock:
            self.calls -= 1

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
