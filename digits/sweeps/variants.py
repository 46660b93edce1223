"""What a sweep trains: variants of the training settings, each with several seeds."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import BaseModel, ValidationError

from digits.errors import UsageError
from digits.models import Precision, TrainingSettings
from digits.recipes import training_settings
from digits.storage.references import Frozen

Changes = dict[str, Any]
"""Values of settings, by name, that differ from the recipe's."""


class Base(Frozen):
    """A recipe's settings of a model on a dataset, which variants change."""

    dataset: str
    model: str
    recipe: str
    settings: TrainingSettings

    def changed(self, changes: Changes) -> "Variant":
        """Return the variant with these settings. Raises UsageError for invalid values."""
        try:
            settings = TrainingSettings.model_validate(self.settings.model_dump() | changes)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = str(wrong["loc"][0])
            raise UsageError(
                f"--set {name}={_text(changes.get(name))}: {_expected(wrong['msg'])} "
                f"(in the {self.model} with recipe {self.recipe})"
            ) from error
        expected, found = len(self.settings.dropout), len(settings.dropout)
        if found != expected:
            raise UsageError(
                f"--set dropout={_text(changes['dropout'])}: the {self.model} needs {expected} "
                f"rates (got {found}), as in --set 'dropout=[{', '.join(['0.1'] * expected)}]'"
            )
        return Variant(
            dataset=self.dataset,
            model=self.model,
            recipe=self.recipe,
            changes={name: _text(getattr(settings, name)) for name in changes},
            settings=settings,
        )


class Variant(Frozen):
    """One choice of all training settings but the seed, for a model on a dataset.

    `changes` are the settings that differ from the recipe's, as text.
    """

    dataset: str
    model: str
    recipe: str
    changes: dict[str, str]
    settings: TrainingSettings

    @property
    def name(self) -> str:
        """Name the variant among all of the sweep."""
        return f"{self.dataset} {self.label}"

    @property
    def label(self) -> str:
        """Name the variant among those of its dataset."""
        return " ".join((self.model, self.recipe, *(f"{k}={v}" for k, v in self.changes.items())))


class Combination(Frozen):
    """A variant with a seed: one training."""

    variant: Variant
    seed: int

    @property
    def settings(self) -> TrainingSettings:
        """Everything that the training depends on in addition to its data and its device."""
        return self.variant.settings.model_copy(update={"seed": self.seed})

    @property
    def label(self) -> str:
        """Name the training among all of the sweep."""
        return f"{self.variant.name} seed {self.seed}"


def bases(
    datasets: Iterable[str],
    models: Iterable[str],
    recipes: Iterable[str],
    *,
    epochs: int | None,
    fastest: Precision,
) -> list[Base]:
    """Return the settings of every model with every recipe on every dataset, in this order.

    Raises UsageError for an unknown name or for a recipe that lacks a model.
    """
    return [
        Base(
            dataset=dataset,
            model=model,
            recipe=recipe,
            settings=training_settings(recipe, model, epochs=epochs, fastest=fastest),
        )
        for dataset, model, recipe in product(datasets, models, recipes)
    ]


def variants(base: Base, choices: Mapping[str, Sequence[Any]]) -> list[Variant]:
    """Return the variants of a base, one for each combination of the choices.

    Raises UsageError for values that are invalid, or given twice in different spellings.
    """
    made: list[Variant] = []
    for values in product(*choices.values()):
        variant = base.changed(dict(zip(choices, values, strict=True)))
        if variant in made:
            raise UsageError(f"--set has a duplicate: {variant.label}")
        made.append(variant)
    return made


def _text(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return "null" if value is None else str(value)


def _expected(message: str) -> str:
    return message.replace("Input should be ", "expected ").replace(
        "greater than or equal to", "at least"
    )
