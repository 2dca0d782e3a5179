"""Sessions: made by a login, renewed by a refresh, ended by a logout. They lie in the cache, which
may forget them; then one logs in again.

A refresh token is used once. The one that was used before, seen again, means that somebody has
stolen it: the session ends.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import NamedTuple

import msgspec

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import Unauthenticated
from paytm_lab.ports.cache import Cache, Hit
from paytm_lab.web.tokens import REVOKED, SessionRecord, read_session, session_key

SESSIONS_OF_A_USER_MAX = 50


class Refreshed(NamedTuple):
    session_id: str
    record: SessionRecord
    refresh_token: str


class Sessions:
    """``secret``: of this installation, at least 32 bytes; refresh tokens are made with it.
    ``session_s``: how long a session lasts from the login on, however often it is refreshed.
    ``token_s``: how long access tokens live; so long the end of a session must be known.

    Every method raises Unavailable when the cache is away.
    """

    def __init__(
        self, cache: Cache, clock: Clock, secret: bytes, session_s: float, token_s: float
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._secret = secret
        self._session_s = session_s
        self._token_s = token_s

    def begin(self, user_id: str, permissions: list[str]) -> Refreshed:
        session_id = secrets.token_urlsafe(24)
        # Known before it exists, so that ending all of a user's sessions misses none.
        hit = Hit(_of_user(user_id), session_id, self._clock.now_us())
        self._cache.count_window([hit], self._session_s)
        self._end_oldest(user_id)
        record = SessionRecord(user_id, permissions, int(time.time() + self._session_s))
        self._store(session_id, record)
        return Refreshed(session_id, record, self._token(session_id, 0))

    def refresh(self, token: str) -> Refreshed:
        """The session of a refresh token, and the token for the next time. Unauthenticated for one
        that is not valid, or that was used before; in the latter case the session has ended.
        """
        parts = token.split(".")
        if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdecimal():
            raise _invalid()
        session_id, number = parts[0], int(parts[1][:9])
        if not hmac.compare_digest(self._token(session_id, number).encode(), token.encode()):
            raise _invalid()
        found = self._cache.get(session_key(session_id))
        if found is None:
            raise Unauthenticated("the session has ended", remedy="Log in again.")
        use = Hit(f"auth:refresh:{session_id}:{number}", secrets.token_hex(8), self._clock.now_us())
        first, _ = self._cache.reserve(use, self._session_s, 1)
        record = read_session(found)
        if not first:
            self.end(session_id, record.user_id)
            raise Unauthenticated(
                "the refresh token was used before, so the session has ended",
                remedy="Log in again; if it was not you who used it, change the password.",
            )
        return Refreshed(session_id, record, self._token(session_id, number + 1))

    def end(self, session_id: str, user_id: str) -> None:
        """End one; every service knows within a second."""
        self._end([session_id], user_id)

    def end_all(self, user_id: str) -> int:
        """End all of a user's sessions; how many."""
        hits = self._cache.arrivals(_of_user(user_id), -1)
        self._end([hit.member for hit in hits], user_id)
        return len(hits)

    def _end(self, session_ids: list[str], user_id: str) -> None:
        if not session_ids:
            return
        now_us = self._clock.now_us()
        self._cache.delete([session_key(each) for each in session_ids])
        # Twice as long as a token lives: the windows of all processes' clocks.
        self._cache.count_window(
            [Hit(REVOKED, each, now_us) for each in session_ids], self._token_s
        )
        for each in session_ids:
            self._cache.release(_of_user(user_id), each)

    def _end_oldest(self, user_id: str) -> None:
        hits = self._cache.arrivals(_of_user(user_id), -1)
        self._end([hit.member for hit in hits[:-SESSIONS_OF_A_USER_MAX]], user_id)

    def _store(self, session_id: str, record: SessionRecord) -> None:
        self._cache.set_many(
            {session_key(session_id): msgspec.json.encode(record)}, self._session_s
        )

    def _token(self, session_id: str, number: int) -> str:
        words = f"{session_id}.{number}"
        mac = hmac.new(self._secret, words.encode(), hashlib.sha256)
        return f"{words}.{mac.hexdigest()}"


def _of_user(user_id: str) -> str:
    return f"auth:sessions:{user_id}"


def _invalid() -> Unauthenticated:
    return Unauthenticated("the refresh token is not valid", remedy="Log in again.")
