"""Who asks: access tokens are checked here, by every service, without asking anybody else.

A token is a JWT signed by the auth service (EdDSA); the public keys lie in coordination. What was
verified is remembered, so that the hot path neither verifies twice nor asks the cache: a session
that ended is pushed, as an entry of ``REVOKED`` in the cache, which each process reads a few times
a second. A process that could not read it for ``STALE_S`` refuses what moves money and goes on
reading, with a warning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt import PyJWK

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import PaytmLabError, Unauthenticated, Unavailable
from paytm_lab.ports.cache import Cache
from paytm_lab.ports.coordination import Coordination

ISSUER = AUDIENCE = "paytm_lab"
ALGORITHM = "EdDSA"
KEYS_DOCUMENT = "auth_keys"
REVOKED = "auth:revoked"
POLL_S = 0.25
STALE_S = 1.0
OVERLAP_US = 5_000_000  # clocks of two processes may differ; what was read twice does no harm
REMEMBERED_MAX = 20_000
TOKEN_CHARACTERS_MAX = 4_096
_CLAIMS = ["exp", "iat", "iss", "aud", "sub", "sid", "scope"]


class Caller(NamedTuple):
    """Who asks. ``scopes``: what they may do (auth/scopes). ``expires_s``: of the token."""

    user_id: str
    scopes: frozenset[str]
    session_id: str
    expires_s: float


class SessionRecord(msgspec.Struct, frozen=True):
    """What ``user:session:{token}`` holds. ``expiry``: seconds since 1970 UTC."""

    user_id: str
    permissions: list[str]
    expiry: int


def session_key(session_id: str) -> str:
    return f"user:session:{session_id}"


read_session = msgspec.json.Decoder(SessionRecord).decode


class TokenChecker:
    """Checks access tokens. ``start`` begins to follow keys and ended sessions; ``close`` ends it.

    Any thread may ask. ``check`` costs a dictionary look-up for a token that was seen before, and
    for a new one a signature and one look into the cache.
    """

    def __init__(self, coordination: Coordination, cache: Cache, clock: Clock) -> None:
        self._coordination = coordination
        self._cache = cache
        self._clock = clock
        self._keys: Mapping[str, PyJWK] = {}
        self._seen: dict[str, Caller] = {}
        self._ended: dict[str, int] = {}  # session -> when it ended, as long as tokens of it live
        self._read_until_us = 0
        self._fresh_at_s = float("-inf")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ended-sessions", daemon=True)
        self._unwatch: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._unwatch = self._coordination.watch_document(KEYS_DOCUMENT, self._take_keys)
        found = self._coordination.read_document(KEYS_DOCUMENT)
        if found is not None:
            self._take_keys(*found)
        self._poll()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._unwatch()
        if self._thread.is_alive():
            self._thread.join(5)

    # -- checking ---------------------------------------------------------------------------------

    def known(self, token: str) -> Caller | None:
        """The caller of a token that was checked before and still counts; no I/O."""
        caller = self._seen.get(token)
        if caller is None or caller.expires_s <= time.time():
            return None
        return caller

    def check(self, token: str) -> Caller:
        """Unauthenticated, in words that say no more than the caller knows already."""
        caller = self.known(token)
        if caller is not None:
            return caller
        caller = self._verified(token)
        ended = caller.session_id in self._ended
        if not ended:
            try:
                ended = self._cache.get(session_key(caller.session_id)) is None
            except Unavailable:
                # Signed and not expired. What moves money asks ``require_fresh`` as well.
                return caller
        if ended:
            raise Unauthenticated("the session has ended", remedy="Log in again.")
        with self._lock:
            if caller.session_id not in self._ended:
                if len(self._seen) >= REMEMBERED_MAX:
                    for old in list(self._seen)[: REMEMBERED_MAX // 10]:
                        del self._seen[old]
                self._seen[token] = caller
        return caller

    def is_fresh(self) -> bool:
        """Whether this process knows every session that ended more than about a second ago."""
        return self._clock.monotonic_s() - self._fresh_at_s <= STALE_S

    def require_fresh(self) -> None:
        """Unavailable where a session may have ended without this process knowing."""
        if not self.is_fresh():
            raise Unavailable(
                "sessions cannot be checked: the cache does not answer",
                place="cache",
                remedy="Repeat when it does; nothing was changed.",
            )

    def _verified(self, token: str) -> Caller:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise Unauthenticated("the access token is too long", remedy="Log in.")
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise Unauthenticated(
                    "the access token is signed with a key that is not known", remedy="Log in."
                )
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": _CLAIMS},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the access token has expired", remedy="Refresh it.") from None
        except jwt.PyJWTError:
            raise Unauthenticated("the access token is not valid", remedy="Log in.") from None
        texts = (claims["sub"], claims["sid"], claims["scope"])
        if not all(isinstance(text, str) for text in texts):
            raise Unauthenticated("the access token is not valid", remedy="Log in.")
        user_id, session_id, scope = texts
        return Caller(user_id, frozenset(scope.split()), session_id, float(claims["exp"]))

    # -- following --------------------------------------------------------------------------------

    def _take_keys(self, body: bytes, _: int) -> None:
        keys = {key["kid"]: PyJWK(key) for key in msgspec.json.decode(body)["keys"]}
        with self._lock:
            if self._keys.keys() - keys.keys():
                self._seen.clear()  # what a withdrawn key has signed counts no more
            self._keys = keys

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._poll()

    def _poll(self) -> None:
        asked_s, asked_us = self._clock.monotonic_s(), self._clock.now_us()
        try:
            arrivals = self._cache.arrivals(REVOKED, self._read_until_us - OVERLAP_US)
        except PaytmLabError:
            return
        with self._lock:
            new = {hit.member for hit in arrivals} - self._ended.keys()
            self._ended |= {hit.member: hit.at_us for hit in arrivals}
            if new:
                self._seen = {t: c for t, c in self._seen.items() if c.session_id not in new}
            if len(self._ended) > REMEMBERED_MAX:
                # One that is forgotten here is still missing where sessions lie.
                kept = sorted(self._ended.items(), key=lambda item: item[1])[-REMEMBERED_MAX // 2 :]
                self._ended = dict(kept)
            self._read_until_us = asked_us
            self._fresh_at_s = asked_s
