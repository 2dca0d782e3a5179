"""What the shard manager's service stands on; ``wiring`` fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.ledger.holds import Holds
from paytm_lab.ledger.recovery import Recovery
from paytm_lab.ledger.reviews import Reviews
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.routing.route_cache import RouteCache


class TimelineStep(NamedTuple):
    """``at_us``: microseconds since 1970 UTC. ``user_id``: whose notification it is, '' for what is
    nobody's own. ``staff_only``: not for the payment's own users.
    """

    at_us: int
    actor: str
    to: str
    what: str
    user_id: str = ""
    staff_only: bool = False


class Parts(NamedTuple):
    """``steps``: collects what every part wrote about one payment, by time. ``on_state``: tells the
    fraud side an account's new state, and who gave it that. ``checks``: what /ready asks, by name.
    """

    engine: TransferEngine
    databases: Mapping[int, ShardDatabase]
    holds: Holds
    reviews: Reviews
    recovery: Recovery
    routes: RouteCache
    clock: Clock
    cache: Cache
    steps: Callable[[bytes], Sequence[TimelineStep]]
    on_state: Callable[[str, str, str], None]
    checks: Mapping[str, Callable[[], object]]
