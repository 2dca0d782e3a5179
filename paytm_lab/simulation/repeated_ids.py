"""Which ids of a long file came before, with the same payment or another, at 16 bytes an id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
NEW, REPEATED, CONFLICT = 0, 1, 2


class SeenIds:
    """Remembers a 64-bit hash of each id and of its first payment, in sorted runs that double in
    size.

    Python's salted ``hash`` serves, because the numbers never leave this object. Among ten million
    ids two share a hash with probability 3e-6; the later one would then be listed as a conflict.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[I64, I64]] = []

    def classify(self, ids: Sequence[str], payments: Sequence[tuple[str, str, int]]) -> list[int]:
        """NEW, REPEATED (same payment as the id's first) or CONFLICT for each, in order; all
        remembered.
        """
        keys = np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))
        bodies = np.fromiter(map(hash, payments), dtype=np.int64, count=len(ids))
        order = np.argsort(keys, kind="stable")
        keys_sorted = keys[order]
        starts = np.concatenate(([True], keys_sorted[1:] != keys_sorted[:-1]))
        first_keys, first_bodies = keys_sorted[starts], bodies[order][starts]
        known = np.zeros(len(first_keys), dtype=bool)
        for run_keys, run_bodies in self._runs:
            place = np.minimum(np.searchsorted(run_keys, first_keys), len(run_keys) - 1)
            hit = run_keys[place] == first_keys
            first_bodies = np.where(hit, run_bodies[place], first_bodies)
            known |= hit
        self._remember(first_keys[~known], first_bodies[~known])
        group = np.cumsum(starts) - 1
        verdict = np.where(bodies[order] == first_bodies[group], REPEATED, CONFLICT)
        verdict[starts & ~known[group]] = NEW
        out = np.empty_like(verdict)
        out[order] = verdict
        return [int(code) for code in out]

    def _remember(self, keys: I64, bodies: I64) -> None:
        """Adds a sorted run; runs of like size merge, so there are few and an id moves rarely."""
        if not len(keys):
            return
        while self._runs and len(self._runs[-1][0]) < 2 * len(keys):
            other_keys, other_bodies = self._runs.pop()
            keys = np.concatenate((other_keys, keys))
            order = np.argsort(keys, kind="stable")
            keys, bodies = keys[order], np.concatenate((other_bodies, bodies))[order]
        self._runs.append((keys, bodies))
