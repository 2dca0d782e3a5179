"""What a refresh token brought, known for a moment to all processes that serve a page.

    claimed? -- no ---> somebody else is at it: look again soon
       | yes
    in the cache? -- yes --> that
       | no
    ask the auth service --> into the cache, for ``kept_s``

A browser's tabs share their cookies, so several requests may set out with one token, which counts
once: the first brings the next ones, the others get the same. After ``kept_s`` a used token is
asked about like any other, and the auth service ends the session of what looks stolen.

The cache must not be worth stealing: it holds what sessions are about, never what one acts by. So
an entry's name is the token's hash, and its value is encrypted under a key that is made from the
token: only who sends the used token can read what followed it. No key is kept or handed around, and
an HMAC's 256 bits are in the token, so nobody can guess one.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from contextlib import suppress
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import Unauthenticated, Unavailable
from paytm_lab.ports.cache import Cache, Hit
from paytm_lab.web.auth_client import AuthClient, Signed

RENEWED_KEPT_S = 20.0  # a browser's other requests that set out with the used token end up here
CLAIMED_S = 20.0  # longer than the auth service may take: past it, who claimed has died
KEPT_HERE_MAX = 1_000
_NONCE_BYTES = 12
_LOG = logging.getLogger(__name__)


class _Names(NamedTuple):
    """Of one used token's entries in the cache."""

    claim: str
    value: str


class _Here(NamedTuple):
    """What one process knows alone. ``signed``: None for a token that counts no more."""

    until_s: float
    signed: Signed | None


class Renewals:
    """``kept_s``: how long a used token brings what followed it. Any thread may ask."""

    def __init__(
        self, auth: AuthClient, cache: Cache, clock: Clock, kept_s: float = RENEWED_KEPT_S
    ) -> None:
        self.auth = auth
        self._cache = cache
        self._clock = clock
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._here: dict[str, _Here] = {}

    def renew(self, token: str) -> Signed | None:
        """The tokens that follow; None while another is asking for them: look again soon.

        Unauthenticated for a token that counts no more; Unavailable where the auth service or the
        cache does not answer. Without the cache nobody is asked, as two might be at it: a token
        that was not used still counts when it is back.
        """
        names = _names(token)
        here = self._known_here(names)
        if here is not None:
            return _counting(here)
        claim = Hit(names.claim, secrets.token_hex(8), self._clock.now_us())
        claimed, _ = self._cache.reserve(claim, CLAIMED_S, 1)
        if not claimed:
            return self._found(names, token)
        shared = True
        try:
            # Looked for after the claim: whoever had it before has put there what they got.
            signed = self._found(names, token)
            if signed is None:
                signed = self.auth.refresh(token)
                shared = self._shared(names, token, signed)
            return signed
        except Unauthenticated:
            self._keep_here(names, None)
            raise
        finally:
            if shared:  # else others would use the token again, and end the session
                with suppress(Unavailable):
                    self._cache.release(claim.key, claim.member)

    def forget(self, token: str) -> None:
        """What this token brought is of no use any more, to anybody."""
        names = _names(token)
        with self._lock:
            self._here.pop(names.value, None)
        self._cache.delete([names.value])

    def _shared(self, names: _Names, token: str, signed: Signed) -> bool:
        try:
            self._cache.set_many({names.value: _sealed(names, token, signed)}, self._kept_s)
        except Unavailable as error:
            self._keep_here(names, signed)
            _LOG.warning("other processes do not know of a renewed session: %s", error)
            return False
        return True

    def _found(self, names: _Names, token: str) -> Signed | None:
        value = self._cache.get(names.value)
        return None if value is None else _opened(names, token, value)

    def _known_here(self, names: _Names) -> _Here | None:
        here = self._here.get(names.value)
        return here if here is not None and here.until_s > self._clock.monotonic_s() else None

    def _keep_here(self, names: _Names, signed: Signed | None) -> None:
        now_s = self._clock.monotonic_s()
        with self._lock:
            kept = {k: v for k, v in self._here.items() if v.until_s > now_s}
            kept[names.value] = _Here(now_s + self._kept_s, signed)
            self._here = dict(list(kept.items())[-KEPT_HERE_MAX:])


def _counting(here: _Here) -> Signed:
    if here.signed is None:
        raise Unauthenticated("the session has ended", remedy="Log in again.")
    return here.signed


def _names(token: str) -> _Names:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return _Names(f"page:renewing:{digest}", f"page:renewed:{digest}")


def _cipher(token: str) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, None, b"paytm_lab page renewal").derive(token.encode()))


def _sealed(names: _Names, token: str, signed: Signed) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    plain = msgspec.json.encode(signed)
    return nonce + _cipher(token).encrypt(nonce, plain, names.value.encode())


def _opened(names: _Names, token: str, value: bytes) -> Signed | None:
    """None for what was not sealed here: as good as nothing."""
    nonce, text = value[:_NONCE_BYTES], value[_NONCE_BYTES:]
    try:
        plain = _cipher(token).decrypt(nonce, text, names.value.encode())
        return msgspec.json.decode(plain, type=Signed)
    except (InvalidTag, ValueError, msgspec.MsgspecError):
        return None
