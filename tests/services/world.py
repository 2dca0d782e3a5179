"""A real lab behind the shard manager's HTTP, called in-process, and tokens signed by the test."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import Coroutine, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel

from paytm_lab import Lab
from paytm_lab.core.ids import payment_id_text
from paytm_lab.ledger.operations import ApplyFraud
from paytm_lab.shard_manager.service import make_service
from paytm_lab.web.callers import Callers
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.scopes import TRANSFER_OWN
from paytm_lab.web.tokens import (
    ALGORITHM,
    AUDIENCE,
    ISSUER,
    KEYS_DOCUMENT,
    SessionRecord,
    TokenChecker,
    session_key,
)
from paytm_lab.wiring.shard_manager import shard_manager_parts
from tests.servers import STACK_DIR

T = TypeVar("T")
KID = "of-the-test"


class Signer:
    """Plays the auth service: one key, sessions that lie in the cache."""

    def __init__(self, lab: Lab) -> None:
        self.key = Ed25519PrivateKey.generate()
        self._cache = lab.system.cache
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": KID, "alg": ALGORITHM, "use": "sig"}
        body = msgspec.json.encode({"keys": [jwk]})
        coordination = lab.system.coordination
        found = coordination.read_document(KEYS_DOCUMENT)
        coordination.write_document(KEYS_DOCUMENT, body, None if found is None else found[1])

    def token(self, user: str, *scopes: str) -> str:
        now, session = int(time.time()), uuid.uuid4().hex
        record = SessionRecord(user, list(scopes), now + 3600)
        self._cache.set_many({session_key(session): msgspec.json.encode(record)}, 3600)
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": user, "sid": session,
            "scope": " ".join(scopes), "iat": now, "exp": now + 3600,
        }  # fmt: skip
        return jwt.encode(claims, self.key, ALGORITHM, headers={"kid": KID})


class World:
    """``call`` asks as somebody: a user id (permission to pay from their own account), or a user id
    with any scopes. All requests run in one event loop, as in the service.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def __enter__(self) -> Self:
        self.exits = ExitStack()
        if self.settings.get("profile") == "servers" and STACK_DIR:
            self.settings["stack_dir"] = Path(STACK_DIR)
        self.lab = self.exits.enter_context(Lab(**self.settings))
        self.signer = Signer(self.lab)
        system = self.lab.system
        self.checker = TokenChecker(system.coordination, system.cache, system.clock)
        self.checker.start()
        self.exits.callback(self.checker.close)
        pool = BoundedPool("tokens", 4, 256)
        self.exits.callback(pool.close)
        callers = Callers(self.checker, pool)
        self.metrics = Metrics("shard_manager")
        self.parts = shard_manager_parts(system, self.metrics.registry)
        self.app = make_service(self.parts, callers, self.metrics, self.lab.settings)
        self.loop = asyncio.Runner()
        self.exits.callback(self.loop.close)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60)
        self._tokens: dict[tuple[str, ...], str] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.client.aclose())
        self.exits.close()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(what)

    def bearer(self, user: str, scopes: Iterable[str] = (TRANSFER_OWN,)) -> dict[str, str]:
        who = (user, *sorted(scopes))
        if who not in self._tokens:
            self._tokens[who] = self.signer.token(*who)
        return {"Authorization": f"Bearer {self._tokens[who]}"}

    async def ask(
        self,
        method: str,
        path: str,
        user: str | None = None,
        *scopes: str,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        sent = {} if user is None else self.bearer(user, scopes or (TRANSFER_OWN,))
        if key is not None:
            sent["Idempotency-Key"] = key
        return await self.client.request(method, path, headers=sent | (headers or {}), **more)

    def call(self, method: str, path: str, *who: Any, **more: Any) -> httpx.Response:
        return self.run(self.ask(method, path, *who, **more))

    def pay(self, sender: str, receiver: str, amount: str, **more: Any) -> httpx.Response:
        return self.call("POST", f"/transfer/{sender}/{receiver}/{amount}", sender, **more)

    def user(self, opening: str = "1000", shard: int | None = None) -> str:
        """A new user with an account, on that shard if one is named."""
        while True:
            user = f"u-{uuid.uuid4().hex[:12]}"
            if shard in (None, self.lab.system.router.locate(user)[1]):
                self.lab.create_account(user, opening)
                return user

    def pair(self, cross: bool, opening: str = "1000") -> tuple[str, str]:
        """Two users, on two shards or on one."""
        first = self.user(opening, 0)
        return first, self.user(opening, 1 if cross else 0)

    def review(self, payment: str, decision: str = "review") -> None:
        """A fraud answer that opens a review, as the consumer applies it."""
        raw = bytes.fromhex(payment.replace("-", ""))
        engine = self.lab.system.engine
        writer = engine.writers[engine.source_of(raw)]
        change = ApplyFraud(f"test.{payment_id_text(raw)}", raw, decision, "test")
        engine.wait(lambda done: writer.put(change, done))

    def balance(self, user: str) -> int:
        view = self.lab.account(user)
        assert view is not None
        return view.balance_paise


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error, checked for what every error has."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status and body["detail"] and body["title"]
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
    return body


AMOUNTS = [
    "1e3", "NaN", "Infinity", "1_000", "-1", "+1", "1.005", ".5", "1.", "0x10", " 1", "1 ", "1,5",
    "\u0661\u0662", "\uff11", "\u00bd", "9" * 15, "99999999999999.99", "0", "0.00", "1%00",
    "9" * 200,
]  # fmt: skip


def new_key() -> str:
    return uuid.uuid4().hex


def of_model(model: type[BaseModel], body: Any) -> Any:
    """The body, which must be exactly what the documents say."""
    assert set(body) <= set(model.model_fields), body
    model.model_validate(body, strict=True)
    return body


def item(sender: str, receiver: str, amount: str, **more: Any) -> dict[str, Any]:
    return {"from_user": sender, "to_user": receiver, "amount": amount, **more}
