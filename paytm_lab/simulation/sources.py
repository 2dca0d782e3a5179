"""What a lab can post besides a workload: a file that was judged, or an economy."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Protocol

from paytm_lab.simulation.payments import Transfer


class PaymentSource(Protocol):
    """Payments that are known before the first is posted."""

    @property
    def accepted(self) -> int:
        """How many payments ``rows`` yields."""

    @property
    def columns(self) -> Container[str]:
        """Which fields its payments have; without 'time' they are spread up to now."""

    def openings(self) -> dict[str, int]:
        """User id -> opening balance in paise, for every user of a payment."""

    def rows(self) -> Iterator[list[Transfer]]:
        """The payments in order, in lists; may be called again."""
