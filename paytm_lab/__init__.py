"""One payment, in the order in which it meets the modules:

1. ``ledger.transfers`` takes the request, checks it (``core.money``, ``core.ids``) and admits it.
2. ``routing.shard_map`` says which shard owns each side.
3. ``fraud.scorer`` may judge it before it is posted (the gate), or after.
4. ``ledger.evaluate`` decides: states, checks, rows; pure.
5. ``ledger.shard_writer`` commits many at once, durably, per shard.
6. ``ledger.recovery`` carries on what a crash cut in two.
7. ``messaging.outbox_relay`` moves the events from the outbox to the log.
8. ``messaging.consumer`` feeds ``fraud``, ``analytics``, ``notifications``, ``shard_manager``.
9. ``ledger.audit`` proves that no money was lost; ``ledger.replay`` rebuilds it from the events.
10. ``lab.Lab`` is the one facade over all of it; ``reporting`` shows what happened.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paytm_lab.config import Settings
    from paytm_lab.core.errors import PaytmLabError
    from paytm_lab.lab import Lab
    from paytm_lab.simulation.payments import Workload

__all__ = ["Lab", "PaytmLabError", "Settings", "Workload"]
_HOMES = {
    "Lab": "paytm_lab.lab",
    "PaytmLabError": "paytm_lab.core.errors",
    "Settings": "paytm_lab.config",
    "Workload": "paytm_lab.simulation.payments",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a command that only prints help need not load the whole lab."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
