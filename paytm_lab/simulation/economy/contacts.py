"""Who knows whom: a scale-free graph of contacts, and how heavy its tail is.

Static model of Goh, Kahng and Kim, "Universal behavior of load distribution in scale-free networks"
(Physical Review Letters 87, 2001): each end of an edge falls on node i with probability
proportional to ``i ** -a``, which gives degrees a tail ``k ** -(1 + 1/a)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.population import F64, I64


@dataclass(frozen=True, slots=True)
class Contacts:
    """The contacts of user u are ``who[first[u]:first[u + 1]]``, at least one, never u itself; if v
    is u's contact, u is v's. ``first``: shape (users + 1,).
    """

    first: I64
    who: I64

    @property
    def degrees(self) -> I64:
        return np.diff(self.first)

    def pick(self, users: I64, uniform: F64) -> I64:
        """A contact of each user, shape of ``users``; earlier ones of a list more often: place
        ``floor(k * uniform ** 2)`` of k.
        """
        first = self.first[users]
        count = self.first[users + 1] - first
        place = (count * (uniform * uniform)).astype(np.int64)
        return np.asarray(self.who[first + np.minimum(place, count - 1)])


def scale_free(
    users: int, mean_contacts: float, exponent: float, rng: np.random.Generator
) -> Contacts:
    """A graph with about ``mean_contacts`` contacts a user and the tail exponent ``exponent``."""
    weights = np.arange(1, users + 1, dtype=np.float64) ** (-1 / (exponent - 1))
    line = np.cumsum(weights)
    user_of_rank = rng.permutation(users)
    edges = round(users * mean_contacts / 2)
    ends = np.searchsorted(line, rng.random(2 * edges) * line[-1], side="right")
    ends = user_of_rank[np.minimum(ends, users - 1)]
    left, right = ends[:edges], ends[edges:]
    # Whom no edge has found gets one, to somebody found in the same way.
    alone = np.setdiff1d(np.arange(users), ends)
    friend = user_of_rank[
        np.minimum(np.searchsorted(line, rng.random(len(alone)) * line[-1]), users - 1)
    ]
    left, right = np.concatenate((left, alone)), np.concatenate((right, friend))
    right = np.where(left == right, (right + 1) % users, right)
    pairs = np.unique(np.minimum(left, right) * users + np.maximum(left, right))
    low, high = pairs // users, pairs % users
    both = np.sort(np.concatenate((low * users + high, high * users + low)))
    owner, who = both // users, both % users
    first = np.searchsorted(owner, np.arange(users + 1))
    # The lists are sorted by number, and first places are favourites: make them anybody.
    order = np.argsort(owner + rng.random(len(owner)))
    return Contacts(first, who[order])


def tail_exponent(degrees: I64, degree_min: int) -> tuple[float, float]:
    """(exponent, standard error) of ``p(k) ~ k ** -exponent`` for k >= ``degree_min``, by maximum
    likelihood with the continuity correction: ``1 + n / sum(ln(k / (degree_min - 1/2)))``, error
    ``(exponent - 1) / sqrt(n)`` (Clauset, Shalizi, Newman, "Power-law distributions in empirical
    data", SIAM Review 51, 2009, equations 3.7 and 3.2).

    Raises BadInput where fewer than 10 degrees reach ``degree_min``.
    """
    tail = degrees[degrees >= degree_min]
    if degree_min < 2 or len(tail) < 10:
        raise BadInput(
            f"{len(tail)} of {len(degrees)} users have {degree_min} contacts or more",
            remedy="Choose a minimum from 2 up that at least ten users reach.",
        )
    exponent = 1 + len(tail) / float(np.log(tail / (degree_min - 0.5)).sum())
    return exponent, (exponent - 1) / float(np.sqrt(len(tail)))
