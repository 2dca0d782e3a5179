"""The event log on Kafka.

Topics and groups carry the namespace's prefix there ("x.payment_events"); callers see plain names.
A key's partition is the CRC-32 of its UTF-8 form modulo the partitions, as librdkafka has it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, OffsetSpec
from kafka import TopicPartition as KafkaPartition
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_clients import Admin, Names, Servers, quiet
from paytm_lab.backends.servers.kafka_consumer import SESSION_S, GroupView, KafkaLogConsumer
from paytm_lab.backends.servers.kafka_producer import Producer
from paytm_lab.backends.servers.kafka_reader import Reader, records_of
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.core.events import Topic
from paytm_lab.ports.event_log import Message, Record

PARTITIONS_MAX = 256
TOPICS_S_MAX = 20.0  # until created topics can be used, or deleted ones are gone
JOIN_ALONE_S_MAX = 10.0
JOIN_S = 0.3  # with others: they must come to a poll first
RETENTION_MS = 7 * 24 * 3600 * 1000
_LOOK_AGAIN_S = 0.05
_FOREVER_MS = -1
_DEAD_LETTER = ".dead_letter"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_PREFIX = re.compile(r"[A-Za-z0-9_]{0,40}")


class KafkaEventLog:
    """A ``ports.event_log.EventLog``. Several threads and processes may use one namespace.

    ``servers`` as in "host:port,host:port"; after ``session_s`` without a sign of life a consumer's
    partitions are given to the other members of its group. Connects when first used. While the
    brokers are away calls raise core.errors.Unavailable within about 10 s. ``Record.time_us`` is
    the broker's, in whole milliseconds.
    """

    def __init__(
        self,
        servers: str,
        *,
        prefix: str = "",
        replication: int = 1,
        session_s: float = SESSION_S,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise BadInput(
                f"{prefix!r:.80} is not a namespace",
                remedy="Use letters, digits and underscores, at most 40.",
            )
        quiet()
        self._servers = Servers(servers)
        self._names = Names(prefix)
        self._replication = replication
        self._session_s = session_s
        self._admin = Admin(self._servers)
        self._producer = Producer(self._servers)
        self._reader = Reader(self._servers)
        self._lock = threading.Lock()
        self._partitions: dict[str, int] = {}
        self._consumers: list[KafkaLogConsumer] = []
        self._closed = False

    # -- topics

    def create_topics(self, partitions: Mapping[str, int]) -> None:
        for name, count in partitions.items():
            _require_name(name, "topic")
            if not 1 <= count <= PARTITIONS_MAX:
                raise BadInput(
                    f"a topic has 1 to {PARTITIONS_MAX} partitions, not {count}", place=name
                )
        missing = [name for name in partitions if name not in self._partitions]
        if not missing:
            return
        wanted = {
            self._names.full(name): {
                "num_partitions": partitions[name],
                "replication_factor": self._replication,
                "configs": _settings(name),
            }
            for name in missing
        }

        def create(admin: KafkaAdminClient) -> bool:
            there = set(admin.list_topics())
            new = {name: wanted[name] for name in wanted if name not in there}
            made = True
            for topic in admin.create_topics(new, raise_errors=False)["topics"] if new else ():
                error = kafka.for_code(topic["error_code"])
                if error is kafka.TopicAlreadyExistsError:
                    made = False
                elif error is not kafka.NoError:
                    raise error(f"{topic['name']}: {topic.get('error_message')}")
            return made

        place = ", ".join(missing)
        give_up_at_s = time.monotonic() + TOPICS_S_MAX
        # One that exists and is not to be seen has just been made elsewhere, or is being deleted.
        while not self._admin.ask(place, create, TOPICS_S_MAX):
            if time.monotonic() > give_up_at_s:
                raise Unavailable("Kafka does not make the topics", place=place)
            time.sleep(_LOOK_AGAIN_S)
        self._admin.ask(
            place,
            lambda admin: admin.wait_for_topics(list(wanted), timeout_ms=TOPICS_S_MAX * 1000),
        )
        for name in missing:
            self.partitions(name)

    def partitions(self, topic: str) -> int:
        count = self._partitions.get(topic)
        if count is None:
            _require_name(topic, "topic")
            full = self._names.full(topic)
            found = self._admin.ask(topic, lambda admin: admin.describe_topics([full]))
            count = len(found[0]["partitions"]) if found and not found[0]["error_code"] else 0
            if not count:
                raise BadInput(f"{topic!r} is not a topic of this log", place=self._servers.text)
            self._partitions[topic] = count
        return count

    def _all(self, topic: str) -> list[KafkaPartition]:
        full = self._names.full(topic)
        return [KafkaPartition(full, p) for p in range(self.partitions(topic))]

    # -- writing

    def append(self, messages: Sequence[Message]) -> None:
        """As the port says. Raises Unavailable when not all is acknowledged within 10 s."""
        if not messages:
            return
        topics = {m.topic: (self._names.full(m.topic), self.partitions(m.topic)) for m in messages}
        self._producer.append(", ".join(topics), [(*topics[m.topic], m) for m in messages])

    # -- reading

    def consumer(
        self, group: str, topics: Sequence[str], *, patience_s: float = 0.0
    ) -> KafkaLogConsumer:
        """As the port says. Waits for the first partitions if nobody else is in the group."""
        _require_name(group, "consumer group")
        for topic in topics:
            self.partitions(topic)
        self._require_open()
        alone = not self._members(group)
        consumer = KafkaLogConsumer(
            self._servers,
            self._names,
            group,
            topics,
            lambda: self._look(group, topics),
            patience_s=patience_s,
            session_s=self._session_s,
        )
        with self._lock:
            closed = self._closed
            self._consumers = [c for c in self._consumers if not c.closed]
            self._consumers.append(consumer)
        if closed:
            consumer.close()
            self._require_open()
        consumer.join(JOIN_ALONE_S_MAX if alone else JOIN_S)
        return consumer

    def _describe(self, group: str) -> dict[str, Any]:
        full = self._names.full(group)
        found = self._admin.ask(group, lambda admin: admin.describe_groups([full]))
        return dict(found[full])

    def _members(self, group: str) -> list[Any]:
        return list(self._describe(group)["members"])

    def _look(self, group: str, topics: Sequence[str]) -> GroupView:
        described = self._describe(group)
        partitions = {p for topic in topics for p in self._all(topic)}
        owned: set[KafkaPartition] = set()
        for member in described["members"]:
            for topic in (member["member_assignment"] or {}).get("assigned_partitions", ()):
                owned |= {KafkaPartition(topic["topic"], p) for p in topic["partitions"]}
        ends = {p: end for topic in topics for p, end in self._offsets(topic, OffsetSpec.LATEST)}
        return GroupView(described["group_state"] == "Stable", partitions - owned, ends)

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        if not 0 <= partition < self.partitions(topic):
            raise BadInput(f"{topic} has no partition {partition}", place=self._servers.text)
        at = KafkaPartition(self._names.full(topic), partition)
        end = dict(self._offsets(topic, OffsetSpec.LATEST, [at]))[at]
        if records_max <= 0 or offset >= end:
            return []
        return records_of(topic, self._reader.read(at, max(0, offset), end, records_max))

    def start_offsets(self, topic: str) -> list[int]:
        return [offset for _, offset in self._offsets(topic, OffsetSpec.EARLIEST)]

    def end_offsets(self, topic: str) -> list[int]:
        return [offset for _, offset in self._offsets(topic, OffsetSpec.LATEST)]

    def _offsets(
        self, topic: str, which: OffsetSpec, partitions: Iterable[KafkaPartition] | None = None
    ) -> list[tuple[KafkaPartition, int]]:
        wanted = dict.fromkeys(partitions or self._all(topic), which)
        found = self._admin.ask(topic, lambda admin: admin.list_partition_offsets(wanted))
        return [(p, int(found[p].offset)) for p in wanted]

    def committed(self, group: str, topic: str) -> list[int | None]:
        _require_name(group, "consumer group")
        full, partitions = self._names.full(group), self._all(topic)
        found = self._admin.ask(
            group, lambda admin: admin.list_group_offsets({full: partitions})
        ).get(full, {})
        offsets = [found[p].offset if p in found else -1 for p in partitions]
        return [offset if offset >= 0 else None for offset in offsets]

    # -- the end

    def drop(self, *, wait: bool = True) -> None:
        """Delete the namespace's topics, and with them what groups committed of them. Without a
        prefix: the lab's own topics, as other namespaces lie beside them. ``wait``: until they are
        gone, so that their names are free again.
        """
        own = {t for topic in Topic for t in (str(topic), f"{topic}{_DEAD_LETTER}")}
        own |= self._partitions.keys()

        def ours(admin: KafkaAdminClient) -> list[str]:
            there = [name for name in admin.list_topics() if self._names.ours(name)]
            if not self._names.full(""):
                there = [name for name in there if name in own]
            return there

        def delete(admin: KafkaAdminClient) -> bool:
            there = ours(admin)
            if there:
                admin.delete_topics(there, timeout_ms=10_000 if wait else 1, raise_errors=False)
            return not there

        give_up_at_s = time.monotonic() + TOPICS_S_MAX
        while not self._admin.ask("drop", delete, TOPICS_S_MAX) and wait:
            if time.monotonic() > give_up_at_s:
                raise Unavailable("Kafka does not delete the topics", place=self._servers.text)
        self._partitions.clear()

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the event log is closed", place=self._servers.text)

    def close(self) -> None:
        """As the port says. While the brokers are away it may take some seconds."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.close()
        self._producer.close()
        self._reader.close()
        self._admin.close()


def _settings(topic: str) -> dict[str, str]:
    kept = topic == str(Topic.PAYMENT) or topic.endswith(_DEAD_LETTER)
    return {
        "retention.ms": str(_FOREVER_MS if kept else RETENTION_MS),
        "retention.bytes": "-1",
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
    }


def _require_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r:.80} is not the name of a {what}",
            remedy="Use 1-200 letters, digits, dots, dashes and underscores, not a dot first.",
        )
