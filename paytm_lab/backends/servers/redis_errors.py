"""What an error of the Redis client means to the lab.

Whatever the server's state forbids is Unavailable: the cache is a convenience, and its callers go
on without it. None of this is ever tried again here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

from paytm_lab.core.errors import BadInput, MissingPart, PaytmLabError, StoreError, Unavailable

_AWAY = "Start Redis, or repeat when it answers again."
_LOGIN = "Set PAYTM_LAB_REDIS_PASSWORD to the password of this Redis."
_RIGHTS = "Give the lab's Redis user the right to run this command."
_FULL = "Give Redis more memory, or set maxmemory-policy to allkeys-lru."

# The first row that fits counts: subclasses come before what they are derived from.
TABLE: tuple[tuple[type[Exception], type[PaytmLabError], str, str], ...] = (
    (redis.AuthenticationError, MissingPart, "Redis refuses the password", _LOGIN),
    (
        redis.AuthenticationWrongNumberOfArgsError,
        MissingPart,
        "Redis refuses the password",
        _LOGIN,
    ),
    (redis.AuthorizationError, MissingPart, "Redis refuses access", _RIGHTS),
    (redis.NoPermissionError, MissingPart, "Redis refuses access", _RIGHTS),
    (redis.BusyLoadingError, Unavailable, "Redis is still loading its data", _AWAY),
    (redis.MaxConnectionsError, Unavailable, "All connections to Redis are in use", ""),
    (redis.ConnectionError, Unavailable, "Redis does not answer", _AWAY),
    (redis.TimeoutError, Unavailable, "Redis does not answer in time", _AWAY),
    (redis.OutOfMemoryError, Unavailable, "Redis has no memory left", _FULL),
    (redis.ReadOnlyError, Unavailable, "This Redis is a replica and may only be read", ""),
    (redis.ClusterError, Unavailable, "The Redis cluster does not answer", _AWAY),
    (redis.DataError, BadInput, "Redis cannot store this", ""),
)

# Plain ResponseErrors differ in the first word of what the server says.
WORDS: dict[str, tuple[type[PaytmLabError], str, str]] = {
    "NOAUTH": (MissingPart, "Redis wants a password", _LOGIN),
    "WRONGPASS": (MissingPart, "Redis refuses the password", _LOGIN),
    "WRONGTYPE": (BadInput, "The key holds another kind of value", ""),
    "BUSY": (Unavailable, "Redis is busy with a script", _AWAY),
    "LOADING": (Unavailable, "Redis is still loading its data", _AWAY),
    "MASTERDOWN": (Unavailable, "This Redis has lost its master", _AWAY),
    "MISCONF": (Unavailable, "Redis cannot write to its disk and refuses writes", ""),
    "NOREPLICAS": (Unavailable, "Redis has too few replicas and refuses writes", ""),
    "OOM": (Unavailable, "Redis has no memory left", _FULL),
    "READONLY": (Unavailable, "This Redis is a replica and may only be read", ""),
    "max": (Unavailable, "Redis has as many clients as it takes", _AWAY),
}


def core_error(error: redis.RedisError, place: str) -> PaytmLabError:
    """The lab's error for one of the client's; its class and words are kept in the message."""
    words = f"{error}"
    detail = f"{type(error).__name__}: {words:.200}"
    for kind, core, message, remedy in TABLE:
        if isinstance(error, kind):
            return core(f"{message} ({detail})", place=place, remedy=remedy)
    # Of a pipeline the client says first which of its commands it was.
    for word in words.rpartition(" caused error: ")[2].split()[:1]:
        if word in WORDS:
            core, message, remedy = WORDS[word]
            return core(f"{message} ({detail})", place=place, remedy=remedy)
    return StoreError(f"Redis failed ({detail})", place=place)


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Errors of the client leave the block as errors of the lab."""
    try:
        yield
    except redis.RedisError as error:
        raise core_error(error, place) from error
