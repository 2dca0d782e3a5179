"""The one error tree. Every error names the value, the place and the remedy.

PaytmLabError
├── BadInput                    exit 2   the caller's words are wrong; nothing was changed
│   ├── InvalidAmount           amount outside the grammar or the limits
│   ├── InvalidUserId           id outside the grammar, or reserved
│   ├── InvalidCurrency         a currency the lab does not hold
│   ├── SameAccount             both sides of a payment are one user
│   ├── InvalidSetting          a setting or option that cannot be used
│   └── MalformedFile           a file that is not what it should be
├── Unauthenticated             exit 2   nobody knows who asks: no token, or one that is not valid
├── Forbidden                   exit 2   who asks may not do this
├── NotFound                    exit 2   there is no such thing, or not for who asks
├── RateLimited                 exit 3   too many requests; repeat later (``retry_after_s``)
├── Conflict                    exit 2   the request contradicts what is already there
│   ├── IdempotencyConflict     the same key came with another body
│   └── AccountExists           the account exists with other terms
├── Unavailable                 exit 3   nothing was changed; repeat later (``retry_after_s``)
│   ├── ShardUnavailable        a shard does not answer
│   ├── Overloaded              no admission token was free
│   ├── OutboxFull              a shard's outbox is at its bound
│   └── MissingPart             something the lab needs is not there
├── OutcomeUnknown              exit 4   a commit's answer was lost; repeat with the same key
├── StoreError                  exit 3   what a backend may raise; the writer retries Transient ones
│   ├── TransientStoreError
│   │   ├── Deadlock
│   │   ├── LockTimeout
│   │   ├── ConnectionLost      before a commit was sent: nothing happened
│   │   ├── CommitOutcomeLost   while a commit was in flight: it may have happened
│   │   └── DuplicateKey        a unique key exists already
│   ├── StorageFull             no space left
│   └── StorageCorrupt          a file or table cannot be read
├── NotebookFailed              exit 1   a cell raised or ran too long
└── IntegrityError              exit 1   the data contradicts itself; never silently passed over
    ├── FingerprintMismatch     a leg found a row of its id with other contents
    └── IllegalTransition       a state change outside the table of allowed ones
"""

from __future__ import annotations


class PaytmLabError(Exception):
    """Base of all errors. ``code`` is stable; ``exit_code`` is what the command line returns."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        where = f" (at {self.place})" if self.place else ""
        what_next = f" {self.remedy}" if self.remedy else ""
        return f"{self.message}{where}.{what_next}" if where or what_next else self.message


class BadInput(PaytmLabError):
    code = "bad_input"
    exit_code = 2


class InvalidAmount(BadInput):
    code = "invalid_amount"


class InvalidUserId(BadInput):
    code = "invalid_user_id"


class InvalidCurrency(BadInput):
    code = "invalid_currency"


class SameAccount(BadInput):
    code = "same_account"


class InvalidSetting(BadInput):
    code = "invalid_setting"


class MalformedFile(BadInput):
    code = "malformed_file"


class Unauthenticated(PaytmLabError):
    code = "unauthenticated"
    exit_code = 2


class Forbidden(PaytmLabError):
    code = "forbidden"
    exit_code = 2


class NotFound(PaytmLabError):
    code = "not_found"
    exit_code = 2


class RateLimited(PaytmLabError):
    """Nothing was changed. ``retry_after_s`` says when a repeat is worth trying."""

    code = "rate_limited"
    exit_code = 3

    def __init__(
        self, message: str, *, place: str = "", remedy: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.retry_after_s = retry_after_s


class Conflict(PaytmLabError):
    code = "conflict"
    exit_code = 2


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"


class AccountExists(Conflict):
    code = "account_exists"


class Unavailable(PaytmLabError):
    """Nothing was changed. ``retry_after_s`` says when a repeat is worth trying."""

    code = "unavailable"
    exit_code = 3

    def __init__(
        self, message: str, *, place: str = "", remedy: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.retry_after_s = retry_after_s


class ShardUnavailable(Unavailable):
    code = "shard_unavailable"


class Overloaded(Unavailable):
    code = "overloaded"


class OutboxFull(Unavailable):
    code = "outbox_full"


class MissingPart(Unavailable):
    code = "missing_part"


class OutcomeUnknown(PaytmLabError):
    """The answer of a commit was lost and the shard stays away. Ask for ``payment_id`` later."""

    code = "outcome_unknown"
    exit_code = 4

    def __init__(self, message: str, *, payment_id: str, place: str = "") -> None:
        super().__init__(
            message,
            place=place,
            remedy="Repeat with the same key; it never makes a second payment.",
        )
        self.payment_id = payment_id


class NotebookFailed(PaytmLabError):
    """The message shows the cell's source and what it raised; ``raised`` only that, on one line."""

    code = "notebook_failed"
    raised = ""


class StoreError(PaytmLabError):
    code = "store_error"
    exit_code = 3


class TransientStoreError(StoreError):
    code = "transient_store_error"


class Deadlock(TransientStoreError):
    code = "deadlock"


class LockTimeout(TransientStoreError):
    code = "lock_timeout"


class ConnectionLost(TransientStoreError):
    code = "connection_lost"


class CommitOutcomeLost(TransientStoreError):
    code = "commit_outcome_lost"


class DuplicateKey(TransientStoreError):
    code = "duplicate_key"


class StorageFull(StoreError):
    code = "storage_full"


class StorageCorrupt(StoreError):
    code = "storage_corrupt"


class IntegrityError(PaytmLabError):
    code = "integrity_error"
    exit_code = 1


class FingerprintMismatch(IntegrityError):
    code = "fingerprint_mismatch"


class IllegalTransition(IntegrityError):
    code = "illegal_transition"
