"""The inbox as a person gets it: signed in, read and left in a real Chromium."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page

from paytm_lab.web.scopes import TRANSFER_OWN
from paytm_lab.wiring.channels import OPERATORS
from tests.browser.browsers import started_browser
from tests.services.notification_world import NotificationWorld, notification_world

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "screenshots"
SIZES = {"phone": (390, 844), "desk": (1280, 900)}
HOSTILE = '<img src=x onerror="document.title=1">'
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationWorld]:
    # Sixty payments within a minute are no fraud here.
    with notification_world(data=tmp_path_factory.mktemp("lab"), velocity_limit=1_000) as world:
        for amount in range(1, 61):
            world.paid("asha", "ravi", str(amount))
        world.paid(HOSTILE, "ravi", "8000")
        world.paid("asha", HOSTILE, "61")
        yield world


@pytest.fixture(scope="module")
def address(world: NotificationWorld) -> Iterator[str]:
    app: Any = world.app
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none", lifespan="off"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(),), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


class Opened:
    """A page, and what went wrong on it. Nothing but the service may be asked."""

    def __init__(self, browser: Browser, address: str, size: str, scheme: Any = "light") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, base_url=address
        )
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda m: self.problems.append(m.text))
        self.page.on("pageerror", lambda e: self.problems.append(str(e)))
        self.page.on(
            "request",
            lambda r: None if r.url.startswith((address, "data:")) else self.problems.append(r.url),
        )

    def sign_in(self, world: NotificationWorld, user: str, *scopes: str) -> None:
        """By keyboard alone, from the page that was wanted."""
        self.page.goto("/inbox")
        self.page.get_by_text("With an access token").press("Enter")
        self.page.get_by_label("Access token").focus()
        self.page.keyboard.insert_text(world.token(user, *(scopes or (TRANSFER_OWN,))))
        self.page.keyboard.press("Tab")
        self.page.keyboard.press("Enter")
        self.page.get_by_role("heading", name="Notifications of").wait_for()
        # The 401 that showed the form is no surprise.
        self.problems = [p for p in self.problems if "401" not in p]

    def width(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_signs_in_and_reads(
    browser: Browser, world: NotificationWorld, address: str, size: str, scheme: str
) -> None:
    opened = Opened(browser, address, size, scheme)
    opened.sign_in(world, "asha")
    page = opened.page
    assert page.get_by_role("heading", level=1).inner_text() == "Notifications of asha"
    items = page.get_by_role("list", name="Notifications").get_by_role("listitem")
    assert items.count() == 50
    assert items.first.get_by_role("heading").inner_text() == "You paid ₹61.00"
    assert opened.width() <= SIZES[size][0]
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"inbox-{size}-{scheme}.png")
    page.get_by_role("link", name="Older").click()
    assert items.count() == 11
    assert page.get_by_role("link", name="Older").count() == 0
    page.get_by_role("link", name="The newest").click()
    assert items.count() == 50
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(20, 23, 28)") == (scheme == "dark")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto("/inbox")
    assert page.get_by_label("Password").is_visible()
    assert [p for p in opened.problems if "401" not in p] == []
    opened.context.close()


def test_an_attackers_user_id_is_only_text(
    browser: Browser, world: NotificationWorld, address: str
) -> None:
    opened = Opened(browser, address, "phone")
    opened.sign_in(world, "ravi")
    text = opened.page.get_by_role("main").inner_text()
    assert "<img src=x onerror" in text
    assert opened.page.locator("main img, main script").count() == 0
    assert opened.width() <= SIZES["phone"][0]
    assert opened.page.title() == "Notifications of ravi"
    opened.context.close()
    own = Opened(browser, address, "phone")
    own.sign_in(world, HOSTILE)
    assert HOSTILE in own.page.get_by_role("heading", level=1).inner_text()
    assert own.page.title() == f"Notifications of {HOSTILE}"
    assert own.problems == []
    own.page.screenshot(path=SHOTS / "inbox-hostile.png")
    own.context.close()


def test_a_script_would_not_run_even_if_one_got_in(
    browser: Browser, world: NotificationWorld, address: str
) -> None:
    opened = Opened(browser, address, "phone")
    opened.sign_in(world, "asha")
    opened.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'document.title = 3';"
        " document.body.append(s); }"
    )
    assert opened.page.title() == "Notifications of asha"
    assert any("Content Security Policy" in problem for problem in opened.problems)
    opened.context.close()


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    browser: Browser, world: NotificationWorld, address: str
) -> None:
    opened = Opened(browser, address, "phone")
    opened.sign_in(world, "asha")
    assert opened.page.evaluate("document.cookie") == ""
    (cookie,) = opened.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert cookie["expires"] > 0  # it goes when the token does
    # Another site's form signs nobody in.
    other = opened.context.new_page()
    form = f"<form method=post action='{address}/session'><input name=access_token value=x></form>"
    other.set_content(form)
    with other.expect_navigation():
        other.evaluate("document.forms[0].submit()")
    assert "another site" in other.inner_text("main")
    opened.context.close()


def test_a_reader_by_keyboard_or_screen_reader_finds_the_way(
    browser: Browser, world: NotificationWorld, address: str
) -> None:
    opened = Opened(browser, address, "desk")
    opened.sign_in(world, "root", "admin")
    page = opened.page
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.get_by_role("main").count() == 1 and page.get_by_role("banner").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    assert page.get_by_role("link", name="To the content").is_visible()
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert links.all_inner_texts() == ["My inbox", "System alerts"]
    links.last.click()
    page.locator("h1", has_text=OPERATORS).wait_for()
    assert opened.problems == []
    opened.context.close()
