"""What the Kafka event log does before any broker is asked."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any

import pytest
from kafka import TopicPartition as KafkaPartition
from kafka.structs import ConsumerGroupMetadata

from paytm_lab.backends.embedded import topic_file
from paytm_lab.backends.servers.event_log import KafkaEventLog
from paytm_lab.backends.servers.kafka_clients import Names, Servers, Shared
from paytm_lab.backends.servers.kafka_positions import Positions
from paytm_lab.backends.servers.kafka_producer import (
    APPEND_S_MAX,
    RECORD_BYTES_MAX,
    Producer,
    partition_of,
)
from paytm_lab.backends.servers.kafka_reader import records_of
from paytm_lab.core.errors import BadInput, InvalidSetting, Unavailable
from paytm_lab.ports.event_log import Message, Record
from tests.ports import free_port
from tests.waiting import until

P0, P1 = KafkaPartition("t", 0), KafkaPartition("t", 1)


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    return f"127.0.0.1:{free_port()}"


def test_names_carry_the_namespace_and_lose_it_again() -> None:
    names = Names("x")
    assert names.full("payment_events") == "x.payment_events"
    assert names.plain("x.payment_events") == "payment_events"
    assert names.ours("x.fraud_events") and not names.ours("xy.fraud_events")
    assert Names("").full("payment_events") == Names("").plain("payment_events")


@pytest.mark.parametrize("prefix", ["x.y", "a b", "x" * 41, "ä"])
def test_a_namespace_that_kafka_could_not_name_is_refused(prefix: str) -> None:
    with pytest.raises(BadInput, match="namespace"):
        KafkaEventLog("127.0.0.1:9092", prefix=prefix)


@pytest.mark.parametrize("servers", ["", "host", "host:", ":9092", "host:port", "a:1,b"])
def test_servers_are_host_and_port(servers: str) -> None:
    with pytest.raises(InvalidSetting, match="not a Kafka server"):
        Servers(servers)


def test_several_servers_and_ipv6_are_understood() -> None:
    assert Servers("a:1, b:2").options["bootstrap_servers"] == ["a:1", "b:2"]
    assert Servers("[::1]:9092")._addresses == [("::1", 9092)]


def test_a_key_has_the_partition_that_it_has_in_the_embedded_log() -> None:
    for i in range(500):
        key = f"key-{i}-ä"
        assert partition_of(key.encode(), 8) == topic_file.partition_of(key, 8)


def test_nothing_is_made_and_nobody_asked_before_the_first_use(nobody: str) -> None:
    threads = threading.active_count()
    log = KafkaEventLog(nobody)
    assert threading.active_count() == threads
    log.close()
    log.close()
    for call in (
        lambda: log.end_offsets("payment_events"),
        lambda: log.consumer("g", ["payment_events"]),
    ):
        with pytest.raises(Unavailable, match="closed"):
            call()


def test_names_are_checked_before_anybody_is_asked(nobody: str) -> None:
    with closing(KafkaEventLog(nobody)) as log:
        for call in (
            lambda: log.create_topics({"../x": 1}),
            lambda: log.create_topics({"t": 0}),
            lambda: log.create_topics({"t": 257}),
            lambda: log.partitions(".t"),
            lambda: log.consumer("a/b", ["t"]),
            lambda: log.committed("", "t"),
        ):
            with pytest.raises(BadInput):
                call()


def test_a_kafka_that_is_away_is_said_at_once_and_without_noise(
    nobody: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(KafkaEventLog(nobody)) as log:
        for call in (
            lambda: log.create_topics({"t": 1}),
            lambda: log.append([Message("t", "k", b"v")]),
            lambda: log.read("t", 0, 0, 1),
            lambda: log.drop(),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="Start Kafka") as caught:
                call()
            assert caught.value.place == nobody
            assert time.monotonic() - began < 5
        log.append([])
    assert capfd.readouterr().err == ""


def test_a_message_that_is_too_large_is_refused_before_any_is_sent(nobody: str) -> None:
    producer = Producer(Servers(nobody))
    small = ("t", 1, Message("t", "k", b""))
    for message in (
        Message("t", "k", b"x" * RECORD_BYTES_MAX),
        Message("t", "ä" * (RECORD_BYTES_MAX // 2 + 1), b""),
        Message("t", "k", b"", (("h", b"x" * RECORD_BYTES_MAX),)),
    ):
        with pytest.raises(BadInput, match="too large"):
            producer.append("t", [small, ("t", 1, message)])
    with pytest.raises(Unavailable):
        producer.append("t", [("t", 1, Message("t", "k", b"x" * (RECORD_BYTES_MAX - 1)))])


def test_all_who_share_a_round_are_told_that_nobody_answers(nobody: str) -> None:
    producer = Producer(Servers(nobody))
    told: list[str] = []

    def append(number: int) -> None:
        try:
            producer.append(f"t{number}", [("t", 1, Message("t", "k", b"v"))])
        except Unavailable as error:
            told.append(error.place)

    began = time.monotonic()
    threads = [threading.Thread(target=append, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(APPEND_S_MAX)
    assert told == [nobody] * 20
    assert time.monotonic() - began < APPEND_S_MAX


class _CutOff:
    """A client whose thread is interrupted while it sends for others."""

    def send(self, *_: object) -> None:
        raise KeyboardInterrupt


def test_who_is_cut_off_in_a_round_for_others_leaves_them_no_false_answer(nobody: str) -> None:
    producer = Producer(Servers(nobody))
    producer._client = Shared(Servers(nobody), _CutOff)
    producer._client._client = _CutOff()
    told: list[type[BaseException] | None] = []

    def append() -> None:
        try:
            producer.append("t", [("t", 1, Message("t", "k", b"v"))])
            told.append(None)
        except BaseException as error:
            told.append(type(error))

    threads = [threading.Thread(target=append) for _ in range(3)]
    with producer._on_its_way:  # so that one of them sends for all
        for thread in threads:
            thread.start()
        until(lambda: len(producer._next_round) == len(threads))
    for thread in threads:
        thread.join(APPEND_S_MAX)
    assert sorted(map(str, told)) == sorted(map(str, [KeyboardInterrupt, Unavailable, Unavailable]))
    assert not producer._on_its_way.locked()


class _Found:
    def __init__(self, partition: int, offset: int, **more: Any) -> None:
        self.partition, self.offset, self.timestamp = partition, offset, 1_767_225_600_123
        self.key, self.value, self.headers = b"k", b"v", [("h", b"1")]
        self.__dict__ |= more


def test_what_other_programs_wrote_can_be_read() -> None:
    time_us = 1_767_225_600_123_000
    assert records_of("t", [_Found(1, 2)]) == [
        Record("t", 1, 2, "k", b"v", (("h", b"1"),), time_us)
    ]
    odd = _Found(0, 0, key=None, value=None, headers=[("h", None)])
    assert records_of("t", [odd]) == [Record("t", 0, 0, "", b"", (("h", b""),), time_us)]
    assert records_of("t", [_Found(0, 0, key=b"\xff", headers=[])])[0].key == "�"


class _Member:
    """A client's consumer as far as the positions ask it."""

    def __init__(self) -> None:
        self.generation, self.member, self.sought = 0, "m", dict[KafkaPartition, int]()

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("g", self.generation, self.member, None)

    def seek(self, partition: KafkaPartition, offset: int) -> None:
        self.sought[partition] = offset


@pytest.fixture
def member() -> _Member:
    return _Member()


@pytest.fixture
def positions(member: _Member) -> Positions:
    """Of a member that has read both partitions, and holds a record of the first back."""
    positions = Positions()
    positions.consumer = member
    _rebalance(positions, member, [], [P0, P1])
    positions.fetched = {
        P0: [_Found(0, offset) for offset in range(5, 9)],
        P1: [_Found(1, offset) for offset in range(3)],
    }
    assert len(_handed_out(positions, 6)) == 6
    return positions


def _handed_out(positions: Positions, records_max: int) -> list[_Found]:
    return [record for _, found in positions.hand_out(records_max) for record in found]


def _rebalance(
    positions: Positions, member: _Member, held: list[KafkaPartition], got: list[KafkaPartition]
) -> None:
    positions.on_partitions_revoked(held)
    member.generation += 1
    positions.on_partitions_assigned(got)


def test_what_is_handed_out_is_fair_and_in_order() -> None:
    positions = Positions()
    positions.fetched = {
        P0: [_Found(0, offset) for offset in range(100)],
        P1: [_Found(1, offset) for offset in range(7)],
    }
    first = _handed_out(positions, 10)
    assert [r.offset for r in first if r.partition == 1] == [0, 1, 2, 3, 4]
    both = first + _handed_out(positions, 90)
    assert len(first) == 10 and len(both) == 100
    assert [r.offset for r in both if r.partition == 0] == list(range(93))
    assert [r.offset for r in both if r.partition == 1] == list(range(7))
    assert positions.next == {P0: 93, P1: 7} and positions.read_from == {P0: 0, P1: 0}
    assert [len(_handed_out(positions, 1)) for _ in range(8)] == [1] * 7 + [0]


def test_partitions_that_were_kept_go_on_after_what_was_fetched(
    positions: Positions, member: _Member
) -> None:
    _rebalance(positions, member, [P0, P1], [P0])
    assert member.sought == {P0: 9}, "one is still to be handed out"
    assert (positions.read_from, positions.next) == ({P0: 5}, {P0: 8})
    assert [r.offset for r in _handed_out(positions, 9)] == [8]


def test_a_partition_that_was_away_in_between_begins_anew(
    positions: Positions, member: _Member
) -> None:
    _rebalance(positions, member, [P0, P1], [P0])
    _rebalance(positions, member, [P0], [P0, P1])
    assert P1 not in member.sought and P1 not in positions.next
    member.generation += 1  # one that this member has not seen
    _rebalance(positions, member, [P0, P1], [P0, P1])
    assert not positions.next and not positions.fetched


def test_who_was_dropped_by_the_group_begins_anew(positions: Positions, member: _Member) -> None:
    positions.on_partitions_lost([P0, P1])
    member.generation += 1
    positions.on_partitions_assigned([P0, P1])
    assert not member.sought and not positions.next
    _rebalance(positions, member, [P0, P1], [P0, P1])
    member.member = "another"
    positions.next[P0] = 3
    _rebalance(positions, member, [P0, P1], [P0, P1])
    assert not member.sought and not positions.next
