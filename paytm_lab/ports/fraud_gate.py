"""The question the ledger side asks before posting, when the gate is set to ``before``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from paytm_lab.core.fraud import Candidate, Verdict


class FraudGate(Protocol):
    def decide(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict per candidate, in order. Counts (velocity) are reserved atomically, so that
        of N parallel payments against a limit of k exactly k pass. Asking again about the same
        payment id gives the same verdict while its window lasts. Raises core.errors.Unavailable
        when it cannot answer.
        """

    def cancel(self, candidate: Candidate) -> None:
        """The payment was not made: give its reserved count back."""
