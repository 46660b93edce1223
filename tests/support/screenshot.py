"""Takes a screenshot of a report for the README, from the top to the end of the learning curves.

python -m tests.support.screenshot artifacts/reports/<digest>/report.html docs/report.png
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser

from tests.support.browser import DESKTOP, open_page, start_chromium

LAST_SECTION = "#curves"
MARGIN = 24


def take_screenshot(browser: Browser, report: Path, picture: Path) -> None:
    """Write a PNG, 1280 pixels wide, of the page in the light desktop layout."""
    with open_page(browser, report) as page:
        section = page.locator(LAST_SECTION).bounding_box()
        assert section is not None, f"{report} has no {LAST_SECTION}"
        height = section["y"] + section["height"] + MARGIN
        page.screenshot(
            path=picture,
            full_page=True,
            clip={"x": 0, "y": 0, "width": DESKTOP, "height": height},
        )


if __name__ == "__main__":
    with start_chromium() as chromium:
        take_screenshot(chromium, *map(Path, sys.argv[1:]))
