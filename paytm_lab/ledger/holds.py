"""Holds: reserve now, post (capture) or let go (release, expiry) later.

available = balance - held on every path. A hold is a payment in state HELD; one capture posts all
of it or a part, and the rest is released with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from paytm_lab.core.errors import BadInput, OutcomeUnknown, PaytmLabError, Unavailable
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger import queries
from paytm_lab.ledger.operations import Outcome, Release
from paytm_lab.ledger.transfers import TransferEngine
from paytm_lab.ports.shard_database import PaymentRow, ShardDatabase


class Holds:
    def __init__(self, engine: TransferEngine, databases: Mapping[int, ShardDatabase]) -> None:
        self._engine = engine
        self._databases = databases

    def capture(self, payment_id: bytes, amount_paise: int | None = None) -> Outcome:
        """Post the hold. A capture past its time ends it as CANCELLED (expired); a frozen sender
        leaves it HELD with the reason. Raises InvalidAmount for more than was held. Repeats answer
        as the first.
        """
        row = source_row(self._engine, self._databases, payment_id)
        return self._engine.wait(
            lambda done: self._engine.capture(payment_id, row.to_user_id, amount_paise, done)
        )

    def release(self, payment_id: bytes, reason: str = "released") -> Outcome:
        """End the hold without posting; a payment that is not HELD stays as it is."""
        source_row(self._engine, self._databases, payment_id)
        return self._release(payment_id, reason)

    def expire(self, rows_max: int = 1_000, shard: int | None = None) -> int:
        """The sweep: cancel holds past their time, at most ``rows_max`` a shard, on all shards or
        on one; how many it ended. One that cannot be ended keeps no other from it: its error is
        raised when all were tried.
        """
        ended = 0
        failed: PaytmLabError | None = None
        for of, database in self._databases.items():
            if shard is not None and of != shard:
                continue
            for hold in queries.expired_holds(database, self._engine.clock.now_us(), rows_max):
                try:
                    outcome = self._release(hold.payment_id, "expired")
                    ended += outcome.status == "CANCELLED" and not outcome.repeated
                except PaytmLabError as error:
                    error.place = error.place or f"shard-{of}"
                    if isinstance(error, Unavailable | OutcomeUnknown):  # as all others would hear
                        raise
                    failed = failed or error
        if failed is not None:
            raise failed
        return ended

    def _release(self, payment_id: bytes, reason: str) -> Outcome:
        writer = self._engine.writers[self._engine.source_of(payment_id)]
        writer.require_up()
        return self._engine.wait(lambda done: writer.put(Release(payment_id, reason), done))


def source_row(
    engine: TransferEngine, databases: Mapping[int, ShardDatabase], payment_id: bytes
) -> PaymentRow:
    """The payment's source or local row; BadInput when the shard of its slot does not know it."""
    rows = queries.payment_rows(databases[engine.source_of(payment_id)], payment_id)
    row = next((row for row in rows if row.role != "destination"), None)
    if row is None:
        raise BadInput(
            f"payment {payment_id_text(payment_id)} is not known", remedy="Check the payment id."
        )
    return row
