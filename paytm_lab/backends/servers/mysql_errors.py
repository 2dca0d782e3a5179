"""What the errors of MySQL and of its driver mean to the core: one table, by number.

Numbers from 2000 to 2999 are the client's own, all others come from the server.
"""

from __future__ import annotations

from pymysql import err
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from paytm_lab.core import errors

DEADLOCK = frozenset({1213, 3101})
# 1206: the lock table is full, which ends when others commit. 3572: NOWAIT.
LOCK_TIMEOUT = frozenset({1205, 1206, 3572})
DUPLICATE_KEY = frozenset({1022, 1062, 1586})
# The server was there and is gone (2006, 2013, 2055), stops (1053), cut the connection or the
# statement (1317, 1927, 3169, 4031), or the wire failed (1152-1161, 1184, 2014, 2027).
CONNECTION_LOST = frozenset(
    {0, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 2006, 2013, 2014, 2027, 2055}
    | {3169, 4031}
)
# Nobody there (2002-2005), no room for one more connection (1040, 1129, 1203, 1226), set to read
# only (1290, 1836, 3100), offline (3032), TLS refused (2026, 3159), the shard's database is gone.
UNAVAILABLE = frozenset({2002, 2003, 2005, 1040, 1129, 1203, 1226, 1290, 1836, 3100, 3032, 2026})
UNAVAILABLE |= {3159, 1049}
# Not a state that passes by itself, but one that only its operator can change.
NOT_ALLOWED = frozenset({1044, 1045, 1130, 1142, 1143, 1227, 1251, 1698, 2054, 2059, 2061, 3118})
STORAGE_FULL = frozenset({20, 1021, 1114})
FILE_ERRORS = frozenset({3, 1026, 1030})  # the system's own number stands in the words
STORAGE_CORRUPT = frozenset({126, 127, 144, 145, 1033, 1034, 1035, 1146, 1194, 1195, 1712, 1812})
STORAGE_CORRUPT |= {1877, 1932}
# Refused before anything was made durable; any other error of a COMMIT leaves its outcome open.
COMMIT_REFUSED = DEADLOCK | LOCK_TIMEOUT | {1290, 1836, 3100}

DISK_FULL_ERRNO = 28


def code_of(error: BaseException) -> int:
    """The number of a driver error, -1 where it has none. 0 is a connection that is closed."""
    number = error.args[0] if error.args else -1
    if isinstance(number, int):
        return number
    # Two of the driver's own errors carry only words.
    words = str(number)
    if "sequence number" in words:
        return 2027  # an answer that does not belong to the question
    return 0 if "closed" in words else -1


def is_lost(error: BaseException) -> bool:
    """Whether the connection that raised this is beyond use."""
    return code_of(error) in CONNECTION_LOST - {1317}


def translate(error: Exception, place: str) -> errors.PaytmLabError:
    """A driver error -> the core error that says what it means for the caller."""
    if isinstance(error, PoolTimeout):
        return errors.ShardUnavailable("all connections of this process are in use", place=place)
    driver = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(driver, err.Error):
        return errors.StoreError(f"{type(error).__name__}: {error}", place=place)
    code = code_of(driver)
    words = f"MySQL error {code}: {driver.args[-1] if driver.args else driver}"
    for codes, kind in (
        (DEADLOCK, errors.Deadlock),
        (LOCK_TIMEOUT, errors.LockTimeout),
        (DUPLICATE_KEY, errors.DuplicateKey),
        (CONNECTION_LOST, errors.ConnectionLost),
        (UNAVAILABLE, errors.ShardUnavailable),
    ):
        if code in codes:
            return kind(words, place=place)
    if code in NOT_ALLOWED:
        return errors.ShardUnavailable(
            words, place=place, remedy="Check PAYTM_LAB_MYSQL_USER, its password and its rights."
        )
    if code in STORAGE_FULL or (code in FILE_ERRORS and _disk_is_full(words)):
        return errors.StorageFull(words, place=place, remedy="Free disk space, then repeat.")
    if code in STORAGE_CORRUPT or code in FILE_ERRORS:
        return errors.StorageCorrupt(
            words, place=place, remedy="Restore this shard from a copy, or replay the event log."
        )
    return errors.StoreError(words, place=place)


def translate_commit(error: Exception, place: str) -> errors.PaytmLabError:
    """The same for an error raised while a COMMIT was on its way."""
    if isinstance(error, err.Error):
        code = code_of(error)
        # A connection that is known to be closed has not carried the COMMIT.
        if code == 0 or code in COMMIT_REFUSED:
            return translate(error, place)
    return errors.CommitOutcomeLost(str(error), place=place)


def _disk_is_full(words: str) -> bool:
    return f"errno: {DISK_FULL_ERRNO}" in words or f"error {DISK_FULL_ERRNO}" in words
