import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits.inference.loaded_versions import LoadedVersion, load_version
from digits.labeling import labeler
from digits.labeling.explanation import explain, explanation_path
from digits.labeling.labeler import Prediction, label_files
from digits.labeling.pictures import Refused
from digits.storage.workspace import Workspace
from tests.support.handwriting import make_splits
from tests.support.memory import peak_memory
from tests.support.small_dataset import NAME, SPEC, write_spec

IMAGES, LABELS = make_splits()["test"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images as files, 0000.png and so on."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{number:04}.png")
    return folder


def files(folder: Path, *numbers: int) -> list[str]:
    return [str(folder / f"{number:04}.png") for number in numbers]


def test_images_in_the_datasets_form_are_labeled(champion: LoadedVersion, folder: Path) -> None:
    answers = list(label_files(files(folder, *range(len(IMAGES))), champion, as_is=True))

    labels = [answer.label for answer in answers if isinstance(answer, Prediction)]
    assert (np.array(labels) == LABELS).mean() == champion.model.accuracy
    assert all(answer.probability == answer.probabilities.max() for answer in answers)


def test_a_label_has_the_name_of_its_class(crowned: Workspace, folder: Path) -> None:
    names = [f"class {n}" for n in range(10)]
    write_spec(crowned.settings, SPEC.replace("floor", f"class_names = {names}\nfloor"))
    try:
        champion = load_version(NAME, crowned)
    finally:
        write_spec(crowned.settings, SPEC)

    (answer,) = label_files(files(folder, 3), champion, as_is=True)

    assert isinstance(answer, Prediction)
    assert answer.name == f"class {LABELS[3]}"


@pytest.mark.parametrize("is_centered", [True, False])
def test_the_spec_says_whether_pictures_are_centered(
    is_centered: bool, crowned: Workspace, folder: Path
) -> None:
    write_spec(crowned.settings, f"centered = {str(is_centered).lower()}\n{SPEC}")
    try:
        champion = load_version(NAME, crowned)
    finally:
        write_spec(crowned.settings, SPEC)

    def seen(as_is: bool | None = None) -> bytes:
        (answer,) = label_files(files(folder, 3), champion, as_is=as_is)
        assert isinstance(answer, Prediction)
        return answer.picture.seen.tobytes()

    assert seen(as_is=True) == IMAGES[3].tobytes() != seen(as_is=False)
    assert seen() == seen(as_is=not is_centered)


def test_other_images_are_centered_and_scaled_first(
    champion: LoadedVersion, tmp_path: Path
) -> None:
    picture = np.full((90, 70), 255, np.uint8)
    picture[20:60, 30:36] = 0
    Image.fromarray(picture).save(tmp_path / "one.png")

    (answer,) = label_files([str(tmp_path / "one.png")], champion)

    assert isinstance(answer, Prediction)
    rows, columns = np.nonzero(answer.picture.seen)
    # 20/28 of twelve pixels, in the middle.
    assert rows.max() - rows.min() + 1 == 9
    assert 5 <= columns.min() <= columns.max() <= 6


def test_a_file_without_a_label_keeps_its_place_in_the_order(
    champion: LoadedVersion, folder: Path, tmp_path: Path
) -> None:
    text, blank, large = (tmp_path / name for name in ("text.png", "blank.png", "large.png"))
    text.write_text("not an image")
    Image.new("L", (30, 30)).save(blank)
    Image.new("L", (30, 31)).save(large)
    first, last = files(folder, 0, 1)

    answers = list(label_files([first, str(text), str(large), last], champion, as_is=True))

    assert [answer.file for answer in answers] == [first, str(text), str(large), last]
    assert [type(answer) for answer in answers] == [Prediction, Refused, Refused, Prediction]
    assert answers[1] == Refused(str(text), "is not a PNG, JPEG, WebP, BMP, TIFF or GIF image")
    assert answers[2] == Refused(
        str(large),
        "has 31x30 pixels, but is labeled as it is (expected 12x12); without as_is (--center), it "
        "is centered and scaled first",
    )
    (answer,) = label_files([str(blank)], champion)
    assert isinstance(answer, Refused)
    assert "contains no digit" in answer.error


def test_minibatches_without_an_image_are_allowed(champion: LoadedVersion) -> None:
    answers = list(label_files(["nothing.png"] * 600, champion))

    assert answers == [Refused("nothing.png", "does not exist")] * 600


def test_an_endless_stream_of_files_is_labeled(champion: LoadedVersion, folder: Path) -> None:
    endless = label_files(itertools.cycle(files(folder, 0, 1, 2)), champion, as_is=True)

    labels = [answer.label for answer in itertools.islice(endless, 2000)]

    assert labels == [labels[n % 3] for n in range(2000)]


def test_labeled_images_are_freed(
    champion: LoadedVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeler, "BATCH_SIZE", 16)
    picture = np.full((200, 200), 255, np.uint8)
    picture[50:150, 90:110] = 0
    Image.fromarray(picture).save(tmp_path / "one.png")
    files = itertools.repeat(str(tmp_path / "one.png"))
    next(label_files(files, champion))

    # At most two minibatches of 16 images of 40,000 bytes are in memory; all would be 8 MB.
    with peak_memory(at_most=6_000_000):
        for _ in itertools.islice(label_files(files, champion, keep_originals=True), 200):
            pass


def test_an_explanation_shows_the_original_and_what_the_model_saw(
    champion: LoadedVersion, folder: Path
) -> None:
    (answer,) = label_files(files(folder, 3), champion, as_is=True, keep_originals=True)
    assert isinstance(answer, Prediction)

    sheet = np.asarray(explain(answer, champion.layout.class_names))

    # Both are enlarged to 280 pixels, so compare the centers of the twelve original pixels.
    side = 280 / 12
    middles = [round(12 + side * (n + 0.5)) for n in range(12)]
    for left in (0, 292):
        shown = sheet[np.ix_(middles, [left + x for x in middles])][..., 0]
        assert (shown == IMAGES[3]).all()


def test_explanations_never_share_a_path_or_leave_their_folder(tmp_path: Path) -> None:
    paths = [explanation_path(tmp_path, n, "../a/..%2fé\n.png") for n in range(2)]

    assert len(set(paths)) == 2
    assert all(path.parent == tmp_path and path.name.isascii() for path in paths)
