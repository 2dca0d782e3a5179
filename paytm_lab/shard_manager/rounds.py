"""Single payments before a gate: those that find its lanes busy go together when one is free.

    a lane is free ------> asked about at once
    none is -------------> waits, and goes with all others that wait, in one question

Nothing waits for company. Two questions that are asked at once each take twice as long in one
process, while one question about two payments does not: so the fewer lanes, the less a payment
waits. There are two, as a question may stand still while the cache answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from paytm_lab.core.errors import Overloaded
from paytm_lab.ledger.gate_round import ROUND_MAX
from paytm_lab.ledger.operations import Done, PaymentRequest
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.web.pool import BoundedPool

LANES = 2
WAITING_MAX = 2_048


class _Waiting(NamedTuple):
    request: PaymentRequest
    done: Done
    begun: asyncio.Future[bytes]


class Rounds:
    """Of one source shard, so that one that does not answer (a look for an idempotency key) keeps
    no other's payments. To be used in one event loop.
    """

    def __init__(self, shard: int, engine: TransferEngine) -> None:
        self._place = f"fraud gate, shard-{shard}"
        self._engine = engine
        self._pool = BoundedPool(f"gate-{shard}", LANES, 0)
        self._waiting: deque[_Waiting] = deque()
        self._lanes = 0
        self._tasks: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected

    async def submit(self, request: PaymentRequest, done: Done) -> bytes:
        """``engine.submit``; Overloaded where too many wait already."""
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(
                f"{WAITING_MAX} payments wait", place=self._place, remedy="Repeat it in a moment."
            )
        begun: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, done, begun))
        if self._lanes < LANES:
            self._lanes += 1
            task = asyncio.create_task(self._lane())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await begun

    def close(self) -> None:
        self._pool.close()

    async def _lane(self) -> None:
        try:
            while self._waiting:
                most = min(len(self._waiting), ROUND_MAX)
                together = [self._waiting.popleft() for _ in range(most)]
                # Whoever has gone away since then pays nothing.
                await self._ask([each for each in together if not each.begun.done()])
        finally:
            # In the same breath as the look at who waits: who comes next must find a free lane.
            self._lanes -= 1

    async def _ask(self, together: list[_Waiting]) -> None:
        """Until each was begun or refused; one without room keeps none that come after it."""
        while together:
            requests = [each.request for each in together]
            answers = [each.done for each in together]
            said: list[bytes | BaseException]
            try:
                said = [*await self._pool.run(self._engine.submit_many, requests, answers)]
            except Overloaded as error:
                said = [error]
            except Exception as error:
                said = [error] * len(together)
            for each, one in zip(together, said, strict=False):
                _tell(each.begun, one)
            together = together[len(said) :]


def _tell(begun: asyncio.Future[bytes], said: bytes | BaseException) -> None:
    if begun.done():
        return
    if isinstance(said, BaseException):
        begun.set_exception(said)
    else:
        begun.set_result(said)
