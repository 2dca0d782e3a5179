"""What the fraud service stands on; ``wiring`` fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.fraud.lists import FraudLists, ListNews
from paytm_lab.fraud.rule_book import RuleBook
from paytm_lab.fraud.scorer import Scorer
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.ports.wide_store import WideStore


class Parts(NamedTuple):
    """``source_of``: the shard of a payment's row. ``checks``: what /ready asks, by name."""

    scorer: Scorer
    book: RuleBook
    lists: FraudLists
    news: ListNews
    wide: WideStore
    cache: Cache
    clock: Clock
    databases: Mapping[int, ShardDatabase]
    source_of: Callable[[bytes], int]
    checks: Mapping[str, Callable[[], object]]
