"""Where a named fault strikes: a real server's process, or a switch in this one."""

from __future__ import annotations

from collections.abc import Callable

from paytm_lab.simulation import faults
from paytm_lab.simulation.faults import FaultKind
from paytm_lab.wiring.system import System


def set_fault(system: System, fault: FaultKind, target: str) -> Callable[[], None]:
    """Break it; what is returned heals it, and may take as long as a server's start.

    BadInput where the lab has no such shard or consumer. On the servers profile MissingPart or
    Unavailable, and nothing was stopped, where the server is none of ``settings.stack_dir``.
    """
    faults.require_target(system, target)
    if fault.signal and system.settings.profile == "servers":
        from paytm_lab.stack.faults import break_server  # no embedded lab needs it

        return break_server(system.settings, target, fault.signal)
    return fault.set(system, target)
