"""What the analytics service stands on; ``wiring`` fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.ports.event_log import EventLog
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.ports.wide_store import WideStore


class TraceStep(NamedTuple):
    """``at_us``: microseconds since 1970 UTC. ``user_id``: whose notification it is, '' for what is
    nobody's own. ``of_fraud``: what the fraud side thought: not for the payment's own users.
    """

    at_us: int
    actor: str
    to: str
    what: str
    user_id: str = ""
    of_fraud: bool = False


class Score(NamedTuple):
    """What the fraud side stored of a payment."""

    score: float
    decision: str
    rule: str
    model: str
    scored_at_us: int


class Place(NamedTuple):
    """Where a service is to be asked. ``registered``: whether one has announced itself."""

    address: str
    registered: bool


class Parts(NamedTuple):
    """``source_of``: the shard whose user pays, by payment id. ``steps``: collects what every part
    wrote about one payment, by time. ``score``: by payment id. ``queue_depth``: operations that
    wait for a shard's writer in this process. ``services``: name -> where. ``checks``: one round
    trip to each part. ``groups``: consumer group -> its topics. ``outbox_rows_max``: past it a
    shard refuses payments.
    """

    databases: Mapping[int, ShardDatabase]
    log: EventLog
    wide: WideStore
    clock: Clock
    source_of: Callable[[bytes], int]
    steps: Callable[[bytes], Sequence[TraceStep]]
    score: Callable[[str], Score | None]
    queue_depth: Callable[[int], int]
    services: Callable[[], Mapping[str, Place]]
    checks: Mapping[str, Callable[[], object]]
    groups: Mapping[str, tuple[str, ...]]
    outbox_rows_max: int
