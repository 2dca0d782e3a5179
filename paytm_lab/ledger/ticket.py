"""What ``Lab.submit`` gives at once: a payment whose answer comes later."""

from __future__ import annotations

from paytm_lab.core.errors import PaytmLabError
from paytm_lab.ledger.operations import Outcome, Result


class Ticket:
    """A submitted payment. ``outcome`` is None until the ledger answered; ``error``: why not."""

    def __init__(self, payment_id: str) -> None:
        self.payment_id = payment_id
        self.outcome: Outcome | None = None
        self.error: PaytmLabError | None = None

    def _answer(self, result: Result) -> None:
        if isinstance(result, Outcome):
            self.outcome = result
        else:
            self.error = result

    @property
    def answered(self) -> bool:
        return self.outcome is not None or self.error is not None

    def __repr__(self) -> str:
        said = self.outcome.status if self.outcome is not None else self.error or "on its way"
        return f"<payment {self.payment_id}: {said}>"
