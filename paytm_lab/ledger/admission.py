"""Admission: one token a payment, held to its end, bounded in all and per shard that it touches."""

from __future__ import annotations

import threading

from paytm_lab.core.errors import Overloaded


class Admission:
    """The bound per shard keeps one frozen shard from taking every token: of payments to it, and of
    payments from it to all the others.
    """

    def __init__(self, in_flight_max: int, in_flight_per_shard_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._per_shard_max = in_flight_per_shard_max
        self._in_flight = 0
        self._by_shard: dict[int, int] = {}
        self._lock = threading.Lock()

    def acquire(self, source: int, destination: int) -> None:
        """Take a token for a payment between two shards (or within one); Overloaded at once when
        none is free.
        """
        by_shard = self._by_shard
        with self._lock:
            of_source, of_destination = by_shard.get(source, 0), by_shard.get(destination, 0)
            if (
                self._in_flight < self._in_flight_max
                and of_source < self._per_shard_max
                and of_destination < self._per_shard_max
            ):
                self._in_flight += 1
                by_shard[source] = of_source + 1
                if destination != source:
                    by_shard[destination] = of_destination + 1
                return
        raise Overloaded(
            f"{self._in_flight} payments are in flight, {of_source} of them touch shard {source}"
            f" and {of_destination} shard {destination}",
            remedy="Repeat the request with the same key.",
            retry_after_s=0.1,
        )

    def release(self, source: int, destination: int) -> None:
        """Give back what ``acquire`` took, with the same shards."""
        with self._lock:
            self._in_flight -= 1
            self._by_shard[source] -= 1
            if destination != source:
                self._by_shard[destination] -= 1

    @property
    def in_flight(self) -> int:
        return self._in_flight
