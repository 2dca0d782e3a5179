"""What the engine is measured against: the same rows and commits, no evaluation and no futures.

One thread a shard writes both legs and the finalisations with the writer's own multi-row
statements, in as many commits as the engine took for the same plan. With one in flight: one thread,
one leg a commit.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from paytm_lab.core.clock import SystemClock
from paytm_lab.core.events import PaymentData, encode
from paytm_lab.core.ids import PaymentIds, payment_id_text
from paytm_lab.ledger.schema import IN_TRANSIT_ID_BASE
from paytm_lab.ports.shard_database import ShardDatabase

Plan = list[tuple[str, str, int, int, int]]  # from, to, source, destination, amount
Payments = list[tuple[bytes, int, str, str, int, int, int]]  # id and stamp before it
Accounts = dict[str, list[int]]  # user -> [account id, balance]
SET = ("balance", "held", "state", "updated_at")
DEBIT, CREDIT = ("debit", -1, "PaymentInitiated"), ("credit", 1, "PaymentCompleted")


class RawLoop:
    def __init__(self, databases: dict[int, ShardDatabase], accounts: Accounts) -> None:
        self.databases, self.accounts, self.clock = databases, accounts, SystemClock()
        self.sent: dict[int, list[bytes]] = {shard: [] for shard in databases}

    def run(self, plan: Plan, commits: int | None = None) -> float:
        """Seconds to write the whole plan in about so many commits (None: one leg a commit)."""
        ids = PaymentIds(self.clock)
        payments: Payments = [(ids.next(0), self.clock.now_us(), *payment) for payment in plan]
        started = time.perf_counter()
        if commits is None:
            for payment in payments:
                for shard in dict.fromkeys(payment[4:6]):
                    self.commit(shard, [payment])
        else:
            size = max(1, round(len(plan) / commits))
            with ThreadPoolExecutor(len(self.databases)) as pool:
                list(pool.map(lambda shard: self.write(shard, payments, size), self.databases))
        for shard in self.databases:
            self.commit(shard, [])
        return time.perf_counter() - started

    def write(self, shard: int, payments: Payments, size: int) -> None:
        own = [payment for payment in payments if payment[4] == shard]
        incoming = [payment for payment in payments if payment[5] == shard != payment[4]]
        for at in range(0, max(len(own), len(incoming)), size):
            self.commit(shard, own[at : at + size] + incoming[at : at + size])

    def commit(self, shard: int, payments: Payments) -> None:
        """One transaction: the payments' legs on this shard, and (c) of those it sent before."""
        now, touched, rows, entries, outbox = self.clock.now_us(), {}, [], [], []
        done, self.sent[shard] = self.sent[shard], [p[0] for p in payments if p[5] != shard == p[4]]
        for payment, stamp, sender, receiver, source, to, amount in payments:
            text = payment_id_text(payment)
            data = (text, sender, receiver, amount, source, to, stamp, now, "INR", "transfer", "")
            for user, home, (way, sign, name) in ((sender, source, DEBIT), (receiver, to, CREDIT)):
                if home != shard:
                    entries.append((payment, IN_TRANSIT_ID_BASE + home, amount, way, now, stamp))
                    continue
                account = self.accounts[user]
                account[1] += sign * amount
                touched[account[0]] = account[1]
                entries.append((payment, account[0], amount, way, now, stamp))
                balances = (account[1], None) if sign < 0 else (None, account[1])
                event = encode(PaymentData(*data, *balances)).decode()
                outbox.append((f"{text}.{name}", name, text, event, now, ""))
            role = "source" if to != shard else "local" if source == shard else "destination"
            status, since = ("PENDING", now) if role == "source" else ("COMPLETED", None)
            row = (payment, role, sender, receiver, amount, "INR", status, "", "transfer", source)
            rows.append((*row, to, 1, stamp, now, None, None, 0, since, "", None, "", now, now))
        tx = self.databases[shard].begin()
        tx.defer()
        tx.update("accounts", ("id",), SET, [(k, b, 0, "active", now) for k, b in touched.items()])
        tx.insert("transactions", rows)
        tx.insert("ledger_entries", entries)
        tx.insert("outbox_events", outbox)
        tx.complete_sources(done, now)
        tx.commit()
