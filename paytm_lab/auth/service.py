"""The auth service's HTTP: register, log in, refresh, log out, change passwords and permissions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.types import ASGIApp

from paytm_lab.auth.accounts import Accounts, Tokens
from paytm_lab.auth.bootstrap import AdminToken
from paytm_lab.auth.keys import SigningKeys
from paytm_lab.web import scopes
from paytm_lab.web.app import Check, make_app
from paytm_lab.web.callers import Callers, address_of
from paytm_lab.web.metrics import Metrics
from paytm_lab.web.paths import Segment
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.problems import declared
from paytm_lab.web.tokens import Caller

DOCS = """
Register, then log in; send the `access_token` as `Authorization: Bearer ...` to every service. It
counts for a few minutes. `POST /refresh` gives a new one for the `refresh_token`, and a new refresh
token: each is used once, and one that is used twice ends the session.
"""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewUser(_Strict):
    user_id: str = Field(min_length=1, max_length=64, examples=["asha"])
    password: SecretStr = Field(max_length=256, examples=["correct horse battery"])


class Login(NewUser):
    """The same two words."""


class FirstAdmin(NewUser):
    admin_token: SecretStr = Field(max_length=256, description="From admin.token in the folder.")


class Refresh(_Strict):
    refresh_token: SecretStr = Field(max_length=512)


class PasswordChange(_Strict):
    old_password: SecretStr = Field(max_length=256)
    new_password: SecretStr = Field(max_length=256)


class Permissions(_Strict):
    permissions: list[str] = Field(max_length=20, examples=[["transfer:own", "review"]])


class User(BaseModel):
    user_id: str
    permissions: list[str]


class TokenPair(BaseModel):
    """Times are seconds since 1970 UTC."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a kind of token, not one
    access_expires_s: int
    refresh_token: str
    session_expires_s: int
    user_id: str
    permissions: list[str]

    @classmethod
    def of(cls, tokens: Tokens) -> TokenPair:
        return cls(**tokens._asdict())


class Ended(BaseModel):
    sessions: int


def make_service(
    accounts: Accounts,
    admin_token: AdminToken,
    keys: SigningKeys,
    callers: Callers,
    parts: Mapping[str, Check],
    hashing: BoundedPool,
    metrics: Metrics,
    body_bytes_max: int,
) -> ASGIApp:
    """The auth service. ``parts``: what /ready asks; ``hashing``: where passwords are hashed."""
    routers = [
        _sessions(accounts, callers, hashing),
        _users(accounts, admin_token, callers, hashing),
    ]
    routers.append(_keys(keys, callers, hashing))
    return make_app(
        "auth",
        "Who somebody is: registration, sessions, permissions.",
        routers,
        parts,
        metrics=metrics,
        body_bytes_max=body_bytes_max,
        docs=DOCS,
    )


def _sessions(accounts: Accounts, callers: Callers, hashing: BoundedPool) -> APIRouter:
    router = APIRouter(tags=["sessions"])
    refused = declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
    somebody = Depends(callers.who())

    @router.post("/login", summary="Begin a session", responses=refused)
    async def login(request: Request, body: Login) -> TokenPair:
        address = address_of(request)
        password = body.password.get_secret_value()
        call = partial(accounts.login, body.user_id, password, address)
        return TokenPair.of(await hashing.run(call))

    @router.post("/refresh", summary="Go on with a session", responses=refused)
    async def refresh(body: Refresh) -> TokenPair:
        call = partial(accounts.refresh, body.refresh_token.get_secret_value())
        return TokenPair.of(await hashing.run(call))

    @router.post("/logout", summary="End this session", status_code=204, responses=refused)
    async def logout(caller: Caller = somebody) -> None:
        await hashing.run(partial(accounts.logout, caller.session_id, caller.user_id))

    @router.post("/logout/everywhere", summary="End all sessions of mine", responses=refused)
    async def logout_everywhere(caller: Caller = somebody) -> Ended:
        ended = await hashing.run(partial(accounts.logout_everywhere, caller.user_id))
        return Ended(sessions=ended)

    return router


def _users(
    accounts: Accounts, admin_token: AdminToken, callers: Callers, hashing: BoundedPool
) -> APIRouter:
    router = APIRouter(tags=["users"])
    taken = declared(HTTPStatus.CONFLICT)
    refused = declared(
        HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.CONFLICT,
    )  # fmt: skip
    somebody = Depends(callers.who())
    admin = Depends(callers.who(scopes.ADMIN, moves_money=True))

    async def made(user: NewUser, permissions: tuple[str, ...]) -> User:
        password = user.password.get_secret_value()
        await hashing.run(partial(accounts.register, user.user_id, password, permissions))
        return User(user_id=user.user_id, permissions=list(permissions))

    @router.post(
        "/register", status_code=201, responses=taken, summary="A new user, with an empty account"
    )
    async def register(body: NewUser) -> User:
        return await made(body, scopes.EVERYBODY)

    @router.post(
        "/admin",
        status_code=201,
        responses=taken | declared(HTTPStatus.UNAUTHORIZED),
        summary="The first admin, by the token in the lab's folder",
    )
    async def first_admin(body: FirstAdmin) -> User:
        await hashing.run(partial(admin_token.redeem, body.admin_token.get_secret_value()))
        try:
            return await made(body, scopes.ALL)
        except BaseException:
            admin_token.give_back()  # nobody was made with it
            raise

    @router.get("/me", summary="Who I am", responses=declared(HTTPStatus.UNAUTHORIZED))
    async def me(caller: Caller = somebody) -> User:
        return User(user_id=caller.user_id, permissions=sorted(caller.scopes))

    @router.put(
        "/password", status_code=204, responses=refused, summary="A new password; sessions end"
    )
    async def password(
        request: Request,
        body: PasswordChange,
        caller: Caller = somebody,
    ) -> None:
        old, new = body.old_password.get_secret_value(), body.new_password.get_secret_value()
        address = address_of(request)
        await hashing.run(partial(accounts.change_password, caller.user_id, old, new, address))

    @router.put(
        "/users/{user_id}/permissions",
        responses=refused | declared(HTTPStatus.NOT_FOUND),
        summary="What a user may do; the user's sessions end",
    )
    async def permissions(user_id: Segment, body: Permissions, caller: Caller = admin) -> User:
        wanted = await hashing.run(partial(accounts.set_permissions, user_id, body.permissions))
        return User(user_id=user_id, permissions=wanted)

    @router.post("/users/{user_id}/logout", responses=refused, summary="End all sessions of a user")
    async def logout_user(user_id: Segment, caller: Caller = admin) -> Ended:
        ended = await hashing.run(partial(accounts.logout_everywhere, user_id))
        return Ended(sessions=ended)

    return router


def _keys(keys: SigningKeys, callers: Callers, hashing: BoundedPool) -> APIRouter:
    router = APIRouter(tags=["keys"])
    admin = Depends(callers.who(scopes.ADMIN, moves_money=True))

    @router.get("/.well-known/jwks.json", summary="The public keys of access tokens")
    async def jwks() -> dict[str, list[dict[str, Any]]]:
        return await hashing.run(keys.public)

    @router.post(
        "/keys/rotate",
        responses=declared(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
        summary="Sign with a new key; tokens of the old one count until they expire",
    )
    async def rotate(caller: Caller = admin) -> dict[str, str]:
        return {"kid": await hashing.run(keys.rotate)}

    return router
