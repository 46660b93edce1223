from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from digits.cards import card_facts, font_pictures
from digits.cards.font_pictures import DIGITS, draw, font_files, score_fonts
from digits.cards.model_card import model_card
from digits.errors import DamagedError, UsageError
from digits.inference.loaded_versions import load_version
from digits.labeling.labeler import Prediction, label_images
from digits.registry.ledger import Ledger, ModelVersion
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.champions import crown
from tests.support.small_dataset import NAME, SPEC, write_spec

NUM_FONTS = 3


@pytest.fixture(scope="module", autouse=True)
def few_fonts() -> Iterator[None]:
    """Draw digits in the first fonts only: all take a second a card."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(font_pictures, "font_files", lambda: font_files()[:NUM_FONTS])
        yield


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("crowned")
    settings = Settings(data_dir=root / "data", artifacts_dir=root / "artifacts")
    crown(settings, epochs=2)
    return Workspace(settings)


@pytest.fixture
def version(crowned: Workspace) -> ModelVersion:
    return Ledger(NAME, crowned.settings).versions()[1]


@pytest.fixture(scope="module")
def card(crowned: Workspace) -> str:
    return model_card(NAME, None, crowned)


def front_matter(card: str) -> dict[str, Any]:
    before, front, _ = card.split("---\n", 2)
    assert before == ""
    read: dict[str, Any] = yaml.safe_load(front)
    return read


def test_the_metadata_is_what_hugging_face_reads(card: str, version: ModelVersion) -> None:
    front = front_matter(card)

    assert front["datasets"] == [NAME]
    assert front["pipeline_tag"] == "image-classification"
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == f"{NAME}-v1"
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"]["type"] == NAME
    assert result["dataset"]["revision"] == version.evaluation.test_digest
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"accuracy": version.evaluation.accuracy, "loss": version.evaluation.loss}


def test_a_card_states_data_training_accuracy_and_how_to_reproduce(
    card: str, version: ModelVersion
) -> None:
    score = version.evaluation
    low, high = (f"{end:.2%}" for end in score.interval)
    for fact in (
        version.model.digest,
        score.test_digest,
        version.lineage,
        f"{version.model.num_parameters:,} parameters",
        "Recipe: `reference`",
        "| epochs | 2 |",
        f"**{score.accuracy:.2%}** of 200 test images (95% interval {low} to {high})",
        "Promoted because the mlp reached",
        "| 9 | ",
        "| 6 pixels | ",
        f"`digits reproduce 1 --dataset {NAME}`",
        f'Champion("{NAME}", version=1)',
        f'InferenceSession("{NAME}-v1.onnx")',
    ):
        assert fact in card


def test_a_card_is_the_same_each_time(card: str, crowned: Workspace) -> None:
    assert model_card(NAME, 1, crowned) == card


def test_digits_in_fonts_are_labeled_as_predict_does(card: str, crowned: Workspace) -> None:
    version, fonts = load_version(NAME, crowned), font_files()[:NUM_FONTS]
    answers = {
        (font, name): answer.name
        for font in fonts
        for name in DIGITS
        for answer in label_images([(name, draw(font, name))], version, as_is=False)
        if isinstance(answer, Prediction)
    }

    score = score_fonts(version)

    assert score is not None
    assert score.num_pictures == 10 * NUM_FONTS
    assert score.num_right == sum(name == found for (_, name), found in answers.items())
    assert f"{score.num_right:,} of {score.num_pictures:,} right" in card
    assert "DejaVu Sans Bold" in card


def test_every_font_has_ten_different_digits() -> None:
    assert len(font_files()) >= 20
    for font in font_files():
        pictures = {draw(font, name).tobytes() for name in DIGITS}
        assert len(pictures) == 10, font


@pytest.fixture
def card_with(crowned: Workspace) -> Any:
    """Return the card that another spec gives; the spec is restored."""

    def render(text: str) -> str:
        write_spec(crowned.settings, text)
        return model_card(NAME, None, crowned)

    yield render
    write_spec(crowned.settings, SPEC)


def test_fonts_are_left_out_if_the_classes_are_not_digits(card_with: Any) -> None:
    names = [f"class {n}" for n in range(10)]

    card = card_with(SPEC.replace("floor", f"class_names = {names}\nfloor"))

    assert "Not measured: that is done with digits in fonts" in card
    assert "DejaVu" not in card


def test_a_version_without_an_onnx_form_has_a_card_too(
    crowned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digits.inference.loaded_versions.forms_of", lambda *_: ())

    assert "Not measured: the version has no ONNX form" in model_card(NAME, 1, crowned)


@pytest.mark.parametrize(
    "title", ["<script>alert(1)</script>", "a\\n---\\n# b", "[x](http://y) | `z`", "\\u202ea"]
)
def test_foreign_text_is_text(card_with: Any, title: str) -> None:
    card = card_with(SPEC.replace("Made-up handwriting", title))

    front = front_matter(card)
    (heading,) = (line for line in card.splitlines() if line.endswith(": version 1"))
    shown = front["model-index"][0]["results"][0]["dataset"]["name"]
    assert shown.isprintable()
    assert "<script>" not in heading
    assert "[x](" not in heading.replace("\\[", "")
    assert heading.isprintable()


def test_a_recipe_is_named_whatever_its_epochs_and_seed(
    crowned: Workspace, version: ModelVersion
) -> None:
    facts = card_facts.card_facts(NAME, 1, crowned)

    assert facts.recipe == "reference"
    changed = version.model.settings.model_copy(update={"learning_rate": 0.5})
    model = version.model.model_copy(update={"settings": changed})
    other = facts.__class__(
        **{**facts.__dict__, "version": version.model_copy(update={"model": model})}
    )
    assert other.recipe is None


def test_what_has_no_card_is_said(crowned: Workspace, version: ModelVersion) -> None:
    with pytest.raises(UsageError, match=f"{NAME} has no version 7"):
        model_card(NAME, 7, crowned)
    path = crowned.store.folder(version.evaluation) / "metrics.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    try:
        with pytest.raises(DamagedError, match=r"metrics\.json"):
            model_card(NAME, 1, crowned)
    finally:
        path.write_bytes(whole)


def test_a_dataset_without_a_champion_has_no_card(small_dataset: Settings) -> None:
    with pytest.raises(UsageError, match="no champion yet"):
        model_card(NAME, None, Workspace(small_dataset))
    assert not Path(small_dataset.artifacts_dir).exists()
