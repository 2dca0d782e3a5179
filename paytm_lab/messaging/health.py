"""The health monitor: every part is asked now and then, and what it said goes out as an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import PaytmLabError, StoreError, Unavailable
from paytm_lab.core.events import EventType, HealthData, Topic, encode, wrap
from paytm_lab.core.ids import event_id
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.event_log import EventLog, Message

INTERVAL_S = 10.0
SOURCE = "/health"


class HealthMonitor:
    """``parts``: name -> a call that makes one round trip, or raises what is wrong. ``services``:
    names of services that may announce themselves; one that did, and is gone, is down.
    ``latest`` is the last answer by part. One thread at a time calls ``step``.
    """

    def __init__(
        self,
        parts: Mapping[str, Callable[[], object]],
        log: EventLog,
        clock: Clock,
        interval_s: float = INTERVAL_S,
        services: Sequence[str] = (),
        coordination: Coordination | None = None,
    ) -> None:
        self.latest: dict[str, HealthData] = {}
        self._parts = dict(parts)
        self._log = log
        self._clock = clock
        self._interval_s = interval_s
        self._due_s = float("-inf")
        self._services = services
        self._coordination = coordination
        self._seen: set[str] = set()

    def step(self) -> int:
        """Ask all parts once and emit a SystemHealthCheck each, if it is time; how many."""
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s:
            return 0
        self.latest = {name: self._ask(name, part) for name, part in self._parts.items()}
        self.latest |= self._announced()
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

    def _announced(self) -> dict[str, HealthData]:
        """The services that are announced, or were since this monitor began."""
        found: dict[str, HealthData] = {}
        if self._coordination is None:
            return found
        for service in self._services:
            try:
                instances = self._coordination.instances(service)
            except (Unavailable, StoreError):
                return found  # the coordination's own state says it
            if instances:
                self._seen.add(service)
                found[service] = HealthData(service, "up", 0.0)
            elif service in self._seen:
                found[service] = HealthData(service, "down", 0.0, "no instance of it is announced")
        return found


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
