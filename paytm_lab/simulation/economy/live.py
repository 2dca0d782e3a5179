"""An economy posted into a live lab: ``lab.run(EconomySource(economy, seed))``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from paytm_lab.simulation.economy.economy import Economy
from paytm_lab.simulation.payments import BATCH_ROWS, Transfer
from paytm_lab.simulation.population import I64


class EconomySource:
    """The economy's payments as a lab takes them (see ``simulation.sources``).

    A lab posts many payments side by side, and a payment may overtake the one that was to fund it.
    So with ``in_any_order`` each account opens with all that it sends on top of its own opening,
    and no payment meets too little money. Without, wallets open with what they have in the economy:
    then post one at a time (``in_flight=1``), and every wallet ends as the economy says. Accounts
    outside open with all that they send.

    Idempotency keys come from the economy's digest and the line: a second run posts nothing.
    """

    columns = ("from", "to", "amount", "id", "time")

    def __init__(self, economy: Economy, seed: int, *, in_any_order: bool = True) -> None:
        self.economy = economy
        self.seed = seed
        self._in_any_order = in_any_order

    @cached_property
    def _totals(self) -> tuple[int, I64, I64]:
        """(payments, opening, sent) by account; generated once to be counted."""
        accounts = self.economy.accounts
        sent = np.zeros(accounts.count, dtype=np.int64)
        payments, drawn = 0, self.economy.drawn(self.seed)
        for batch in drawn.generate():
            np.add.at(sent, batch.from_account, batch.amount_paise)
            payments += len(batch)
        return payments, drawn.opening_paise(), sent

    @property
    def accepted(self) -> int:
        """How many payments there are."""
        return self._totals[0]

    def openings(self) -> dict[str, int]:
        """Account id -> opening balance in the lab, paise; all accounts."""
        _, opening, sent = self._totals
        held = opening + sent
        if not self._in_any_order:
            held[: self.economy.accounts.wallets] = opening[: self.economy.accounts.wallets]
        return dict(zip(self.economy.accounts.ids(), held.tolist(), strict=True))

    def rows(self) -> Iterator[list[Transfer]]:
        """All payments in order of time, in lists of up to BATCH_ROWS; may be called again."""
        ids = self.economy.accounts.ids()
        prefix = self.economy.digest(self.seed)
        for batch in self.economy.generate(self.seed):
            for first in range(0, len(batch), BATCH_ROWS):
                part = slice(first, first + BATCH_ROWS)
                columns = zip(
                    batch.from_account[part].tolist(),
                    batch.to_account[part].tolist(),
                    batch.amount_paise[part].tolist(),
                    batch.at_us[part].tolist(),
                    strict=True,
                )
                yield [
                    Transfer(line, ids[payer], ids[payee], paise, at_us, f"{prefix}-{line}")
                    for line, (payer, payee, paise, at_us) in enumerate(
                        columns, batch.first_line + first
                    )
                ]
