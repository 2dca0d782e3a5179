"""What the shard manager's service needs of a running lab."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from paytm_lab.fraud.lists import FROZEN
from paytm_lab.reporting.steps import steps_of
from paytm_lab.shard_manager import service
from paytm_lab.shard_manager.parts import Parts, TimelineStep
from paytm_lab.web.app import Application
from paytm_lab.web.metrics import Metrics
from paytm_lab.wiring.fraud_service import gate_checks
from paytm_lab.wiring.system import System

if TYPE_CHECKING:
    from paytm_lab.wiring.services import Services


def shard_manager_service(services: Services) -> Application:
    metrics = Metrics("shard_manager")
    parts = shard_manager_parts(services.system, metrics.registry)
    return service.make_service(parts, services.callers, metrics, services.settings)


def shard_manager_parts(system: System, registry: CollectorRegistry) -> Parts:
    """``registry``: where the fraud gate's failures are counted."""
    return Parts(
        system.engine,
        system.databases,
        system.holds,
        system.reviews,
        system.recovery,
        system.routes,
        system.clock,
        system.cache,
        partial(_steps, system),
        partial(_tell_of_state, system),
        system.checks() | gate_checks(system, registry),
    )


def _steps(system: System, payment_id: bytes) -> list[TimelineStep]:
    source = system.engine.source_of(payment_id)
    _, found = steps_of(payment_id, source, system.databases, system.log, system.wide)
    return [
        TimelineStep(step.at_us, step.actor, step.to, step.label, step.notified, step.of_fraud)
        for step in found
    ]


def _tell_of_state(system: System, user_id: str, state: str, by: str) -> None:
    lists = system.fraud_lists
    change = lists.add if state in ("frozen", "frozen_all") else lists.remove
    change(FROZEN, [user_id], f"the account is {state}", by)
    system.list_news.tell()
