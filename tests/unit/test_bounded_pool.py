"""A pool with bounds on what waits, and on how long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from paytm_lab.core.errors import Overloaded, Unavailable
from paytm_lab.web.pool import BoundedPool
from tests.waiting import until


def test_one_more_than_may_wait_is_refused() -> None:
    go = threading.Event()

    async def crowd() -> list[object]:
        calls = [asyncio.ensure_future(pool.run(go.wait, 30)) for _ in range(4)]
        await asyncio.wait(calls, timeout=0.01)
        go.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    pool = BoundedPool("test", threads=1, waiting_max=2)
    found = asyncio.run(crowd())
    assert found[:3] == [True] * 3 and isinstance(found[3], Overloaded)
    until(lambda: pool.calls == 0)
    pool.close()


def test_who_waits_too_long_hears_so_and_what_did_not_begin_never_does() -> None:
    go, ran = threading.Event(), []
    pool = BoundedPool("test", threads=1, waiting_max=2, within_s=0.02)

    async def two() -> list[object]:
        calls = (pool.run(go.wait, 30), pool.run(ran.append, 1))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(two())
    assert [type(each) for each in found] == [Unavailable, Unavailable]
    assert pool.calls == 1  # the one that has begun
    go.set()
    until(lambda: pool.calls == 0)
    assert ran == []
    pool.close()


def test_what_a_call_raises_arrives() -> None:
    pool = BoundedPool("test", threads=1, waiting_max=0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run(lambda: 1 // 0))
    until(lambda: pool.calls == 0)
    pool.close()
