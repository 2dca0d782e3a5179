"""What was: totals of the consumer's rollups, read again only where they have moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from paytm_lab.analytics.rollups import Totals, add_part
from paytm_lab.analytics.seldom import Seldom
from paytm_lab.analytics.tables import ROLLUPS
from paytm_lab.core.events import Topic
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.wide_store import WideStore

SHARE = 0.05  # of the time
RECENT_S = 60.0
TOPICS = (str(Topic.PAYMENT), str(Topic.FRAUD))


class Recent(NamedTuple):
    """Completed payments of the last ``seconds`` by bin of latency."""

    seconds: float
    latency: dict[int, int]


class History:
    """``read`` from one thread at a time; raises Unavailable where the store or the log is away.
    ``read_at_us``: when the totals were last found to be up to date.
    """

    def __init__(
        self,
        wide: WideStore,
        log: EventLog,
        now_us: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        self._wide, self._log, self._now_us, self._now_s = wide, log, now_us, now_s
        self._seldom = Seldom(SHARE, now_s=now_s)
        self._offsets: dict[tuple[str, int], int] = {}
        self._places: list[tuple[str, int]] = []
        self._before: deque[tuple[float, dict[int, int]]] = deque()
        self.totals = Totals()
        self.read_at_us = 0

    def read(self) -> Totals:
        """All partitions' totals in one, as of a moment ago."""
        if not self._seldom.due():
            return self.totals
        with self._seldom.taking():
            if not self._places:
                self._places = [(t, p) for t in TOPICS for p in range(self._log.partitions(t))]
            heads = self._wide.fetch(ROLLUPS, [(*place, "") for place in self._places])
            offsets = {key[:2]: int(row["next_offset"]) for key, row in heads.items()}
            if offsets != self._offsets:
                totals = Totals()
                for place in self._places:
                    for row in self._wide.partition(ROLLUPS, place):
                        add_part(totals, row["part"], row["body"])
                self.totals, self._offsets = totals, offsets
            self.read_at_us = self._now_us()
            self._before.append((self._now_s(), dict(self.totals.latency)))
            while len(self._before) > 2 and self._before[1][0] <= self._now_s() - RECENT_S:
                self._before.popleft()
        return self.totals

    def recent(self) -> Recent:
        """What was counted within about the last minute."""
        if len(self._before) < 2:
            return Recent(0.0, {})
        (then_s, then), (now_s, now) = self._before[0], self._before[-1]
        more = {bin_: n - then.get(bin_, 0) for bin_, n in now.items() if n > then.get(bin_, 0)}
        return Recent(now_s - then_s, more)
