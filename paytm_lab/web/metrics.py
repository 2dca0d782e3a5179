"""Prometheus metrics of one service: a registry of its own, so that several live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From a lean in-memory answer to the deadline of a payment, in seconds.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What every service counts; a service adds its own to ``registry``."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "paytm_lab_requests_total",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "paytm_lab_request_seconds",
            "From the last byte of a request's head to the first of its answer's.",
            labelnames=("route",),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "paytm_lab_requests_in_flight", "Requests not answered yet.", registry=self.registry
        )
        Gauge(
            "paytm_lab_service", "1 for the service that answers.", ("service",),
            registry=self.registry,
        ).labels(service).set(1)  # fmt: skip
        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """``route``: its pattern, never a path. Few routes and statuses: their counters are kept at
        hand, as finding them by label each time took longer than counting.
        """
        found = self._of.get((route, method, status))
        if found is None:
            requests = self.requests.labels(route, method, str(status))
            found = self._of[route, method, status] = requests, self.seconds.labels(route)
        found[0].inc()
        found[1].observe(seconds)
