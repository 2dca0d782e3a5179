"""What was sent, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from paytm_lab.notifications.delivery import Delivery
from paytm_lab.notifications.preferences import ChannelKind

_ENDED = ("sent", "waiting", "failed", "repeated", "possible_repeat", "unavailable")


class _Counted(Collector):
    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def collect(self) -> Iterator[Metric]:
        counters = self._delivery.counters
        what = CounterMetricFamily(
            "paytm_lab_notifications", "Notifications by what became of them.", labels=["outcome"]
        )
        for outcome in _ENDED:
            what.add_metric([outcome], counters[outcome])
        yield what
        sent = CounterMetricFamily(
            "paytm_lab_notifications_sent", "Notifications sent.", labels=["channel"]
        )
        away = GaugeMetricFamily(
            "paytm_lab_notification_provider_away",
            "1 while a provider is left alone, as it cannot be reached.",
            labels=["channel"],
        )
        for kind in ChannelKind:
            sent.add_metric([kind], counters[kind])
            away.add_metric([kind], int(self._delivery.away_s(kind) > 0))
        yield sent
        yield away


def count_into(registry: CollectorRegistry, delivery: Delivery) -> None:
    registry.register(_Counted(delivery))
