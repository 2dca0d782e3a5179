"""Who may do what to whose money."""

from __future__ import annotations

from paytm_lab.core.errors import Forbidden, NotFound
from paytm_lab.ledger.operations import Outcome
from paytm_lab.web.scopes import ADMIN, REVIEW, TRANSFER_ANY, TRANSFER_OWN
from paytm_lab.web.tokens import Caller

READ_ALL = frozenset({TRANSFER_ANY, REVIEW, ADMIN})


def reads_all(caller: Caller) -> bool:
    """Whether they may look at everybody's accounts and payments."""
    return not caller.scopes.isdisjoint(READ_ALL)


def require_debit(caller: Caller, from_user_id: str) -> None:
    """Forbidden unless the caller may take money from this user."""
    if TRANSFER_ANY in caller.scopes:
        return
    if TRANSFER_OWN not in caller.scopes or from_user_id != caller.user_id:
        raise Forbidden(
            f"user {caller.user_id!r} may not debit {from_user_id!r}",
            place="from_user",
            remedy=f"Pay from your own account, or ask for the permission {TRANSFER_ANY}.",
        )


def require_account_read(caller: Caller, user_id: str) -> None:
    """To others an account that exists is one that does not."""
    if user_id != caller.user_id and not reads_all(caller):
        raise no_account(user_id)


def no_account(user_id: str) -> NotFound:
    return NotFound(f"there is no account {user_id!r}", remedy="Check the user id.")


def no_payment(payment: str) -> NotFound:
    return NotFound(f"there is no payment {payment}", remedy="Check the payment id.")


def shown_to(caller: Caller, outcome: Outcome) -> Outcome:
    """The payment as this caller may see it; NotFound for one that is not theirs.

    The receiver learns neither why the sender could not pay nor what the fraud side thinks of them.
    """
    if caller.user_id == outcome.from_user_id or reads_all(caller):
        return outcome
    if caller.user_id != outcome.to_user_id or outcome.status == "FAILED":
        raise no_payment(outcome.payment)
    outcome.reason = outcome.fraud_decision = outcome.fraud_rule = ""
    outcome.fraud_score = None
    return outcome
