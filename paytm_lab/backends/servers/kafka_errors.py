"""What an error of the Kafka client means to the lab."""

from __future__ import annotations

from kafka import errors as kafka
from kafka.consumer.fetcher import RecordTooLargeError

from paytm_lab.backends.servers.error_table import ErrorTable, Row
from paytm_lab.core.errors import (
    BadInput,
    InvalidSetting,
    MissingPart,
    StorageCorrupt,
    StoreError,
    TransientStoreError,
    Unavailable,
)

_AWAY = "Start Kafka, or repeat when it answers again."
_AGAIN = "Repeat."
_LOST = "Read again from what the group committed."
_RIGHTS = "Give the lab a Kafka that it may use: topics, groups and their descriptions."
_VERSION = "Use Kafka 2.1 or later."
_SETTING = "Correct the lab's Kafka settings."
_SESSION = (
    "Set PAYTM_LAB_KAFKA_SESSION_S to what the brokers take: group.min.session.timeout.ms (6 s"
    " unless set) to group.max.session.timeout.ms."
)
TABLE: tuple[Row, ...] = (
    # A member of a group that is one no more, or not for the moment.
    (kafka.CommitFailedError, TransientStoreError, "The group's members have changed", _LOST),
    (kafka.RebalanceInProgressError, TransientStoreError, "The group's members change", _LOST),
    (kafka.IllegalGenerationError, TransientStoreError, "The group's members changed", _LOST),
    (kafka.UnknownMemberIdError, TransientStoreError, "The group dropped this member", _LOST),
    (kafka.MemberIdRequiredError, TransientStoreError, "The group gave a new member id", _LOST),
    (kafka.FencedInstanceIdError, TransientStoreError, "Another member took this one's id", _LOST),
    # What the caller gave.
    (kafka.MessageSizeTooLargeError, BadInput, "A message is too large for Kafka", ""),
    (kafka.RecordListTooLargeError, BadInput, "The messages are too large for Kafka", ""),
    (kafka.InvalidRecordError, BadInput, "Kafka refuses a message", ""),
    (kafka.InvalidTimestampError, BadInput, "Kafka refuses a message's time", ""),
    (kafka.InvalidTopicError, BadInput, "That is no name of a Kafka topic", ""),
    (kafka.InvalidGroupIdError, BadInput, "That is no name of a Kafka group", ""),
    (kafka.InvalidPartitionsError, BadInput, "Kafka refuses the number of partitions", ""),
    # How the lab is set.
    (kafka.InvalidReplicationFactorError, InvalidSetting, "Too few Kafka brokers", _SETTING),
    (kafka.InvalidConfigurationError, InvalidSetting, "Kafka refuses a topic's setting", _SETTING),
    (kafka.InvalidSessionTimeoutError, InvalidSetting, "Kafka refuses the session time", _SESSION),
    (kafka.PolicyViolationError, InvalidSetting, "Kafka's policy refuses a topic", _SETTING),
    (kafka.TopicDeletionDisabledError, InvalidSetting, "Kafka deletes no topics", _SETTING),
    (kafka.KafkaConfigurationError, InvalidSetting, "The Kafka client refuses a setting", _SETTING),
    (kafka.IllegalArgumentError, InvalidSetting, "The Kafka client refuses a value", _SETTING),
    (kafka.AuthorizationError, InvalidSetting, "Kafka refuses access", _RIGHTS),
    (kafka.SaslAuthenticationFailedError, InvalidSetting, "Kafka refuses the login", _RIGHTS),
    (kafka.UnsupportedSaslMechanismError, InvalidSetting, "Kafka wants another login", _RIGHTS),
    (kafka.IllegalSaslStateError, InvalidSetting, "Kafka wants another login", _RIGHTS),
    (kafka.SecurityDisabledError, InvalidSetting, "Kafka has no rights to ask for", _RIGHTS),
    (kafka.UnsupportedVersionError, InvalidSetting, "Kafka is too old", _VERSION),
    (kafka.UnrecognizedBrokerVersion, InvalidSetting, "Kafka is too old", _VERSION),
    (kafka.UnsupportedForMessageFormatError, InvalidSetting, "A topic's format is old", _VERSION),
    # The data.
    (kafka.CorruptRecordError, StorageCorrupt, "A record in Kafka cannot be read", ""),
    (kafka.LogTruncationError, StorageCorrupt, "Kafka's log lost records that were read", ""),
    (kafka.OffsetOutOfRangeError, StorageCorrupt, "Kafka has no record of that offset", ""),
    (RecordTooLargeError, StorageCorrupt, "A record in Kafka is too large to be read", ""),
    # A topic that was there is gone: somebody deleted it.
    (kafka.UnknownTopicOrPartitionError, MissingPart, "Kafka does not have the topic", ""),
    (kafka.UnknownTopicIdError, MissingPart, "Kafka does not have the topic", ""),
    (kafka.GroupMaxSizeReachedError, Unavailable, "The group has as many members as it may", ""),
    # A producer whose numbers Kafka does not go on with; the next append makes a new one.
    (kafka.OutOfOrderSequenceNumberError, Unavailable, "Kafka lost count of the producer", _AGAIN),
    (kafka.DuplicateSequenceNumberError, Unavailable, "Kafka lost count of the producer", _AGAIN),
    (kafka.UnknownProducerIdError, Unavailable, "Kafka does not know the producer", _AGAIN),
    (kafka.InvalidProducerEpochError, Unavailable, "Another producer took over", _AGAIN),
    (kafka.ProducerFencedError, Unavailable, "Another producer took over", _AGAIN),
    (kafka.TransactionAbortedError, Unavailable, "The producer was given up", _AGAIN),
    # The broker is away, or not yet ready.
    (kafka.KafkaTimeoutError, Unavailable, "Kafka does not answer in time", _AWAY),
    (kafka.KafkaConnectionError, Unavailable, "Kafka's connection was lost", _AWAY),
    (kafka.NodeNotReadyError, Unavailable, "Kafka is not ready", _AWAY),
    (kafka.UnknownBrokerIdError, Unavailable, "The Kafka broker is not known", _AWAY),
    (kafka.BrokerNotAvailableError, Unavailable, "The Kafka broker is away", _AWAY),
    (kafka.NotEnoughReplicasError, Unavailable, "Too few replicas in Kafka are up", _AWAY),
    (kafka.NotEnoughReplicasAfterAppendError, Unavailable, "Too few replicas are up", _AWAY),
    (kafka.KafkaStorageError, Unavailable, "Kafka cannot use its disk", "See Kafka's log."),
    (kafka.IllegalStateError, Unavailable, "The Kafka client is closed", ""),
    (kafka.KafkaProtocolError, Unavailable, "Kafka's answer was cut short", _AWAY),
    (kafka.RetriableError, Unavailable, "Kafka cannot do it now", _AGAIN),
    (kafka.UnknownError, StoreError, "Kafka failed", "See Kafka's log."),
    (kafka.KafkaError, StoreError, "Kafka failed", ""),
)

_errors = ErrorTable(TABLE)
core_error = _errors.core_error
translated = _errors.translated
