"""The dependency by which a route learns who asks, and says what the asking needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from paytm_lab.core.errors import Forbidden, Unauthenticated
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.sign_ins import SignIns
from paytm_lab.web.tokens import Caller, TokenChecker

STALE_WARNING = '199 - "ended sessions are not known at the moment: the cache does not answer"'
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="access token",
    description="The `access_token` of `POST /login` of the auth service.",
)
PAGE_COOKIE = "paytm_lab_session"
_cookie = APIKeyCookie(
    name=PAGE_COOKIE,
    auto_error=False,
    scheme_name="signed-in browser",
    description="An access token in the cookie that `POST /session` sets.",
)
GetCaller = Callable[..., Awaitable[Caller]]


class Callers:
    """Makes dependencies: ``Depends(callers.who("transfer:own", moves_money=True))``.

    ``pool``: where a token that was not seen before is checked, as that may ask the cache.
    ``sign_ins``: of the sessions that begin at pages, by password; none: they take tokens alone.
    """

    def __init__(
        self, checker: TokenChecker, pool: BoundedPool, sign_ins: SignIns | None = None
    ) -> None:
        self.checker = checker
        self.pool = pool
        self.sign_ins = sign_ins

    def who(self, *any_of: str, moves_money: bool = False, page: bool = False) -> GetCaller:
        """Somebody who is logged in and has one of these scopes (none: whoever it is). Where money
        moves, the process must know which sessions have ended; a read goes on without, with a
        Warning header. ``page``: the token may also come in ``PAGE_COOKIE``, to a GET alone, so
        that no other site's form can act by it.
        """

        async def caller_of(
            response: Response,
            given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        ) -> Caller:
            token = given.credentials if given else None
            return await self._admitted(token, response, any_of, moves_money)

        async def caller_of_page(
            request: Request,
            response: Response,
            given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
            cookie: Annotated[str | None, Security(_cookie)],
        ) -> Caller:
            token = given.credentials if given else None
            if token is None and request.method in ("GET", "HEAD"):
                token = cookie
            return await self._admitted(token, response, any_of, moves_money)

        return caller_of_page if page else caller_of

    async def caller_of_token(self, token: str) -> Caller:
        """Unauthenticated for a token that does not count."""
        caller = self.checker.known(token)
        if caller is None:
            caller = await self.pool.run(self.checker.check, token)
        return caller

    async def _admitted(
        self, token: str | None, response: Response, any_of: tuple[str, ...], moves_money: bool
    ) -> Caller:
        if token is None:
            raise Unauthenticated(
                "an access token is needed",
                place="header.Authorization",
                remedy="Log in (POST /login of the auth service) and send it as a Bearer.",
            )
        caller = await self.caller_of_token(token)
        if moves_money:
            self.checker.require_fresh()
        elif not self.checker.is_fresh():
            response.headers["Warning"] = STALE_WARNING
        if any_of and caller.scopes.isdisjoint(any_of):
            raise Forbidden(
                f"this needs the permission {' or '.join(any_of)}",
                remedy="Ask somebody with the permission admin for it.",
            )
        return caller


def address_of(request: Request) -> str:
    """The caller's network address: of the connection, never what a header claims."""
    return request.client.host if request.client else "unknown"
