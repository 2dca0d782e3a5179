"""Money in = money held, from what the shards' watches read.

On one shard, in one snapshot, what users store, what is in transit, what is owed back (receivable)
and what was put in (funding, negative) add up to nothing. Over the shards a payment that is on its
way is in transit at its source and not yet at its destination; one whose credit was read before its
debit (the snapshots are not of one moment) counts as not begun. So

    users + under way + receivable = funded

holds at every reading, whatever is under way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from paytm_lab.analytics.checks import Finding
from paytm_lab.analytics.shard_watch import ShardNow
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.schema import FUNDING_ID, RECEIVABLE_ID
from paytm_lab.ledger.watching import SystemEntry, is_in_transit

EQUAL, COUNTING, MISMATCH, UNKNOWN = "equal", "counting", "mismatch", "unknown"
NAMED_MAX = 5
LATE_US = 5_000_000  # by then both sides of a payment that is not PENDING were read


class ShardSums:
    """Of a shard's system accounts, in paise."""

    def __init__(self) -> None:
        self.funding = self.receivable = self.transit = 0

    def add(self, entry: SystemEntry) -> None:
        if entry.account_id == FUNDING_ID:
            self.funding += entry.net_paise
        elif entry.account_id == RECEIVABLE_ID:
            self.receivable += entry.net_paise
        elif is_in_transit(entry.account_id):
            self.transit += entry.net_paise


class Money(NamedTuple):
    """``state``: equal, counting (the ledger is still gone through), mismatch or unknown (a shard
    is down). Paise: ``funded`` came in; ``users`` (of it ``on_hold``), ``under_way`` and
    ``receivable`` (negative: owed back) are held; ``difference`` = held - funded.
    """

    state: str
    funded_paise: int
    users_paise: int
    on_hold_paise: int
    under_way_paise: int
    payments_under_way: int
    receivable_paise: int
    difference_paise: int
    counted: float
    findings: list[Finding]
    away: list[int]


class MoneyBook:
    """``take`` a reading of each shard, then ``line``. One thread at a time."""

    def __init__(self) -> None:
        self._sums: dict[int, ShardSums] = defaultdict(ShardSums)
        self._nets: dict[bytes, list[int]] = {}  # payment -> [paise in transit, its stamp]
        self._last: dict[int, ShardNow] = {}
        self._off: dict[int, int] = {}  # shard -> by how many paise its sums are wrong

    def restart(self) -> None:
        """Forget all; the watches are to hand out everything again."""
        self._sums.clear()
        self._nets.clear()
        self._off.clear()

    def take(self, now: ShardNow) -> int:
        """The paise by which this shard's own sums do not agree; 0 where they do, or where that
        cannot be told from this reading.
        """
        sums = self._sums[now.shard]
        for entry in now.new:
            sums.add(entry)
            if is_in_transit(entry.account_id):
                self._move(entry)
        self._last[now.shard] = now
        if now.caught_up and now.sums_fresh:
            self._off[now.shard] = (
                now.sums.balance_paise + sums.transit + sums.receivable + sums.funding
            )
        return self._off.get(now.shard, 0)

    def _counted(self, now: ShardNow) -> float:
        if now.shard not in self._sums:
            return 0.0  # begun again
        return 1.0 if now.caught_up else min(0.99, now.counted)

    def _move(self, entry: SystemEntry) -> None:
        net = self._nets.get(entry.payment_id)
        if net is None:
            self._nets[entry.payment_id] = [entry.net_paise, entry.stamp_us]
            return
        net[0] += entry.net_paise
        if net[0] == 0:
            del self._nets[entry.payment_id]

    def suspects(self, now_us: int) -> list[bytes]:
        """Payments in transit for long that no shard lists as PENDING."""
        pending = {row.payment_id for now in self._last.values() for row in now.open}
        late = now_us - LATE_US
        found = [p for p, (_, stamp) in self._nets.items() if stamp < late and p not in pending]
        return found[:NAMED_MAX]

    def net(self, payment_id: bytes) -> int:
        """Paise in transit, as far as entries were read."""
        return self._nets.get(payment_id, [0, 0])[0]

    def stamp(self, payment_id: bytes) -> int:
        return self._nets.get(payment_id, [0, 0])[1]

    def line(
        self, shards: Sequence[int], away: Sequence[int], unmatched: Mapping[bytes, int]
    ) -> Money:
        """``unmatched``: payments whose debit and credit are surely not equal, and by how much."""
        known = [self._last[shard] for shard in shards if shard in self._last]
        nets = [net for payment, (net, _) in self._nets.items() if payment not in unmatched]
        under_way = sum(net for net in nets if net > 0)
        funded = -sum(sums.funding for sums in self._sums.values())
        receivable = sum(sums.receivable for sums in self._sums.values())
        # A shard's users by its entries, and what their stored balances are off.
        users = sum(net for net in nets if net < 0) + sum(
            self._off.get(shard, 0) - sums.funding - sums.receivable - sums.transit
            for shard, sums in self._sums.items()
        )
        findings = [f for now in known if now.shard not in away for f in now.findings]
        findings += [
            Finding(
                -1, payment_id_text(payment), "", -net,
                "what was debited on one shard is not what was credited on the other",
            )
            for payment, net in unmatched.items()
        ]  # fmt: skip
        difference = users + under_way + receivable - funded
        counted = min((self._counted(now) for now in known), default=0.0)
        if findings or (counted == 1.0 and difference):
            state = MISMATCH
        elif away or len(known) < len(shards):
            state = UNKNOWN
        else:
            state = EQUAL if counted == 1.0 else COUNTING
        return Money(
            state, funded, users, sum(now.sums.held_paise for now in known), under_way,
            sum(1 for net in nets if net > 0),
            receivable, difference, counted, findings[:NAMED_MAX], list(away),
        )  # fmt: skip
