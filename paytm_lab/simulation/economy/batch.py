"""Payments of an economy as columns, and what their codes mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import BadInput
from paytm_lab.simulation.population import I64

if TYPE_CHECKING:
    import pandas as pd

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]

KINDS = ("top_up", "salary", "peer", "merchant", "cash_out", "settlement")
TOP_UP, SALARY, PEER, MERCHANT, CASH_OUT, SETTLEMENT = range(len(KINDS))
PATTERNS = (
    "none",
    "account_drain",
    "card_testing",
    "structuring",
    "fan_in",
    "fan_out",
    "cycle",
    "merchant_collusion",
    "bust_out",
)
ORDINARY = 0
OUTSIDE = ("outside:bank", "outside:cards", "outside:employers")
BANK, CARDS, EMPLOYERS = range(len(OUTSIDE))
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Accounts:
    """Account numbers: users from 0, then merchants, then the three of OUTSIDE.

    Ids: '1'..'N' for users, 'merchant:1'.. for merchants. Only accounts outside may go below zero:
    what they are short of is what they brought in.
    """

    users: int
    merchants: int

    @property
    def wallets(self) -> int:
        """Users and merchants; their balances are never negative."""
        return self.users + self.merchants

    @property
    def count(self) -> int:
        return self.wallets + len(OUTSIDE)

    def outside(self, which: int) -> int:
        """The number of BANK, CARDS or EMPLOYERS."""
        return self.wallets + which

    def ids(self) -> list[str]:
        """Every account's id, by number."""
        users = map(str, range(1, self.users + 1))
        merchants = (f"merchant:{number}" for number in range(1, self.merchants + 1))
        return [*users, *merchants, *OUTSIDE]


@dataclass(frozen=True, slots=True)
class EconomyBatch:
    """Payments in order of time; arrays of shape (n,).

    ``first_line``: the number of the first payment, from 1. ``at_us``: microseconds since 1970 UTC.
    ``from_account``, ``to_account``: account numbers (see Accounts). ``kind``, ``pattern``: places
    in KINDS and PATTERNS; ``ring``: from 1, 0 for ordinary payments. ``*_balance_paise``: what the
    payer and the payee hold right after the payment.
    """

    first_line: int
    at_us: I64
    from_account: I64
    to_account: I64
    amount_paise: I64
    kind: I8
    pattern: I8
    ring: I32
    from_balance_paise: I64
    to_balance_paise: I64

    def __len__(self) -> int:
        return len(self.at_us)

    def frame(self, accounts: Accounts) -> pd.DataFrame:
        """One row a payment: ids for numbers, words for codes, the columns of a written file but
        for the payment's id; ``kind`` and ``pattern`` are categories.
        """
        import pandas as pd  # half a second that generating does not need

        ids = pd.Series(accounts.ids(), dtype="str")
        words = {"kind": KINDS, "pattern": PATTERNS}
        return pd.DataFrame(
            {
                "from_user": ids.take(self.from_account).to_numpy(),
                "to_user": ids.take(self.to_account).to_numpy(),
                "amount_paise": self.amount_paise,
                "at_us": self.at_us,
                **{
                    name: pd.Categorical.from_codes(getattr(self, name), list(names))
                    for name, names in words.items()
                },
                "ring": self.ring,
                "from_balance_paise": self.from_balance_paise,
                "to_balance_paise": self.to_balance_paise,
            }
        )


COLUMNS = tuple(field.name for field in fields(EconomyBatch))[1:]


def joined(batches: Iterable[EconomyBatch]) -> EconomyBatch:
    """All batches as one. Raises BadInput for none at all."""
    held = list(batches)
    if not held:
        raise BadInput("there is no batch to join", remedy="Give what Economy.generate yields.")
    columns = (np.concatenate([getattr(batch, name) for batch in held]) for name in COLUMNS)
    return EconomyBatch(held[0].first_line, *columns)
