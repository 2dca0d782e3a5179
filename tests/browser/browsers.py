"""The installed Chromium, started for the tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from paytm_lab.core.errors import MissingPart

# What hangs below the address bar is two pages of the browser's own, which it loads anew for each
# window: no reader of ours sees them, and they cost more than a small page of ours.
_ADDRESS_BAR = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup")
# A process for a page that may be opened next; each context would start one and never use it.
_IN_ADVANCE = ("SpareRendererForSitePerProcess",)
# Chromium heeds only the last list that it is given, so that Playwright's own is said again.
_PLAYWRIGHTS = (
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding",
    "ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints",
    "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
)  # fmt: skip
_WITHOUT = ",".join((*_PLAYWRIGHTS, *_ADDRESS_BAR, *_IN_ADVANCE))
ARGS = ["--no-sandbox", f"--disable-features={_WITHOUT}"]


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    raise MissingPart("no Chromium is installed", remedy="Debian: apt-get install chromium.")


@contextmanager
def started_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGS)
        yield browser
        browser.close()
