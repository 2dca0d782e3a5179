"""A wallet economy on paper: who tops up, is paid, pays, cashes out, and who cheats.

``Economy`` says how large and how long; ``generate`` yields days of payments as numpy batches in
order of time. Every payment moves whole paise from one account to another: wallets of users and
merchants, and three named accounts outside. Rows of fraud carry their pattern and ring.
"""

from __future__ import annotations

from paytm_lab.simulation.economy.batch import KINDS, PATTERNS, EconomyBatch, joined
from paytm_lab.simulation.economy.books import Books
from paytm_lab.simulation.economy.calibration import calibrated
from paytm_lab.simulation.economy.economy import Economy
from paytm_lab.simulation.economy.files import write_payments
from paytm_lab.simulation.economy.live import EconomySource
from paytm_lab.simulation.economy.measure import Measured, comparison, require_close
from paytm_lab.simulation.economy.profile import UPI_LIKE, Profile

__all__ = [
    "KINDS",
    "PATTERNS",
    "UPI_LIKE",
    "Books",
    "Economy",
    "EconomyBatch",
    "EconomySource",
    "Measured",
    "Profile",
    "calibrated",
    "comparison",
    "joined",
    "require_close",
    "write_payments",
]
