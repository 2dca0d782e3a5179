"""A member of a Kafka consumer group."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from kafka import KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as KafkaPartition
from kafka import errors as kafka
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from paytm_lab.backends.servers.kafka_clients import REQUEST_S_MAX, Names, Servers
from paytm_lab.backends.servers.kafka_errors import translated
from paytm_lab.backends.servers.kafka_group_client import GroupConsumer
from paytm_lab.backends.servers.kafka_positions import Positions
from paytm_lab.backends.servers.kafka_reader import records_of
from paytm_lab.core.errors import TransientStoreError, Unavailable
from paytm_lab.ports.event_log import Record, TopicPartition

SESSION_S = 6.0  # unless told otherwise: the least that a broker takes that nobody has set up
HEARTBEATS = 6  # so many signs of life, at least, in the time after which a member is dropped
HEARTBEAT_S_MAX = 1.0  # the answer tells a member that the group changes: it hears so soon
LEASE_S = 30.0  # a member that does not poll for so long loses its partitions to the others
CLOSE_S_MAX = 2.0
WATCH_S = 10.0  # after so long without a record a member asks whether that is right
REBUILDS_MAX = 3  # then poll says so
_SLICE_S = 0.5  # how long a waiting poll does not see that it was closed
_JOIN_SLICE_S = 0.05
_FETCH_FIRST_S = 0.05
_PUMP_S = 0.1  # while records are at hand the group is asked so often
_PUMP_RECORDS_MAX = 4_000
_FETCH_BYTES = 256 << 10  # of one partition at a time
_FETCH_WAIT_MS = 200  # a partition that comes anew waits so long for the request under way


class GroupView(NamedTuple):
    """What the brokers say. ``unowned``: partitions of the group's topics that no member has."""

    stable: bool
    unowned: set[KafkaPartition]
    ends: dict[KafkaPartition, int]


class KafkaLogConsumer:
    """A ``ports.event_log.LogConsumer``. ``look`` asks the brokers about the group; after
    ``session_s`` without a sign of life they give its partitions to the other members.
    """

    def __init__(
        self,
        servers: Servers,
        names: Names,
        group: str,
        topics: Iterable[str],
        look: Callable[[], GroupView],
        *,
        patience_s: float = 0.0,
        session_s: float = SESSION_S,
    ) -> None:
        self._servers = servers
        self._names = names
        self._group = group
        self._topics = tuple(topics)
        self._look = look
        self._patience_ms = round(patience_s * 1000)
        self._session_ms = round(session_s * 1000)
        self._lock = threading.RLock()
        self._closed = False
        self._pumped_at_s = 0.0
        self._quiet_since_s = time.monotonic()
        self._rebuilds = 0
        self._positions = Positions()
        self._consumer = self._build()

    def _build(self) -> KafkaConsumer:
        self._positions = Positions()
        with translated(self._group):
            consumer = self._servers.new_consumer(
                GroupConsumer,
                group_id=self._names.full(self._group),
                partition_assignment_strategy=(RoundRobinPartitionAssignor,),
                session_timeout_ms=self._session_ms,
                heartbeat_interval_ms=min(
                    self._session_ms // HEARTBEATS, round(HEARTBEAT_S_MAX * 1000)
                ),
                max_poll_interval_ms=round(LEASE_S * 1000),
                max_poll_records=_PUMP_RECORDS_MAX,
                fetch_max_wait_ms=self._patience_ms or _FETCH_WAIT_MS,
                fetch_min_bytes=_FETCH_BYTES if self._patience_ms else 1,
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            self._positions.consumer = consumer
            consumer.subscribe(
                [self._names.full(t) for t in self._topics], listener=self._positions
            )
        return consumer

    @property
    def closed(self) -> bool:
        return self._closed

    def join(self, wait_s: float) -> None:
        """Poll until there are partitions, or so long; then fetch what they have now."""
        give_up_at_s = time.monotonic() + wait_s
        while not self.assignment():
            left_s = give_up_at_s - time.monotonic()
            if left_s <= 0:
                return
            with self._lock:
                self._pump(min(left_s, _JOIN_SLICE_S), take=False)
        with self._lock:
            self._pump(_FETCH_FIRST_S, take=True)

    def poll(self, records_max: int, timeout_s: float) -> list[Record]:
        deadline_s = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline_s - time.monotonic())
            with self._lock:
                if self._closed:
                    return []
                if records_max <= 0:
                    self._pump(0.0, take=False)
                    return []
                at_hand = sum(map(len, self._positions.fetched.values()))
                if at_hand < records_max:
                    self._pump(0.0 if at_hand else min(left_s, _SLICE_S), take=True)
                elif time.monotonic() - self._pumped_at_s > _PUMP_S:
                    self._pump(0.0, take=False)
                records = [
                    record
                    for partition, found in self._positions.hand_out(records_max)
                    for record in records_of(self._names.plain(partition.topic), found)
                ]
                if records:
                    self._quiet_since_s = time.monotonic()
                    self._rebuilds = 0
                    return records
                self._watch()
            if left_s <= 0:
                return []

    def _pump(self, timeout_s: float, *, take: bool) -> None:
        """Let the client do its work for the group, and ``take`` what it has fetched."""
        consumer = self._consumer
        with translated(self._group):
            paused = [] if take else consumer.assignment()
            consumer.pause(*paused)
            try:
                found = consumer.poll(
                    round(timeout_s * 1000), max_records=_PUMP_RECORDS_MAX if take else 1
                )
            finally:
                consumer.resume(*(p for p in paused if p in consumer.assignment()))
        fetched = self._positions.fetched
        for partition, records in found.items():
            if partition in fetched:
                fetched[partition] += records
            else:
                fetched[partition] = records
        self._pumped_at_s = time.monotonic()

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """As the port says. What was polled before a partition was lost does not count after it
        came back: its offset is none of those that were read since, and is refused too.
        """
        with self._lock:
            mine = set() if self._closed else self._consumer.assignment()
            known = self._positions
            for plain, offset in offsets.items():
                partition = self._full(plain)
                if partition not in mine:
                    raise TransientStoreError(f"{plain} belongs to another member now")
                first = known.read_from.get(partition)
                if first is None or not first <= offset <= known.next[partition]:
                    raise TransientStoreError(f"{plain} was lost since offset {offset} was read")
            if not offsets:
                return
            wanted = {self._full(p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
            with translated(self._group):
                self._consumer.commit(wanted, timeout_ms=round(REQUEST_S_MAX * 1000))

    def _full(self, partition: TopicPartition) -> KafkaPartition:
        return KafkaPartition(self._names.full(partition.topic), partition.partition)

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        with self._lock:
            mine = set() if self._closed else self._consumer.assignment()
            known = self._positions
            for plain, offset in offsets.items():
                partition = self._full(plain)
                if partition not in mine:
                    continue
                self._consumer.seek(partition, offset)
                known.fetched.pop(partition, None)
                known.next[partition] = offset
                known.read_from[partition] = min(offset, known.read_from.get(partition, offset))

    def assignment(self) -> set[TopicPartition]:
        if self._closed:
            return set()
        return {
            TopicPartition(self._names.plain(p.topic), p.partition)
            for p in self._consumer.assignment()
        }

    def _watch(self) -> None:
        """A member that gets nothing though there is something: begin anew, and in the end say so.
        A client that joins while its topics are being made has been seen to stay without any.
        """
        if time.monotonic() - self._quiet_since_s < WATCH_S:
            return
        view = self._look()  # it raises where Kafka is away; then the next poll asks again
        self._quiet_since_s = time.monotonic()
        if not view.stable:
            return
        mine = self._consumer.assignment()
        if mine:
            with translated(self._group):
                at = {p: self._consumer.position(p, timeout_ms=1_000) for p in mine}
            stuck = any((at[p] or 0) < view.ends.get(p, 0) for p in mine)
        else:
            stuck = bool(view.unowned)
        if not stuck:
            self._rebuilds = 0
            return
        if self._rebuilds >= REBUILDS_MAX:
            raise Unavailable(
                f"the group {self._group} gets no records though there are some",
                place=self._servers.text,
            )
        self._rebuilds += 1
        self._end(self._consumer)
        self._consumer = self._build()

    def close(self) -> None:
        """As the port says; a poll of another thread is waited for, but not long."""
        if self._closed:
            return
        self._closed = True
        if self._lock.acquire(timeout=CLOSE_S_MAX):
            try:
                self._end(self._consumer)
            finally:
                self._lock.release()

    def _end(self, consumer: KafkaConsumer) -> None:
        with suppress(kafka.KafkaError, OSError):
            consumer.close(autocommit=False, timeout_ms=round(CLOSE_S_MAX * 1000))
