"""Draws digits on the drawing page, and takes screenshots of it for the README.

digits serve
python -m tests.support.drawing http://127.0.0.1:8000 docs
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import DESKTOP, PHONE, Scheme, start_chromium
from tests.support.pen import pen_strokes


def draw(page: Page, digit: int, seed: int = 1, *, left: float = 0.33, size: float = 0.5) -> None:
    """Draw a digit with the mouse; `left` and `size` are shares of the sheet's width."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in pen_strokes(digit, seed):
        points = [
            (
                box["x"] + (left + x * size * 0.7) * box["width"],
                box["y"] + (0.12 + y * size) * box["width"],
            )
            for x, y in stroke
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def take_screenshots(browser: Browser, address: str, folder: Path) -> None:
    """Write a picture of one digit on a desktop, and of several on a phone in the dark."""
    with browser.new_context(viewport={"width": DESKTOP, "height": 860}) as context:
        page = _opened(context.new_page(), address)
        draw(page, 3, 5)
        _save(page, folder / "draw.png")
    dark: Scheme = "dark"
    phone = browser.new_context(
        viewport={"width": PHONE, "height": 844}, color_scheme=dark, device_scale_factor=2
    )
    with phone:
        page = _opened(phone.new_page(), address)
        page.locator("#each").check()
        for place, digit in enumerate((1, 9, 4, 2)):
            draw(page, digit, 3 + place, left=0.05 + 0.24 * place, size=0.26)
        _save(page, folder / "draw-phone.png")


def _opened(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.locator("#champion")).not_to_be_empty()
    return page


def _save(page: Page, path: Path) -> None:
    expect(page.locator("#correct")).to_be_visible()
    page.wait_for_timeout(1000)  # animations end
    page.screenshot(path=path)


if __name__ == "__main__":
    with start_chromium() as chromium:
        take_screenshots(chromium, sys.argv[1], Path(sys.argv[2]))
