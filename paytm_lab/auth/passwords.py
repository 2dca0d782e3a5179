"""Passwords: hashed by argon2id, and checked in the same time whether a user is there or not."""

from __future__ import annotations

import secrets
import unicodedata

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from paytm_lab.core.errors import BadInput

CHARACTERS_MIN = 10  # NIST SP 800-63B asks for 8 at least, and for no rules about kinds
CHARACTERS_MAX = 256


def require_password(password: str, user_id: str = "") -> None:
    """BadInput for what is too short, too long, one character over and over, or the user's id."""
    if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
        raise BadInput(
            f"a password has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters, this one"
            f" {len(password)}",
            place="body.password",
        )
    if len(set(password)) < 3 or (user_id and password.casefold() == user_id.casefold()):
        raise BadInput(
            "that password is guessed at once", place="body.password", remedy="Take another."
        )


class Passwords:
    """``memory_kib``, ``passes``: what one hash costs (RFC 9106); one lane."""

    def __init__(self, memory_kib: int, passes: int) -> None:
        hasher = Argon2Hasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._hash = PasswordHash((hasher,))
        self._nobody = self._hash.hash(secrets.token_urlsafe())

    def hash(self, password: str) -> str:
        return self._hash.hash(_prepared(password))

    def matches(self, password: str, stored: str | None) -> bool:
        """Whether it is the password of ``stored``. With None (no such user) it takes as long, and
        is False.
        """
        try:
            same = self._hash.verify(_prepared(password), stored or self._nobody)
        except UnknownHashError:
            return False
        return same and stored is not None


def _prepared(password: str) -> str:
    """One password, however a keyboard composes it (NFKC, as RFC 8265 has it)."""
    return unicodedata.normalize("NFKC", password)
