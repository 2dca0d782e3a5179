"""What users of the event log see when Kafka is killed or frozen, and what belongs to a namespace:
on a Kafka of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from paytm_lab.backends.servers import kafka_consumer
from paytm_lab.backends.servers.event_log import KafkaEventLog
from paytm_lab.core.clock import SystemClock
from paytm_lab.core.errors import BadInput, InvalidSetting, StoreError, Unavailable
from paytm_lab.messaging.consumer import ConsumerRunner
from paytm_lab.ports.event_log import Message, Record, TopicPartition
from paytm_lab.stack.control import Stack
from tests.contract.event_log_process import SESSION, open_event_log
from tests.contract.event_log_world import Process, drain
from tests.stack.part import part_of_a_stack
from tests.waiting import answers, until

PORT_OFFSET = 21_500  # below the ports that the system hands out
DEADLINE_S = 60.0
TOPIC = "payment_events"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of which only ZooKeeper and Kafka run."""
    with part_of_a_stack(
        tmp_path_factory.mktemp("stack"), PORT_OFFSET, "kafka", "zookeeper"
    ) as stack:
        for name in ("zookeeper", "kafka"):
            stack.start(name)
            stack.wait_ready(name)
        yield stack


@pytest.fixture
def place(stack: Stack) -> Iterator[str]:
    stack.start("kafka")
    stack.wait_ready("kafka")
    yield f"127.0.0.1:{stack.server('kafka').port}"
    if stack.pid("kafka") is not None:
        stack.thaw("kafka")


@contextmanager
def made(place: str, prefix: str) -> Iterator[KafkaEventLog]:
    """A log with its topic."""
    with closing(KafkaEventLog(place, prefix=prefix)) as log:
        log.create_topics({TOPIC: 8})
        yield log


class Reading:
    """The lab's consumer runner in a thread of its own, until the block ends or it is stopped."""

    def __init__(self, log: KafkaEventLog) -> None:
        self.values: set[bytes] = set()
        self.runner = ConsumerRunner(log, "readers", [TOPIC], self, SystemClock())
        self._stopped = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def handle(self, records: Sequence[Record]) -> None:
        self.values |= {r.value for r in records}

    def _run(self) -> None:
        while not self._stopped:
            with suppress(StoreError, Unavailable):
                self.runner.step(0.2)
        self.runner.close()

    def stop(self) -> None:
        self._stopped = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True


class Writing:
    """Appends from a thread of its own until the first error."""

    def __init__(self, log: KafkaEventLog, name: str) -> None:
        self.acknowledged: list[bytes] = []
        self.error: Exception | None = None
        self.took_s = 0.0
        self._log = log
        self._name = name
        self.thread = threading.Thread(target=self._write)
        self.thread.start()

    def _write(self) -> None:
        for i in range(1_000_000):
            values = [f"{self._name}-{i}-{j}".encode() for j in range(20)]
            began = time.monotonic()
            try:
                self._log.append([Message(TOPIC, f"{self._name}{v[-1]}", v) for v in values])
            except Unavailable as error:
                self.error = error
                self.took_s = time.monotonic() - began
                return
            self.acknowledged += values


def test_kafka_killed_loses_nothing_acknowledged_and_the_same_clients_go_on(
    stack: Stack, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with made(place, "kill") as log, Reading(log) as reading:
        writers = [Writing(log, name) for name in "abc"]
        until(lambda: min(len(w.acknowledged) for w in writers) > 400, "some are appended")
        stack.kill("kafka")
        for writer in writers:
            writer.thread.join(20)
            assert not writer.thread.is_alive(), "who appended while it died is told so"
            assert writer.error is not None and writer.took_s < 15
        for call in (
            lambda: log.append([Message(TOPIC, "a", b"")]),
            lambda: log.end_offsets(TOPIC),
            lambda: log.read(TOPIC, 0, 0, 1),
            lambda: log.committed("readers", TOPIC),
            lambda: log.consumer("others", [TOPIC]),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="Start Kafka"):
                call()
            assert time.monotonic() - began < 8
        stack.start("kafka")
        stack.wait_ready("kafka")
        last = Message(TOPIC, "last", b"last")
        back_s = until(lambda: answers(lambda: log.append([last])), "it appends again", 15)
        acknowledged = {v for w in writers for v in w.acknowledged} | {b"last"}
        read_s = until(lambda: acknowledged <= reading.values, "the same consumer reads on", 30)
        print(f"appends {back_s:.1f} s after it was ready, all read {read_s:.1f} s later")
        stored = [r.value for p in range(8) for r in log.read(TOPIC, p, 0, 1_000_000)]
        assert acknowledged <= set(stored)
        for writer in writers:
            own = [int(v.split(b"-")[1]) for v in stored if v.startswith(writer._name.encode())]
            assert len(own) <= len(writer.acknowledged) + 20, "at most what was under way is more"
        until(lambda: reading.runner.lag() == 0, "all is committed", 30)
        reading.stop()
        log.drop()
    assert capfd.readouterr().err == ""


def test_kafka_frozen_costs_an_append_its_time_and_is_back_when_thawed(
    stack: Stack, place: str
) -> None:
    with made(place, "freeze") as log, Reading(log) as reading:
        log.append([Message(TOPIC, "a", b"before")])
        until(lambda: b"before" in reading.values, "the first is read")
        stack.freeze("kafka")
        for call, within_s in (
            (lambda: log.append([Message(TOPIC, "a", b"frozen")]), 13),
            (lambda: log.end_offsets(TOPIC), 13),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable) as raised:
                call()
            took_s = time.monotonic() - began
            assert took_s < within_s, raised.value
            print(f"answered after {took_s:.1f} s: {raised.value}")
        stack.thaw("kafka")
        until(lambda: answers(lambda: log.append([Message(TOPIC, "a", b"thawed")])), "appends", 30)
        until(lambda: b"thawed" in reading.values, "reads on", 30)
        reading.stop()
        log.drop()


def test_closing_waits_for_nobody_long(
    stack: Stack, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = KafkaEventLog(place, prefix="close")
    log.create_topics({TOPIC: 8})
    consumer = log.consumer("g", [TOPIC])
    log.append([Message(TOPIC, "a", b"x")])
    assert len(consumer.poll(10, DEADLINE_S)) == 1
    stack.kill("kafka")
    stuck = threading.Thread(
        target=lambda: answers(lambda: log.append([Message(TOPIC, "a", b"y")]))
    )
    stuck.start()
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 10
    stuck.join(DEADLINE_S)
    assert not stuck.is_alive()
    assert consumer.poll(10, 1.0) == [] and consumer.assignment() == set()
    assert capfd.readouterr().err == ""


def test_a_killed_members_partitions_go_to_the_others_after_the_session_time(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SESSION, "1.5")
    with closing(open_event_log("servers", f"{place}/session")) as log:
        log.create_topics({TOPIC: 4})
        log.append([Message(TOPIC, str(i), b"x") for i in range(100)])
        victim = Process("servers", f"{place}/session", "consume", "g", TOPIC, "hang")
        try:
            while (line := victim.says()) != "handled":
                assert line, "it died by itself"
            other = log.consumer("g", [TOPIC])
        finally:
            victim.kill()
        killed_at_s = time.monotonic()
        assert len(drain(other, 100)) == 100
        # By default it had taken all of its time but a heartbeat's.
        by_default_s = kafka_consumer.SESSION_S - kafka_consumer.HEARTBEAT_S_MAX
        assert time.monotonic() - killed_at_s < by_default_s - 0.5


def test_a_session_time_that_the_broker_does_not_take_is_named(place: str) -> None:
    with closing(KafkaEventLog(place, prefix="short", session_s=0.5)) as log:
        log.create_topics({TOPIC: 1})
        with pytest.raises(InvalidSetting, match="PAYTM_LAB_KAFKA_SESSION_S"):
            log.consumer("g", [TOPIC]).poll(1, DEADLINE_S)


def test_a_member_that_gets_nothing_begins_anew(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "WATCH_S", 0.3)
    with closing(KafkaEventLog(place, prefix="watch")) as log:
        log.create_topics({TOPIC: 4})
        consumer = log.consumer("g", [TOPIC])
        stuck = consumer._consumer
        stuck.pause(*stuck.assignment())
        log.append([Message(TOPIC, "a", b"x")])
        assert [r.value for r in consumer.poll(10, DEADLINE_S)] == [b"x"]
        assert consumer._consumer is not stuck
        full = [p for p, end in enumerate(log.end_offsets(TOPIC)) if end]
        consumer.commit({TopicPartition(TOPIC, p): 1 for p in full})
        # One that has all there is, or has to leave all to others, stays.
        now = consumer._consumer
        others = [log.consumer("g", [TOPIC]) for _ in range(4)]
        members = [consumer, *others]
        until(
            lambda: (
                [m.poll(0, 0.0) for m in members]
                and sorted(len(m.assignment()) for m in members) == [0, 1, 1, 1, 1]
            ),
            "four have one each, one has none",
        )
        for member in members:
            assert member.poll(10, 1.0) == []
        assert consumer._consumer is now
        log.drop()


def test_a_dropped_namespace_is_gone_with_its_groups_and_nothing_else(place: str) -> None:
    with (
        closing(KafkaEventLog(place)) as plain,
        closing(KafkaEventLog(place, prefix="x")) as x,
        closing(KafkaEventLog(place, prefix="xy")) as xy,
    ):
        logs = (plain, x, xy)
        for log in logs:
            log.create_topics({TOPIC: 2, "fraud_events": 1, f"{TOPIC}.dead_letter": 1})
            log.append([Message(TOPIC, "a", b"v")])
            consumer = log.consumer("g", [TOPIC])
            (record,) = consumer.poll(10, DEADLINE_S)
            consumer.commit({TopicPartition(TOPIC, record.partition): 1})
            consumer.close()
        for dropped, others in ((x, (plain, xy)), (plain, (xy,))):
            dropped.drop()
            with pytest.raises(BadInput, match=TOPIC):
                dropped.end_offsets(TOPIC)
            for log in others:
                assert sum(log.end_offsets(TOPIC)) == 1
                assert sum(done or 0 for done in log.committed("g", TOPIC)) == 1
            dropped.create_topics({TOPIC: 3})
            assert dropped.end_offsets(TOPIC) == [0] * 3
            assert dropped.committed("g", TOPIC) == [None] * 3
        for log in logs:
            log.drop()


def test_payments_and_dead_letters_never_expire(place: str) -> None:
    with closing(KafkaEventLog(place, prefix="kept")) as log:
        log.create_topics({TOPIC: 1, "fraud_events": 1, "fraud_events.dead_letter": 1})
        kept = {}
        with closing(KafkaAdminClient(bootstrap_servers=place)) as admin:
            for name in (TOPIC, "fraud_events", "fraud_events.dead_letter"):
                found = admin.describe_configs([ConfigResource("topic", f"kept.{name}")])
                kept[name] = found["topic"][f"kept.{name}"]["retention.ms"]["value"]
        assert kept == {
            TOPIC: "-1",
            "fraud_events": str(7 * 24 * 3600 * 1000),
            "fraud_events.dead_letter": "-1",
        }
        log.drop()
