"""The keys that sign access tokens. Private ones lie in the lab's folder, each in a file that only
its owner can read; public ones in coordination, where every service sees them.
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from paytm_lab.core.errors import Conflict, StorageCorrupt
from paytm_lab.ports.coordination import Coordination
from paytm_lab.web.tokens import ALGORITHM, AUDIENCE, ISSUER, KEYS_DOCUMENT

TRIES_MAX = 20


class SigningKeys:
    """Signs with the newest key in ``folder``; makes the first one. Several processes that share a
    folder share its keys. StorageCorrupt for a file that holds none.
    """

    def __init__(self, folder: Path, coordination: Coordination, token_s: int) -> None:
        self._folder = folder
        self._coordination = coordination
        self._token_s = token_s
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._files():
            self._make()
        self._kid, self._key = self._newest()
        self._publish()

    def sign(self, user_id: str, session_id: str, scopes: list[str]) -> tuple[str, int]:
        """An access token, and when it expires (seconds since 1970 UTC)."""
        now_s = int(time.time())
        expires_s = now_s + self._token_s
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "sid": session_id,
            "scope": " ".join(scopes), "iat": now_s, "exp": expires_s,
        }  # fmt: skip
        with self._lock:
            kid, key = self._kid, self._key
        return jwt.encode(claims, key, ALGORITHM, headers={"kid": kid}), expires_s

    def rotate(self) -> str:
        """Sign with a new key from now on; its id. Tokens of earlier keys count until they expire:
        a key is withdrawn at the first rotation after that.
        """
        self._make()
        with self._lock:
            self._kid, self._key = self._newest()
        self._publish()
        return self._kid

    def public(self) -> dict[str, list[dict[str, Any]]]:
        """The JSON Web Key Set (RFC 7517)."""
        found = self._coordination.read_document(KEYS_DOCUMENT)
        return {"keys": []} if found is None else msgspec.json.decode(found[0])

    def _files(self) -> list[Path]:
        """Oldest first: a key's id begins with the time it was made."""
        return sorted(self._folder.glob("*.pem"))

    def _make(self) -> None:
        kid = f"{int(time.time() * 1e3):013d}-{secrets.token_hex(4)}"
        body = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        new = self._folder / f".{kid}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._folder / f"{kid}.pem")

    def _newest(self) -> tuple[str, Ed25519PrivateKey]:
        path = self._files()[-1]
        return path.stem, _read(path)

    def _publish(self) -> None:
        """Make public what lies in the folder, but for keys of which no token lives."""
        files = self._files()
        made_s = [int(path.stem.partition("-")[0]) / 1e3 for path in files]
        # A key signs until the next one is made.
        alive = [
            path
            for at, path in enumerate(files)
            if at == len(files) - 1 or made_s[at + 1] + self._token_s > time.time()
        ]
        keys = [_public(path) for path in alive]
        for _ in range(TRIES_MAX):
            found = self._coordination.read_document(KEYS_DOCUMENT)
            body = msgspec.json.encode({"keys": keys})
            if found is not None and found[0] == body:
                break
            try:
                self._coordination.write_document(KEYS_DOCUMENT, body, found and found[1])
                break
            except Conflict:
                continue
        for path in files:
            if path not in alive:
                path.unlink(missing_ok=True)


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except ValueError as error:
        raise StorageCorrupt(f"no signing key: {error}", place=str(path)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StorageCorrupt("not an Ed25519 key", place=str(path))
    return key


def _public(path: Path) -> dict[str, str]:
    raw = _read(path).public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": path.stem, "use": "sig", "alg": "EdDSA"}
