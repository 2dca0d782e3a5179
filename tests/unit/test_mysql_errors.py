"""Every row of the table that turns MySQL's errors into the lab's."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from pymysql import err
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from paytm_lab.backends.servers import mysql_errors
from paytm_lab.backends.servers.mysql_errors import code_of, is_lost, translate, translate_commit
from paytm_lab.core import errors

PLACE = "shard-2 (127.0.0.1:3308/paytm_lab)"
# What was seen when it was done to a real server, and what callers have to make of it.
SEEN: list[tuple[err.Error, type[errors.PaytmLabError]]] = [
    (err.OperationalError(1213, "Deadlock found"), errors.Deadlock),
    (err.OperationalError(1205, "Lock wait timeout exceeded"), errors.LockTimeout),
    (err.OperationalError(3572, "NOWAIT is set"), errors.LockTimeout),
    (err.IntegrityError(1062, "Duplicate entry"), errors.DuplicateKey),
    (err.OperationalError(2013, "Lost connection to MySQL server"), errors.ConnectionLost),
    (err.OperationalError(2006, "MySQL server has gone away"), errors.ConnectionLost),
    (err.OperationalError(1053, "Server shutdown in progress"), errors.ConnectionLost),
    (err.OperationalError(4031, "The client was disconnected"), errors.ConnectionLost),
    (err.OperationalError(1317, "Query execution was interrupted"), errors.ConnectionLost),
    (err.InterfaceError(0, ""), errors.ConnectionLost),
    (err.Error("Already closed"), errors.ConnectionLost),
    (err.InternalError("Packet sequence number wrong - got 1"), errors.ConnectionLost),
    (err.OperationalError(2003, "Can't connect to MySQL server"), errors.ShardUnavailable),
    (err.OperationalError(1040, "Too many connections"), errors.ShardUnavailable),
    (err.OperationalError(1290, "--super-read-only"), errors.ShardUnavailable),
    (err.OperationalError(2026, "SSL is required"), errors.ShardUnavailable),
    (err.OperationalError(1045, "Access denied"), errors.ShardUnavailable),
    (err.OperationalError(1044, "Access denied for database"), errors.ShardUnavailable),
    (err.OperationalError(1049, "Unknown database"), errors.ShardUnavailable),
    (err.OperationalError(1114, "The table is full"), errors.StorageFull),
    (err.OperationalError(1021, "Disk full"), errors.StorageFull),
    (err.InternalError(3, "Error writing file (errno: 28 - No space left)"), errors.StorageFull),
    (err.InternalError(1030, "Got error 28 from storage engine"), errors.StorageFull),
    (err.InternalError(1030, "Got error 122 from storage engine"), errors.StorageCorrupt),
    (err.ProgrammingError(1146, "Table doesn't exist"), errors.StorageCorrupt),
    (err.OperationalError(1712, "Index is corrupted"), errors.StorageCorrupt),
    (err.OperationalError(3819, "Check constraint is violated"), errors.StoreError),
    (err.OperationalError(3024, "maximum statement execution time"), errors.StoreError),
    (err.ProgrammingError(1064, "You have an error in your SQL syntax"), errors.StoreError),
    (err.OperationalError(1792, "in a READ ONLY transaction"), errors.StoreError),
    (err.DataError(1366, "Incorrect string value"), errors.StoreError),
    (err.Error(), errors.StoreError),
]
TABLE: dict[type[errors.PaytmLabError], Iterable[int]] = {
    errors.Deadlock: mysql_errors.DEADLOCK,
    errors.LockTimeout: mysql_errors.LOCK_TIMEOUT,
    errors.DuplicateKey: mysql_errors.DUPLICATE_KEY,
    errors.ConnectionLost: mysql_errors.CONNECTION_LOST,
    errors.ShardUnavailable: mysql_errors.UNAVAILABLE | mysql_errors.NOT_ALLOWED,
    errors.StorageFull: mysql_errors.STORAGE_FULL,
    errors.StorageCorrupt: mysql_errors.STORAGE_CORRUPT | mysql_errors.FILE_ERRORS,
}


def name(value: object) -> str:
    return str(value.args) if isinstance(value, Exception) else value.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize(("raised", "meaning"), SEEN, ids=name)
def test_an_error_that_was_seen_becomes_the_labs(
    raised: err.Error, meaning: type[errors.PaytmLabError]
) -> None:
    for shown in (raised, OperationalError("SELECT 1", None, raised)):
        found = translate(shown, PLACE)
        assert type(found) is meaning
        assert found.place == PLACE
        assert str(code_of(raised)) in found.message


@pytest.mark.parametrize(
    ("code", "meaning"), [(code, kind) for kind, codes in TABLE.items() for code in sorted(codes)]
)
def test_every_number_has_its_meaning(code: int, meaning: type[errors.PaytmLabError]) -> None:
    assert type(translate(err.OperationalError(code, "words"), PLACE)) is meaning


def test_no_number_has_two_meanings() -> None:
    every = [code for codes in TABLE.values() for code in codes]
    assert len(every) == len(set(every))


def test_a_pool_without_a_free_connection_is_unavailable() -> None:
    assert type(translate(PoolTimeout("limit of size 4"), PLACE)) is errors.ShardUnavailable


def test_who_may_not_in_is_told_what_to_check() -> None:
    assert "PAYTM_LAB_MYSQL_USER" in translate(err.OperationalError(1045, "no"), PLACE).remedy


def test_storage_errors_say_what_to_do() -> None:
    for code in (1114, 1146):
        assert translate(err.OperationalError(code, "no"), PLACE).remedy


@pytest.mark.parametrize("code", [2013, 2006, 1053, 1180, 1105, 4031, 1317, 9999])
def test_an_error_of_a_commit_leaves_its_outcome_open(code: int) -> None:
    found = translate_commit(err.OperationalError(code, "in COMMIT"), PLACE)
    assert type(found) is errors.CommitOutcomeLost


def test_a_commit_whose_answer_is_garbled_leaves_its_outcome_open() -> None:
    found = translate_commit(err.InternalError("Packet sequence number wrong - got 1"), PLACE)
    assert type(found) is errors.CommitOutcomeLost


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (0, errors.ConnectionLost),  # it was closed before, so nothing was sent
        (1213, errors.Deadlock),
        (1205, errors.LockTimeout),
        (1290, errors.ShardUnavailable),
        (1836, errors.ShardUnavailable),
        (3101, errors.Deadlock),
    ],
)
def test_a_commit_that_was_refused_did_not_happen(
    code: int, meaning: type[errors.PaytmLabError]
) -> None:
    assert type(translate_commit(err.OperationalError(code, "no"), PLACE)) is meaning


def test_only_a_lost_connection_is_thrown_away() -> None:
    for code in mysql_errors.CONNECTION_LOST - {1317}:
        assert is_lost(err.OperationalError(code, "gone"))
    for code in (1062, 1205, 1213, 1317, 1114, 1290, 3819):
        assert not is_lost(err.OperationalError(code, "still there"))
