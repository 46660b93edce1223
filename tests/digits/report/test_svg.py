import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from digits.report.svg import NUM_TONES, Curve, draw_curves, heat, heat_uri, image_uri
from tests.support.markup import Element, parse_page

NAN = float("nan")


def draw(*curves: Curve, title: str = "Title", **options: Any) -> str:
    settings = {"x_label": "epoch", "y_limits": (0, 1), "is_share": True, "legend": "lower left"}
    return draw_curves(curves, title=title, **(settings | options))


def marks(chart: Element) -> list[tuple[float, float]]:
    return [(float(mark["x"]), float(mark["y"])) for mark in chart.all("use")]


def decoded(uri: str) -> npt.NDArray[np.uint8]:
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_points_are_drawn_at_their_values() -> None:
    chart = parse_page(draw(Curve("a", [1, 2, 3], [0, 0.5, 1], 0))).one("svg")

    (x1, bottom), (x2, middle), (x3, top) = marks(chart)
    assert x2 - x1 == pytest.approx(x3 - x2)
    assert bottom - middle == pytest.approx(middle - top)
    assert x1 < x2 < x3
    assert bottom > middle > top  # y counts downwards in a drawing


def test_missing_value_leaves_a_gap() -> None:
    chart = parse_page(draw(Curve("a", [1, 2, 3, 4], [0.1, NAN, 0.3, 0.4], 0))).one("svg")

    assert len(marks(chart)) == 3
    [line] = [p for p in chart.all("path") if "stroke: var(--series-0); stroke-width" in p["style"]]
    assert line["d"].count("M") == 2


def test_axis_shows_percentages_only_for_shares() -> None:
    curve = Curve("a", [1, 2], [0.25, 0.75], 0)
    shares = [text.text for text in parse_page(draw(curve)).all("text")]
    losses = [text.text for text in parse_page(draw(curve, is_share=False)).all("text")]

    assert shares[-2:] == ["80%", "100%"]
    assert losses[-2:] == ["0.8", "1.0"]
    assert shares[:3] == losses[:3] == ["1", "2", "epoch"]


@pytest.mark.parametrize("low", np.arange(0, 1, 0.05).round(2))
def test_axis_of_shares_has_a_line_at_100_percent(low: float) -> None:
    chart = parse_page(draw(Curve("a", [1], [1], 0), y_limits=(low, 1)))

    assert [text.text for text in chart.all("text")][-1] == "100%"


def test_one_curve_needs_no_legend() -> None:
    labels = [text.text for text in parse_page(draw(Curve("alone", [1], [0.5], 0))).all("text")]

    assert "alone" not in labels


@pytest.mark.parametrize("label", ["_hidden", "$x$", "<b>", "a & b", "#000001", "漢字"])
def test_legend_shows_a_label_unchanged(label: str) -> None:
    chart = parse_page(draw(Curve("first", [1], [0.5], 0), Curve(label, [1], [0.6], 1)))

    assert [text.text for text in chart.all("text")][-2:] == ["first", label]


def test_title_is_the_text_alternative_and_nothing_more() -> None:
    chart = parse_page(draw(Curve("a", [1], [0.5], 0), title='"><script>&#000001')).one("svg")

    assert chart["aria-label"] == '"><script>&#000001'
    assert chart["role"] == "img"
    assert chart.all("script") == []


def test_colors_are_css_variables_of_the_page() -> None:
    curves = [Curve(str(tone), [1, 2], [0.1, 0.2], tone) for tone in range(NUM_TONES)]

    drawing = draw(*curves)

    colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing)) - {"none"}
    series = {f"var(--series-{tone})" for tone in range(NUM_TONES)}
    assert colors == {"var(--text)", "var(--faint)", "var(--line)", "var(--card)"} | series
    assert "<style" not in drawing


def test_models_beyond_the_colors_differ_in_markers_and_line_styles() -> None:
    curves = [Curve(str(tone), [1, 2], [0.1, 0.2], tone) for tone in range(NUM_TONES + 2)]

    chart = parse_page(draw(*curves)).one("svg")

    lines = [path["style"] for path in chart.all("path") if "stroke-width: 2" in path["style"]]
    assert len(set(lines)) == NUM_TONES + 2
    assert len({path["id"] for path in chart.all("path") if "id" in path.attributes}) >= NUM_TONES


def test_charts_of_one_page_share_no_id() -> None:
    curve = Curve("a", [1, 2], [0.1, 0.2], 0)
    one, other = (
        {e["id"] for e in parse_page(draw(curve, title=title)).walk() if "id" in e.attributes}
        for title in ("one", "other")
    )

    assert one
    assert not one & other


def test_a_drawing_depends_on_its_input_alone() -> None:
    curves = (Curve("a", [1, 2], [0.1, NAN], 0), Curve("b", [1, 2], [0.3, 0.2], 1, is_faint=True))
    alone = [draw(*curves, title=str(number)) for number in range(4)]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda number: draw(*curves, title=str(number)), range(4)))

    assert together == alone


def test_image_keeps_every_pixel() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(8, 32)

    pixels = decoded(image_uri(image))

    assert all((pixels[..., channel] == image).all() for channel in range(3))


def test_image_in_unit_range_gives_the_same_output() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(8, 32)

    assert image_uri(image / np.float32(255)) == image_uri(image)


def test_correct_counts_are_scaled_by_their_row_and_mistakes_by_the_largest_one() -> None:
    confusion = np.array([[50, 50, 0], [5, 95, 0], [0, 0, 0]])

    shares = heat(confusion)

    assert shares[0, 0] == 0.5
    assert shares[1, 1] == 0.95
    assert shares[0, 1] == pytest.approx(0.7)
    assert shares[1, 0] == pytest.approx(0.16)
    assert (shares[2] == 0).all()
    assert shares[0, 2] == 0


def test_heat_image_is_blue_on_the_diagonal_and_red_elsewhere() -> None:
    confusion = np.array([[50, 50, 0], [5, 95, 0], [0, 0, 0]])

    red, _, blue, alpha = np.moveaxis(decoded(heat_uri(confusion)).astype(int), 2, 0)

    right = np.eye(3, dtype=bool)
    assert (blue > red)[right].all()
    assert (red > blue)[~right].all()
    assert (alpha == np.rint(heat(confusion) * 255)).all()
