"""A store with a switch in front of it: what an embedded lab has where a server can be killed.

The files are always there; while the switch is off every call answers as a driver does whose server
is gone. ``Faulty...`` (faulty.py) does it for a shard, ``EmbeddedCache.available`` for the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from paytm_lab.core.errors import Unavailable

Store = TypeVar("Store")
# What a driver does without its server: it only releases or remembers.
_ALONE = {"close", "release", "seek", "assignment"}


class Switch:
    """``available`` False: the store is gone. ``times_gone``: how often it went."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.times_gone = 0
        self._available = True

    @property
    def available(self) -> bool:
        return self._available

    @available.setter
    def available(self, available: bool) -> None:
        self.times_gone += self._available and not available
        self._available = available

    def require(self) -> None:
        if not self._available:
            raise Unavailable(f"{self.place} does not answer", place=self.place)


def switched(store: Store, switch: Switch) -> Store:
    """The store behind the switch; so are the consumers and leaderships that it gives."""
    return cast(Store, _Switched(store, switch))


class _Switched:
    def __init__(self, inner: Any, switch: Switch) -> None:
        self._inner = inner
        self._switch = switch
        self._gone_before = switch.times_gone

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("_") or not callable(found):
            return found
        guarded = found if name in _ALONE else self._guarded(name, found)
        setattr(self, name, guarded)  # so that it is looked up once
        return guarded

    def _guarded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        switch = self._switch

        @wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not switch.available:
                switch.require()
            return call(*args, **kwargs)

        if name == "held":  # a leadership is lost for good with the store that granted it
            return lambda: switch.times_gone == self._gone_before and call()
        if name not in ("consumer", "try_lead"):
            return guarded

        @wraps(call)
        def giving(*args: Any, **kwargs: Any) -> Any:
            given = guarded(*args, **kwargs)
            return None if given is None else _Switched(given, switch)

        return giving
