"""Registering, logging in, changing passwords and permissions: the logic behind the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from paytm_lab.auth.keys import SigningKeys
from paytm_lab.auth.passwords import Passwords, require_password
from paytm_lab.auth.sessions import Refreshed, Sessions
from paytm_lab.auth.throttle import LoginThrottle
from paytm_lab.core.errors import BadInput, Conflict, NotFound, Unauthenticated
from paytm_lab.core.ids import require_user_id
from paytm_lab.ledger import queries
from paytm_lab.ledger.operations import Credential, Done, Outcome
from paytm_lab.ports.shard_database import ShardDatabase
from paytm_lab.web import scopes

WRONG = "the user id or the password is wrong"


class Tokens(NamedTuple):
    """What a login or a refresh gives. Times in seconds since 1970 UTC."""

    user_id: str
    permissions: list[str]
    access_token: str
    access_expires_s: int
    refresh_token: str
    session_expires_s: int


class Ledger(Protocol):
    """What accounts need of the transfer engine."""

    def submit_account(
        self,
        user_id: str,
        opening_paise: int,
        done: Done,
        currency: str = ...,
        key: str = ...,
        subject: str = ...,
        credential: Credential | None = ...,
    ) -> None: ...

    def wait(self, start: Callable[[Done], object]) -> Outcome: ...


class Accounts:
    """Blocking: a password's hash takes tens of milliseconds. ``shard_of``: user -> shard."""

    def __init__(
        self,
        ledger: Ledger,
        databases: Mapping[int, ShardDatabase],
        shard_of: Callable[[str], int],
        passwords: Passwords,
        sessions: Sessions,
        throttle: LoginThrottle,
        keys: SigningKeys,
    ) -> None:
        self._ledger = ledger
        self._databases = databases
        self._shard_of = shard_of
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle
        self._keys = keys

    def register(
        self, user_id: str, password: str, permissions: Sequence[str] = scopes.EVERYBODY
    ) -> Outcome:
        """An account with nothing in it, and its credential, in one transaction. AccountExists
        where the id is taken: it is what others pay to, and no secret.
        """
        require_user_id(user_id)
        require_password(password, user_id)
        credential = Credential(self._passwords.hash(password), " ".join(permissions))
        start = partial(self._ledger.submit_account, user_id, 0, credential=credential)
        return self._ledger.wait(lambda done: start(done=done))

    def login(self, user_id: str, password: str, address: str) -> Tokens:
        """Unauthenticated in the same words and the same time for a wrong password and a user that
        there is not.
        """
        require_user_id(user_id)
        attempt = self._throttle.begin(user_id, address)
        found = self._credential(user_id)
        stored = None if found is None else found.password_hash
        if not self._passwords.matches(password, stored) or found is None:
            raise Unauthenticated(WRONG, remedy="Look at both; or register.")
        self._throttle.succeeded(attempt)
        return self._tokens(self._sessions.begin(user_id, found.permissions.split()))

    def refresh(self, refresh_token: str) -> Tokens:
        return self._tokens(self._sessions.refresh(refresh_token))

    def logout(self, session_id: str, user_id: str) -> None:
        self._sessions.end(session_id, user_id)

    def logout_everywhere(self, user_id: str) -> int:
        """How many sessions ended."""
        return self._sessions.end_all(user_id)

    def change_password(self, user_id: str, old: str, new: str, address: str) -> None:
        """All sessions of the user end. Unauthenticated where the old one is wrong."""
        require_password(new, user_id)
        attempt = self._throttle.begin(user_id, address)
        found = self._credential(user_id)
        if found is None or not self._passwords.matches(old, found.password_hash):
            raise Unauthenticated("the password is wrong", place="body.old_password")
        self._throttle.succeeded(attempt)
        self._update(found, self._passwords.hash(new), found.permissions)
        self._sessions.end_all(user_id)

    def set_permissions(self, user_id: str, permissions: Sequence[str]) -> list[str]:
        """What the user may do from the next login on; all of its sessions end. NotFound for a user
        who cannot log in, BadInput for a permission that there is not.
        """
        require_user_id(user_id)
        strange = set(permissions) - set(scopes.ALL)
        if strange:
            raise BadInput(
                f"{', '.join(sorted(strange))!r:.80} is no permission",
                place="body.permissions",
                remedy=f"There are {', '.join(scopes.ALL)}.",
            )
        found = self._credential(user_id)
        if found is None:
            raise NotFound(f"user {user_id!r} cannot log in", remedy="Register the user first.")
        wanted = [each for each in scopes.ALL if each in permissions]
        self._update(found, found.password_hash, " ".join(wanted))
        self._sessions.end_all(user_id)
        return wanted

    def _credential(self, user_id: str) -> queries.CredentialRow | None:
        return queries.credential(self._databases[self._shard_of(user_id)], user_id)

    def _update(self, row: queries.CredentialRow, password_hash: str, permissions: str) -> None:
        """Conflict where somebody else changed it meanwhile."""
        now_us = int(time.time() * 1e6)
        tx = self._databases[self._shard_of(row.user_id)].begin()
        try:
            changed = tx.update(
                "credentials",
                ("user_id", "version"),
                ("password_hash", "permissions", "version", "updated_at"),
                [(row.user_id, row.version, password_hash, permissions, row.version + 1, now_us)],
            )
            if changed != 1:
                raise Conflict("the credential was changed by somebody else", remedy="Repeat.")
            tx.commit()
        except BaseException:
            tx.rollback()
            raise

    def _tokens(self, session: Refreshed) -> Tokens:
        record = session.record
        access_token, expires_s = self._keys.sign(
            record.user_id, session.session_id, record.permissions
        )
        return Tokens(
            record.user_id,
            record.permissions,
            access_token,
            expires_s,
            session.refresh_token,
            record.expiry,
        )
