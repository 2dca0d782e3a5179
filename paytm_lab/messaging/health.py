"""The health monitor: every part is asked now and then, and what it said goes out as an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.core.events import EventType, HealthData, Topic, encode, wrap
from paytm_lab.core.ids import event_id
from paytm_lab.ports.event_log import EventLog, Message

INTERVAL_S = 10.0
SOURCE = "/health"


class HealthMonitor:
    """``parts``: name -> a call that makes one round trip, or raises what is wrong. ``latest`` is
    the last answer by part. One thread at a time calls ``step``.
    """

    def __init__(
        self,
        parts: Mapping[str, Callable[[], object]],
        log: EventLog,
        clock: Clock,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.latest: dict[str, HealthData] = {}
        self._parts = dict(parts)
        self._log = log
        self._clock = clock
        self._interval_s = interval_s
        self._due_s = float("-inf")

    def step(self) -> int:
        """Ask all parts once and emit a SystemHealthCheck each, if it is time; how many."""
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s:
            return 0
        self.latest = {name: self._ask(name, part) for name, part in self._parts.items()}
        now_us = self._clock.now_us()
        self._log.append([_message(data, now_us) for data in self.latest.values()])
        self._due_s = now_s + self._interval_s  # what could not be told is due at once
        return len(self.latest)

    def _ask(self, name: str, part: Callable[[], object]) -> HealthData:
        started_s = self._clock.monotonic_s()
        try:
            part()
        except PaytmLabError as error:
            return HealthData(name, "down", 0.0, str(error))
        return HealthData(name, "up", round((self._clock.monotonic_s() - started_s) * 1e3, 3))


def _message(data: HealthData, now_us: int) -> Message:
    kind = str(EventType.SYSTEM_HEALTH_CHECK)
    body = wrap(
        event_id=event_id(data.part, kind, str(now_us)),
        event_type=kind,
        subject=data.part,
        source=SOURCE,
        time_us=now_us,
        data=encode(data),
    )
    return Message(str(Topic.ANALYTICS), data.part, body)
