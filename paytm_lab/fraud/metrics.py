"""What Prometheus is told of the fraud side, and how it says that the scorer is down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from paytm_lab.core.errors import Unavailable
from paytm_lab.core.fraud import Candidate
from paytm_lab.fraud.lists import NAMES, FraudLists
from paytm_lab.fraud.rule_book import RuleBook
from paytm_lab.fraud.scorer import Scorer
from paytm_lab.ports.wide_store import Row

_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_AGES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0)
_SOMEBODY, _SOMEBODY_ELSE = "system:health", "system:health-peer"


class FraudMetrics:
    """``note`` counts decisions as the consumer stores them."""

    def __init__(self, registry: CollectorRegistry, book: RuleBook, lists: FraudLists) -> None:
        self._decisions = Counter(
            "paytm_lab_fraud_decisions_total",
            "Decisions stored, each payment once.",
            ("decision", "rule", "gate"),
            registry=registry,
        )
        self._scores = Histogram(
            "paytm_lab_fraud_score",
            "Scores of the payments that were decided.",
            buckets=_SCORES,
            registry=registry,
        )
        self._ages = Histogram(
            "paytm_lab_fraud_decision_age_seconds",
            "From when a payment was asked for to its decision, where it was scored after posting.",
            buckets=_AGES_S,
            registry=registry,
        )
        Gauge(
            "paytm_lab_fraud_rules_version", "The version of the rules in use.", registry=registry
        ).set_function(lambda: book.rules.version)
        listed = Gauge(
            "paytm_lab_fraud_listed_users", "Users on a list.", ("list",), registry=registry
        )
        for name in NAMES:
            listed.labels(name).set_function(partial(_count, lists, name))

    def note(self, rows: Sequence[Row]) -> None:
        """``rows``: of the table features."""
        for row in rows:
            self._decisions.labels(row["decision"], row["rule"], row["gate"]).inc()
            self._scores.observe(row["score"])
            if row["gate"] == "after":
                self._ages.observe(max(0, row["scored_at_us"] - row["at_us"]) / 1e6)


def _count(lists: FraudLists, which: str) -> float:
    return len(lists.users(which))


class ScorerDown(Collector):
    """Payments that came while the scorer did not answer, and what became of them."""

    def __init__(self, gate: str, did: str, count: Callable[[], int]) -> None:
        self._gate, self._did, self._count = gate, did, count

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "paytm_lab_fraud_scorer_down",
            "Payments that the scorer could not judge, and what they got for it.",
            labels=("gate", "did"),
        )
        family.add_metric((self._gate, self._did), self._count())
        yield family


def scorer_check(scorer: Scorer, did: str, count: Callable[[], int]) -> Callable[[], object]:
    """For /ready: asks the scorer about a payment that nobody makes; where it does not answer,
    Unavailable says what payments get meanwhile (``did``), and how many did.
    """
    nobody = Candidate("health", _SOMEBODY, _SOMEBODY_ELSE, 100, 0)

    def ask() -> None:
        try:
            scorer.preview([nobody])
        except Unavailable as error:
            raise Unavailable(
                f"the scorer cannot judge ({error.message}); meanwhile: {did}. So far"
                f" {count()} payments",
                place="scorer",
                remedy="Setting: scorer_down.",
            ) from error

    return ask
