"""What a running ledger does by itself now and then: recovery of old PENDING payments, and the
sweep that ends holds past their time. One process at a time does it for a shard.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.ledger.holds import Holds
from paytm_lab.ledger.recovery import Recovery
from paytm_lab.ledger.reviews import Reviews
from paytm_lab.messaging.worker import Trouble
from paytm_lab.ports.coordination import Coordination, Leadership

INTERVAL_S = 1.0


class Housekeeping:
    """``interval_s``: how often it looks. Its lock per shard (``recovery-shard-N``) only spares
    work: two that do the same at once do no harm. One thread at a time calls ``step``.
    """

    def __init__(
        self,
        recovery: Recovery,
        holds: Holds,
        reviews: Reviews,
        shards: Iterable[int],
        coordination: Coordination,
        clock: Clock,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.paused = False
        self._recovery = recovery
        self._holds = holds
        self._reviews = reviews
        self._shards = {shard: Trouble(f"housekeeping of shard {shard}") for shard in shards}
        self._coordination = coordination
        self._clock = clock
        self._interval_s = interval_s
        self._due_s = clock.monotonic_s() + interval_s
        self._leaderships: dict[int, Leadership] = {}
        self._stepping = threading.Lock()
        self._closed = False

    def step(self) -> int:
        """One look at every shard that it leads, if the interval is over; how many payments and
        rejections it finished and holds it ended. What goes wrong on one shard is said once and
        keeps the others from nothing.
        """
        with self._stepping:
            now_s = self._clock.monotonic_s()
            if self._rests() or now_s < self._due_s:
                return 0
            self._due_s = now_s + self._interval_s
            done = 0
            for shard, trouble in self._shards.items():
                if self._rests():  # since this step began
                    break
                try:
                    done += self._look_at(shard) if self._leads(shard) else 0
                except PaytmLabError as error:
                    trouble.failed(error)
                else:
                    trouble.well()
            return done

    def _rests(self) -> bool:
        return self._closed or self.paused

    def _look_at(self, shard: int) -> int:
        report = self._recovery.run(shard=shard)
        done = report.completed + report.failed + self._reviews.resume_rejections(shard)
        return done + self._holds.expire(shard=shard)  # the last: it raises what one hold meets

    def _leads(self, shard: int) -> bool:
        leadership = self._leaderships.get(shard)
        if leadership is not None and not leadership.held():
            leadership.release()
            del self._leaderships[shard]
            leadership = None
        if leadership is None:
            leadership = self._coordination.try_lead(f"recovery-shard-{shard}")
            if leadership is None:
                return False
            self._leaderships[shard] = leadership
        return True

    def close(self) -> None:
        """Give up its locks, after a step that is under way. Harmless when called twice."""
        with self._stepping:
            self._closed = True
            for leadership in self._leaderships.values():
                leadership.release()
            self._leaderships.clear()
