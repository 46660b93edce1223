"""The sections of a model card: data, training, accuracy and limits."""

from collections.abc import Iterator

import numpy as np

from digits.cache.fingerprint import digest_of
from digits.cards.card_facts import CardFacts
from digits.cards.font_pictures import DIGITS
from digits.escaping import markdown_code, markdown_table, markdown_text
from digits.report.sentences import confusion_remark, duration, pixels, share, value

# With more classes, a table of them would bury the rest.
MAX_CLASSES = 50


def data_section(facts: CardFacts) -> Iterator[str]:
    """Say which images it was trained and scored on, by digest."""
    spec, score = facts.spec, facts.version.evaluation
    yield "## Data"
    train = "an unrecorded number of" if facts.num_train is None else f"{facts.num_train:,}"
    yield (
        f"{markdown_text(spec.title)} (`{spec.name}`): {train} training and "
        f"{score.num_images:,} test images. SHA-256 of the test set: `{score.test_digest}`."
    )
    if facts.content:
        rows = [(markdown_text(name), _digest(digest)) for name, digest in facts.content.items()]
        yield markdown_table(("source", "SHA-256"), rows)


def training_section(facts: CardFacts) -> Iterator[str]:
    """Say how it was trained: recipe, settings, device, libraries and code."""
    model = facts.version.model
    step = facts.lineage.get(f"train {model.model}")
    recipe = f"`{facts.recipe}`" if facts.recipe else "none that this release knows"
    yield "## Training"
    yield (
        f"Recipe: {recipe}. Trained in {duration(model.seconds)} on {markdown_code(model.device)}"
        + (f", {markdown_code(step.processor)}." if step and step.processor else ".")
    )
    settings = model.settings.model_dump(mode="json").items()
    yield markdown_table(
        ("setting", "value"), [(name, markdown_text(value(setting))) for name, setting in settings]
    )
    if step:
        libraries = ", ".join(f"{name} {number}" for name, number in step.key.libraries.items())
        yield (
            f"Libraries: {markdown_text(libraries)}. SHA-256 of the code of its training: "
            f"`{digest_of(step.key.code)}`."
        )


def accuracy_section(facts: CardFacts) -> Iterator[str]:
    """Say how good it is: overall, against the champion before, by class, by shift, in fonts."""
    metrics = facts.metrics
    low, high = metrics.interval
    yield "## Accuracy"
    yield (
        f"**{share(metrics.accuracy)}** of {metrics.num_images:,} test images (95% interval "
        f"{share(low)} to {share(high)}), cross-entropy {metrics.loss:.4f}. Promoted because "
        f"{markdown_text(facts.verdict.reason)}."
    )
    names = [one.name for one in metrics.classes]
    yield markdown_text(confusion_remark(np.array(metrics.confusion), names))
    if len(metrics.classes) <= MAX_CLASSES:
        yield markdown_table(
            ("class", "precision", "recall", "test images"),
            [
                (
                    markdown_text(one.name),
                    share(one.precision),
                    share(one.recall),
                    f"{one.support:,}",
                )
                for one in metrics.classes
            ],
        )
    if metrics.shift:
        yield "Test images shifted in one of four directions:"
        yield markdown_table(
            ("shift", "accuracy"),
            [(pixels(one.pixels), share(one.accuracy)) for one in metrics.shift],
        )
    yield "### Pictures that are not the dataset's"
    yield _fonts(facts)


def _fonts(facts: CardFacts) -> str:
    score = facts.fonts
    if score is not None:
        return (
            f"Digits in fonts, black on white, centered as `digits predict` does it: "
            f"{score.num_right:,} of {score.num_pictures:,} right "
            f"({share(score.num_right / score.num_pictures)}). The {len(score.fonts)} fonts of "
            f"matplotlib {score.matplotlib}: {markdown_text(', '.join(score.fonts))}."
        )
    if not set(facts.spec.layout.class_names) <= set(DIGITS):
        return "Not measured: that is done with digits in fonts, and the classes are not digits."
    return "Not measured: the version has no ONNX form to label pictures with."


def limits_section(facts: CardFacts) -> Iterator[str]:
    """Say what it is not for."""
    spec = facts.spec
    yield "## Limits"
    yield (
        f"- It always answers with one of its {spec.num_classes} classes, whatever the picture "
        "shows, and its probability is no test of whether it shows any of them.\n"
        + ("- It expects centered images: center and scale pictures first.\n" * spec.centered)
        + "- Models are chosen by their accuracy on the test images, so this accuracy is slightly "
        "optimistic.\n"
        "- Writers, pens, papers and cameras unlike those of its dataset were not tried, other "
        "than above."
    )


def _digest(text: object) -> str:
    return markdown_code(str(text))
