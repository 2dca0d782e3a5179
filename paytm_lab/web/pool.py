"""Threads for what blocks, with a bound on what waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from paytm_lab.core.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")


class BoundedPool:
    """``waiting_max``: calls that may wait for a thread; one more is Overloaded at once. To be used
    from one event loop.
    """

    def __init__(self, name: str, threads: int, waiting_max: int) -> None:
        self.name = name
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._calls_max = threads + waiting_max
        self.calls = 0

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, or what it raised. A caller who leaves does not end the call."""
        if self.calls >= self._calls_max:
            raise Overloaded(
                f"{self.calls} calls are waiting", place=self.name, remedy="Repeat it in a moment."
            )
        self.calls += 1
        loop = asyncio.get_running_loop()
        under_way = loop.run_in_executor(self.executor, partial(call, *args, **kwargs))
        under_way.add_done_callback(self._ended)
        return await under_way

    def _ended(self, _: object) -> None:
        self.calls -= 1

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
