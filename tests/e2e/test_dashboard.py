"""The dashboard in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from digits.escaping import markdown_text
from digits.intake.incoming import Addition
from digits.report.dashboard_pages import batch_page
from tests.e2e.conftest import Service
from tests.support.names import HOSTILE_NAMES
from tests.support.small_dataset import NAME
from tests.support.waiting import PATIENCE, wait_for

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Browser, service: Service) -> Iterator[Page]:
    """A page of the dashboard, which must not send requests to another machine."""
    page = browser.new_page(base_url=service.url, viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE / 4)
    elsewhere: list[str] = []
    own = ("http://127.0.0.1:", "data:", "blob:")
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(own) else elsewhere.append(asked.url),
    )
    yield page
    page.close()
    assert elsewhere == []


def loaded_widths(page: Page) -> list[int]:
    """Return the width in pixels of each image on a page; 0 for a missing one."""
    return page.evaluate("[...document.images].map(image => image.naturalWidth)")


@pytest.mark.usefixtures("first")
def test_the_run_form_offers_choices_refuses_invalid_values_and_starts_a_run(
    tab: Page, service: Service
) -> None:
    tab.goto(f"/deployments/deployment/{service.deployment('retrain')['id']}/run")
    form = tab.locator("form")

    def field(name: str) -> Locator:
        title = tab.get_by_text(f"{name} (Optional)", exact=True)
        return form.locator(".schema-form-property").filter(has=title)

    expect(field("seed")).to_contain_text("Seed of all random numbers.")
    offered = {"models": ["mlp", "cnn"], "device": ["auto", "cpu", "gpu"], "dataset": [NAME]}
    for name, choices in offered.items():
        field(name).locator(".p-select-button__control").press("ArrowDown")
        for choice in choices:
            expect(tab.locator(".p-select-option", has_text=choice)).to_be_visible()
        if name == "dataset":
            tab.locator(".p-select-option", has_text=NAME).click()
        else:
            tab.keyboard.press("Escape")

    known = {run["id"] for run in service.runs()}
    field("seed").locator("input").fill("-3")
    form.get_by_role("button", name="Submit").click()
    expect(tab.get_by_text("less than the minimum of 0").first).to_be_visible()
    assert {run["id"] for run in service.runs()} == known

    field("seed").locator("input").fill("0")
    form.get_by_role("button", name="Submit").click()
    started = wait_for(lambda: {run["id"] for run in service.runs()} - known, "the run").pop()
    assert service.finished(started) == "Completed"


def test_the_page_of_a_run_shows_its_figures_and_links_to_the_report(
    tab: Page, service: Service, first: str
) -> None:
    tab.goto(f"/runs/flow-run/{first}")
    for tag in (NAME, "reference", "cpu"):
        expect(tab.locator(".p-tag", has_text=tag).first).to_be_visible()

    tab.goto(f"/artifacts/artifact/{service.artifact(f'retrain-{NAME}', first)['id']}")
    expect(tab.get_by_role("heading", name="New champion: the mlp, version 2")).to_be_visible()
    expect(tab.get_by_role("cell", name="champion, v1 (mlp)")).to_be_visible()
    wait_for(lambda: len(loaded_widths(tab)) == 3 and all(loaded_widths(tab)), "three pictures")

    tab.goto(str(tab.get_by_role("link", name="Full report").get_attribute("href")))
    expect(tab.get_by_role("heading", level=1)).to_be_visible()
    assert all(loaded_widths(tab))


@pytest.mark.usefixtures("first")
def test_the_champion_is_shown_with_its_history(tab: Page, service: Service) -> None:
    (*_, oldest) = service.artifacts(f"champion-{NAME}")
    tab.goto(f"/artifacts/artifact/{oldest['id']}")
    expect(tab.get_by_role("heading", name="version 1 is the champion")).to_be_visible()
    tab.goto(f"/artifacts/key/champion-{NAME}")
    expect(tab.get_by_text("Version 2, ").first).to_be_visible()
    expect(tab.locator("a[href^='/artifacts/artifact/']")).to_have_count(2)


def test_names_from_outside_are_inert_in_the_dashboard(tab: Page, service: Service) -> None:
    everything = " ".join(name for name in HOSTILE_NAMES if name.isascii())
    addition = Addition(
        dataset=NAME,
        source=f"/incoming/{everything}",
        status="quarantined",
        version=1,
        reasons=(*HOSTILE_NAMES[1:], "![](//127.0.0.1:9/tracked)", "https://a.example www.b.org"),
        page=Path("/quarantine/page.html"),
    )
    shown = service.ask(
        "POST",
        "/artifacts/",
        {
            "type": "markdown",
            "key": "hostile",
            "data": batch_page(everything, addition),
            "description": markdown_text(everything),
        },
    )
    tab.on("dialog", lambda dialog: pytest.fail(dialog.message))

    for address in (f"/artifacts/artifact/{shown['id']}", "/artifacts", "/artifacts/key/hostile"):
        tab.goto(address)
        expect(tab.get_by_text("alert(1)").first).to_be_visible()
        links = tab.evaluate("[...document.links].map(link => link.href)")
        assert [link for link in links if not link.startswith(service.url)] == []
        sources = tab.evaluate("[...document.images].map(image => image.src)")
        assert [source for source in sources if "host" in source or "tracked" in source] == []
