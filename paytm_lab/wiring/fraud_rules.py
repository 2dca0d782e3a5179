"""The lab's rule book, begun by its settings, its scorer, and whom the scorer calls frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paytm_lab.config import Settings
from paytm_lab.core.clock import Clock
from paytm_lab.fraud.lists import FROZEN, FraudLists
from paytm_lab.fraud.registry import ModelRegistry
from paytm_lab.fraud.rule_book import RuleBook
from paytm_lab.fraud.rules import RuleSettings
from paytm_lab.fraud.scorer import Scorer
from paytm_lab.ledger import queries
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.coordination import Coordination
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.ports.wide_store import WideStore
from paytm_lab.routing.shard_map import Router

_FROZEN_STATES = ("frozen", "frozen_all")
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


def list_blocked(
    lists: FraudLists,
    router: Router,
    databases: Mapping[int, ShardDatabase],
    user_ids: Iterable[str],
) -> None:
    """Put those that a block froze on the list of the frozen; but for those whom somebody let go
    since, as the news of a block may come again.
    """
    frozen = []
    for user_id in dict.fromkeys(user_ids):
        account = queries.account(databases[router.locate(user_id)[1]], user_id)
        if account is not None and account.state in _FROZEN_STATES:
            frozen.append(user_id)
    if frozen:
        lists.add(FROZEN, frozen, "blocked")
