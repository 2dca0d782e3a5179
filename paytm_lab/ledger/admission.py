"""Admission: one token a payment, held to its end, bounded in all and per destination shard."""

from __future__ import annotations

import threading

from paytm_lab.core.errors import Overloaded


class Admission:
    """The bound per shard keeps one frozen shard from taking every token."""

    def __init__(self, in_flight_max: int, in_flight_per_shard_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._per_shard_max = in_flight_per_shard_max
        self._in_flight = 0
        self._by_shard: dict[int, int] = {}
        self._lock = threading.Lock()

    def acquire(self, shard: int) -> None:
        """Take a token for a payment to ``shard``; Overloaded at once when none is free."""
        with self._lock:
            of_shard = self._by_shard.get(shard, 0)
            if self._in_flight < self._in_flight_max and of_shard < self._per_shard_max:
                self._in_flight += 1
                self._by_shard[shard] = of_shard + 1
                return
        raise Overloaded(
            f"{self._in_flight} payments are in flight, {of_shard} of them to shard {shard}",
            remedy="Repeat the request with the same key.",
            retry_after_s=0.1,
        )

    def release(self, shard: int) -> None:
        with self._lock:
            self._in_flight -= 1
            self._by_shard[shard] -= 1

    @property
    def in_flight(self) -> int:
        return self._in_flight
