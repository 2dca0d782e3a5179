"""Each row of the Kafka client's error table, and that no row hides another."""

from __future__ import annotations

import inspect

import pytest
from kafka import errors as kafka

from paytm_lab.backends.servers.kafka_errors import TABLE, core_error, translated
from paytm_lab.core.errors import (
    BadInput,
    InvalidSetting,
    MissingPart,
    PaytmLabError,
    StorageCorrupt,
    StoreError,
    TransientStoreError,
    Unavailable,
)

# What happened -> what the lab says.
MEANT: list[tuple[Exception, type[PaytmLabError]]] = [
    (kafka.KafkaTimeoutError("Unable to bootstrap"), Unavailable),
    (kafka.KafkaConnectionError("socket disconnected"), Unavailable),
    (kafka.NodeNotReadyError("coordinator"), Unavailable),
    (kafka.RequestTimedOutError(), Unavailable),
    (kafka.CoordinatorNotAvailableError(), Unavailable),
    (kafka.CoordinatorLoadInProgressError(), Unavailable),
    (kafka.NotLeaderForPartitionError(), Unavailable),
    (kafka.NotEnoughReplicasError(), Unavailable),
    (kafka.OutOfOrderSequenceNumberError(), Unavailable),
    (kafka.CommitFailedError(), TransientStoreError),
    (kafka.RebalanceInProgressError(), TransientStoreError),
    (kafka.UnknownMemberIdError(), TransientStoreError),
    (kafka.IllegalGenerationError(), TransientStoreError),
    (kafka.MessageSizeTooLargeError(), BadInput),
    (kafka.InvalidTopicError(), BadInput),
    (kafka.UnknownTopicOrPartitionError(), MissingPart),
    (kafka.TopicAuthorizationFailedError(), InvalidSetting),
    (kafka.GroupAuthorizationFailedError(), InvalidSetting),
    (kafka.InvalidReplicationFactorError(), InvalidSetting),
    (kafka.IncompatibleBrokerVersion(), InvalidSetting),
    (kafka.CorruptRecordError(), StorageCorrupt),
    (kafka.KafkaError("anything"), StoreError),
]


@pytest.mark.parametrize(("error", "meant"), MEANT, ids=lambda x: getattr(x, "__name__", ""))
def test_what_happened_is_said_in_the_labs_words(
    error: Exception, meant: type[PaytmLabError]
) -> None:
    with pytest.raises(PaytmLabError) as caught, translated("the place"):
        raise error
    assert type(caught.value) is meant
    assert caught.value.place == "the place"
    assert type(error).__name__ in caught.value.message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].__name__)
def test_each_row_is_reached(row: tuple[type[Exception], type[PaytmLabError], str, str]) -> None:
    kind, core, message, remedy = row
    try:
        error = kind()
    except TypeError:
        error = kind({}, {})
    meant = core_error(error, "p")
    assert type(meant) is core
    assert meant.message.startswith(message) and meant.remedy == remedy


def test_each_error_of_the_client_means_something() -> None:
    for _, kind in inspect.getmembers(kafka, inspect.isclass):
        if issubclass(kind, kafka.BrokerResponseError) and kind.retriable:
            assert isinstance(core_error(kind(), "p"), Unavailable | TransientStoreError)


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), translated("p"):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        core_error(ZeroDivisionError(), "p")


def test_a_long_answer_is_cut() -> None:
    assert len(core_error(kafka.KafkaError("x" * 100_000), "p").message) < 1_000
