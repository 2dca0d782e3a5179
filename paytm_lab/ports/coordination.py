"""Who leads, what is where, who is alive (ZooKeeper's part)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Leadership(Protocol):
    def held(self) -> bool:
        """True while this process surely leads; False for good once it may no longer."""

    def release(self) -> None:
        """Give up leadership. Harmless when called twice."""


class Coordination(Protocol):
    def try_lead(self, name: str) -> Leadership | None:
        """Become the leader of ``name`` if nobody is; None at once if somebody is. A leader that
        dies (kill -9 included) stops being one without anybody's help.
        """

    def read_document(self, name: str) -> tuple[bytes, int] | None:
        """A small versioned document (the shard map): its bytes and version, or None."""

    def write_document(self, name: str, body: bytes, expected_version: int | None) -> int:
        """Replace it if its version is still ``expected_version`` (None: it must not exist).
        Returns the new version; raises core.errors.Conflict when somebody else was faster. Durable
        when it returns.
        """

    def watch_document(
        self, name: str, on_change: Callable[[bytes, int], None]
    ) -> Callable[[], None]:
        """Call back, from another thread, soon after each change (changes may be merged, never
        missed for good). Returns a function that ends the watch.
        """

    def register(self, service: str, instance: str, address: str) -> Callable[[], None]:
        """Announce a live instance until the returned function is called or this process dies.
        Raises core.errors.Conflict while another live instance of the service has this name.
        """

    def instances(self, service: str) -> dict[str, str]:
        """Live instances of a service: name -> address."""

    def close(self) -> None:
        """Give up leaderships and registrations. Harmless when called twice."""
