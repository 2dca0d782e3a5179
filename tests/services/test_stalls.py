"""Nothing that a service does keeps its event loop from answering others for more than 50 ms.

What the machine gave to others meanwhile is not the service's doing: the time for which the loop's
thread stood ready without a processor is taken off, where the system tells it (Linux).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from paytm_lab.shard_manager.models import BULK_MAX
from paytm_lab.web.scopes import ADMIN, ANALYTICS_READ, REVIEW, TRANSFER_ANY
from paytm_lab.web.server import settled
from tests.services.world import World, item

# On the real servers one after the other: they share the machine with what is measured.
pytestmark = pytest.mark.runs_alone

STALL_S_MAX = 0.05
TURNS = 5  # a machine that is busy with others stalls too, but not each time
SCHEDULER = Path("/proc/thread-self/schedstat")  # ns run, ns ready without a processor, turns
LOOK_S = 0.002
AT_ONCE = 8


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[World]:
    with World(
        profile=profile, shards=2, fraud_gate="off", payments_per_window_max=10_000_000
    ) as made:
        made.run(made.ask("GET", "/openapi.json"))  # made once, at the first look
        yield made


def without_processor_s() -> float:
    """How long this thread has stood ready while others had the processors, since its start."""
    return int(SCHEDULER.read_text().split()[1]) / 1e9 if SCHEDULER.exists() else 0.0


async def longest_stall_s(work: Awaitable[object]) -> float:
    """The longest time in which the loop ran nothing else while ``work`` was done."""
    loop, longest, over = asyncio.get_running_loop(), 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not over:
            before, kept_waiting_s = loop.time(), without_processor_s()
            await asyncio.sleep(LOOK_S)
            kept_waiting_s = without_processor_s() - kept_waiting_s
            longest = max(longest, loop.time() - before - LOOK_S - kept_waiting_s)

    watching = asyncio.ensure_future(watch())
    await work
    over = True
    await watching
    return longest


async def all_of(world: World, asked: Sequence[Sequence[str]]) -> set[int]:
    """Asked a few at a time, as the client runs in the same loop; the statuses of the answers."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(each: Sequence[str]) -> int:
        async with free:
            return (await world.ask(*each)).status_code

    return set(await asyncio.gather(*map(one, asked)))


def require_no_stall(world: World, work: Callable[[], Awaitable[object]]) -> None:
    stalls = []
    with settled():  # as a service runs; what other tests left behind is not looked through
        for _ in range(TURNS):
            stalls.append(world.run(longest_stall_s(work())))
            if stalls[-1] < STALL_S_MAX:
                return
    pytest.fail(f"stalls of {[round(s, 3) for s in stalls]} s")


def test_the_watch_sees_a_stall(world: World) -> None:
    async def stalling() -> None:
        await asyncio.sleep(0)
        until = asyncio.get_running_loop().time() + 2 * STALL_S_MAX
        while asyncio.get_running_loop().time() < until:
            pass

    assert world.run(longest_stall_s(stalling())) > STALL_S_MAX


def test_payments_one_by_one(world: World) -> None:
    sender, receiver = world.pair(cross=True)

    async def work() -> None:
        path = f"/transfer/{sender}/{receiver}/0.01"
        assert await all_of(world, [("POST", path, sender)] * 200) == {201}

    require_no_stall(world, work)


def test_as_many_in_bulk_as_there_may_be(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    body = {"transfers": [item(sender, receiver, "0.01") for _ in range(BULK_MAX)]}

    async def work() -> None:
        answer = await world.ask("POST", "/transfers/bulk", sender, json=body)
        assert {each["status_code"] for each in answer.json()["outcomes"]} == {201}

    require_no_stall(world, work)


def test_reads_of_a_slow_shard(world: World) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.lab.transfer(sender, receiver, "1").payment

    async def work() -> None:
        asked = [
            ("GET", f"/accounts/{sender}", sender),
            ("GET", f"/accounts/{sender}/statement?limit=200", sender),
            ("GET", f"/transfers/{payment}", sender),
            ("GET", f"/transfers/{payment}/timeline", sender),
            ("GET", "/analytics", "root", ANALYTICS_READ),
            ("GET", "/reviews", "root", REVIEW),
            ("POST", f"/accounts/{receiver}/freeze", "root", ADMIN),
            ("POST", f"/accounts/{receiver}/unfreeze", "root", ADMIN),
            ("GET", "/ready"),
            ("GET", "/metrics"),
        ] * 3
        assert await all_of(world, asked) <= {200, 503}

    with world.lab.fault("shard-0", "slow"):
        require_no_stall(world, work)


def test_a_shard_that_is_down(world: World) -> None:
    sender, receiver = world.pair(cross=True)

    async def work() -> None:
        path = f"/transfer/{sender}/{receiver}/0.01"
        asked = [("POST", path, "till", TRANSFER_ANY), ("GET", f"/accounts/{sender}", sender)] * 50
        assert await all_of(world, asked) <= {200, 202, 503}

    with world.lab.fault("shard-1", "down"):
        require_no_stall(world, work)
