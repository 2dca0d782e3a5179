"""First come, first served, on whole arrays: no event is ever handled on its own.

Times in any one unit. The n-th customer's gap is the time since the one before; the first gap is
not used (nobody was there).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import BadInput
from paytm_lab.core.extras import need
from paytm_lab.simulation.queueing.theory import SERVERS_MAX, count_of, not_negative

F64 = npt.NDArray[np.float64]
# A part fits into a core's cache, and the sums in it stay short: so does the error of rounding.
_PART = 8_192


def waits(gaps: Any, services: Any, first_wait: float = 0.0) -> F64:
    """Waits before service of one server, shape (n,). BadInput for what is no time or no queue.

    Lindley (1952, The theory of queues with a single server): the next wait is what is left of wait
    + service when the gap has passed, or nothing. Written as a running sum less its running minimum
    it needs no loop over customers.
    """
    gap, service = _times("gaps", gaps), _times("services", services)
    if len(gap) != len(service):
        raise BadInput(
            f"{len(gap)} gaps and {len(service)} services are no queue",
            remedy="Give one gap and one service a customer.",
        )
    out = np.empty(len(gap))
    if not len(gap):
        return out
    out[0] = carried = not_negative("first_wait", first_wait)
    lowest = np.empty(min(_PART, len(gap)))
    for start in range(1, len(gap), _PART):
        part = out[start : start + _PART]
        low = lowest[: len(part)]
        np.subtract(
            service[start - 1 : start - 1 + len(part)], gap[start : start + _PART], out=part
        )
        np.cumsum(part, out=part)
        np.minimum.accumulate(part, out=low)
        np.minimum(low, -carried, out=low)
        part -= low
        carried = float(part[-1])
    return out


def waits_at(arrivals: Any, services: Any) -> F64:
    """``waits`` by the times of arrival, which must not go back."""
    arrival = _times("arrivals", arrivals)
    gap = np.diff(arrival, prepend=0.0)
    if len(gap) and gap[1:].min(initial=0.0) < 0:
        raise BadInput("arrivals are not in order", remedy="Sort them, with their services.")
    return waits(gap, services)


def parallel_waits(gaps: Any, services: Any, servers: int) -> F64:
    """Waits of one queue before several equal servers, shape (n,): each customer takes the server
    that is free first (Kiefer and Wolfowitz 1955, On the theory of queues with many servers).

    Needs numba for more than one server (MissingPart).
    """
    if count_of("servers", servers, SERVERS_MAX) == 1:
        return waits(gaps, services)
    gap, service = _times("gaps", gaps), _times("services", services)
    if len(gap) != len(service):
        raise BadInput(
            f"{len(gap)} gaps and {len(service)} services are no queue",
            remedy="Give one gap and one service a customer.",
        )
    need("numba")
    from paytm_lab.simulation.queueing import kernels

    out: F64 = kernels.parallel_waits(gap, service, servers)
    return out


def _times(name: str, values: Any) -> F64:
    try:
        times = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"{name} are no numbers", remedy="Give an array of times.") from None
    if times.ndim != 1:
        raise BadInput(f"{name} have {times.ndim} dimensions", remedy="Give one of them.")
    # One pass each, and nan fails both.
    if len(times) and not (times.min() >= 0 and times.max() < np.inf):
        raise BadInput(f"{name} hold nan, infinite or negative times", remedy="Take them out.")
    return times
