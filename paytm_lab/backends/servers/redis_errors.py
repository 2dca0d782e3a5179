"""What an error of the Redis client means to the lab.

Whatever the server's state forbids is Unavailable: the cache is a convenience, and its callers go
on without it. None of this is ever tried again here.
"""

from __future__ import annotations

from redis import exceptions as redis

from paytm_lab.backends.servers.error_table import ErrorTable, Meaning, Row
from paytm_lab.core.errors import BadInput, MissingPart, StoreError, Unavailable

_AWAY = "Start Redis, or repeat when it answers again."
_LOGIN = "Set PAYTM_LAB_REDIS_PASSWORD to the password of this Redis."
_RIGHTS = "Give the lab's Redis user the right to run this command."
_FULL = "Give Redis more memory, or set maxmemory-policy to allkeys-lru."

TABLE: tuple[Row, ...] = (
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
WORDS: dict[str, Meaning] = {
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
_OTHER: Row = (redis.RedisError, StoreError, "Redis failed", "")


class _Errors(ErrorTable):
    def meaning(self, error: Exception) -> Meaning | None:
        found = super().meaning(error)
        if found != _OTHER[1:]:
            return found
        # Of a pipeline the client says first which of its commands it was.
        words = str(error).rpartition(" caused error: ")[2].split(maxsplit=1)
        return WORDS.get(words[0], found) if words else found


_errors = _Errors((*TABLE, _OTHER))
core_error = _errors.core_error
translated = _errors.translated
