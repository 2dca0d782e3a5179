"""From the writers' threads back to the event loop: one wake-up for all that arrive together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from paytm_lab.core.errors import OutcomeUnknown, PaytmLabError
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import Done, Outcome, Result

Answer = asyncio.Future[Result]


class Answers:
    """``deadline_s``: how long a caller waits. To be made and used in one event loop; ``done`` of
    what ``expected`` gives may be called from any thread.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[tuple[Answer, Result]] = deque()
        self._awake = False

    def expected(self) -> tuple[Answer, Done]:
        """A future, and what sets it."""
        answer: Answer = self._loop.create_future()

        def done(result: Result) -> None:
            self._arrived.append((answer, result))
            # Cleared before the queue is emptied: what is added after that wakes the loop again.
            if not self._awake:
                self._awake = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    self._arrived.clear()

        return answer, done

    def _deliver(self) -> None:
        self._awake = False
        while self._arrived:
            answer, result = self._arrived.popleft()
            if not answer.done():
                answer.set_result(result)

    async def of(self, start: Callable[[Done], object]) -> Outcome:
        """Run ``start(done)``, which does not block, and wait for the outcome, or raise the error
        that came back. OutcomeUnknown past the deadline.
        """
        answer, done = self.expected()
        started = start(done)
        return await self.wait(answer, started)

    async def wait(self, answer: Answer, started: object) -> Outcome:
        """``started``: what the start returned, the payment's id if it is one."""
        try:
            async with asyncio.timeout(self._deadline_s):
                result = await answer
        except TimeoutError:
            payment = payment_id_text(started) if isinstance(started, bytes) else ""
            raise OutcomeUnknown(
                f"no answer within {self._deadline_s:g} s", payment_id=payment
            ) from None
        if isinstance(result, PaytmLabError):
            raise result
        return result

    async def settled(self, *answers: Answer) -> None:
        """Until all came, whatever they are, or the deadline has passed."""
        if answers:
            await asyncio.wait(answers, timeout=self._deadline_s)
