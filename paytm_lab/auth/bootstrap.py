"""The first admin: whoever can read the lab's folder may make one, once."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from paytm_lab.core.errors import Unauthenticated

FILE = "admin.token"


class AdminToken:
    """A one-time token in ``folder``, mode 0600. ``offer`` makes it where no admin was made yet."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._used = folder / f"{FILE}.used"

    def offer(self) -> Path | None:
        """Where it lies; None where it was used."""
        if self._used.exists():
            return None
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self.path
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        return self.path

    def redeem(self, token: str) -> None:
        """Unauthenticated unless it is the one; afterwards it is not any more."""
        try:
            stored = self.path.read_text().strip()
        except FileNotFoundError:
            stored = ""
        if not stored or not hmac.compare_digest(stored.encode(), token.encode()):
            raise Unauthenticated(
                "that is not the admin token, or it was used",
                place="body.admin_token",
                remedy=f"It lies in the lab's folder, {FILE}; an admin makes further ones.",
            )
        try:
            self.path.rename(self._used)  # of two at once, one
        except FileNotFoundError:
            raise Unauthenticated("the admin token was used just now") from None

    def give_back(self) -> None:
        """It was redeemed in vain."""
        self._used.rename(self.path)
