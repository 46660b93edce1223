"""A real Chromium, the distribution's own, in which tests look at pages."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

Scheme = Literal["light", "dark"]
CHROMIUM = shutil.which("chromium")

# No sandbox: it does not start for root. The rest keeps it from looking for updates and the like.
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = 1280, 390


@contextlib.contextmanager
def start_chromium() -> Iterator[Browser]:
    """A browser without a window; it ends with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_page(
    browser: Browser, path: Path, *, width: int = DESKTOP, scheme: Scheme = "light"
) -> Iterator[Page]:
    """A file as a person sees it who opens it: by its path, without a server or a network."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    try:
        page = context.new_page()
        page.goto(path.resolve().as_uri())
        yield page
    finally:
        context.close()
