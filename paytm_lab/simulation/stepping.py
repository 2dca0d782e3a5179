"""A deterministic lab: one thread steps writers, relays and consumers in seeded order.

The same seed gives the same interleaving on a simulated clock, through the same synchronous cores
that threads loop over otherwise; another seed gives another interleaving.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from paytm_lab.core.clock import SimulatedClock
from paytm_lab.core.errors import Unavailable
from paytm_lab.ledger.shard_writer import SimulatedCrash

IDLE_STEPS_MAX = 2_000
STEP_S_MAX = 0.004


class Moved(NamedTuple):
    """What one step did: ``actor`` handled so many operations, rows or records at ``at_us``."""

    actor: str
    handled: int
    at_us: int

    def __str__(self) -> str:
        return f"{self.actor} handled {self.handled}"


class Stepper:
    """``actors``: name -> a step that returns how much it did (0: nothing waited). ``clock`` moves
    with the steps; ``history`` is every step that did something. An actor may itself wait for
    others (a consumer for the ledger's answer): then only ``inner`` actors are stepped, so that
    none is entered twice.
    """

    def __init__(
        self,
        actors: Mapping[str, Callable[[], int]],
        clock: SimulatedClock,
        rng: random.Random,
        inner: Mapping[str, Callable[[], int]] | None = None,
    ) -> None:
        self._actors = list(actors.items())
        self._inner = list((inner or {}).items())
        self._depth = 0
        self.clock = clock
        self._rng = rng
        self.history: list[Moved] = []
        self.crashed_at = ""

    def step(self) -> Moved | None:
        """Let actors try in seeded order until one did something; None when all of them are idle.

        Time moves a little with every try, and by enough for lazy work when nobody had anything.
        """
        actors = self._inner if self._depth else self._actors
        for name, action in self._rng.sample(actors, len(actors)):
            self.clock.advance(self._rng.random() * STEP_S_MAX)
            count = self._try(action)
            if count:
                moved = Moved(name, count, self.clock.now_us())
                self.history.append(moved)
                return moved
        return None

    def _try(self, action: Callable[[], int]) -> int:
        self._depth += 1
        try:
            return action()
        except (Unavailable, SimulatedCrash):
            return 0  # a part is away by a fault; others go on, and time passes
        finally:
            self._depth -= 1

    def drive(self, is_true: Callable[[], bool]) -> None:
        """Step until the condition holds; Unavailable when nothing moves any more before it does,
        or a fault ended the process (``crashed_at``).
        """
        idle = 0
        while not is_true():
            moved = self.step()
            if self.crashed_at and not is_true():
                raise Unavailable(
                    f"the process died at {self.crashed_at}", remedy="Recover the lab, then go on."
                )
            if moved is None:
                self.clock.advance(0.05)
                idle += 1
                if idle > IDLE_STEPS_MAX:
                    raise Unavailable(
                        "nothing moves any more, and what was waited for did not happen",
                        remedy="Heal the faults that are set, then step on.",
                    )
            else:
                idle = 0
