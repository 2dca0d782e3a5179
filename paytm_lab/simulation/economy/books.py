"""Whether money was kept: sums that do not trust the generator's own balances."""

from __future__ import annotations

from typing import Any

import numpy as np

from paytm_lab.core.errors import IntegrityError
from paytm_lab.simulation.economy.batch import Accounts, EconomyBatch
from paytm_lab.simulation.population import I64


class Books:
    """Adds up batches, in order. ``opening_paise``: what each account starts with, by number.

    Keeps two numbers an account: what it should hold after all payments so far, and what the last
    batch's balance columns said of it.
    """

    def __init__(self, accounts: Accounts, opening_paise: I64) -> None:
        self._accounts = accounts
        self._opening = int(opening_paise.sum())
        self.balance_paise: I64 = opening_paise.astype(np.int64, copy=True)
        self._said = self.balance_paise.copy()
        self._problems: dict[str, str] = {}
        self.payments = 0
        self._last_us = -1

    def add(self, batch: EconomyBatch) -> None:
        """One batch; what is wrong with it is kept for ``checks``."""
        sides = (batch.from_account, batch.to_account)
        both = np.stack(sides)
        self._note("two_accounts", np.flatnonzero(sides[0] == sides[1]), "pays itself", batch)
        bad = (both < 0) | (both >= self._accounts.count)
        self._note("accounts_known", np.flatnonzero(bad.any(axis=0)), "names no account", batch)
        low = np.flatnonzero(batch.amount_paise <= 0)
        self._note("amounts_positive", low, "moves nothing", batch)
        late = np.flatnonzero(np.diff(batch.at_us, prepend=self._last_us) < 0)
        self._note("in_order_of_time", late, "is earlier than the one before", batch)
        if bad.any():
            return
        if batch.amount_paise.dtype != np.int64:
            self._problems.setdefault("whole_paise", f"amounts are {batch.amount_paise.dtype}")
        np.subtract.at(self.balance_paise, batch.from_account, batch.amount_paise)
        np.add.at(self.balance_paise, batch.to_account, batch.amount_paise)
        places = np.empty(2 * len(batch), dtype=np.int64)
        places[0::2], places[1::2] = sides
        after = np.empty(2 * len(batch), dtype=np.int64)
        after[0::2], after[1::2] = batch.from_balance_paise, batch.to_balance_paise
        below = np.flatnonzero((after < 0) & (places < self._accounts.wallets))
        self._note("never_negative", below // 2, "leaves a wallet below zero", batch)
        # Each balance is the one before it plus what was moved: a chain over the whole run.
        order = np.argsort(places, kind="stable")
        account = places[order]
        moved = np.empty(2 * len(batch), dtype=np.int64)
        moved[0::2], moved[1::2] = -batch.amount_paise, batch.amount_paise
        starts = np.concatenate(([True], account[1:] != account[:-1]))[: len(account)]
        before = np.concatenate(([0], after[order][:-1]))[: len(account)]
        before = np.where(starts, self._said[account], before)
        broken = np.sort(order[before + moved[order] != after[order]]) // 2
        self._note("balances_add_up", broken, "has a balance that does not follow", batch)
        self._said[account] = 0  # so that the last of each account is what stays
        ends = np.concatenate((starts[1:], [True]))[: len(account)]
        self._said[account[ends]] = after[order][ends]
        self.payments += len(batch)
        self._last_us = int(batch.at_us[-1]) if len(batch) else self._last_us

    def checks(self) -> list[dict[str, Any]]:
        """Rows ``check``, ``state`` (passed, failed, unknown) and ``detail``."""
        wallets = self._accounts.wallets
        inside = int(self.balance_paise[:wallets].sum())
        outside = int(self.balance_paise[wallets:].sum())
        if inside + outside != self._opening:
            self._problems.setdefault(
                "money_kept", f"{inside + outside} paise in all, {self._opening} at the start"
            )
        low = np.flatnonzero(self.balance_paise[:wallets] < 0)
        if len(low):
            text = f"account {low[0]} ends at {self.balance_paise[low[0]]} paise"
            self._problems.setdefault("never_negative", text)
        off = np.flatnonzero(self._said != self.balance_paise)
        if len(off):
            text = f"account {off[0]}: {self._said[off[0]]} said, {self.balance_paise[off[0]]} is"
            self._problems.setdefault("balances_add_up", text)
        good = {
            "money_kept": f"wallets hold {inside}, outside {outside} paise, together the opening",
            "never_negative": f"{wallets} wallets",
        }
        rows = []
        for check in _CHECKS:
            problem = self._problems.get(check)
            state = "failed" if problem else "passed" if self.payments else "unknown"
            detail = problem or good.get(check, f"{self.payments} payments")
            rows.append({"check": check, "state": state, "detail": detail})
        return rows

    def require_clean(self) -> None:
        """Raises IntegrityError naming each check that did not pass."""
        bad = [f"{r['check']}: {r['detail']}" for r in self.checks() if r["state"] != "passed"]
        if bad:
            raise IntegrityError(f"the economy's books do not balance: {'; '.join(bad)}")

    def _note(self, check: str, rows: I64, what: str, batch: EconomyBatch) -> None:
        if len(rows):
            line = batch.first_line + int(rows[0])
            self._problems.setdefault(check, f"payment {line} {what} ({len(rows)} such)")


_CHECKS = (
    "money_kept",
    "never_negative",
    "balances_add_up",
    "amounts_positive",
    "whole_paise",
    "two_accounts",
    "accounts_known",
    "in_order_of_time",
)
