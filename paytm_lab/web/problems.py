"""Errors as RFC 9457 problem details: one stable code each, the value, the place and the remedy."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from paytm_lab.core import errors
from paytm_lab.web import tracing

MEDIA_TYPE = "application/problem+json"
_SEE = "See /docs, or /openapi.json."
_AS_JSON = f"Send JSON, with the header Content-Type: application/json. {_SEE}"
# The first that an error is an instance of.
STATUS: tuple[tuple[type[errors.PaytmLabError], HTTPStatus], ...] = (
    (errors.Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (errors.Forbidden, HTTPStatus.FORBIDDEN),
    (errors.NotFound, HTTPStatus.NOT_FOUND),
    (errors.RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.Conflict, HTTPStatus.CONFLICT),
    (errors.BadInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.OutcomeUnknown, HTTPStatus.GATEWAY_TIMEOUT),
    (errors.StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.PaytmLabError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


class FieldProblem(BaseModel):
    """One field of a request that is not as it should be."""

    place: str = Field(description="Where: body.amount, path.user_id, header.Idempotency-Key.")
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). Nothing was changed unless `code` is `outcome_unknown`."""

    type: str = Field(
        default="about:blank", description="Always about:blank: `code` says what it is."
    )
    title: str = Field(description="The HTTP status in words.")
    status: int
    code: str = Field(description="Stable: programs may depend on it.")
    detail: str = Field(description="What is wrong, with the value.")
    place: str | None = Field(default=None, description="Where: a shard, a field, a service.")
    remedy: str | None = Field(default=None, description="What helps.")
    payment_id: str | None = Field(default=None, description="The payment that this is about.")
    errors: list[FieldProblem] | None = None


def status_of(error: errors.PaytmLabError) -> HTTPStatus:
    return next(status for kind, status in STATUS if isinstance(error, kind))


def problem(error: errors.PaytmLabError) -> JSONResponse:
    """The response to an error of the lab."""
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return _sent(of(error), headers | when_to_retry(error))


def when_to_retry(error: errors.PaytmLabError) -> dict[str, str]:
    """The header that says so, where another try may help."""
    if status_of(error) not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return {}
    return {"Retry-After": str(max(1, math.ceil(getattr(error, "retry_after_s", 1.0))))}


def of(error: errors.PaytmLabError) -> Problem:
    """The error as a problem's body."""
    status = status_of(error)
    return Problem(
        title=status.phrase,
        status=status,
        code=error.code,
        detail=error.message,
        place=error.place or None,
        remedy=error.remedy or None,
        payment_id=getattr(error, "payment_id", None) or None,
    )


def _sent(body: Problem, headers: dict[str, str] | None) -> JSONResponse:
    return JSONResponse(
        body.model_dump(exclude_none=True), body.status, headers=headers, media_type=MEDIA_TYPE
    )


def response(
    status: HTTPStatus, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    body = Problem(title=status.phrase, status=status, code=code, detail=detail, **more)
    return _sent(body, headers)


async def on_lab_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, errors.PaytmLabError):
        raise error
    return problem(error)


async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [
        _no_json(each)
        if each.get("type") == "json_invalid"
        else FieldProblem(place=".".join(map(str, each["loc"])), detail=each["msg"])
        for each in error.errors()[:20]
    ]
    what = "; ".join(f"{each.place}: {each.detail}" for each in found[:3])
    return response(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        f"the request is not as described: {what}",
        remedy=_SEE if _may_be_json(request, found) else _AS_JSON,
        errors=found,
    )


def _no_json(error: dict[str, Any]) -> FieldProblem:
    at = error["loc"][-1]
    return FieldProblem(
        place="body", detail=f"this is no JSON: {error['ctx']['error']}, at character {at}"
    )


def _may_be_json(request: Request, found: list[FieldProblem]) -> bool:
    """False where a body came that is not read, as its head calls it something else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (kind.startswith("application/") and "+json" in kind)
    return is_json or all(each.place != "body" for each in found)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: no such path, method not allowed."""
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    code = status.name.lower()
    headers = dict(error.headers) if error.headers else None
    return response(status, code, f"{request.method} {request.url.path}: {error.detail}", headers)


async def on_any_error(request: Request, error: Exception) -> JSONResponse:
    return internal_error()


def internal_error() -> JSONResponse:
    trace_id = tracing.trace_id_of(tracing.current.get())
    return response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "something failed that should not",
        remedy=f"The service's log has it under trace {trace_id}.",
    )


def declared(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route: the problems that it may answer with."""
    return {
        int(status): {
            "model": Problem,
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
