"""Everything around the shards: services, stores, consumers, and what the health monitor said."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from paytm_lab.analytics.parts import Parts, Place
from paytm_lab.core.errors import PaytmLabError
from paytm_lab.core.events import EventType, HealthData, Topic, unwrap
from paytm_lab.messaging.topics import consumer_lag
from paytm_lab.ports.event_log import EventLog

ANSWER_S_MAX = 1.0
BODY_BYTES_MAX = 65_536
RECORDS_MAX = 1_000  # of a partition, at a time
_HEALTH = str(EventType.SYSTEM_HEALTH_CHECK)
_MARK = f'"type":"{_HEALTH}"'.encode()
_TOPIC = str(Topic.ANALYTICS)
_decode = msgspec.json.Decoder(HealthData).decode


class Answer(NamedTuple):
    """``state``: up, down, or not_served where nobody announced it and nobody answers."""

    state: str
    latency_ms: float | None
    detail: str = ""


class Lag(NamedTuple):
    """``events``: how many the group has not handled yet; None where that cannot be told."""

    group: str
    topics: tuple[str, ...]
    events: int | None
    detail: str = ""


class Said(NamedTuple):
    """The last SystemHealthCheck about a part."""

    at_us: int
    data: HealthData


def ask_part(parts: Parts, name: str) -> Answer:
    """One round trip."""
    began_s = time.perf_counter()
    try:
        parts.checks[name]()
    except PaytmLabError as error:
        return Answer("down", None, str(error))
    return Answer("up", _ms_since(began_s))


def ask_service(place: Place) -> Answer:
    """Its /ready, over HTTP; what it says of its own parts is its business."""
    host, _, port = place.address.rpartition(":")
    began_s = time.perf_counter()
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S_MAX)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        body = answer.read(BODY_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        if not place.registered:
            return Answer("not_served", None, "nobody has announced it, and nobody answers there")
        return Answer("down", None, f"does not answer: {type(error).__name__}")
    finally:
        connection.close()
    if answer.status == 200:
        return Answer("up", _ms_since(began_s))
    return Answer("not_ready", _ms_since(began_s), _parts_down(body) or f"HTTP {answer.status}")


def _parts_down(body: bytes) -> str:
    try:
        said: Any = json.loads(body)
        down = [name for name, part in said["parts"].items() if part["state"] == "down"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f"without {', '.join(sorted(map(str, down)))}"


def _ms_since(began_s: float) -> float:
    return round((time.perf_counter() - began_s) * 1e3, 3)


def lags(log: EventLog, groups: Mapping[str, tuple[str, ...]]) -> list[Lag]:
    found = []
    for group, topics in sorted(groups.items()):
        try:
            found.append(Lag(group, topics, consumer_lag(log, group, topics)))
        except PaytmLabError as error:
            found.append(Lag(group, topics, None, str(error)))
    return found


class HealthFollower:
    """Reads SystemHealthCheck events as they come, past everything else in their topic; where too
    much has come since, from near its end.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._next: list[int] = []
        self.latest: dict[str, Said] = {}

    def read(self) -> Mapping[str, Said]:
        """The last one of each part; raises Unavailable where the log is away."""
        ends = self._log.end_offsets(_TOPIC)
        if len(self._next) != len(ends):
            self._next = [0] * len(ends)
        for partition, end in enumerate(ends):
            offset = max(self._next[partition], end - RECORDS_MAX)
            while offset < end:
                records = self._log.read(_TOPIC, partition, offset, RECORDS_MAX)
                if not records:
                    break
                for record in records:
                    if _MARK in record.value:
                        self._take(record.value, record.time_us)
                offset = records[-1].offset + 1
            self._next[partition] = max(offset, end)
        return self.latest

    def _take(self, value: bytes, at_us: int) -> None:
        try:
            data = _decode(unwrap(value).data)
        except msgspec.DecodeError:
            return  # what is no event counts for nothing here
        known = self.latest.get(data.part)
        if known is None or known.at_us <= at_us:
            self.latest[data.part] = Said(at_us, data)
