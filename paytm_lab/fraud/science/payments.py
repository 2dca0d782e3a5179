"""Labelled payments as arrays: what features and evaluation are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paytm_lab.core.errors import BadInput

DAY_S = 86_400
_PLACE = "labelled payments"
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Payments:
    """One entry a payment, in order of time. ``time_s``: seconds since 1970 UTC; ``payer`` and
    ``payee``: numbers from 0; ``amount``: rupees; ``fraud``: what became known later.
    """

    time_s: NDArray[np.int64]
    payer: NDArray[np.int64]
    payee: NDArray[np.int64]
    amount: Floats
    fraud: Flags

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def day(self) -> NDArray[np.int64]:
        """Days since 1970 UTC."""
        return self.time_s // DAY_S

    def rows(self, which: Any) -> Payments:
        """Those of a slice, a mask or row numbers."""
        return Payments(
            self.time_s[which],
            self.payer[which],
            self.payee[which],
            self.amount[which],
            self.fraud[which],
        )


def payments(
    time_s: ArrayLike, payer: ArrayLike, payee: ArrayLike, amount: ArrayLike, fraud: ArrayLike
) -> Payments:
    """Checked arrays. BadInput where they differ in length, are not in order of time, or hold what
    is no number, time or amount.
    """
    columns = {
        "time_s": np.asarray(time_s),
        "payer": np.asarray(payer),
        "payee": np.asarray(payee),
        "amount": np.asarray(amount),
        "fraud": np.asarray(fraud),
    }
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "iufb":
            raise BadInput(f"{name} is no column of numbers", place=_PLACE)
        if len(column) != len(columns["time_s"]):
            raise BadInput(
                f"{name} has {len(column)} entries, time_s {len(columns['time_s'])}", place=_PLACE
            )
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise BadInput(
                f"{name} holds NaN or infinity", place=_PLACE, remedy="Leave those rows out."
            )
    if len(columns["time_s"]) and (np.diff(columns["time_s"]) < 0).any():
        raise BadInput("payments are not in order of time", place=_PLACE, remedy="Sort them.")
    for name in ("payer", "payee", "amount"):
        if len(columns[name]) and columns[name].min() < 0:
            raise BadInput(f"{name} holds a negative number", place=_PLACE)
    return Payments(
        columns["time_s"].astype(np.int64),
        columns["payer"].astype(np.int64),
        columns["payee"].astype(np.int64),
        columns["amount"].astype(np.float64),
        columns["fraud"].astype(np.bool_),
    )
