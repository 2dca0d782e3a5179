"""Which runner a consumer gets. On real servers, where a store answers later than one decides
and a batch costs hardly more than a row, consumers gather.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from paytm_lab.analytics.consumer import began_us
from paytm_lab.config import Settings
from paytm_lab.core.clock import Clock
from paytm_lab.messaging.consumer import ConsumerRunner, Handler
from paytm_lab.messaging.staged import StagedRunner
from paytm_lab.messaging.together import TogetherRunner
from paytm_lab.messaging.topics import ANALYTICS, FRAUD, GROUPS, NOTIFICATIONS
from paytm_lab.ports.event_log import EventLog

GATHER_S = 0.5  # nobody waits for these
HOLD_S = 2.0  # until a payment's fraud event has come, too
ON_SERVERS: dict[str, Callable[..., ConsumerRunner]] = {
    ANALYTICS: partial(TogetherRunner, gather_s=GATHER_S, hold_s=HOLD_S, began_us=began_us),
    FRAUD: StagedRunner,
    NOTIFICATIONS: partial(ConsumerRunner, gather_s=GATHER_S),
}


def make_runner(
    group: str,
    handler: Handler,
    log: EventLog,
    clock: Clock,
    settings: Settings,
    fault: Callable[[str], None],
) -> ConsumerRunner:
    """``group``: one of ``GROUPS``, whose topics it reads."""
    kinds = ON_SERVERS if settings.profile == "servers" else {}
    make = kinds.get(group, ConsumerRunner)
    records_max = settings.consumer_batch_records_max
    return make(log, group, GROUPS[group], handler, clock, records_max=records_max, fault=fault)
