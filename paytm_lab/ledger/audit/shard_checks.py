"""Checks that one shard can answer for itself. Each holds in every snapshot, busy or not."""

from __future__ import annotations

from collections.abc import Sequence

from paytm_lab.core.errors import StorageCorrupt
from paytm_lab.core.money import in_words
from paytm_lab.ledger.audit.facts import ShardFacts, unreadable
from paytm_lab.ledger.audit.report import FAILED, UNKNOWN, Check, checked


def shards_readable(shards: Sequence[ShardFacts]) -> Check:
    """A shard that is away makes this unknown; one that is there but damaged makes it failed."""
    broken = [facts for facts in shards if facts.error is not None]
    if not broken:
        return checked("shards_readable", [], f"all {len(shards)} shards were read", "")
    detail = "; ".join(f"shard-{facts.shard}: {facts.error}" for facts in broken)
    damaged = any(isinstance(facts.error, StorageCorrupt) for facts in broken)
    names = tuple(f"shard-{facts.shard}" for facts in broken)
    return Check("shards_readable", FAILED if damaged else UNKNOWN, detail, names, len(names))


def shard_debits_equal_credits(shards: Sequence[ShardFacts]) -> Check:
    bad = [
        f"shard-{facts.shard}: debits {in_words(facts.debits)}, credits {in_words(facts.credits)}"
        for facts in shards
        if facts.debits != facts.credits
    ]
    total = sum(facts.debits for facts in shards)
    return checked(
        "shard_debits_equal_credits", bad,
        f"{in_words(total)} debited and credited", "shards whose debits are not their credits",
        unreadable(shards),
    )  # fmt: skip


def balances_equal_entries(shards: Sequence[ShardFacts]) -> Check:
    return checked(
        "balances_equal_entries", [name for facts in shards for name in facts.unbalanced],
        "every balance is the sum of its entries", "balances are not the sum of their entries",
        unreadable(shards),
    )  # fmt: skip


def available_not_negative(shards: Sequence[ShardFacts]) -> Check:
    return checked(
        "available_not_negative", [name for facts in shards for name in facts.overdrawn],
        "no account is below zero", "accounts hold more than they have", unreadable(shards),
    )  # fmt: skip


def held_equals_active_holds(shards: Sequence[ShardFacts]) -> Check:
    return checked(
        "held_equals_active_holds", [name for facts in shards for name in facts.wrong_holds],
        "held amounts are the active holds", "accounts or payments disagree with the holds",
        unreadable(shards),
    )  # fmt: skip


def one_role_per_shard(shards: Sequence[ShardFacts]) -> Check:
    return checked(
        "one_role_per_shard", [name for facts in shards for name in facts.two_roles],
        "no payment has two rows on one shard", "payments have two rows on one shard",
        unreadable(shards),
    )  # fmt: skip


def entries_match_payments(shards: Sequence[ShardFacts]) -> Check:
    return checked(
        "entries_match_payments", [name for facts in shards for name in facts.wrong_entries],
        "every payment's entries are what its state says",
        "payments have other entries than their state says", unreadable(shards),
    )  # fmt: skip


def receivable_matches_debts(shards: Sequence[ShardFacts]) -> Check:
    bad = [
        f"shard-{facts.shard}: owed {in_words(facts.debts_open)},"
        f" receivable {in_words(-facts.receivable_now)}"
        for facts in shards
        if facts.debts_open != -facts.receivable_now
    ]
    total = sum(facts.debts_open for facts in shards)
    return checked(
        "receivable_matches_debts", bad, f"open debts of {in_words(total)} are the receivable",
        "shards whose receivable is not their open debts", unreadable(shards),
    )  # fmt: skip


SHARD_CHECKS = (
    shards_readable,
    shard_debits_equal_credits,
    balances_equal_entries,
    available_not_negative,
    held_equals_active_holds,
    one_role_per_shard,
    entries_match_payments,
    receivable_matches_debts,
)
