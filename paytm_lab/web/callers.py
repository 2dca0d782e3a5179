"""The dependency by which a route learns who asks, and says what the asking needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from paytm_lab.core.errors import Forbidden, Unauthenticated
from paytm_lab.web.pool import BoundedPool
from paytm_lab.web.tokens import Caller, TokenChecker

STALE_WARNING = '199 - "ended sessions are not known at the moment: the cache does not answer"'
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="access token",
    description="The `access_token` of `POST /login` of the auth service.",
)
GetCaller = Callable[..., Awaitable[Caller]]


class Callers:
    """Makes dependencies: ``Depends(callers.who("transfer:own", moves_money=True))``.

    ``pool``: where a token that was not seen before is checked, as that may ask the cache.
    """

    def __init__(self, checker: TokenChecker, pool: BoundedPool) -> None:
        self.checker = checker
        self._pool = pool

    def who(self, *any_of: str, moves_money: bool = False) -> GetCaller:
        """Somebody who is logged in and has one of these scopes (none: whoever it is). Where money
        moves, the process must know which sessions have ended; a read goes on without, with a
        Warning header.
        """
        checker, pool = self.checker, self._pool

        async def caller_of(
            response: Response,
            given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        ) -> Caller:
            if given is None:
                raise Unauthenticated(
                    "an access token is needed",
                    place="header.Authorization",
                    remedy="Log in (POST /login of the auth service) and send it as a Bearer.",
                )
            token = given.credentials
            caller = checker.known(token)
            if caller is None:
                caller = await pool.run(checker.check, token)
            if moves_money:
                checker.require_fresh()
            elif not checker.is_fresh():
                response.headers["Warning"] = STALE_WARNING
            if any_of and caller.scopes.isdisjoint(any_of):
                raise Forbidden(
                    f"this needs the permission {' or '.join(any_of)}",
                    remedy="Ask somebody with the permission admin for it.",
                )
            return caller

        return caller_of


def address_of(request: Request) -> str:
    """The caller's network address: of the connection, never what a header claims."""
    return request.client.host if request.client else "unknown"
