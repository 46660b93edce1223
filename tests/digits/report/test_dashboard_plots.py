import base64
import io

from PIL import Image

from digits.report.dashboard_plots import RIGHT, WRONG, draw_pictures
from digits.storage.workspace import Workspace
from tests.support.shown import store_arrays, store_model


def draw(workspace: Workspace, *num_wrong: int) -> dict[str, Image.Image]:
    """The charts of models with these numbers of mistakes."""
    store = workspace.store
    scored = [
        store_model(store, name, wrong)
        for name, wrong in zip(("mlp", "cnn"), num_wrong, strict=False)
    ]
    drawn = {}
    for title, uri in draw_pictures(scored, store_arrays(store), store).items():
        kind, _, content = uri.partition(",")
        assert kind == "data:image/png;base64"
        drawn[title] = Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")
    return drawn


def has_color(image: Image.Image, color: str) -> bool:
    """Whether an image has pixels of a color."""
    wanted = tuple(bytes.fromhex(color[1:]))
    return any(found == wanted for _, found in image.getcolors(maxcolors=2**24))


def test_a_run_has_learning_curves_confusion_matrices_and_predictions(
    workspace: Workspace,
) -> None:
    drawn = draw(workspace, 3, 0)
    assert list(drawn) == ["Learning curves", "Confusion", "The first test images"]
    assert all(image.width == 900 and image.height > 200 for image in drawn.values())
    # The corner is background, which must be white on a dark page as well.
    assert all(image.getpixel((0, 0)) == (255, 255, 255) for image in drawn.values())


def test_wrong_predictions_are_red_and_correct_ones_blue(workspace: Workspace) -> None:
    answers = draw(workspace, 3)["The first test images"]
    assert has_color(answers, RIGHT)
    assert has_color(answers, WRONG)
    assert not has_color(draw(workspace, 0)["The first test images"], WRONG)


def test_predictions_of_every_model_are_drawn(workspace: Workspace) -> None:
    one, two = draw(workspace, 1), draw(workspace, 1, 1)
    answers = "The first test images"
    assert two[answers].height == 2 * one[answers].height
