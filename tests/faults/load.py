"""A steady load on an open lab, and a wait for what one expects to see under it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from paytm_lab import Lab
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.ledger.operations import Outcome, PaymentRequest

DEADLINE_S = 60.0
USERS = 60
OPENING_PAISE = 10**9
IN_FLIGHT = 32
PACE_S = 0.002


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, with a deadline."""
    give_up_at = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < give_up_at, what or "it did not happen in time"
        pause.wait(0.01)


class Heard:
    """One payment and what its caller heard: ``outcome``, ``error``, or (yet) neither."""

    def __init__(self, phase: str, key: str, shards: tuple[int, int], request: PaymentRequest):
        self.phase = phase
        self.key = key
        self.shards = shards
        self.request = request
        self.submitted_s = time.perf_counter()
        self.latency_s = 0.0
        self.outcome: Outcome | None = None
        self.error: PaytmLabError | None = None

    @property
    def status(self) -> str:
        return self.outcome.status if self.outcome is not None else ""


class Load:
    """Pays between random users until it is left, ``phase`` marks what was submitted when. ``name``
    begins the payments' keys. ``in_flight`` bounds how many wait for their answer.
    """

    def __init__(
        self,
        lab: Lab,
        seed: int = 1,
        more_receivers: Sequence[str] = (),
        *,
        name: str = "load",
        in_flight: int = IN_FLIGHT,
        pace_s: float = PACE_S,
    ) -> None:
        self._name = name
        self._pace_s = pace_s
        self.heard: list[Heard] = []
        self.phase = "before"
        self._lab = lab
        self._rng = random.Random(seed)
        self._more_receivers = more_receivers
        self._free = threading.Semaphore(in_flight)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._offer, name="load", daemon=True)
        lab.open_accounts({str(n): OPENING_PAISE for n in range(1, USERS + 1)})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def _offer(self) -> None:
        system = self._lab.system
        while not self._stop.wait(self._pace_s):
            if not self._free.acquire(timeout=0.05):
                continue
            sender, receiver = map(str, self._rng.sample(range(1, USERS + 1), 2))
            if self._more_receivers and self._rng.random() < 0.25:
                receiver = self._rng.choice(self._more_receivers)
            key = f"{self._name}-{len(self.heard)}"
            amount = self._rng.randrange(100, 100_000)
            request = PaymentRequest(sender, receiver, amount, idempotency_key=key)
            shards = (system.router.locate(sender)[1], system.router.locate(receiver)[1])
            heard = Heard(self.phase, key, shards, request)
            self.heard.append(heard)
            try:
                system.engine.submit(request, self._answer_to(heard))
            except PaytmLabError as error:
                self._answer(heard, error)

    def _answer_to(self, heard: Heard) -> Callable[[Any], None]:
        return lambda result: self._answer(heard, result)

    def _answer(self, heard: Heard, result: Outcome | PaytmLabError) -> None:
        heard.latency_s = time.perf_counter() - heard.submitted_s
        if isinstance(result, Outcome):
            heard.outcome = result
        else:
            heard.error = result
        self._free.release()

    def of(self, phase: str, touching: int | None = None, other: bool = False) -> list[Heard]:
        """What was submitted in a phase: all, those touching a shard, or those that do not."""
        found = [heard for heard in tuple(self.heard) if heard.phase == phase]
        if touching is None:
            return found
        return [heard for heard in found if (touching in heard.shards) != other]

    def completed(
        self, phase: str, touching: int | None = None, other: bool = False
    ) -> list[Heard]:
        return [h for h in self.of(phase, touching, other) if h.status == "COMPLETED"]

    def errors(self, phase: str, kind: type[PaytmLabError]) -> list[Heard]:
        return [h for h in self.of(phase) if isinstance(h.error, kind)]

    def wait_for(self, phase: str, count: int) -> None:
        """Until so many payments that were submitted in this phase are completed."""
        self.phase = phase
        until(lambda: len(self.completed(phase)) >= count, f"{count} payments {phase}")
