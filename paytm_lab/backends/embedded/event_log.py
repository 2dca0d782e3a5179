"""The event log on SQLite, under one folder.

{topic}.sqlite            the topic's records (topic_file.py); a file each, so that producers of
                          different topics never wait for each other
groups/{group}.sqlite     members, owners and committed offsets (consumer_group.py)
instances/{id}.lock       locked while an open log has consumers
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from paytm_lab.backends.embedded.consumer_group import GroupFile, Instance
from paytm_lab.backends.embedded.log_consumer import Arrivals, EmbeddedConsumer
from paytm_lab.backends.embedded.sqlite_files import make_directory
from paytm_lab.backends.embedded.topic_file import TopicFile
from paytm_lab.core.clock import Clock, SystemClock
from paytm_lab.core.errors import BadInput, StoreError, Unavailable
from paytm_lab.ports.event_log import Message, Record

PARTITIONS_MAX = 256
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class EmbeddedEventLog:
    """A ``ports.event_log.EventLog``. Several threads and processes may use one folder.

    ``clock`` stamps records and decides about leases: a consumer that neither polls nor commits for
    ``lease_s`` loses its partitions to the others; one whose process is gone loses them at once.
    """

    def __init__(self, directory: Path, clock: Clock | None = None, lease_s: float = 30.0) -> None:
        self._directory = directory
        self._clock = clock if clock is not None else SystemClock()
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._arrivals = Arrivals()
        self._topics: dict[str, TopicFile] = {}
        self._groups: dict[str, GroupFile] = {}
        self._consumers: list[EmbeddedConsumer] = []
        self._instance: Instance | None = None
        self._closed = False
        make_directory(directory)

    def create_topics(self, partitions: Mapping[str, int]) -> None:
        for name, count in partitions.items():
            if not 1 <= count <= PARTITIONS_MAX:
                raise BadInput(
                    f"a topic has 1 to {PARTITIONS_MAX} partitions, not {count}", place=name
                )
            _require_name(name, "topic")
            with self._lock:
                self._require_open()
                if name not in self._topics:
                    self._topics[name] = TopicFile(self._path(name), name, self._clock, count)

    def _path(self, topic: str) -> Path:
        return self._directory / f"{topic}.sqlite"

    def topic(self, name: str) -> TopicFile:
        """The open file of a topic; BadInput for an unknown one."""
        topic = self._topics.get(name)
        if topic is not None:
            return topic
        _require_name(name, "topic")
        with self._lock:
            self._require_open()
            topic = self._topics.get(name)
            if topic is None:
                if not self._path(name).exists():
                    raise BadInput(
                        f"{name!r} is not a topic of this log", place=str(self._directory)
                    )
                topic = self._topics[name] = TopicFile(self._path(name), name, self._clock)
        return topic

    def partitions(self, topic: str) -> int:
        return len(self.topic(topic).ends)

    def append(self, messages: Sequence[Message]) -> None:
        shares: dict[str, list[Message]] = {}
        for message in messages:
            share = shares.get(message[0])
            if share is None:
                shares[message[0]] = [message]
            else:
                share.append(message)
        for topic in [self.topic(name) for name in shares]:
            topic.append(shares[topic.topic])
        self._arrivals.announce()

    def consumer(
        self, group: str, topics: Sequence[str], *, patience_s: float = 0.0
    ) -> EmbeddedConsumer:
        files = {name: self.topic(name) for name in topics}
        with self._lock:
            self._require_open()
            if self._instance is None:
                self._instance = Instance(self._directory / "instances")
            consumer = EmbeddedConsumer(
                self._group(group),
                self._instance,
                files,
                self._arrivals,
                self._clock,
                self._lease_s,
            )
            self._consumers.append(consumer)
        return consumer

    def _group_path(self, group: str) -> Path:
        _require_name(group, "consumer group")
        return self._directory / "groups" / f"{group}.sqlite"

    def _group(self, group: str) -> GroupFile:
        if group not in self._groups:
            self._groups[group] = GroupFile(self._group_path(group))
        return self._groups[group]

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        file = self.topic(topic)
        if not 0 <= partition < len(file.ends):
            raise BadInput(f"{topic} has no partition {partition}", place=str(self._directory))
        records: list[Record] = []
        while len(records) < records_max:
            more = file.read(partition, offset, records_max - len(records))
            if not more:
                break
            records += more
            offset = more[-1].offset + 1
        return records[:records_max]

    def start_offsets(self, topic: str) -> list[int]:
        file = self.topic(topic)
        file.refresh()
        return list(file.starts)

    def end_offsets(self, topic: str) -> list[int]:
        file = self.topic(topic)
        file.refresh()
        return list(file.ends)

    def committed(self, group: str, topic: str) -> list[int | None]:
        offsets: list[int | None] = [None] * self.partitions(topic)
        if self._group_path(group).exists():
            with self._lock:
                self._require_open()
                file = self._group(group)
            for partition, offset in file.committed(topic):
                offsets[partition] = offset
        return offsets

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Forget the records before an offset, for good: an administrator's act, not the lab's."""
        self.topic(topic).delete_records(partition, before_offset)

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the event log is closed", place=str(self._directory))

    def close(self) -> None:
        if self._closed:
            return
        for consumer in self._consumers:
            with suppress(StoreError):  # the instance's lock goes below, which tells the others
                consumer.close()
        with self._lock:
            self._closed = True
            for topic in self._topics.values():
                topic.close()
            for group in self._groups.values():
                group.close()
            self._topics.clear()
            self._groups.clear()
            if self._instance is not None:
                self._instance.close()
        self._arrivals.announce()


def _require_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r:.80} is not the name of a {what}",
            remedy="Use 1-200 letters, digits, dots, dashes and underscores, not a dot first.",
        )
