"""A model card in Markdown, with the metadata that Hugging Face reads from its first lines."""

from collections.abc import Iterator
from typing import Any

from digits.cards.card_facts import CardFacts, card_facts
from digits.cards.card_sections import (
    accuracy_section,
    data_section,
    limits_section,
    training_section,
)
from digits.escaping import markdown_text, one_line
from digits.registry.onnx_files import INPUT, OUTPUT
from digits.storage.workspace import Workspace

FENCE = "```"


def model_card(dataset: str, number: int | None, workspace: Workspace) -> str:
    """Return the card of a model version, by default the champion, as Markdown.

    Raises UsageError if there is no such version, DamagedError if its bundles are corrupted.
    """
    return render_card(card_facts(dataset, number, workspace))


def render_card(facts: CardFacts) -> str:
    """Render a card; equal facts give equal bytes."""
    import yaml

    front = yaml.safe_dump(metadata(facts), sort_keys=False, width=200)
    return f"---\n{front}---\n\n" + "\n\n".join(_parts(facts)) + "\n"


def metadata(facts: CardFacts) -> dict[str, Any]:
    """Return the metadata of Hugging Face's model cards."""
    version, spec = facts.version, facts.spec
    score = version.evaluation
    metrics = [("accuracy", "Accuracy", score.accuracy), ("loss", "Cross-entropy", score.loss)]
    return {
        # The project states none, and neither does it know that of the data.
        "license": "unknown",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "digits"],
        "datasets": [spec.name],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": f"{spec.name}-v{version.number}",
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": {
                            "type": spec.name,
                            "name": one_line(spec.title),
                            "split": "test",
                            "revision": score.test_digest,
                        },
                        "metrics": [
                            {"type": kind, "name": name, "value": value}
                            for kind, name, value in metrics
                        ],
                    }
                ],
            }
        ],
    }


def _parts(facts: CardFacts) -> Iterator[str]:
    version, spec = facts.version, facts.spec
    height, width = spec.image_shape
    yield f"# {markdown_text(spec.title)}: version {version.number}"
    yield (
        f"A classifier of gray images of {height}x{width} pixels into {spec.num_classes} classes, "
        f"the {markdown_text(version.model.model)} with {version.model.num_parameters:,} "
        f"parameters. SHA-256 of the Keras model's bundle: `{version.model.digest}`."
    )
    yield from data_section(facts)
    yield from training_section(facts)
    yield from accuracy_section(facts)
    yield from limits_section(facts)
    yield from _use(facts)
    yield from _reproduction(facts)


def _use(facts: CardFacts) -> Iterator[str]:
    name, number = facts.spec.name, facts.version.number
    height, width = facts.spec.image_shape
    yield "## Use"
    yield "The ONNX file of an export, with ONNX Runtime:"
    yield "\n".join(
        (
            f"{FENCE}python",
            "import numpy as np, onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{name}-v{number}.onnx")',
            f"# images: uint8 (n, {height}, {width}), ink bright on dark",
            "pixels = images[..., None] / np.float32(255)",
            f'(probabilities,) = session.run(["{OUTPUT}"], {{"{INPUT}": pixels}})',
            FENCE,
        )
    )
    centered = "of any size, which are centered first, " if facts.spec.centered else ""
    yield f"Pictures {centered}in the workspace that has the version:"
    yield "\n".join(
        (
            f"{FENCE}python",
            "from digits import Champion",
            "",
            f'Champion("{name}", version={number}).predict("photo.png")[0].name',
            FENCE,
        )
    )


def _reproduction(facts: CardFacts) -> Iterator[str]:
    name, version = facts.spec.name, facts.version
    yield "## Reproduce"
    yield (
        f"`digits reproduce {version.number} --dataset {name}` trains it again from the recorded "
        "data, code and settings, and compares the weights bit for bit. The key and the output of "
        f"every step are in the lineage `{version.lineage}`."
    )
