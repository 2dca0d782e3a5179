"""The cache on Redis. Time to live is the server's; a window's time comes with its hits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha1
from itertools import islice
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from paytm_lab.backends.servers.redis_errors import translated
from paytm_lab.backends.servers.redis_scripts import COUNT_WINDOW, RESERVE, SET_MANY
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.ports.cache import Hit

TIMEOUT_S = 1.0
CONNECTIONS_MAX = 32
# Redis does one thing at a time: other clients wait for so many hits at most, one or two
# milliseconds.
_SCRIPT_ITEMS_MAX = 100
# A window outlives its last touch by two windows, for hits that come late, and by this, for a
# reader that works off a backlog more slowly than it arose.
_WINDOW_SLACK_MS = 600_000
_DELETE_MAX = 1_000
AT_US_MAX = 2**53


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


_COUNT_WINDOW = _Script(COUNT_WINDOW)
_RESERVE = _Script(RESERVE)
_SET_MANY = _Script(SET_MANY)


class RedisCache:
    """A ``ports.cache.Cache``. Any number of threads and processes may use one server; ``prefix``
    keeps several labs on it apart. It connects on first use.

    No call is ever repeated: with one that timed out nobody knows whether it was carried out.
    ``available = False`` makes every call raise Unavailable, as a server that is gone does.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str = "",
        *,
        prefix: str = "",
        timeout_s: float = TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self.available = True
        self._prefix = prefix
        self._place = f"Redis {host}:{port}"
        self._closed = False
        pool: Any = BlockingConnectionPool  # its signature has no types
        self._pool = pool(
            max_connections=connections_max,
            timeout=timeout_s,
            host=host,
            port=port,
            password=password or None,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
        )
        self._redis: Any = Redis(connection_pool=self._pool)

    def _require_available(self) -> None:
        if self._closed:
            raise Unavailable("the cache is closed", place=self._place)
        if not self.available:
            raise Unavailable("the cache does not answer", place=self._place)

    def get(self, key: str) -> bytes | None:
        self._require_available()
        with translated(self._place):
            value: bytes | None = self._redis.get(self._prefix + key)
        return value

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._require_available()
        if not keys:
            return []
        with translated(self._place):
            values: list[bytes | None] = self._redis.mget([self._prefix + key for key in keys])
        return values

    def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> None:
        self._require_available()
        if not ttl_s > 0:
            raise BadInput(f"a time to live of {ttl_s} s is not above 0", place="cache")
        ttl_ms = max(1, round(ttl_s * 1000))
        items = list(values.items())
        self._run(
            _SET_MANY,
            [
                ([self._prefix + key for key, _ in part], [ttl_ms, *(value for _, value in part)])
                for part in _parts(items, _SCRIPT_ITEMS_MAX)
            ],
        )

    def delete(self, keys: Sequence[str]) -> None:
        self._require_available()
        with translated(self._place):
            for part in _parts(keys, _DELETE_MAX):
                self._redis.unlink(*[self._prefix + key for key in part])

    def count_window(self, hits: Sequence[Hit], window_s: float) -> list[int]:
        self._require_available()
        window_us = round(window_s * 1e6)
        calls: list[tuple[list[str], list[Any]]] = []
        for part in _parts(hits, _SCRIPT_ITEMS_MAX):
            arguments: list[Any] = [window_us, _window_ttl_ms(window_us)]
            for hit in part:
                arguments += (hit.member, _at_us(hit))
            calls.append(([self._prefix + hit.key for hit in part], arguments))
        return [int(count) for counts in self._run(_COUNT_WINDOW, calls) for count in counts]

    def arrivals(self, key: str, after_us: int) -> list[Hit]:
        self._require_available()
        with translated(self._place):
            found = self._redis.zrange(
                self._prefix + key, f"({max(-1, after_us)}", "+inf", byscore=True, withscores=True
            )
        return [
            Hit(key, member[1:].decode(), int(at)) for member, at in found if member[:1] == b"@"
        ]

    def reserve(self, hit: Hit, window_s: float, count_max: int) -> tuple[bool, int]:
        """As the port says; members up to one window later count too. Parallel callers draw their
        times before they get here, in any order, and still only ``count_max`` of them pass.
        """
        return self.reserve_many([hit], window_s, count_max)[0]

    def reserve_many(
        self, hits: Sequence[Hit], window_s: float, count_max: int
    ) -> list[tuple[bool, int]]:
        self._require_available()
        window_us = round(window_s * 1e6)
        calls: list[tuple[list[str], list[Any]]] = []
        for part in _parts(hits, _SCRIPT_ITEMS_MAX):
            arguments: list[Any] = [window_us, _window_ttl_ms(window_us), count_max]
            for hit in part:
                arguments += (hit.member, _at_us(hit))
            calls.append(([self._prefix + hit.key for hit in part], arguments))
        # A reply is flat: admitted, count, admitted, count ...
        flat = [int(number) for reply in self._run(_RESERVE, calls) for number in reply]
        return [
            (bool(admitted), count) for admitted, count in zip(flat[::2], flat[1::2], strict=True)
        ]

    def release(self, key: str, member: str) -> None:
        self._require_available()
        with translated(self._place):
            self._redis.zrem(self._prefix + key, f"@{member}", f"#{member}")

    def _run(self, script: _Script, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """One answer per call (keys, arguments), all in one round trip."""
        if not calls:
            return []
        with translated(self._place):
            answers = self._send(script, calls)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                # The server was restarted. Whatever ran all the same changes nothing by running
                # again: members are counted once, values are set to the same.
                self._redis.script_load(script.text)
                answers = self._send(script, calls)
            for answer in answers:
                if isinstance(answer, RedisError):
                    raise answer
        return answers

    def _send(self, script: _Script, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                pipeline.evalsha(script.digest, len(keys), *keys, *arguments)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    def clear(self) -> None:
        """Forget everything under the prefix, as a cache that was restarted."""
        self.drop()

    def drop(self, key_starts: Sequence[str] = ("",)) -> None:
        """Remove this lab's keys from the server: those that begin with the prefix and one of
        ``key_starts``. A lab without a prefix that shares its server with others names them all.
        """
        self._require_available()
        with translated(self._place):
            for start in key_starts:
                pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", self._prefix + start) + "*"
                found = self._redis.scan_iter(match=pattern, count=_DELETE_MAX)
                while part := list(islice(found, _DELETE_MAX)):
                    self._redis.unlink(*part)

    def close(self) -> None:
        self._closed = True
        self._pool.disconnect()


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _window_ttl_ms(window_us: int) -> int:
    return 2 * window_us // 1000 + _WINDOW_SLACK_MS


def _at_us(hit: Hit) -> int:
    if not 0 <= hit.at_us <= AT_US_MAX:
        raise BadInput(f"{hit.at_us} is not a time in microseconds since 1970", place="cache")
    return hit.at_us
