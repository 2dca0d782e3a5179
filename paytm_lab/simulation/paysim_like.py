"""Mobile money with the flaw of PaySim: frauds that were undone, so that balances tell them.

After the published description and the data dictionary (Lopez-Rojas, Elmir, Axelsson, 2016,
"PaySim: a financial mobile money simulator for fraud detection"): a thief empties an account by a
TRANSFER and cashes out; the frauds were cancelled, so the receiver's balances do not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paytm_lab.core.errors import BadInput

BALANCES = ("oldbalanceOrg", "newbalanceOrig", "oldbalanceDest", "newbalanceDest")
CHANGES = (
    ("payer_change", "oldbalanceOrg", "newbalanceOrig"),
    ("payee_change", "newbalanceDest", "oldbalanceDest"),
)
ROWS_MAX = 50_000_000
_TRANSFER, _CASH_OUT, _PAYMENT = 0, 1, 2


@dataclass(frozen=True)
class PaySimLike:
    """``columns`` by PaySim's names (``step``: hours; ``type``: 0 TRANSFER, 1 CASH_OUT, 2 PAYMENT;
    the rest is money), in order of time; ``fraud``: PaySim's isFraud.
    """

    columns: dict[str, NDArray[np.float64]]
    fraud: NDArray[np.bool_]


def paysim_like(seed: int, rows: int = 50_000, fraud_share: float = 0.01) -> PaySimLike:
    """``fraud_share`` is larger than PaySim's 0.13 %, so that few rows hold some frauds. BadInput
    for sizes that make no data.
    """
    if not 10 <= rows <= ROWS_MAX or not 0 < fraud_share < 1:
        raise BadInput(
            f"rows={rows!r}, fraud_share={fraud_share!r}",
            place="paysim_like",
            remedy=f"Give 10 to {ROWS_MAX:,} rows, and a share between 0 and 1.",
        )
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < fraud_share
    kind = rng.choice(3, rows, p=(0.2, 0.4, 0.4)).astype(np.float64)
    kind[fraud] = rng.integers(0, 2, int(fraud.sum()))
    old_payer = np.round(rng.lognormal(9.5, 1.6, rows), 2)
    wanted = np.round(rng.lognormal(8.5, 1.4, rows), 2)
    # People try to pay more than they have, and PaySim lets them; a thief takes what there is.
    amount = np.where(fraud, old_payer, wanted)
    new_payer = np.maximum(0.0, old_payer - amount)
    merchant = kind == _PAYMENT
    old_payee = np.where(merchant, 0.0, np.round(rng.lognormal(10.5, 1.8, rows), 2))
    new_payee = np.where(merchant, 0.0, old_payee + amount)
    undone = fraud & (rng.random(rows) < 0.95)
    old_payee[undone & (kind == _TRANSFER)] = 0.0
    new_payee[undone] = old_payee[undone]
    columns = {
        "step": np.sort(rng.integers(1, 744, rows)).astype(np.float64),
        "type": kind,
        "amount": amount,
        "oldbalanceOrg": old_payer,
        "newbalanceOrig": np.round(new_payer, 2),
        "oldbalanceDest": np.round(old_payee, 2),
        "newbalanceDest": np.round(new_payee, 2),
    }
    return PaySimLike(columns, fraud)
