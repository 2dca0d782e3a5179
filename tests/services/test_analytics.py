"""The analytics service over HTTP: pages, one payment's way, live events, what happens without a
part.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from paytm_lab.analytics import live, models
from paytm_lab.analytics.observatory import Observatory, Picture
from paytm_lab.core.ids import parse_payment_id
from paytm_lab.web.scopes import ADMIN, ANALYTICS_READ
from tests import plain_http
from tests.services.analytics_world import PAGES, AnalyticsWorld
from tests.services.serving import served
from tests.services.world import of_model, problem
from tests.waiting import until

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def world(profile: str) -> Iterator[AnalyticsWorld]:
    with AnalyticsWorld(profile=profile, shards=2) as made:
        yield made


def trace(world: AnalyticsWorld, payment: str, user: str = "reader", *scopes: str) -> Any:
    said = world.call("GET", f"/api/payments/{payment}", user, *(scopes or (ANALYTICS_READ,)))
    assert said.status_code == 200, said.text
    return of_model(models.PaymentTrace, said.json())


# -- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_all_that_a_screen_reader_needs(world: AnalyticsWorld, page: str) -> None:
    said = world.page(f"/{page}")
    assert said.status_code == 200 and said.headers["content-type"].startswith("text/html")
    html = said.text
    assert html.count("<h1") == 1 and 'aria-current="page"' in html and '<main id="main">' in html
    for section in re.findall(r'<section [^>]*aria-labelledby="([^"]+)"', html):
        assert f'id="{section}"' in html
    assert len(re.findall("<section", html)) >= 4
    # Every chart has its table, or says why there is neither.
    for chart in re.findall(r'data-chart="([^"]+)"', html):
        assert f'data-live="{chart}.table"' in html and f'data-live="{chart}.words"' in html
    assert 'role="status" aria-live="polite"' in html
    policy = said.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)
    assert not re.search(r'\son\w+="|style="|https?://', html)


def test_no_panel_is_ever_blank(profile: str) -> None:
    """Without a payment each says why; with one none has to."""
    with AnalyticsWorld(profile=profile, shards=2) as world:
        for page in PAGES:
            for panel in panels(world, page):
                assert shows_something(panel), (page, panel)
        sender, receiver = world.pair(cross=True, opening="20000")
        began_s = time.monotonic()
        world.lab.transfer(sender, receiver, "9999")

        # That is all there is to say about these.
        fine = ("Every payment that has ended succeeded", "No payment waits for a review")

        def without_figures() -> list[str]:
            every = [panel for page in PAGES for panel in panels(world, page)]
            return [p for p in every if 'class="why"' in p and not any(f in p for f in fine)]

        until(lambda: not without_figures(), "every panel has figures", within_s=10)
        assert time.monotonic() - began_s < 5


def panels(world: AnalyticsWorld, page: str) -> list[str]:
    html = world.page(f"/{page}").text
    return re.findall(r"<section .*?</section>", html, flags=re.DOTALL)


def shows_something(panel: str) -> bool:
    """A figure, a row, a chart or a sentence, apart from the heading."""
    body = panel.split("</h2>", 1)[1]
    return bool(re.search(r"<dd|<td|class=\"why\"", body))


def test_the_first_page_leads_on_and_assets_are_kept(world: AnalyticsWorld) -> None:
    assert world.call("GET", "/").headers["location"] == "/overview"
    html = world.page("/overview").text
    assets = re.findall(r'(?:src|href)="(/assets/[^"]+)"', html)
    assert len(assets) == 4
    for url in assets:
        plain = world.call("GET", url, headers={"Accept-Encoding": "identity"})
        assert plain.status_code == 200 and "content-encoding" not in plain.headers
        assert "immutable" in plain.headers["cache-control"]
        small = world.call("GET", url, headers={"Accept-Encoding": "br, gzip"})
        assert small.headers["content-encoding"] == "gzip" and small.content == plain.content
        refused = world.call("GET", url, headers={"Accept-Encoding": "gzip;q=0"})
        assert "content-encoding" not in refused.headers
    plotly = next(url for url in assets if "plotly.min" in url)
    body = world.call("GET", plotly, headers={"Accept-Encoding": "identity"}).content
    assert b"plotly.js v" in body[:200] and len(gzip.compress(body)) < len(body) / 3
    for name in ("plotly.min.js", "..%2Fservice.py", "%2Fetc%2Fpasswd", "x" * 500):
        problem(world.call("GET", f"/assets/{name}"), 404, "not_found")


def test_plotly_is_loaded_where_a_panel_may_have_a_chart(world: AnalyticsWorld) -> None:
    """It is large: a second of the reader's processor, whether it draws or not."""
    sender, receiver = world.pair(cross=True, opening="20000")
    payment = world.lab.transfer(sender, receiver, "9999").payment
    world.lab.drain()
    pages = {name: world.page(f"/{name}").text for name in (*PAGES, f"payments/{payment}")}
    loads = {name for name, html in pages.items() if re.search(r'<script src="[^"]*plotly', html)}
    assert loads == {"overview", "shards", "payments", "fraud"}
    drawn = {name for name, html in pages.items() if re.search(r'id="charts">\{"', html)}
    assert drawn and drawn <= loads


# -- one payment ----------------------------------------------------------------------------------


def test_a_payment_is_followed_through_every_part(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=True, opening="20000")
    payment = world.lab.transfer(sender, receiver, "9999").payment
    until(lambda: len(trace(world, payment)["events"]) == 4, "all of its events are stored")
    world.lab.drain()
    found = trace(world, payment)
    assert (found["status"], found["amount_paise"]) == ("COMPLETED", 999_900)
    assert [(r["shard"], r["role"], r["status"]) for r in found["rows"]] == [
        (0, "source", "COMPLETED"), (1, "destination", "COMPLETED"),
    ]  # fmt: skip
    assert [(e["shard"], e["account"], e["direction"]) for e in found["entries"]] == [
        (0, sender, "debit"), (0, "system:in_transit:1", "credit"),
        (1, "system:in_transit:0", "debit"), (1, receiver, "credit"),
    ]  # fmt: skip
    assert {e["type"]: e["topic"] for e in found["events"]} == {
        "PaymentInitiated": "payment_events", "PaymentCompleted": "payment_events",
        "FraudScoreCalculated": "fraud_events", "ManualReviewRequired": "fraud_events",
    }  # fmt: skip
    for event in found["events"]:
        place = (event["topic"], event["partition"], event["offset"], 1)
        (record,) = world.lab.system.log.read(*place)
        assert record.key == payment and event["type"].encode() in record.value
    assert (found["score"]["decision"], found["score"]["score"]) == ("review", 0.9999)
    assert found["outbox"] == [] and found["unknown"] == []
    assert any(step["notification"] for step in found["steps"])
    page = world.page(f"/payments/{payment}").text
    for what in (payment, sender, receiver, "system:in_transit:1", "ManualReviewRequired",
                 "₹9,999.00", "0.9999", "leg (b)"):  # fmt: skip
        assert what in page


def test_its_events_that_wait_are_shown(profile: str) -> None:
    with AnalyticsWorld(profile=profile, shards=2, relay=False) as world:
        sender, receiver = world.pair(cross=False)
        payment = world.lab.transfer(sender, receiver, "1").payment
        waiting = trace(world, payment)["outbox"]
        assert {row["type"] for row in waiting} == {"PaymentInitiated", "PaymentCompleted"}
        assert world.figures("overview")["outbox_rows"] >= 2
        assert world.figures("shards")["shards"][0]["outbox_lag_s"] > 0


def test_a_refund_and_what_it_gives_back(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.lab.transfer(sender, receiver, "10").payment
    world.review(payment)
    refund = world.lab.reject(payment)
    found = trace(world, refund.payment)
    assert (found["kind"], found["refund_of"]) == ("refund", payment)
    assert f"/payments/{payment}" in world.page(f"/payments/{refund.payment}").text


def test_the_search_box(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=False)
    payment = world.lab.transfer(sender, receiver, "1").payment
    found = world.page(f"/find?payment_id=%20{payment.upper()}%20")
    assert (found.status_code, found.headers["location"]) == (303, f"/payments/{payment}")
    for bad in ("", "x", HOSTILE, "../../etc/passwd", "9" * 100, "\u0661" * 36):
        said = world.page(f"/find?payment_id={httpx.QueryParams({'a': bad})['a']}")
        assert said.status_code == 422 and "is not a payment id" in said.text, bad
        assert HOSTILE not in said.text
    assert world.page(f"/find?payment_id={'9' * 101}").status_code == 422


@pytest.mark.parametrize("payment", ["x", "%2e%2e%2f", "%00", "0" * 400, "%E2%82%AC", HOSTILE])
def test_what_is_no_payment_id(world: AnalyticsWorld, payment: str) -> None:
    path = payment.replace("<", "%3C").replace(">", "%3E").replace("/", "%2F")
    problem(world.page(f"/api/payments/{path}"), 422, "bad_input")
    page = world.page(f"/payments/{path}")
    assert page.status_code == 422 and HOSTILE not in page.text
    assert page.headers["content-type"].startswith("text/html")


def test_names_are_shown_as_text(world: AnalyticsWorld) -> None:
    """A user's id may hold anything: neither a template nor the browser takes it for more."""
    sender, receiver = HOSTILE, "{{ 7 * 7 }}' OR 1=1 --"
    for user in (sender, receiver):
        world.lab.create_account(user, "100000")
    payment = world.lab.transfer(sender, receiver, "9000").payment
    until(lambda: world.figures("fraud")["reviews_open"], "it waits for a review")
    until(lambda: payment in world.page("/fraud").text, "it is listed")
    for path in ("/fraud", f"/payments/{payment}", "/overview"):
        html = world.page(path).text
        assert HOSTILE not in html and " 49 " not in html
    assert "{{ 7 * 7 }}" in world.page("/fraud").text
    as_reader = world.page("/overview", HOSTILE)
    assert HOSTILE not in as_reader.text and "&lt;script&gt;" in as_reader.text


# -- live -----------------------------------------------------------------------------------------


class Watcher:
    """What a browser that watches a page is told, in a thread."""

    def __init__(self, url: str, page: str, token: str) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended = threading.Event()
        self._stop = threading.Event()
        self._client = plain_http.Client(headers={"Authorization": f"Bearer {token}"}, timeout=20)
        self.thread = threading.Thread(target=self._watch, args=(f"{url}/watch/{page}",))
        self.thread.start()

    def _watch(self, url: str) -> None:
        name = ""
        try:
            with self._client.stream("GET", url) as said:
                for line in said.iter_lines():
                    if self._stop.is_set():
                        return
                    if line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data: "):
                        self.events.append((name, json.loads(line[6:])))
        finally:
            self.ended.set()

    def told(self, count: int) -> bool:
        return len(self.events) >= count

    def close(self) -> None:
        self._stop.set()
        self.thread.join(10)
        self._client.close()


@pytest.fixture
def url(world: AnalyticsWorld) -> Iterator[str]:
    with AnalyticsWorld.watching_anew(world) as anew, served(anew.app) as url:
        yield url


def token(world: AnalyticsWorld, user: str = "reader", *scopes: str) -> str:
    return world.signer.token(user, *(scopes or (ANALYTICS_READ,)))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each look was taken, of every service."""
    taken: list[float] = []
    take = Observatory._taken

    async def noted(self: Observatory) -> Picture:
        taken.append(time.monotonic())
        return await take(self)

    monkeypatch.setattr(Observatory, "_taken", noted)
    return taken


def test_all_who_watch_share_one_look_a_second(
    world: AnalyticsWorld, looks: list[float], url: str
) -> None:
    began_s = time.monotonic()
    watchers = [Watcher(url, page, token(world)) for page in (*PAGES, "overview", "overview")]
    until(lambda: all(w.told(4) for w in watchers), "four messages each", within_s=30)
    took_s = time.monotonic() - began_s
    assert 3 <= len(looks) <= took_s / 0.9 + 1
    for watcher in watchers:
        (name, first), *later = watcher.events[:4]
        assert name == "page" and first["head"]["state"] in ("equal", "counting")
        assert first["html"]
        # What has not changed is not sent again.
        assert all(len(more.get("html", {})) < len(first["html"]) for _, more in later)
        watcher.close()
    # Nobody looks any more: nothing is read.
    until(lambda: time.monotonic() - looks[-1] > 2.5, "looking has ended", within_s=10)
    again = Watcher(url, "overview", token(world))
    until(lambda: again.told(2), "it goes on when somebody looks")
    again.close()


def test_what_is_paid_is_seen_within_two_seconds(world: AnalyticsWorld, url: str) -> None:
    sender, receiver = world.pair(cross=True)
    watcher = Watcher(url, "shards", token(world))
    until(lambda: watcher.told(2), "it watches")

    def entries() -> list[str]:
        return [m["html"]["shards.table"] for _, m in watcher.events
                if "shards.table" in m.get("html", {})]  # fmt: skip

    before = len(entries())
    world.lab.transfer(sender, receiver, "1")
    assert until(lambda: len(entries()) > before, "it is seen") < 3
    watcher.close()


def test_a_session_that_ends_sees_no_more(world: AnalyticsWorld, url: str) -> None:
    import jwt

    from paytm_lab.ports.cache import Hit
    from paytm_lab.web.tokens import REVOKED

    given = token(world)
    watcher = Watcher(url, "overview", given)
    until(lambda: watcher.told(1), "it watches")
    session = jwt.decode(given, options={"verify_signature": False})["sid"]
    now_us = world.lab.system.clock.now_us()
    world.lab.system.cache.count_window([Hit(REVOKED, session, now_us)], 3600)
    assert until(watcher.ended.is_set, "it has ended") < 3
    assert watcher.events[-1][0] == "bye"
    watcher.close()


def test_too_many_are_not_let_in(
    world: AnalyticsWorld, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "VIEWERS_MAX", 2)
    with ExitStack() as watching:
        first = [Watcher(url, "overview", token(world)) for _ in range(2)]
        for watcher in first:
            watching.callback(watcher.close)
        until(lambda: all(w.told(1) for w in first), "two watch")
        third = Watcher(url, "overview", token(world))
        watching.callback(third.close)
        assert until(third.ended.is_set, "the third is sent away") < 3
        assert third.events == [] and not any(w.ended.is_set() for w in first)


def test_serving_that_ends_lets_those_who_watch_go(world: AnalyticsWorld) -> None:
    with AnalyticsWorld.watching_anew(world) as anew:
        with served(anew.app) as url:
            watcher = Watcher(url, "overview", token(world))
            until(lambda: watcher.told(1), "it watches")
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 4
        assert watcher.ended.wait(5)
        watcher.close()


# -- without a part -------------------------------------------------------------------------------


def test_history_that_is_away_is_said_and_the_rest_goes_on(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=False)
    world.lab.transfer(sender, receiver, "1")
    world.lab.drain()
    until(lambda: world.figures("payments")["history_at"], "there is history")
    with world.lab.fault("wide-store", "gone"):
        until(lambda: world.figures("payments")["history_error"], "it is said")
        assert "since then" in world.page("/payments").text
        assert world.figures("overview")["money"]["state"] == "equal"
        assert any(d.startswith("history") for d in world.figures("overview")["down"])
        payment = world.lab.transfer(sender, receiver, "1").payment
        found = trace(world, payment)
        assert found["status"] == "COMPLETED" and found["unknown"]
        assert "Not known: " in world.page(f"/payments/{payment}").text
    until(lambda: not world.figures("payments")["history_error"], "it is back")


def test_the_payers_shard_is_away(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.lab.transfer(sender, receiver, "1").payment
    with world.lab.fault("shard-0", "down"):
        problem(world.page(f"/api/payments/{payment}"), 503, "shard_unavailable")
        page = world.page(f"/payments/{payment}")
        assert page.status_code == 503 and "shard-0" in page.text
    with world.lab.fault("shard-1", "down"):
        found = trace(world, payment)
        assert [row["shard"] for row in found["rows"]] == [0]
        assert any(said.startswith("shard 1") for said in found["unknown"])


def test_an_admin_sees_all_of_it(world: AnalyticsWorld) -> None:
    sender, receiver = world.pair(cross=True)
    payment = world.lab.transfer(sender, receiver, "1").payment
    assert trace(world, payment, "root", ADMIN)["shown_in_full"]
    assert parse_payment_id(payment)
