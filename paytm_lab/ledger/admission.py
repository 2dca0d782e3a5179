"""Admission: one token a payment, held to its end, bounded in all and per shard that it touches."""

from __future__ import annotations

from collections import deque

from paytm_lab.core.errors import Overloaded


class Admission:
    """The bound per shard keeps one frozen shard from taking every token: of payments to it, and of
    payments from it to all the others.

    Tokens lie in deques, whose pop and append are atomic: a lock here, taken twice a payment by
    every writer's thread and by the callers', was a tenth of the whole cost of a payment.
    """

    def __init__(self, in_flight_max: int, in_flight_per_shard_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._per_shard_max = in_flight_per_shard_max
        self._free: deque[None] = deque([None] * in_flight_max)
        self._free_of: dict[int, deque[None]] = {}

    def _of(self, shard: int) -> deque[None]:
        free = self._free_of.get(shard)
        if free is None:
            # Two threads may both make it; setdefault keeps one, before a token of it is taken.
            free = self._free_of.setdefault(shard, deque([None] * self._per_shard_max))
        return free

    def acquire(self, source: int, destination: int) -> None:
        """Take a token for a payment between two shards (or within one); Overloaded at once when
        none is free.
        """
        free, of_source = self._free, self._of(source)
        taken: deque[None] | None = None
        try:
            free.pop()
            taken = free
            of_source.pop()
            if destination != source:
                taken = of_source
                self._of(destination).pop()
        except IndexError:
            if taken is not None:
                free.append(None)
            if taken is of_source:
                of_source.append(None)
            raise self._refusal(source, destination) from None

    def release(self, source: int, destination: int) -> None:
        """Give back what ``acquire`` took, with the same shards."""
        self._free_of[source].append(None)
        if destination != source:
            self._free_of[destination].append(None)
        self._free.append(None)

    def _refusal(self, source: int, destination: int) -> Overloaded:
        of_source, of_destination = (
            self._per_shard_max - len(self._of(shard)) for shard in (source, destination)
        )
        return Overloaded(
            f"{self.in_flight} payments are in flight, {of_source} of them touch shard {source}"
            f" and {of_destination} shard {destination}",
            remedy="Repeat the request with the same key.",
            retry_after_s=0.1,
        )

    @property
    def in_flight(self) -> int:
        return self._in_flight_max - len(self._free)
