"""What every service does with any request: HEAD, its bare address, a body that is no JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from paytm_lab.web.app import make_app
from paytm_lab.web.metrics import Metrics
from tests import plain_http
from tests.services.serving import served
from tests.waiting import until


class Body(BaseModel):
    amount: str


async def endless() -> AsyncIterator[bytes]:
    yield b"more\n"
    await asyncio.Event().wait()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test")


@pytest.fixture
def url(metrics: Metrics) -> Iterator[str]:
    router = APIRouter()

    @router.get("/stream")
    async def forever() -> StreamingResponse:
        return StreamingResponse(endless())

    @router.post("/pay")
    async def pay(body: Body) -> Body:
        return body

    app = make_app(
        "test", "Plain.", [router], {}, metrics=metrics, body_bytes_max=8_192, home="/away"
    )
    with served(app) as address:
        yield address


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics", "/docs", "/", "/nowhere", "/pay"])
def test_head_is_get_without_the_body(url: str, path: str) -> None:
    with plain_http.Client(base_url=url) as client:
        for _ in range(2):  # the connection goes on
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert head.headers["content-type"] == get.headers["content-type"] if get.content else 1
            assert head.headers.get("location") == get.headers.get("location")
            assert head.headers["traceparent"]


def test_head_of_what_never_ends_ends(url: str, metrics: Metrics) -> None:
    def in_flight() -> float | None:
        return metrics.registry.get_sample_value("paytm_lab_requests_in_flight")

    with plain_http.stream("GET", f"{url}/stream") as said:
        chunks = said.iter_raw()
        assert next(chunks) == b"more\n"
        assert in_flight() == 1
        assert plain_http.head(f"{url}/stream", timeout=10).status_code == 200
        until(lambda: in_flight() == 1, "the HEAD has ended in the service")


def test_the_metrics_tell_head_from_get(url: str) -> None:
    plain_http.head(f"{url}/live")
    lines = [
        line for line in plain_http.get(f"{url}/metrics").text.splitlines() if '"/live"' in line
    ]
    assert any('method="HEAD"' in line for line in lines)
    assert not any('method="GET"' in line for line in lines)


def test_the_bare_address_leads_on(url: str) -> None:
    said = plain_http.get(f"{url}/")
    assert (said.status_code, said.headers["location"]) == (303, "/away")


def test_what_is_no_json_is_told_where(url: str) -> None:
    said = plain_http.post(
        f"{url}/pay", content=b'{"amount" 1}', headers={"content-type": "application/json"}
    ).json()
    assert said["errors"][0]["place"] == "body"
    assert "no JSON" in said["detail"] and "character 10" in said["detail"]
    assert "Content-Type" not in said["remedy"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_called_something_else_hears_of_its_head(url: str, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    said = plain_http.post(f"{url}/pay", content=b'{"amount": "1"}', headers=headers)
    assert said.status_code == 422
    assert "Content-Type: application/json" in said.json()["remedy"]


def test_a_wrong_field_hears_nothing_of_it(url: str) -> None:
    said = plain_http.post(f"{url}/pay", json={"amount": 1}).json()
    assert said["errors"][0]["place"] == "body.amount"
    assert "Content-Type" not in said["remedy"]


def test_a_parameter_that_there_is_not_is_named(url: str) -> None:
    said = plain_http.get(f"{url}/live?a=1")
    assert said.status_code == 422
    assert said.json()["errors"][0]["place"] == "query.a"
