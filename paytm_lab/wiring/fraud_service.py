"""What the fraud service needs of a running lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from paytm_lab.fraud import service
from paytm_lab.fraud.metrics import FraudMetrics, ScorerDown, scorer_check
from paytm_lab.fraud.parts import Parts
from paytm_lab.web.app import Application, Check
from paytm_lab.web.metrics import Metrics
from paytm_lab.wiring.system import System

if TYPE_CHECKING:
    from paytm_lab.wiring.services import Services


def fraud_service(services: Services) -> Application:
    metrics = Metrics(service.NAME)
    parts = fraud_parts(services.system, metrics.registry)
    return service.make_service(parts, services.callers, metrics, services.settings.body_bytes_max)


def fraud_parts(system: System, registry: CollectorRegistry) -> Parts:
    """``registry``: where decisions of this process's consumer are counted from now on."""
    consumer, settings = system.fraud, system.settings
    seen = FraudMetrics(registry, system.rule_book, system.fraud_lists)
    consumer.on_decided = seen.note
    did = "allow" if settings.scorer_down == "allow" else "review"

    def unscored() -> int:
        return consumer.counters["scorer_down"]

    registry.register(ScorerDown("after", did, unscored))
    return Parts(
        system.scorer,
        system.rule_book,
        system.fraud_lists,
        system.list_news,
        system.wide,
        system.cache,
        system.clock,
        system.databases,
        system.engine.source_of,
        system.checks() | {"scorer": scorer_check(system.scorer, did, unscored)},
    )


def gate_checks(system: System, registry: CollectorRegistry) -> dict[str, Check]:
    """What the service that posts payments shows of the gate that it asks before: its part of
    /ready, and in ``registry`` how many payments came while the scorer did not answer.
    """
    engine, did = system.engine, system.settings.scorer_down
    if engine.gate is None:
        return {}

    def unscored() -> int:
        return engine.gate_unavailable

    registry.register(ScorerDown("before", did, unscored))
    return {"scorer": scorer_check(system.scorer, did, unscored)}
