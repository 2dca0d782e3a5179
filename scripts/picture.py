"""Takes README's picture of the report: `python scripts/picture.py [build/report/index.html]`."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "images" / "report.png"
SIZE = {"width": 1180, "height": 1500}


def main(page="build/report/index.html"):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("No Chromium is installed (Debian: apt-get install chromium).")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport=SIZE, color_scheme="light")
        opened.goto((ROOT / page).resolve().as_uri())
        opened.wait_for_function(
            "() => [...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))"
        )
        opened.screenshot(path=OUT)
        browser.close()
    print(OUT)


if __name__ == "__main__":
    main(*sys.argv[1:])
