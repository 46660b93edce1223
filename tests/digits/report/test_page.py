import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.errors import DamagedError
from digits.report.page import render_report, write_report
from digits.report.view_models import ReportFacts
from tests.support.markup import Element, parse_page
from tests.support.reports import (
    ACCURACIES,
    CHAMPION,
    NUM_IMAGES,
    SHIFTS,
    digest,
    make_facts,
    make_layout,
    make_model,
    make_step,
    make_test_images,
    make_verdict,
)

NO_CHAMPION = {
    "champion_accuracy": None,
    "champion_before": None,
    "discordant": None,
    "p_value": None,
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> ReportFacts:
    return make_facts(tmp_path_factory.mktemp("facts"))


@pytest.fixture(scope="module")
def html(facts: ReportFacts) -> str:
    return render_report(facts)


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parse_page(html)


def render(facts: ReportFacts) -> Element:
    return parse_page(render_report(facts))


def section(page: Element, name: str) -> Element:
    return page.one(f"#{name}")


def cards(page: Element, name: str) -> dict[str, Element]:
    """The cards of a section by model."""
    found = section(page, name).all("article.card")
    return {card.one("h3").text: card for card in found}


# Self-contained and accessible


def test_page_is_self_contained(html: str, page: Element) -> None:
    assert not [element.tag for element in page.all("script") + page.all("link")]
    for element in page.walk():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "srcset", "poster", "data", "action"):
            assert element.attributes.get(name, "data:").startswith("data:image/png;base64,") or (
                name not in element.attributes
            )
        for name in ("href", "xlink:href"):
            assert element.attributes.get(name, "#").startswith("#")
    assert re.findall(r"https?:|@import|url\((?!#)", html) == []


def test_policy_forbids_loading_anything(page: Element) -> None:
    [policy] = [m for m in page.all("meta") if "http-equiv" in m.attributes]

    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


def test_every_link_has_a_target(page: Element) -> None:
    targets = [element["id"] for element in page.walk() if "id" in element.attributes]
    links = [
        element.attributes[name].removeprefix("#")
        for element in page.walk()
        for name in ("href", "xlink:href")
        if name in element.attributes
    ]
    clips = [
        re.fullmatch(r"url\(#(.*)\)", element["clip-path"])[1]
        for element in page.walk()
        if "clip-path" in element.attributes
    ]

    assert len(targets) == len(set(targets))
    assert set(links) | set(clips) <= set(targets)
    assert [s["id"] for s in page.all("section")] == [
        link["href"].removeprefix("#") for link in page.one("nav").all("a")
    ]


def test_structure_is_accessible(page: Element) -> None:
    levels = [int(e.tag[1]) for e in page.walk() if re.fullmatch("h[1-6]", e.tag)]

    assert page.one("html")["lang"] == "en"
    assert page.one("title").text == "New champion: the cnn, version 4 - Made-up digits"
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.all("svg"))
    assert all(cell["scope"] for cell in page.all("th"))
    assert all(region["aria-label"] for region in page.walk() if "tabindex" in region.attributes)


def test_equal_facts_give_equal_bytes_in_parallel_threads(facts: ReportFacts, html: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        pages = list(pool.map(render_report, [facts] * 3))

    assert pages == [html] * 3


def test_written_page_is_the_rendered_one(facts: ReportFacts, html: str, tmp_path: Path) -> None:
    write_report(facts, tmp_path / "page.html")

    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html


# The decision and the scores


@pytest.mark.parametrize(
    ("outcome", "changes", "headline"),
    [
        ("promoted", {}, "New champion: the cnn, version 4"),
        ("promoted", NO_CHAMPION | {"champion_after": 1}, "New champion: the cnn, version 1"),
        ("kept", {}, "Version 3 remains champion"),
        ("unchanged", {}, "Version 3 remains champion"),
        ("kept", NO_CHAMPION | {"champion_after": None}, "No model was promoted"),
    ],
)
def test_page_starts_with_the_decision_and_its_reason(
    facts: ReportFacts, outcome: str, changes: dict[str, Any], headline: str
) -> None:
    decision = make_verdict(outcome, **changes)

    page = render(replace(facts, decision=decision))

    lead = next(page.one("main").walk())
    assert lead.classes == ["verdict", outcome]
    assert lead.one(".tag").text == outcome
    assert lead.one("h1").text == f"{headline}. {decision.reason}."
    assert f"Rule: {decision.rule}." in lead.text


def test_scores_of_models_and_champion(page: Element) -> None:
    rows = section(page, "scores").one("table").rows()[1:]

    assert rows == [
        ["mlp", "85.00% 80.00% to 88.00%", "0.3210", "4,000", "1 min 15 s", "gpu:Made-up 100"],
        [
            "cnn new champion",
            "95.00% 90.00% to 98.00%",
            "0.3210",
            "4,000",
            "1 min 15 s",
            "gpu:Made-up 100",
        ],
        [
            "previous champion version 3, mlp",
            "90.00% 80.00% to 95.00%",
            "0.4000",
            "4,321",
            "1 min 15 s",
            "cpu",
        ],
    ]


def test_candidate_that_was_not_promoted_is_tagged(facts: ReportFacts) -> None:
    page = render(replace(facts, decision=make_verdict("kept")))

    names = [row[0] for row in section(page, "scores").one("table").rows()[1:]]
    assert names == ["mlp", "cnn candidate", "champion version 3, mlp"]


def test_paired_test_is_shown_with_its_counts(page: Element) -> None:
    text = section(page, "scores").text

    assert "Exact McNemar test, cnn vs. the champion: p = 0.00643." in text
    assert (
        "Test images that only the champion classified correctly: 11; only the candidate: 29."
        in text
    )
    assert "would split these 40 at least as unevenly" in text


def test_without_a_champion_there_is_no_comparison(facts: ReportFacts) -> None:
    decision = make_verdict("promoted", **NO_CHAMPION)

    page = render(replace(facts, decision=decision, champion=None))

    assert len(section(page, "scores").one("table").rows()) == 3
    assert "There was no champion to compare the candidate with." in section(page, "scores").text
    assert "McNemar" not in page.text


def test_candidate_that_is_already_champion_is_not_compared_with_itself(
    facts: ReportFacts,
) -> None:
    decision = make_verdict("unchanged", p_value=None, discordant=None)

    page = render(replace(facts, decision=decision, champion=None))

    assert "there is nothing to compare it with" in section(page, "scores").text


# The charts


def test_test_images_that_are_training_images_are_counted(facts: ReportFacts) -> None:
    shared = facts.validation.model_copy(update={"num_shared_images": 7})

    page = render(replace(facts, validation=shared))

    remark = f"7 of the {NUM_IMAGES} test images are also training images"
    assert remark in section(page, "scores").text
    assert (
        "Apart from the test images that are also training images" in section(page, "curves").text
    )


def test_without_shared_images_no_training_learns_from_the_test_set(page: Element) -> None:
    assert "Models are never trained on the test set" in section(page, "curves").text
    assert "also" not in section(page, "scores").text


def test_both_learning_curves_of_each_model_are_drawn(page: Element) -> None:
    found = cards(page, "curves")

    assert list(found) == ["mlp", "cnn"]
    for name, card in found.items():
        accuracy, loss = (chart["aria-label"] for chart in card.all("svg"))
        assert (
            accuracy == f"Accuracy of the {name} by epoch; final values: test 93.33%, train 90.00%"
        )
        assert loss == f"Loss of the {name} by epoch; final values: test 0.267, train 0.333"
        for chart in card.all("svg"):
            # three epochs of two curves, and a marker for each in the legend
            assert len(chart.all("use")) == 3 * 2 + 2
            assert [text.text for text in chart.all("text")][-2:] == ["test", "train"]


def test_without_test_values_only_the_training_curve_is_drawn(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    model = make_model(tmp_path, "mlp", layout, y_test, has_test_curve=False)

    page = render(make_facts(tmp_path, layout=layout, models=[model]))

    for chart in cards(page, "curves")["mlp"].all("svg"):
        assert "test" not in chart["aria-label"]
        assert len(chart.all("use")) == 3
    assert "nan" not in page.text.lower()


def test_missing_history_is_reported(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    model = make_model(tmp_path, "mlp", layout, y_test, num_epochs=0)

    page = render(make_facts(tmp_path, layout=layout, models=[model]))

    assert cards(page, "curves")["mlp"].text.count("No data recorded.") == 2


def test_confusion_matrices_show_every_count(facts: ReportFacts, page: Element) -> None:
    for model in facts.models:
        card = cards(page, "confusion")[model.name]
        header, *rows = card.one("table").rows()[1:]
        assert header[1:] == list(facts.dataset.layout.class_names)
        assert [row[0] for row in rows] == header[1:]
        counts = [[int(count or 0) for count in row[1:]] for row in rows]
        assert counts == [list(row) for row in model.metrics.confusion]


def test_correct_and_wrong_counts_are_marked(facts: ReportFacts, page: Element) -> None:
    for model in facts.models:
        table = cards(page, "confusion")[model.name].one("table")
        rows = [row.all("td") for row in table.all("tr")[2:]]
        for true, cells in enumerate(rows):
            for predicted, cell in enumerate(cells):
                kind = "hit" if true == predicted else "miss"
                assert cell.classes[:1] == ([kind] if cell.text else [])


def test_many_classes_are_shown_as_an_image_instead_of_counts(tmp_path: Path) -> None:
    layout = make_layout(num_classes=256)
    _, y_test = make_test_images(layout)
    models = [make_model(tmp_path, name, layout, y_test) for name in ACCURACIES]

    page = render(make_facts(tmp_path, layout=layout, models=models))

    assert page.all("table.matrix") == []
    assert [image["alt"] for image in page.all("img.heat")] == [
        f"Confusion matrix of the {name}. Most frequent mistakes: class A as class B (1), "
        "class B as class C (1), class C as class D (1)."
        for name in ACCURACIES
    ]
    for name in ("classes", "data"):
        folded = section(page, name).one("details")
        assert len(folded.one("table").all("tr")) > 256


# The images


def test_first_test_image_is_shown_with_every_prediction(page: Element) -> None:
    first = section(page, "predictions").one(".first")

    assert first.one("h3").text == "First test image: class A"
    assert [item.text for item in first.all("li")] == [
        "mlp predicts class B (80.00% sure), wrong",
        "cnn predicts class B (80.00% sure), wrong",
    ]


def test_true_classes_are_blue_if_predicted_and_red_otherwise(page: Element) -> None:
    names = make_layout().class_names
    for name, card in cards(page, "predictions").items():
        num_wrong = round(NUM_IMAGES * (1 - ACCURACIES[name]))
        items = card.one(".digits").all("li")
        assert len(items) == 30
        for index, item in enumerate(items):
            true, after = names[index % 10], names[(index + 1) % 10]
            is_wrong = index < num_wrong
            assert item.one(".truth").classes == ["truth", "wrong" if is_wrong else "right"]
            assert item.text == (f"{true} predicted {after}" if is_wrong else true)
            predicted = after if is_wrong else true
            assert item.one("img")["alt"] == f"Test image {index}: {true}, predicted {predicted}"
        assert f"{30 - num_wrong} of 30 correct." in card.text
    css = page.one("style").text
    assert ".right { color: var(--right); }" in css
    assert ".wrong { color: var(--wrong); }" in css


def test_images_are_enlarged_by_an_integer_factor(page: Element) -> None:
    sizes = {(image["width"], image["height"]) for image in section(page, "predictions").all("img")}

    assert sizes == {("36", "48"), ("99", "132")}  # 9 x 12 pixels, 4 and 11 times


def test_worst_mistakes_are_shown_most_confident_first(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    probability = np.linspace(0.5, 0.99, NUM_IMAGES)
    probability[7] = 0.99999
    model = make_model(tmp_path, "mlp", layout, y_test, accuracy=0.75, probability=probability)

    page = render(make_facts(tmp_path, layout=layout, models=[model]))

    card = cards(page, "mistakes")["mlp"]
    shown = [int(item.all(".faint")[1].text.split()[1]) for item in card.all("li")]
    assert shown == [7, 14, 13, 12, 11, 10, 9, 8, 6, 5, 4, 3]
    assert "15 of 60 test images misclassified, 12 shown." in card.text
    assert card.all("li")[0].text == "class H predicted class I over 99.99% sure image 7"


def test_model_without_mistakes_shows_none(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    model = make_model(tmp_path, "mlp", layout, y_test, accuracy=1)

    page = render(make_facts(tmp_path, layout=layout, models=[model]))

    assert "0 of 60 test images misclassified." in cards(page, "mistakes")["mlp"].text
    assert cards(page, "mistakes")["mlp"].all("li") == []
    assert "No mistakes." in cards(page, "confusion")["mlp"].text


def test_predictions_of_other_images_are_refused(facts: ReportFacts) -> None:
    with pytest.raises(DamagedError, match="labels do not match the 60 test images"):
        render_report(replace(facts, y_test=np.roll(facts.y_test, 1)))


# Comparison, data, settings, lineage


def test_accuracy_by_shift_is_drawn_and_listed(page: Element) -> None:
    shift = section(page, "shift")

    assert shift.one("table").rows() == [
        ["Shift", "mlp", "cnn"],
        ["0 px", "85.00%", "95.00%"],
        ["1 px", "50.00%", "90.00%"],
        ["2 px", "20.00%", "60.00%"],
    ]
    assert len(shift.one("svg").all("use")) == 3 * 2 + 2
    assert "The cnn is more robust at every distance" in shift.one("svg")["aria-label"]
    assert "The cnn is more robust at every distance" in shift.one(".lead").text


def test_distances_that_a_model_lacks_are_left_empty(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    models = [
        make_model(tmp_path, "mlp", layout, y_test, shift={0: 0.9, 1: 0.8, 2: 0.1}),
        make_model(tmp_path, "cnn", layout, y_test, shift={0: 0.9, 1: 0.85}),
        make_model(tmp_path, "third", layout, y_test),
    ]

    page = render(make_facts(tmp_path, layout=layout, models=models))

    rows = section(page, "shift").one("table").rows()
    assert rows[0] == ["Shift", "mlp", "cnn"]
    assert rows[-1] == ["2 px", "10.00%", "-"]
    compared = {row[0]: row[1:] for row in section(page, "comparison").one("table").rows()}
    assert compared["Accuracy when shifted by 1 px"] == ["80.00%", "85.00%", "-"]


def test_without_shifted_images_there_is_no_shift_section(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    models = [make_model(tmp_path, name, layout, y_test) for name in ACCURACIES]

    page = render(make_facts(tmp_path, layout=layout, models=models))

    assert page.all("#shift") == []
    assert "#shift" not in [link["href"] for link in page.one("nav").all("a")]
    assert "shifted" not in section(page, "comparison").text


def test_two_models_are_compared(page: Element) -> None:
    comparison = section(page, "comparison")

    rows = {row[0]: row[1:] for row in comparison.one("table").rows()}
    assert rows["Parameters"] == ["4,000", "4,000"]
    assert rows["Misclassified test images"] == ["9", "3"]
    assert (
        rows["Accuracy when shifted by 1 px"]
        == ["50.00%", "90.00%"]
        == [f"{SHIFTS[name][1]:.2%}" for name in ACCURACIES]
    )
    sight = "Spatial structure: the same small filters scan the entire image."
    assert rows["What it sees"][1] == sight
    counts = "both models classify 51 correctly, only the mlp 0, only the cnn 6, and neither 3"
    assert counts in comparison.text


@pytest.mark.parametrize("names", [["mlp"], ["mlp", "cnn", "third"], list("abcdef")])
def test_any_number_of_models_is_shown(tmp_path: Path, names: list[str]) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    models = [make_model(tmp_path, n, layout, y_test, shift={0: 0.9, 1: 0.8}) for n in names]

    page = render(make_facts(tmp_path, layout=layout, models=models))

    for part in ("curves", "predictions", "mistakes", "confusion"):
        assert list(cards(page, part)) == names
    assert section(page, "comparison").one("table").rows()[0] == ["", *names]
    assert section(page, "comparison").all(".lead") == []
    legend = [text.text for text in section(page, "shift").one("svg").all("text")][-len(names) :]
    assert legend == (names if len(names) > 1 else ["100%"])


def test_scores_of_each_class(page: Element) -> None:
    rows = section(page, "classes").one("table").rows()

    assert len(rows) == 2 + 10
    assert rows[2] == ["class A", "6", "90.00%", "80.00%", "90.00%", "80.00%"]


def test_facts_of_the_data(tmp_path: Path) -> None:
    page = render(make_facts(tmp_path, warnings=("test, ink: found 1", "train, ink: found 2")))

    data = section(page, "data")
    facts = dict(
        zip(
            (e.text for e in data.all("dt")),
            (e.text for e in data.all("dd")),
            strict=True,
        )
    )
    assert facts["Image"] == "grayscale, 12 x 9 pixels"
    assert facts["Classes"] == "10"
    assert (facts["Train images"], facts["Test images"]) == ("600", "60")
    assert facts["Validation"].startswith("passed: 51 expectations checked, 2 warnings")
    assert [item.text for item in data.all("li")] == ["test, ink: found 1", "train, ink: found 2"]
    assert facts["Test set"] == digest("test set")[:12]
    assert data.one("table").rows()[1] == ["class A", "60", "6"]


def test_settings_of_each_model(tmp_path: Path) -> None:
    layout = make_layout()
    _, y_test = make_test_images(layout)
    one, other = (make_model(tmp_path, name, layout, y_test) for name in ACCURACIES)
    other = other.model_copy(update={"settings": {"seed": None, "weight_decay": 0.1}})

    page = render(make_facts(tmp_path, layout=layout, models=[one, other]))

    assert section(page, "settings").one("table").rows()[1:] == [
        ["recipe", "reference", "-"],
        ["optimizer", "adam", "-"],
        ["dropout", "0.2, 0.5", "-"],
        ["seed", "7", "-"],
        ["weight decay", "-", "0.1"],
    ]


def test_lineage_links_inputs_to_outputs(page: Element) -> None:
    rows = section(page, "lineage").one("table").rows()

    short = {name: digest(name)[:12] for name in ("dataset", "normalize: output")}
    assert rows[1] == [
        "normalize",
        f"dataset {short['dataset']}",
        *(digest(f"normalize: {part}")[:12] for part in ("code", "key", "output")),
    ]
    assert rows[2][1] == f"arrays {short['normalize: output']} device cpu"
    assert "Libraries: keras 3.15.1, numpy 2.4.6." in section(page, "lineage").text
    assert "Ran on A CPU, 2 cores: normalize, train cnn." in section(page, "lineage").text


def test_every_digest_is_shown_in_full(facts: ReportFacts, page: Element) -> None:
    folded = section(page, "lineage").one("details")
    shown = dict(
        zip(
            (e.text for e in folded.all("dt")),
            (e.text for e in folded.all("dd")),
            strict=True,
        )
    )

    assert shown == {
        "test set": digest("test set"),
        "normalize: dataset": digest("dataset"),
        "normalize: code": digest("normalize: code"),
        "normalize: key": digest("normalize: key"),
        "normalize: output": digest("normalize: output"),
        "train cnn: arrays": digest("normalize: output"),
        "train cnn: code": digest("train cnn: code"),
        "train cnn: key": digest("train cnn: key"),
        "train cnn: output": digest("train cnn: output"),
        "version 3: model": CHAMPION.model_digest,
        "version 3: score": CHAMPION.score_digest,
        "version 3: lineage": CHAMPION.lineage_digest,
    }
    abbreviated = {code["title"] for code in page.all("code") if "title" in code.attributes}
    assert abbreviated == set(facts.digests.values())


# Malicious names

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror="alert(1)">',
    "'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    r"$\frac{1}{2}$ </style></title>&amp;",
    "_hidden fill: #000001",
    "数字 \U0001f600",
]


def test_names_are_shown_unchanged_and_never_become_markup(tmp_path: Path) -> None:
    layout = make_layout(num_classes=len(HOSTILE)).model_copy(
        update={"class_names": tuple(HOSTILE)}
    )
    _, y_test = make_test_images(layout)
    settings = {name: name for name in HOSTILE}
    models = [
        make_model(tmp_path, name, layout, y_test, shift={0: 0.9, 1: 0.5}).model_copy(
            update={"settings": settings, "device": name}
        )
        for name in HOSTILE
    ]
    text = " ".join(HOSTILE)

    html = render_report(
        make_facts(
            tmp_path,
            layout=layout,
            models=models,
            decision=make_verdict("promoted", candidate=HOSTILE[0], reason=text, rule=text),
            warnings=tuple(HOSTILE),
            lineage=[make_step(name, {name: name}) for name in HOSTILE],
            title=text,
        )
    )

    page = parse_page(html)
    plain = render(make_facts(tmp_path, warnings=("one",)))
    assert {e.tag for e in page.walk()} == {e.tag for e in plain.walk()}
    assert not [n for e in page.walk() for n in e.attributes if n.startswith("on")]
    assert list(cards(page, "predictions")) == HOSTILE
    assert f"{text}." in page.one("h1").text
    assert page.one("title").text.endswith(text)
    drawn = [text.text for text in section(page, "shift").one("svg").all("text")]
    assert drawn[-len(HOSTILE) :] == HOSTILE
    assert [row[0] for row in section(page, "lineage").one("table").rows()[1:]] == HOSTILE
    first = section(page, "predictions").one(".first").one("img")["alt"]
    assert first == f"First test image: {HOSTILE[0]}"
