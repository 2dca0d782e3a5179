"""A dashboard that somebody signed in to by password stays live past its access token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from paytm_lab import Lab
from paytm_lab.wiring.services import Services
from tests.browser.browsers import started_browser
from tests.services.client import PASSWORD
from tests.services.conftest import CHEAP
from tests.services.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with Lab(data=tmp_path / "lab", seed=7, access_token_s=4, **CHEAP) as lab:
        services = Services(lab.system)
        auth, analytics = services.make("auth"), services.make("analytics")
        services.start()
        with served(auth.app) as known, served(analytics.app) as shown:
            services.register(auth._replace(port=int(known.rpartition(":")[2])))
            token = (lab.data / "admin.token").read_text().strip()
            body = {"user_id": "root", "password": PASSWORD, "admin_token": token}
            assert httpx.post(f"{known}/admin", json=body).status_code == 201
            yield shown
        services.close()


def test_by_password_and_it_goes_on(address: str) -> None:
    with started_browser() as browser:
        page = browser.new_page()
        page.goto(f"{address}/shards")
        for word in ("a wrong password", PASSWORD):
            page.get_by_label("User").fill("root")
            page.get_by_label("Password").fill(word)
            page.keyboard.press("Enter")
            if word != PASSWORD:
                expect(page.get_by_role("alert")).to_contain_text("Not signed in")
        page.wait_for_url("**/shards")
        expect(page.get_by_role("heading", level=1)).to_have_text("Shards")
        for _ in range(2):  # an access token lasts for four seconds
            with page.expect_response("**/session/renew", timeout=60_000) as renewed:
                pass
            assert renewed.value.status == 204
            expect(page.locator("#link")).to_have_text("live", timeout=30_000)
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        page.goto(f"{address}/shards")
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
