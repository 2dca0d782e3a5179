"""What the engine is measured against: the same rows and commits with no evaluation and no futures.

One thread a shard writes both legs and the finalisations of ``plan`` (payment n: from, to, source,
destination, amount) with the writer's own multi-row statements, as many operations a commit as the
engine can gather at that number in flight. With one in flight it is one thread, one leg a commit.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from paytm_lab.core.clock import SystemClock
from paytm_lab.core.events import PaymentData, encode
from paytm_lab.core.ids import PaymentIds, payment_id_text
from paytm_lab.ledger.schema import IN_TRANSIT_ID_BASE
from paytm_lab.ports.shard_database import ShardDatabase

Plan = list[tuple[str, str, int, int, int]]
Account = dict[str, list[int]]  # user -> [account id, balance]
SET = ("balance", "held", "state", "updated_at")


class RawLoop:
    def __init__(self, databases: dict[int, ShardDatabase], accounts: Account) -> None:
        self.databases, self.accounts = databases, accounts
        self.clock = SystemClock()
        self.ids = PaymentIds(self.clock)

    def run(self, plan: Plan, in_flight: int, share: float) -> float:
        """Seconds to write the whole plan."""
        self.rows = [(self.ids.next(0), *payment) for payment in plan]
        started = time.perf_counter()
        if in_flight == 1:
            for row in self.rows:
                self.commit(row[3], [row], [], [])
                if row[4] != row[3]:
                    self.commit(row[4], [], [row], [])
                    self.commit(row[3], [], [], [row[0]]) if row is self.rows[-1] else None
        else:
            size = max(1, round(in_flight / len(self.databases) / (1 + share)))
            with ThreadPoolExecutor(len(self.databases)) as pool:
                list(pool.map(lambda shard: self.shard(shard, size), self.databases))
        return time.perf_counter() - started

    def shard(self, shard: int, size: int) -> None:
        own = [row for row in self.rows if row[3] == shard]
        incoming = [row for row in self.rows if row[4] == shard and row[3] != shard]
        done: list[bytes] = []
        for start in range(0, max(len(own), len(incoming)), size):
            sources = own[start : start + size]
            self.commit(shard, sources, incoming[start : start + size], done)
            done = [row[0] for row in sources if row[4] != shard]
        self.commit(shard, [], [], done)

    def commit(self, shard: int, sources: list, credits: list, done: list[bytes]) -> None:  # type: ignore[type-arg]
        now = self.clock.now_us()
        payments, entries, outbox, touched = [], [], [], {}
        for payment, sender, receiver, source, destination, amount in (*sources, *credits):
            text, leg_b = payment_id_text(payment), source != shard
            local = source == destination
            role = "local" if local else "destination" if leg_b else "source"
            pending = role == "source"
            for user, peer, way, sign in ((sender, destination, "debit", -1), (receiver, source, "credit", 1)):  # fmt: skip
                if (way == "debit") == leg_b and not local:
                    entries.append((payment, IN_TRANSIT_ID_BASE + (source if leg_b else destination), amount, way, now, now))  # fmt: skip
                    continue
                account = self.accounts[user]
                account[1] += sign * amount
                touched[account[0]] = account[1]
                entries.append((payment, account[0], amount, way, now, now))
                kind = "PaymentInitiated" if way == "debit" else "PaymentCompleted"
                data = PaymentData(text, sender, receiver, amount, source, destination, now, now, "INR", "transfer", "", account[1])  # fmt: skip
                outbox.append((f"{text}.{kind}", kind, text, encode(data).decode(), now, ""))
            payments.append((payment, role, sender, receiver, amount, "INR", "PENDING" if pending else "COMPLETED", "", "transfer", source, destination, 1, now, now, None, None, 0, now if pending else None, "", None, now, now))  # fmt: skip
        tx = self.databases[shard].begin()
        if touched:
            tx.update("accounts", ("id",), SET, [(key, balance, 0, "active", now) for key, balance in touched.items()])  # fmt: skip
            tx.insert("transactions", payments)
            tx.insert("ledger_entries", entries)
            tx.insert("outbox_events", outbox)
        if done:
            tx.complete_sources(done, now)
        tx.commit()
