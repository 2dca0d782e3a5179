"""What the analytics service needs of a running lab."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from paytm_lab.analytics import service
from paytm_lab.analytics.parts import Parts, Place, Score, TraceStep
from paytm_lab.fraud.tables import FEATURES
from paytm_lab.messaging.topics import GROUPS
from paytm_lab.reporting.steps import steps_of
from paytm_lab.web.app import Application
from paytm_lab.web.metrics import Metrics
from paytm_lab.wiring.system import System

if TYPE_CHECKING:
    from paytm_lab.wiring.services import Services


def analytics_service(services: Services) -> Application:
    from paytm_lab.wiring.services import KINDS  # it names this module

    ports = {name: kind.port(services.settings) for name, kind in KINDS.items()}
    return service.make_service(
        analytics_parts(services.system, ports),
        services.callers,
        Metrics(service.NAME),
        services.settings.body_bytes_max,
    )


def analytics_parts(system: System, ports: Mapping[str, int]) -> Parts:
    """``ports``: where each service listens if nobody says anything else."""
    return Parts(
        system.databases,
        system.log,
        system.wide,
        system.clock,
        system.engine.source_of,
        partial(_steps, system),
        partial(_score, system),
        lambda shard: system.writers[shard].queue_depth(),
        partial(_places, system, ports),
        system.checks(),
        {group: GROUPS[group] for group in system.runners},
        system.settings.outbox_rows_max,
    )


def _steps(system: System, payment_id: bytes) -> list[TraceStep]:
    source = system.engine.source_of(payment_id)
    _, found = steps_of(payment_id, source, system.databases, system.log, system.wide)
    return [
        TraceStep(step.at_us, step.actor, step.to, step.label, step.notified, step.of_fraud)
        for step in found
    ]


def _score(system: System, payment_id: str) -> Score | None:
    row = system.wide.fetch(FEATURES, [(payment_id,)]).get((payment_id,))
    if row is None:
        return None
    return Score(row["score"], row["decision"], row["rule"], row["model"], row["scored_at_us"])


def _places(system: System, ports: Mapping[str, int]) -> dict[str, Place]:
    """Where each service has announced itself; else where it would be."""
    found = {}
    for name, port in ports.items():
        known = system.coordination.instances(name)
        here = f"{system.settings.host}:{port}"
        found[name] = Place(next(iter(sorted(known.values())), here), bool(known))
    return found
