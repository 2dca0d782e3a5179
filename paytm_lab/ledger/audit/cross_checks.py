"""Checks that take all shards together; in a live audit, about payments up to the closed stamp.

Two snapshots of different moments contradict each other about payments in flight; about payments
stamped by a closed stamp they can not, for those are either on both sides or known to be open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paytm_lab.core.money import in_words
from paytm_lab.ledger.audit.columns import (
    CANCELLED,
    COMPLETED,
    DESTINATION,
    FAILED,
    HELD,
    LOCAL,
    PENDING,
    SOURCE,
    Flags,
    Ints,
    PaymentColumns,
    counted,
    group_starts,
    join_payments,
    names_of,
)
from paytm_lab.ledger.audit.facts import ShardFacts, unreadable
from paytm_lab.ledger.audit.report import UNKNOWN, Check, checked

# (source state, destination state) that may stand side by side.
_AGREE = np.zeros((256, 256), dtype=np.bool_)
for _source, _destination in (
    (COMPLETED, COMPLETED),
    (FAILED, FAILED),
    (PENDING, COMPLETED),
    (PENDING, FAILED),
):
    _AGREE[_source, _destination] = True
_ALONE = np.zeros(256, dtype=np.bool_)  # source states that need no destination row
_ALONE[[HELD, PENDING, FAILED, CANCELLED]] = True
_LOCAL = np.zeros(256, dtype=np.bool_)
_LOCAL[[HELD, COMPLETED, FAILED, CANCELLED]] = True


class Payments(NamedTuple):
    """All payments, one line each, in id order. ``destination`` is the state of the destination row
    (255: there is none). ``settled``: stamped by the closed stamp (all, when nothing is running).
    ``contradicts``: the rows of this payment can not stand side by side.
    """

    rows: PaymentColumns
    destination: Ints
    settled: Flags
    contradicts: Flags

    @property
    def is_open(self) -> Flags:
        """PENDING, and not credited on its destination."""
        pending: Flags = (self.rows.status == PENDING) & (self.destination != COMPLETED)
        return pending


def match_sides(shards: Sequence[ShardFacts], stamp_us: int | None) -> Payments:
    """Join the rows of all shards by payment id."""
    rows = join_payments([facts.payments for facts in shards])
    # Source or local before destination within an id: a line's first row is the payment's own.
    last = (rows.role == DESTINATION).astype(np.uint8)
    rows = rows.take(np.lexsort((last, rows.low, rows.high)))
    starts = group_starts(rows.high, rows.low)
    sizes = np.diff(np.append(starts, len(rows.high)))
    first, second = rows.take(starts), rows.take(np.minimum(starts + 1, len(rows.high) - 1))
    paired = sizes == 2
    destination = np.where(paired & (second.role == DESTINATION), second.status, 255)
    stamps = np.maximum.reduceat(rows.stamp, starts) if len(starts) else rows.stamp
    settled = np.ones(len(starts), dtype=np.bool_) if stamp_us is None else stamps <= stamp_us
    fits = np.where(
        paired,
        (first.role == SOURCE)
        & (second.role == DESTINATION)
        & (first.shard != second.shard)
        & _AGREE[first.status, second.status]
        & (first.terms == second.terms)
        & (first.stamp == second.stamp),
        ((first.role == LOCAL) & _LOCAL[first.status])
        | ((first.role == SOURCE) & _ALONE[first.status]),
    )
    return Payments(first, destination, settled, ~(fits & (sizes <= 2)))


def states_agree_across_shards(shards: Sequence[ShardFacts], payments: Payments) -> Check:
    """The same end state and terms on both shards; no side without the other where it is due."""
    # Two rows on one shard have a check of their own.
    doubled = {name for facts in shards for name in facts.two_roles}
    wrong = payments.contradicts & payments.settled
    names = names_of(payments.rows.high[wrong], payments.rows.low[wrong])
    return checked(
        "states_agree_across_shards",
        # Where a shard was not read its rows are missing here, which says nothing about them.
        [] if unreadable(shards) else [name for name in names if name not in doubled],
        f"both sides of {counted(payments.rows, payments.settled)} agree",
        "payments differ between their two shards", unreadable(shards),
    )  # fmt: skip


def in_transit_matches_pending(
    shards: Sequence[ShardFacts], payments: Payments, stamp_us: int | None
) -> Check:
    """in_transit(a:b) + in_transit(b:a) is what is open between a and b.

    Where payments were re-targeted after the closed stamp, their pair is no longer what their
    entries up to it say; then only the sum over all pairs is compared.
    """
    expected: Counter[tuple[int, int]] = Counter()
    for (source, target), paise in open_by_pair(shards, payments).items():
        expected[min(source, target), max(source, target)] += paise
    found: Counter[tuple[int, int]] = Counter()
    for facts in shards:
        for peer, paise in facts.transit.items():
            found[min(facts.shard, peer), max(facts.shard, peer)] += paise
    if any(facts.retargeted for facts in shards):
        expected = Counter({(-1, -1): sum(expected.values())})
        found = Counter({(-1, -1): sum(found.values())})
    bad = [
        f"shards {pair[0]} and {pair[1]}: in transit {in_words(found[pair])},"
        f" pending {in_words(expected[pair])}"
        for pair in sorted(expected.keys() | found.keys())
        if expected[pair] != found[pair]
    ]
    when = "" if stamp_us is None else f" as of {stamp_us}"
    return checked(
        "in_transit_matches_pending", [] if unreadable(shards) else bad,
        f"{in_words(sum(found.values()))} in transit{when}, all of them pending payments",
        "pairs of shards whose in_transit is not their pending payments", unreadable(shards),
    )  # fmt: skip


def funding_matches_users_and_open(shards: Sequence[ShardFacts], payments: Payments) -> Check:
    """Funding entries are the funding payments; users + open payments = funded + receivable."""
    bad = [
        f"shard-{facts.shard}: funding entries {in_words(-facts.funding_now)},"
        f" funding payments {in_words(facts.funding_payments)}"
        for facts in shards
        if -facts.funding_now != facts.funding_payments
    ]
    missing = unreadable(shards)
    users, opened = users_paise(shards), sum(open_by_pair(shards, payments).values())
    owed, funded = -sum(facts.receivable for facts in shards), funded_paise(shards)
    held = f"users {in_words(users)} + open {in_words(opened)}"
    given = f"funded {in_words(funded)} + receivable {in_words(owed)}"
    if not missing and users + opened != funded + owed:
        bad.append(f"{held} are not {given}")
    return checked(
        "funding_matches_users_and_open", bad, f"{held} = {given}",
        "sums differ", missing,
    )  # fmt: skip


def no_pending_after_drain(
    shards: Sequence[ShardFacts], payments: Payments, drained: bool
) -> Check:
    """Where everything was drained no payment may be left PENDING; unknown where it was not."""
    pending = payments.rows.status == PENDING
    if not drained and pending.any():
        detail = f"{int(pending.sum())} payments are pending, and nothing was drained"
        return Check("no_pending_after_drain", UNKNOWN, detail)
    names = names_of(payments.rows.high[pending], payments.rows.low[pending])
    return checked(
        "no_pending_after_drain", names, "no payment is pending", "payments are still pending",
        unreadable(shards),
    )  # fmt: skip


def open_by_pair(shards: Sequence[ShardFacts], payments: Payments) -> dict[tuple[int, int], int]:
    """(source shard, destination shard) -> paise of open payments."""
    opened: Counter[tuple[int, int]] = Counter()
    rows = open_rows(payments)
    for shard, target, amount in zip(
        rows.shard.tolist(), rows.to_shard.tolist(), rows.amount.tolist(), strict=True
    ):
        opened[shard, target] += amount
    for facts in shards:
        for payment in facts.ended_later:
            opened[payment.from_shard, payment.to_shard] += payment.amount_paise
    return opened


def open_rows(payments: Payments) -> PaymentColumns:
    """The source rows of payments up to the stamp that are PENDING and not credited."""
    return payments.rows.take(payments.is_open & payments.settled)


def users_paise(shards: Sequence[ShardFacts]) -> int:
    return sum(facts.users_paise for facts in shards)


def funded_paise(shards: Sequence[ShardFacts]) -> int:
    return -sum(facts.funding for facts in shards)
