"""What a shard's writer is asked to do, and what it answers. Plain records; amounts in paise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from paytm_lab.core.errors import PaytmLabError
from paytm_lab.core.ids import payment_id_text


class Pay(msgspec.Struct, gc=False):
    """Leg (a) of a payment on its source shard, or the whole of it when ``to_shard`` is this shard.

    ``refusal``: a reason found before the ledger was asked (the fraud gate's block). ``hold``: only
    reserve the amount until ``expires_at``. ``kind``: transfer | refund (``refund_of`` is set).
    """

    payment_id: bytes
    from_user_id: str
    to_user_id: str
    amount: int
    currency: str
    slot: int
    to_shard: int
    map_version: int
    occurred_at: int
    kind: str = "transfer"
    key_hash: bytes | None = None
    refusal: str = ""
    hold: bool = False
    expires_at: int = 0
    refund_of: bytes | None = None
    fraud_decision: str = ""
    fraud_score: float | None = None
    fraud_rule: str = ""
    traceparent: str = ""


class Credit(msgspec.Struct, gc=False):
    """Leg (b): credit the receiver, exactly once. ``recheck``: look for a row of it first."""

    payment_id: bytes
    from_user_id: str
    to_user_id: str
    amount: int
    currency: str
    from_shard: int
    to_slot: int
    map_version: int
    stamp: int
    occurred_at: int
    kind: str = "transfer"
    refund_of: bytes | None = None
    receivable: int = 0
    from_balance: int | None = None
    fraud_decision: str = ""
    fraud_score: float | None = None
    fraud_rule: str = ""
    traceparent: str = ""
    recheck: bool = False


class Complete(msgspec.Struct, gc=False):
    """Leg (c) after a credit: the source row becomes COMPLETED. Repeating it changes nothing."""

    payment_id: bytes


class GiveBack(msgspec.Struct, gc=False):
    """Leg (c) after a refusal: the sender gets the money back and the payment becomes FAILED."""

    payment_id: bytes
    reason: str


class Retarget(msgspec.Struct, gc=False):
    """The receiver's slot moved before the credit: point a PENDING payment at its new shard."""

    payment_id: bytes
    to_shard: int
    map_version: int


class Capture(msgspec.Struct, gc=False):
    """Post a hold, all of it (``amount`` None) or a part; the rest is released with it."""

    payment_id: bytes
    amount: int | None
    to_shard: int
    map_version: int
    traceparent: str = ""


class Release(msgspec.Struct, gc=False):
    """End a hold without posting. ``reason``: released | rejected | expired (once it is time)."""

    payment_id: bytes
    reason: str


class Credential(msgspec.Struct, gc=False, frozen=True):
    """How a user logs in: the password's hash, and permissions as words with spaces between."""

    password_hash: str
    permissions: str


class CreateAccount(msgspec.Struct, gc=False):
    """A user's account. The opening balance is payment ``payment_id`` from ``system:funding``. With
    a ``credential`` its user can log in, from the same transaction on.
    """

    user_id: str
    opening: int
    currency: str
    slot: int
    payment_id: bytes
    create_key: bytes | None = None
    credential: Credential | None = None


class SetAccountState(msgspec.Struct, gc=False):
    """``state``: active | frozen (no debits) | frozen_all (no credits either) | closed."""

    user_id: str
    state: str


class ApplyFraud(msgspec.Struct, gc=False):
    """A fraud answer: open a review; ``block`` also freezes the sender. Once per ``event_id``."""

    event_id: str
    payment_id: bytes
    decision: str
    rule: str


class DecideReview(msgspec.Struct, gc=False):
    """Move a review to ``state`` (approved | rejecting | rejected) on behalf of ``decided_by``."""

    payment_id: bytes
    state: str
    decided_by: str


Operation = (
    Pay
    | Credit
    | Complete
    | GiveBack
    | Retarget
    | Capture
    | Release
    | CreateAccount
    | SetAccountState
    | ApplyFraud
    | DecideReview
)


class Outcome(msgspec.Struct, gc=False):
    """What an operation led to. ``status``: the state of the payment (account, review) after it.

    ``balance``: the touched user's balance after. ``repeated``: the operation had been done before
    and this is its first outcome. ``amount``, ``stamp``, ``from_shard``, ``to_shard``: the
    payment's. ``moved``: the shard does not own the user's slot; nothing was done.
    ``fraud_decision``, ``fraud_score``, ``fraud_rule``: the gate's, as stored with the payment.
    """

    status: str
    reason: str = ""
    payment_id: bytes = b""
    amount: int = 0
    stamp: int = 0
    balance: int | None = None
    from_shard: int = -1
    to_shard: int = -1
    receivable: int = 0
    repeated: bool = False
    moved: bool = False
    from_user_id: str = ""
    to_user_id: str = ""
    kind: str = "transfer"
    occurred_at: int = 0
    refund_of: bytes | None = None
    fraud_decision: str = ""
    fraud_score: float | None = None
    fraud_rule: str = ""

    @property
    def payment(self) -> str:
        """The payment id as text."""
        return payment_id_text(self.payment_id)


MOVED = Outcome(status="", moved=True)
Result = Outcome | PaytmLabError
Done = Callable[[Result], Any]


class PaymentRequest(msgspec.Struct, gc=False, frozen=True):
    """A payment as a caller asks for it. ``at_us``: when the payer asked, where a file says so."""

    from_user_id: str
    to_user_id: str
    amount_paise: int
    currency: str = "INR"
    idempotency_key: str = ""
    subject: str = "lab"
    hold: bool = False
    at_us: int | None = None
    traceparent: str = ""
