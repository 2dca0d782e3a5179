"""The lab's rule book, begun by its settings, and the scorer that follows it."""

from __future__ import annotations

from paytm_lab.config import Settings
from paytm_lab.core.clock import Clock
from paytm_lab.fraud.lists import FraudLists
from paytm_lab.fraud.registry import ModelRegistry
from paytm_lab.fraud.rule_book import RuleBook
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.scorer import Scorer
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.wide_store import WideStore

OF_SETTINGS = ("review_score", "velocity_limit", "velocity_window_s")


def open_rules(
    settings: Settings, coordination: Coordination, wide: WideStore, clock: Clock
) -> RuleBook:
    values = {name: getattr(settings, name) for name in OF_SETTINGS}
    given = {name: value for name, value in values.items() if settings.source(name) != "default"}
    return RuleBook(coordination, wide, clock, RuleSettings(**values), given)


def open_scorer(
    book: RuleBook, cache: Cache, models: ModelRegistry, lists: FraudLists, store: WideStore
) -> Scorer:
    scorer = Scorer(book.rules, cache, models, lists, store)
    book.follow(scorer.use)
    return scorer
