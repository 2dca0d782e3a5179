"""Every row of the tables that turn the Redis client's errors into the lab's."""

from __future__ import annotations

import inspect

import pytest
from redis import exceptions as redis

from paytm_lab.backends.servers.redis_errors import TABLE, WORDS, core_error, translated
from paytm_lab.core import errors

MEANINGS = {
    redis.AuthenticationError: errors.MissingPart,
    redis.AuthenticationWrongNumberOfArgsError: errors.MissingPart,
    redis.AuthorizationError: errors.MissingPart,
    redis.NoPermissionError: errors.MissingPart,
    redis.BusyLoadingError: errors.Unavailable,
    redis.MaxConnectionsError: errors.Unavailable,
    redis.ConnectionError: errors.Unavailable,
    redis.TimeoutError: errors.Unavailable,
    redis.OutOfMemoryError: errors.Unavailable,
    redis.ReadOnlyError: errors.Unavailable,
    redis.ClusterError: errors.Unavailable,
    redis.DataError: errors.BadInput,
}
# As a server says them.
SAID = {
    "NOAUTH Authentication required.": errors.MissingPart,
    "WRONGPASS invalid username-password pair or user is disabled.": errors.MissingPart,
    "WRONGTYPE Operation against a key holding the wrong kind of value script: 46": errors.BadInput,
    "BUSY Redis is busy running a script.": errors.Unavailable,
    "LOADING Redis is loading the dataset in memory": errors.Unavailable,
    "MASTERDOWN Link with MASTER is down": errors.Unavailable,
    "MISCONF Redis is configured to save RDB snapshots": errors.Unavailable,
    "NOREPLICAS Not enough good replicas to write.": errors.Unavailable,
    "OOM command not allowed when used memory > 'maxmemory'.": errors.Unavailable,
    "READONLY You can't write against a read only replica.": errors.Unavailable,
    "max number of clients reached": errors.Unavailable,
    "ERR unknown command": errors.StoreError,
    "": errors.StoreError,
}


def test_every_row_is_here() -> None:
    assert {row[0] for row in TABLE} == set(MEANINGS)
    assert {words.split()[0] for words in SAID if words and not words.startswith("ERR")} == set(
        WORDS
    )


@pytest.mark.parametrize(("raised", "meaning"), MEANINGS.items(), ids=lambda kind: kind.__name__)
def test_an_error_becomes_the_labs(
    raised: type[Exception], meaning: type[errors.PaytmLabError]
) -> None:
    with pytest.raises(errors.PaytmLabError) as caught, translated("Redis 10.0.0.1:6379"):
        raise raised("its own words")
    assert type(caught.value) is meaning
    assert caught.value.place == "Redis 10.0.0.1:6379"
    assert f"{raised.__name__}: its own words" in caught.value.message
    assert type(caught.value.__cause__) is raised


@pytest.mark.parametrize(("words", "meaning"), SAID.items())
def test_what_the_server_says_first_counts(words: str, meaning: type[errors.PaytmLabError]) -> None:
    assert type(core_error(redis.ResponseError(words), "x")) is meaning
    in_a_pipeline = redis.ResponseError(f"Command # 2 (SET k v) of pipeline caused error: {words}")
    assert type(core_error(in_a_pipeline, "x")) is meaning


def test_a_wrong_password_names_its_setting() -> None:
    for error in (redis.AuthenticationError("no"), redis.ResponseError("NOAUTH no")):
        assert "PAYTM_LAB_REDIS_PASSWORD" in core_error(error, "x").remedy


def test_no_row_hides_a_later_one() -> None:
    for i, (kind, *_) in enumerate(TABLE):
        assert not any(issubclass(later, kind) for later, *_ in TABLE[i + 1 :])


def test_every_error_of_a_lost_server_is_unavailable() -> None:
    lost = [
        kind
        for _, kind in inspect.getmembers(redis, inspect.isclass)
        if issubclass(kind, redis.ConnectionError | redis.TimeoutError)
    ]
    assert len(lost) > 5
    assert all(isinstance(core_error(kind("x"), "x"), errors.Unavailable) for kind in lost)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), translated("x"):
        raise KeyError("not the client's")
