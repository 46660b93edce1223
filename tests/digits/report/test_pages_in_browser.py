from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from digits.report.page import write_report
from digits.settings import Settings
from digits.storage.workspace import Workspace
from digits.validation.dataset_validation import render_page
from tests.support.browser import CHROMIUM, DESKTOP, PHONE, Scheme, open_page, start_chromium
from tests.support.findings import (
    FAILED,
    FAILED_AS_A_WHOLE,
    FAILED_IN_MANY_ROWS,
    WARNED,
    make_outcome,
)
from tests.support.reports import (
    ACCURACIES,
    make_facts,
    make_layout,
    make_model,
    make_step,
    make_test_images,
    make_verdict,
)
from tests.support.screenshot import take_screenshot
from tests.support.sweeps import write_sweep

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium not found: apt-get install chromium"),
]

PAGES = ("report", "kept", "many", "failed", "passed", "sweep")
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

# For every visible text: the contrast of its color with its background, by WCAG 2.
CONTRASTS = """
() => {
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    colors.forEach((color) => { pen.fillStyle = color; pen.fillRect(0, 0, 1, 1); });
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = (element) => {
    const colors = [];
    for (let e = element; e; e = e.parentElement) {
      colors.unshift(getComputedStyle(e).backgroundColor);
    }
    return colors;
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  document.querySelectorAll("details").forEach((folded) => { folded.open = true; });
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
    if (!text || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), ground = behind(element);
    const color = element.tagName === "text" ? style.fill : style.color;
    const [a, b] = [light(over([...ground, color])), light(over(ground))];
    found.push({
      text, color: over([...ground, color]),
      classes: (element.closest("svg") ?? element).getAttribute("class"),
      contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
    });
  }
  return found;
}
"""

# Brightness of the page's background: 0 to 255.
GROUND = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One page of each kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in PAGES}
    write_report(make_facts(folder), paths["report"])
    write_report(shades(folder), paths["kept"])
    write_report(crowd(folder), paths["many"])
    failed = make_outcome(FAILED, FAILED_AS_A_WHOLE, FAILED_IN_MANY_ROWS, WARNED)
    paths["failed"].write_text(render_page(failed))
    paths["passed"].write_text(render_page(make_outcome()))
    workspace = Workspace(Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts"))
    (folder / "sweep").mkdir()
    page = write_sweep(folder / "sweep", workspace.store, "a_dataset_" + "long" * 30)
    paths["sweep"].write_text(page)
    return paths


def shades(folder: Path) -> Any:
    """A run that kept the champion, with all color strengths in its confusion matrices."""
    layout = make_layout()
    _, y_test = make_test_images(layout)
    confusion = np.diag(np.arange(10, 110, 10))
    confusion[:, 0] += 100 - confusion.sum(1)
    models = [
        model.model_copy(
            update={"metrics": model.metrics.model_copy(update={"confusion": confusion.tolist()})}
        )
        for model in (make_model(folder, name, layout, y_test) for name in ACCURACIES)
    ]
    decision = make_verdict("kept")
    return make_facts(folder, layout=layout, models=models, decision=decision)


def crowd(folder: Path) -> Any:
    """More models, classes and longer words than fit on a page."""
    layout = make_layout(num_classes=30)
    _, y_test = make_test_images(layout)
    models = [
        make_model(folder, f"a_model_with_a_long_name_{n}", layout, y_test, shift={0: 0.9, 1: 0.5})
        for n in range(5)
    ]
    word = "antidisestablishmentarianism" * 4
    return make_facts(
        folder,
        layout=layout,
        models=models,
        warnings=(word,),
        title=word,
        lineage=[make_step(word[:60], {"dataset": word})],
        decision=make_verdict("promoted", candidate=models[0].name, reason=word, rule=word),
    )


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_from_disk_with_all_images_and_without_requests(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    with open_page(browser, pages[name]) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.reload()
        sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        mode = page.evaluate("document.compatMode")

    assert [url for url in requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert complaints == []
    assert all(size > 0 for size in sizes)
    # the first image, then for both models the first 30 and the mistakes (9 and 3)
    assert name != "report" or len(sizes) == 1 + 2 * 30 + 9 + 3
    assert mode == "CSS1Compat"


def test_content_security_policy_blocks_scripts(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    planted = tmp_path / "planted.html"
    html = pages["report"].read_text(encoding="utf-8")
    planted.write_text(html.replace("</main>", "<script>document.title = 'ran'</script></main>"))

    with open_page(browser, planted) as page:
        assert page.title() != "ran"


@pytest.mark.parametrize("name", PAGES)
def test_page_never_scrolls_sideways(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with open_page(browser, pages[name]) as page:
        page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        for width in (DESKTOP, PHONE, 320):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("name", PAGES)
def test_every_text_has_enough_contrast(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    with open_page(browser, pages[name]) as page:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            texts = page.evaluate(CONTRASTS)

            # 4.5 is the WCAG 2 minimum for small text (success criterion 1.4.3)
            assert [text for text in texts if text["contrast"] < 4.5] == []
            assert len(texts) > 20


def test_correct_predictions_are_blue_and_wrong_ones_red(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with open_page(browser, pages["report"]) as page:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            texts = page.evaluate(CONTRASTS)

            right = [text["color"] for text in texts if text["classes"] == "truth right"]
            wrong = [text["color"] for text in texts if text["classes"] == "truth wrong"]
            assert len(right) == 1 + 21 + 27  # the word in the explanation, and the grids
            assert len(wrong) == 1 + 9 + 3 + 9 + 3  # the same, plus the worst mistakes
            assert all(blue > max(red, green) + 50 for red, green, blue in right)
            assert all(red > max(green, blue) + 50 for red, green, blue in wrong)


@pytest.mark.parametrize("name", ["report", "failed"])
def test_page_and_charts_follow_the_preferred_color_scheme(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    with open_page(browser, pages[name]) as page:
        for scheme, is_light in (("light", True), ("dark", False)):
            page.emulate_media(color_scheme=scheme)
            drawn = [text for text in page.evaluate(CONTRASTS) if text["classes"] == "chart"]

            assert (page.evaluate(GROUND) > 200) == is_light
            assert all((max(text["color"]) < 128) == is_light for text in drawn)
            assert bool(drawn) == (name == "report")


def test_screenshot_for_the_readme_shows_the_top_of_a_report(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    take_screenshot(browser, pages["report"], tmp_path / "report.png")

    with Image.open(tmp_path / "report.png") as picture:
        width, height = picture.size
        assert width == DESKTOP
        assert 1000 < height < 2000
