"""The drawing page in a real browser, with a real server and a real champion."""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from digits.intake.corrections import corrections, corrections_folder
from digits.intake.incoming import incoming_folder
from digits.settings import Settings
from tests.support import pen
from tests.support.browser import CHROMIUM, DESKTOP, PHONE, Scheme, start_chromium
from tests.support.commands import read_json, run_digits, start_digits
from tests.support.drawing import draw
from tests.support.served_versions import promote_version
from tests.support.small_dataset import SPEC, write_spec

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium not found: apt-get install chromium"),
]

# A dataset whose names are markup, with made-up champions that change quickly.
MARKUP = "markup"
NAMES = ["<img src=x onerror=alert(1)>", "<b>bold</b>", *"23456789"]
ANSWER_MS = 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace with a champion that reads digits written with a pen."""
    root = tmp_path_factory.mktemp("drawing")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    pen.write_pen_dataset(settings)
    done = run_digits(settings, "run", *about(pen.NAME), "--epochs", "4", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    write_spec(
        settings, f"{SPEC}\n".replace("num_classes", f"class_names = {NAMES}\nnum_classes"), MARKUP
    )
    promote_version(settings, 0, MARKUP)
    return settings


def about(dataset: str) -> tuple[str, str]:
    return ("--dataset", dataset)


@contextlib.contextmanager
def served(settings: Settings, port: int = 0, **environment: str) -> Iterator[str]:
    """Serve all champions of a workspace for the duration of a block; yields the address."""
    arguments = ("serve", "--dataset", "all", "--port", str(port), "--drain", "0")
    process = start_digits(settings, *arguments, **environment)
    try:
        assert process.stderr is not None
        address = re.search(r"http://[\d.:]+\d", process.stderr.readline())
        assert address is not None
        yield address[0]
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    with served(settings) as address:
        yield address


@contextlib.contextmanager
def opened(
    browser: Browser,
    address: str,
    dataset: str = pen.NAME,
    *,
    width: int = DESKTOP,
    **options: Any,
) -> Iterator[Page]:
    """Open the page, and check at the end that nothing failed and no request left its origin."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    complaints: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: complaints.extend(_foreign(request.url, address)))
        page.goto(f"{address}/?dataset={dataset}")
        yield page
        assert complaints == []
    finally:
        context.close()


def _foreign(url: str, address: str) -> list[str]:
    return [] if url.startswith((f"{address}/", "data:")) else [url]


def expect_read(page: Page, name: str) -> None:
    expect(page.locator("#label")).to_have_text(name, timeout=ANSWER_MS)


def picture(*digits: int) -> bytes:
    """A picture of digits side by side, dark on light."""
    image = Image.new("L", (120 * len(digits), 140), 250)
    pencil = ImageDraw.Draw(image)
    for number, digit in enumerate(digits):
        for stroke in pen.pen_strokes(digit, 2):
            path = [(120 * number + 25 + 60 * x, 20 + 100 * y) for x, y in stroke]
            pencil.line(path, 20, 9, joint="curve")
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_ten_drawn_digits_are_read_right(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        for digit in range(10):
            draw(page, digit)
            expect_read(page, str(digit))
            page.keyboard.press("Escape")
            expect_read(page, "?")


def test_a_digit_is_read_while_a_finger_is_still_down(browser: Browser, address: str) -> None:
    with opened(browser, address, width=PHONE, has_touch=True) as page:
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        (stroke,) = pen.pen_strokes(3, 1)
        finger = page.context.new_cdp_session(page)
        for number, (x, y) in enumerate(stroke):
            point = {"x": box["x"] + 100 + 120 * x, "y": box["y"] + 40 + 180 * y}
            kind = "touchMove" if number else "touchStart"
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})

        expect_read(page, "3")


def test_the_page_shows_what_each_model_says_and_what_it_saw(
    browser: Browser, address: str
) -> None:
    with opened(browser, address) as page:
        draw(page, 7)
        expect_read(page, "7")

        assert page.locator("#chart thead th").all_inner_texts()[1:] != []
        assert page.locator("#chart tbody tr").count() == 10
        columns = page.locator("#chart thead th").count() - 1
        assert columns == 2  # the champion, and the other model of its run
        assert page.locator("#chart tbody tr:nth-child(8) td.top").count() == columns
        seen = page.locator("#seen-image")
        size = seen.evaluate("e => [e.naturalWidth, e.naturalHeight, e.width, e.height]")
        assert size == [28, 28, 112, 112]


def test_several_digits_are_read_one_by_one(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        page.get_by_role("switch", name="Several digits").check()
        for place, digit in enumerate((1, 9, 4)):
            draw(page, digit, left=0.08 + 0.3 * place, size=0.35)
        tiles = page.locator("#tiles strong")
        expect(tiles).to_have_text(["1", "9", "4"], timeout=ANSWER_MS)

        page.locator("#tiles button").nth(1).click()

        expect_read(page, "9")
        expect(page.locator("#really")).to_have_text("What was number 2 of 3 really?")


@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
def test_a_picture_is_read(browser: Browser, address: str, way: str) -> None:
    with opened(browser, address) as page:
        if way == "chosen":
            file = {"name": "<i>5</i>.png", "mimeType": "image/png", "buffer": picture(5)}
            other = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"no picture"}
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Picture").click()
            chooser.value.set_files([file, other])
            expect(page.locator("#tiles span")).to_have_text(
                ["<i>5</i>.png", "note.txt"], timeout=ANSWER_MS
            )
        else:
            page.evaluate(HAND_OVER, [list(picture(5)), way])
        expect_read(page, "5")


HAND_OVER = """
([bytes, way]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "five.png", { type: "image/png" }));
  const event = way === "pasted"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true });
  document.querySelector("#canvas").dispatchEvent(event);
}
"""


def test_everything_works_with_the_keyboard_alone(
    browser: Browser, address: str, settings: Settings
) -> None:
    with opened(browser, address) as page:
        expect(page.locator("#champion")).not_to_be_empty()
        press_until(page, "Tab", "#canvas")
        for key in [*["ArrowUp"] * 8, "Space", *["ArrowDown"] * 18, "Space"]:
            page.keyboard.press(key)
        expect_read(page, "1")
        for key, name in (
            ("Control+z", "?"),
            ("Control+Shift+z", "1"),
            ("Escape", "?"),
            ("Control+z", "1"),
        ):
            page.keyboard.press(key)
            expect_read(page, name)
        expect(page.locator("#said")).to_contain_text("It reads 1", timeout=ANSWER_MS)
        press_until(page, "Tab", "#classes button:nth-child(2)")
        page.keyboard.press("Enter")

        expect(page.get_by_text("Thank you. Kept as 1.")).to_be_visible()
        press_until(page, "Shift+Tab", "#dataset")
        page.keyboard.press("ArrowUp")
        expect(page.locator("#title")).to_have_text("Made-up handwriting")
        assert kept(settings) == ["1"]


def press_until(page: Page, key: str, place: str) -> None:
    """Press a key until an element has a visible focus."""
    for _ in range(40):
        page.keyboard.press(key)
        if page.locator(f"{place}:focus-visible").count():
            return
    raise AssertionError(f"{place} is not reached by {key}")


def kept(settings: Settings) -> list[str]:
    """Return the classes of the corrections that wait, and delete these."""
    found = corrections(pen.NAME, settings)
    for path in found:
        path.unlink()
    return [path.parent.name for path in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_axe_finds_nothing_and_the_page_never_scrolls_sideways(
    browser: Browser, address: str, width: int, scheme: Scheme
) -> None:
    with opened(
        browser, address, width=width, color_scheme=scheme, reduced_motion="reduce"
    ) as page:
        states = [lambda: None, lambda: draw(page, 3), lambda: page.locator("#each").check()]
        for state, name in zip(states, ("?", "3", "3"), strict=True):
            state()
            expect_read(page, name)
            page.locator("details").evaluate("e => { e.open = true; }")
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            for narrow in (width, 320):
                page.set_viewport_size({"width": narrow, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") == narrow
            page.set_viewport_size({"width": width, "height": 900})


def test_markup_in_a_name_is_shown_as_text_and_a_new_version_is_announced(
    browser: Browser, address: str, settings: Settings
) -> None:
    with opened(browser, address, MARKUP) as page:
        draw(page, 3)
        expect_read(page, NAMES[0])
        assert page.locator("#classes button").all_inner_texts() == NAMES
        assert page.locator("main img:not(#seen-image), main b").count() == 0

        promote_version(settings, 1, MARKUP)

        expect(page.locator("#notice")).to_contain_text(
            "Version 2 answers now; before, it was version 1.", timeout=ANSWER_MS
        )
        expect_read(page, NAMES[1])
        heads = page.locator("#chart thead th").all_inner_texts()[1:]
        assert [head.split("\n")[1:] for head in heads] == [
            ["champion", "version 2"],
            ["same run", "version 2"],
            ["before", "version 1"],
        ]


def test_a_drawing_survives_a_server_that_is_away_and_asks_for_a_key(
    browser: Browser, settings: Settings
) -> None:
    with served(settings) as address, opened(browser, address) as page:
        expect(page.locator("#champion")).not_to_be_empty()
        port = int(address.rpartition(":")[2])
        page.route("**/predict?*", lambda route: route.abort())
        draw(page, 6)
        expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        page.unroute("**/predict?*")
        expect_read(page, "6")
        expect(page.get_by_role("alert")).to_have_count(0)
    with (
        served(settings, port, DIGITS_API_KEY="secret") as address,
        opened(browser, address) as page,
    ):
        for key, question in (
            ("wrong", "This server needs a key."),
            ("secret", "This key is not the right one."),
        ):
            expect(page.locator("#asked")).to_have_text(question)
            page.keyboard.type(key)
            page.keyboard.press("Enter")
        expect(page.locator("#ask")).to_be_hidden()
        draw(page, 6)
        expect_read(page, "6")
        page.reload()
        draw(page, 6)
        expect_read(page, "6")


def test_corrections_become_a_batch_that_the_next_run_validates(
    browser: Browser, address: str, settings: Settings
) -> None:
    correct_each(browser, address, settings, {digit: digit for digit in range(10)})
    assert not incoming_folder(pen.NAME, settings).exists()
    (batch,) = read_json(run_digits(settings, "feedback", "add", pen.NAME, "--json"))
    assert batch["num_images"] == 10
    done = run_digits(settings, "run", *about(pen.NAME), "--models", "mlp", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    facts = read_json(run_digits(settings, "dataset", "show", pen.NAME, "--json"))
    assert (facts["version"], facts["quarantined"]) == (2, [])

    # A stranger's labels do not get into the data.
    correct_each(browser, address, settings, dict.fromkeys(range(10), 3), seed=50)
    run_digits(settings, "feedback", "add", pen.NAME)
    refused = run_digits(settings, "dataset", "add-incoming", pen.NAME)
    facts = read_json(run_digits(settings, "dataset", "show", pen.NAME, "--json"))
    assert refused.returncode == 1
    assert (facts["version"], len(facts["quarantined"])) == (2, 1)


def correct_each(
    browser: Browser, address: str, settings: Settings, labels: dict[int, int], seed: int = 30
) -> None:
    """Draw digits and say what each was."""
    with opened(browser, address) as page:
        for digit, label in labels.items():
            draw(page, digit, seed)
            expect(page.locator("#correct")).to_be_visible(timeout=ANSWER_MS)
            page.locator("#classes button").nth(label).click()
            expect(page.locator("#thanks")).to_have_text(
                f"Thank you. Kept as {label}.", timeout=ANSWER_MS
            )
            page.keyboard.press("Escape")
            expect_read(page, "?")
    assert corrections_folder(pen.NAME, settings).is_dir()
    assert len(corrections(pen.NAME, settings)) == len(labels)
