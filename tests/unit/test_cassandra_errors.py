"""Every row of the table that turns the Cassandra driver's errors into the lab's."""

from __future__ import annotations

import inspect

import cassandra as driver
import pytest
from cassandra import cluster, connection, pool, protocol

from paytm_lab.backends.servers.cassandra_errors import TABLE, core_error, translated
from paytm_lab.core import errors

# Each as the driver makes it.
MEANINGS: list[tuple[Exception, type[errors.PaytmLabError]]] = [
    (driver.AuthenticationFailed("words"), errors.MissingPart),
    (driver.Unauthorized("words"), errors.MissingPart),
    (driver.UnresolvableContactPoints("words"), errors.MissingPart),
    (driver.Unavailable("words", 6, 2, 1), errors.Unavailable),
    (driver.ReadTimeout("words"), errors.Unavailable),
    (driver.WriteTimeout("words", write_type=0), errors.Unavailable),
    (driver.OperationTimedOut("words"), errors.Unavailable),
    (driver.CDCWriteFailure("words"), errors.StorageFull),
    (driver.CoordinationFailure("words"), errors.Unavailable),
    (driver.AlreadyExists("words", "table"), errors.Conflict),
    (driver.InvalidRequest("words"), errors.BadInput),
    (cluster.NoHostAvailable("words", {}), errors.Unavailable),
    (connection.ConnectionException("words"), errors.Unavailable),
    (connection.ConnectionBusy("words"), errors.Unavailable),
    (pool.NoConnectionsAvailable("words"), errors.Unavailable),
    (protocol.OverloadedErrorMessage(0x1001, "words", {}), errors.Unavailable),
    (protocol.IsBootstrappingErrorMessage(0x1002, "words", {}), errors.Unavailable),
    (protocol.TruncateError(0x1003, "words", {}), errors.Unavailable),
    (protocol.ServerError(0, "words", {}), errors.Unavailable),
    (protocol.SyntaxException(0x2000, "words", {}), errors.StoreError),
    (protocol.ConfigurationException(0x2300, "words", {}), errors.BadInput),
    (protocol.ErrorMessage(0x9999, "words", {}), errors.StoreError),
    (driver.UnsupportedOperation("words"), errors.StoreError),
    (connection.ProtocolError("words"), errors.StorageCorrupt),
    (driver.DriverException("words"), errors.StoreError),
]


def test_every_row_is_here() -> None:
    assert [row[0] for row in TABLE] == [type(error) for error, _ in MEANINGS]


@pytest.mark.parametrize(("error", "meaning"), MEANINGS, ids=lambda value: type(value).__name__)
def test_an_error_becomes_the_labs(error: Exception, meaning: type[errors.PaytmLabError]) -> None:
    with pytest.raises(errors.PaytmLabError) as caught, translated("Cassandra 10.0.0.1:9042"):
        raise error
    assert type(caught.value) is meaning
    assert caught.value.place == "Cassandra 10.0.0.1:9042"
    assert type(error).__name__ in caught.value.message
    assert "words" in caught.value.message
    assert caught.value.__cause__ is error


def test_a_refused_login_is_told_from_a_server_that_is_away() -> None:
    refused = cluster.NoHostAvailable("", {"host": driver.AuthenticationFailed("bad password")})
    login = core_error(refused, "x")
    assert type(login) is errors.MissingPart
    assert "PAYTM_LAB_CASSANDRA_PASSWORD" in login.remedy
    away = core_error(cluster.NoHostAvailable("", {"host": ConnectionRefusedError(111)}), "x")
    assert type(away) is errors.Unavailable


def test_no_row_hides_a_later_one() -> None:
    for i, (kind, *_) in enumerate(TABLE):
        assert not any(issubclass(later, kind) for later, *_ in TABLE[i + 1 :])


def test_every_error_of_the_protocol_has_a_meaning() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(protocol, inspect.isclass)
        if issubclass(kind, protocol.ErrorMessage)
    ]
    assert len(kinds) > 15
    assert all(
        isinstance(core_error(kind(0, "words", {}), "x"), errors.PaytmLabError) for kind in kinds
    )


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), translated("x"):
        raise KeyError("not the driver's")
