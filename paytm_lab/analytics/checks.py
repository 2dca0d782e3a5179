"""Looks a shard's entries and balances over again and again, a small part at a time, so that what
is changed behind the ledger's back is found: new entries at once, old ones as their turn comes.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from paytm_lab.analytics.seldom import Seldom
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger import watching
from paytm_lab.ledger.schema import FIRST_USER_ACCOUNT_ID
from paytm_lab.ledger.watching import Heads, Unbalanced, WrongBalance

SHARE = 0.003  # of the time, for each of the two walks
SHARE_SEARCHING = 0.2  # while it is known that something is wrong
STEP_S = 0.003  # a step is made larger or smaller so that it takes about this
ROWS_MIN, ROWS_MAX = 32, 50_000
FOUND_MAX = 20
PATIENCE = 3  # steps after which a payment that does not balance yet is looked at for itself


class Finding(NamedTuple):
    """Something that cannot be. ``payment_id`` may be '' where no payment can be named."""

    shard: int
    payment_id: str
    user_id: str
    difference_paise: int
    what: str


class _Walk:
    """A cursor over ids that goes round, in steps that take about as long as they may."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.at = first
        self.rounds = 0
        self._rows = ROWS_MIN
        self.seldom = Seldom(SHARE)
        self._searching = Seldom(SHARE_SEARCHING)

    def due(self, searching: bool) -> bool:
        return (self._searching if searching else self.seldom).due()

    def step(self, head: int) -> tuple[int, int]:
        """(after, up to) of the next part; begins again behind the head."""
        if self.at >= head:
            self.at = self._first
            self.rounds += 1
        return self.at, min(head, self.at + self._rows)

    def done(self, up_to: int, took_s: float) -> None:
        self.at = up_to
        times = min(2.0, max(0.25, STEP_S / max(took_s, 1e-6)))
        self._rows = min(ROWS_MAX, max(ROWS_MIN, int(self._rows * times)))

    def taking(self, searching: bool) -> Seldom:
        return self._searching if searching else self.seldom


class EntryChecks:
    """Of one shard. ``step`` from one thread at a time; ``searching``: set while the shard's sums
    do not agree, so that the place is found soon.
    """

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.searching = False
        self._accounts = _Walk(FIRST_USER_ACCOUNT_ID - 1)
        self._entries = _Walk(0)
        self._new_from: int | None = None
        self._carried: dict[bytes, tuple[Unbalanced, int]] = {}  # and since how many steps
        self._payments: dict[bytes, Unbalanced] = {}
        self._balances: dict[int, WrongBalance] = {}

    @property
    def rounds(self) -> int:
        """How often everything was looked over since the start."""
        return min(self._accounts.rounds, self._entries.rounds)

    def step(self, connection: Connection, heads: Heads) -> list[Finding]:
        """Look a part over, and what was found before once more; what is wrong now."""
        searching = self.searching or bool(self._payments or self._balances)
        if self._accounts.due(searching):
            self._look_at_accounts(connection, heads.account, searching)
        if self._new_from is None:
            self._new_from = heads.entry  # what was there before comes in its turn
        if heads.entry > self._new_from:
            after = max(self._new_from, heads.entry - ROWS_MAX)
            self._look_at_entries(connection, after, heads.entry)
            self._new_from = heads.entry
        if heads.entry and self._entries.due(searching):
            with (seldom := self._entries.taking(searching)).taking():
                after, up_to = self._entries.step(heads.entry)
                self._look_at_entries(connection, after, up_to)
            self._entries.done(up_to, seldom.last_s)
        return self._confirmed(connection)

    def _look_at_accounts(self, connection: Connection, head: int, searching: bool) -> None:
        with (seldom := self._accounts.taking(searching)).taking():
            after, up_to = self._accounts.step(head)
            for wrong in watching.wrong_balances(connection, after, up_to):
                if len(self._balances) < FOUND_MAX:
                    self._balances[wrong.account_id] = wrong
        self._accounts.done(up_to, seldom.last_s)

    def _look_at_entries(self, connection: Connection, after: int, up_to: int) -> None:
        """A payment that the range's end cuts in two balances with what comes next to it."""
        carried = {payment: (part, age + 1) for payment, (part, age) in self._carried.items()}
        for part in watching.unbalanced(connection, after, up_to):
            known, age = carried.pop(part.payment_id, (None, 0))
            if known is not None:
                part = Unbalanced(
                    part.payment_id, part.net_paise + known.net_paise,
                    min(part.first, known.first), max(part.last, known.last),
                )  # fmt: skip
            if part.net_paise:
                carried[part.payment_id] = (part, age)
        for payment, (part, age) in list(carried.items()):
            whole = after < part.first - watching.NEAR and part.last + watching.NEAR < up_to
            if age >= PATIENCE or whole or up_to - after < watching.NEAR:
                del carried[payment]
                if watching.still_unbalanced(connection, part) and len(self._payments) < FOUND_MAX:
                    self._payments[payment] = part
        self._carried = carried

    def _confirmed(self, connection: Connection) -> list[Finding]:
        found: dict[str, Finding] = {}
        for payment, part in list(self._payments.items()):
            net = watching.still_unbalanced(connection, part)
            if net == 0:
                del self._payments[payment]
                continue
            text = payment_id_text(payment)
            found[text] = Finding(
                self.shard, text, "", net, "its debits are not its credits on this shard"
            )
        for account in list(self._balances):
            wrong = watching.wrong_balances(connection, account - 1, account)
            if not wrong:
                del self._balances[account]
                continue
            payment_text, surely = watching.explained(connection, account)
            by = wrong[0].balance_paise - wrong[0].entries_paise
            what = (
                "its entry is not of the payment's amount"
                if surely
                else "the balance is not the sum of the account's entries; this is its last payment"
            )
            if payment_text not in found or not payment_text:
                key = payment_text or wrong[0].user_id
                found[key] = Finding(self.shard, payment_text, wrong[0].user_id, by, what)
        return list(found.values())[:FOUND_MAX]
