"""`POST /transfer/{from_user}/{to_user}/{amount}` without the framework around it.

Matching a route, solving dependencies and validating parameters took two thirds of this service's
processor time. What is plainly as described is answered here, by the same functions; whatever is
not (no token, one not seen before, a strange key, a body) goes on to the framework's route, which
says what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from paytm_lab.core.errors import PaytmLabError
from paytm_lab.shard_manager.models import KEY_PATTERN
from paytm_lab.shard_manager.service_common import Service, payment_request, said
from paytm_lab.web import problems
from paytm_lab.web.app import Application
from paytm_lab.web.scopes import TRANSFER_ANY, TRANSFER_OWN
from paytm_lab.web.tokens import Caller

_START = "/transfer/"
_PARTS = 5  # "", transfer, from, to, amount
_PAYERS = frozenset({TRANSFER_OWN, TRANSFER_ANY})
_is_key = re.compile(KEY_PATTERN).fullmatch


class _Route(NamedTuple):
    path: str


class _Asked(NamedTuple):
    caller: Caller
    from_user: str
    to_user: str
    amount: str
    key: str | None


class HotTransfer:
    """An ASGI application around ``app``, the framework's."""

    def __init__(self, app: Application, service: Service) -> None:
        self._app = app
        self._service = service
        self._known = service.callers.checker.known
        self._require_fresh = service.callers.checker.require_fresh
        self._route = _Route("/transfer/{from_user}/{to_user}/{amount}")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            if path.startswith(_START) and not scope["query_string"]:
                asked = self._asked(path, scope["headers"])
                if asked is not None:
                    scope["route"] = self._route
                    await self._answer(asked, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _answer(self, asked: _Asked, scope: Any, receive: Any, send: Any) -> None:
        service = self._service
        try:
            self._require_fresh()
            await service.admit(asked.caller)
            request = payment_request(
                asked.caller, asked.from_user, asked.to_user, asked.amount, False, asked.key
            )
            answer = said(await service.pay(request))
        except PaytmLabError as error:
            answer = problems.problem(error)
        await answer(scope, receive, send)

    def _asked(self, path: str, headers: list[tuple[bytes, bytes]]) -> _Asked | None:
        """None for what is not plainly as described."""
        parts = path.split("/")
        if len(parts) != _PARTS or not (parts[2] and parts[3] and parts[4]):
            return None
        token = key = None
        for name, value in headers:
            if name == b"authorization":
                if token is not None or not value.startswith(b"Bearer "):
                    return None
                token = value[7:].decode("latin-1")
            elif name == b"idempotency-key":
                if key is not None:
                    return None
                key = value.decode("latin-1")
                if not _is_key(key):
                    return None
            elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                return None
        caller = None if token is None else self._known(token)
        if caller is None or caller.scopes.isdisjoint(_PAYERS):
            return None
        if "%" in path:
            parts = [unquote(part) for part in parts]
        return _Asked(caller, parts[2], parts[3], parts[4], key)
