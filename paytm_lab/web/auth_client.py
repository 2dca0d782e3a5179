"""Asks the auth service, on behalf of a browser that signs in at a page of another service."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from paytm_lab.core.errors import BadInput, PaytmLabError, RateLimited, Unauthenticated, Unavailable

ANSWER_S_MAX = 5.0
ANSWER_BYTES_MAX = 65_536
_HERE = "auth"
USUAL_PLACE = "127.0.0.1:8001"
_REFUSALS: dict[HTTPStatus, type[PaytmLabError]] = {
    HTTPStatus.UNAUTHORIZED: Unauthenticated,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
    HTTPStatus.UNPROCESSABLE_ENTITY: BadInput,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: BadInput,
}


class Signed(msgspec.Struct, frozen=True):
    """The tokens of one session; ``..._expires_s``: seconds since 1970 UTC."""

    access_token: str
    access_expires_s: int
    refresh_token: str
    session_expires_s: int


class AuthClient:
    """``place``: where the auth service listens now, as host:port; ``usual_place``: where it would
    be as set, which pages tell to people. Blocks, so call it in a pool.

    Errors: what the auth service refuses, in its words (Unauthenticated, RateLimited, BadInput);
    Unavailable when it does not answer.
    """

    def __init__(self, place: Callable[[], str], usual_place: str = USUAL_PLACE) -> None:
        self._place = place
        self.usual_place = usual_place

    def login(self, user_id: str, password: str) -> Signed:
        return self._signed("/login", {"user_id": user_id, "password": password})

    def refresh(self, refresh_token: str) -> Signed:
        return self._signed("/refresh", {"refresh_token": refresh_token})

    def logout(self, access_token: str) -> None:
        self._ask("/logout", None, {"Authorization": f"Bearer {access_token}"})

    def _signed(self, path: str, body: dict[str, str]) -> Signed:
        answer = self._ask(path, msgspec.json.encode(body), {"Content-Type": "application/json"})
        try:
            return msgspec.json.decode(answer, type=Signed)
        except msgspec.MsgspecError:
            raise Unavailable("what answers is not the auth service", place=_HERE) from None

    def _ask(self, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        place = self._place()
        connection = http.client.HTTPConnection(place, timeout=ANSWER_S_MAX)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the auth service does not answer at {place} ({type(error).__name__})",
                place=_HERE,
                remedy="Start it: paytm-lab serve auth; or sign in with an access token.",
            ) from None
        finally:
            connection.close()
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(answer.status, said)
        return said


def _refusal(status: int, said: bytes) -> PaytmLabError:
    try:
        problem: Any = msgspec.json.decode(said)
        detail, remedy = str(problem["detail"]), str(problem.get("remedy") or "")
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        detail, remedy = f"the auth service answered {status}", ""
    for known, kind in _REFUSALS.items():
        if status == known:
            return kind(detail, remedy=remedy)
    return Unavailable(detail, place=_HERE, remedy=remedy)
