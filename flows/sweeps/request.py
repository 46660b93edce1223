"""What a sweep was asked for, checked before anything is started."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from digits.errors import UsageError
from digits.registry.ledger import Ledger
from digits.registry.promotion_rule import Rule
from digits.settings import Settings
from digits.spec import DatasetSpec, load_spec
from digits.storage.records import canonical_digest
from digits.sweeps.options import Choices, read_choices, read_seeds
from digits.sweeps.studies import check_optuna
from digits.sweeps.variants import Base, Combination, bases, variants
from digits.training.devices import Device, resolve_device
from digits.training.precisions import fastest_precision

# It names files and a dashboard artifact.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
DEFAULT_LIMIT = 100


@dataclass(frozen=True)
class SweepRequest:
    """A sweep's trainings: every choice for each base, or `trials` proposals from the ranges.

    With `is_held_out`, models are trained and scored on two parts of the training set.
    """

    name: str
    specs: Mapping[str, DatasetSpec]
    bases: Sequence[Base]
    choices: Choices
    seeds: tuple[int, ...]
    trials: int | None
    is_held_out: bool
    require_significance: bool
    device: str

    @classmethod
    def of(
        cls,
        *,
        datasets: Sequence[str],
        models: Sequence[str],
        recipes: Sequence[str],
        seeds: str,
        changes: Sequence[str],
        epochs: int | None,
        trials: int | None,
        held_out: bool,
        name: str | None,
        limit: int,
        device: Device,
        settings: Settings,
        require_significance: bool = False,
    ) -> Self:
        """Check a request. Raises UsageError, or LedgerError for a corrupted ledger."""
        for option, names in (("datasets", datasets), ("models", models), ("recipes", recipes)):
            _check_names(option, names)
        choices = read_choices(changes)
        _check_trials(trials, choices, epochs)
        specs = {dataset: load_spec(dataset, settings) for dataset in datasets}
        on = resolve_device(device)
        fastest = fastest_precision(on).precision
        asked = bases(datasets, models, recipes, epochs=epochs, fastest=fastest)
        identity = [[base.model_dump(mode="json") for base in asked], asdict(choices)]
        request = cls(
            name=name or f"sweep-{canonical_digest(identity)[:8]}",
            specs=specs,
            bases=asked,
            choices=choices,
            seeds=read_seeds(seeds),
            trials=trials,
            is_held_out=held_out or trials is not None,
            require_significance=require_significance,
            device=on,
        )
        request.check(limit)
        for dataset in datasets:
            Ledger(dataset, settings).entries()
        return request

    @property
    def num_trainings(self) -> int:
        """The number of trainings, before duplicates among proposals."""
        num_variants = self.trials or 1
        if self.trials is None:
            for values in self.choices.values.values():
                num_variants *= len(values)
        return len(self.bases) * num_variants * len(self.seeds)

    def check(self, limit: int) -> None:
        """Raise UsageError for too many trainings or for values that no training accepts."""
        if NAME.fullmatch(self.name) is None:
            raise UsageError(
                f"--name {self.name}: expected up to 60 lowercase letters, digits and dashes"
            )
        if self.num_trainings > limit:
            raise UsageError(
                f"this sweep has {self.num_trainings:,} trainings (expected at most {limit:,}); "
                f"ask for fewer, or allow them with --limit {self.num_trainings}"
            )
        for base in self.bases:
            for changes in self.choices.each():
                base.changed(changes)
        if self.trials is None:
            self.combinations()

    def combinations(self) -> list[Combination]:
        """Return every combination of the choices, all variants of a seed before the next seed.

        So that a sweep that is stopped halfway has tried each variant. Raises UsageError for values
        that are given twice.
        """
        tried = [one for base in self.bases for one in variants(base, self.choices.values)]
        return [Combination(variant=variant, seed=seed) for seed in self.seeds for variant in tried]

    def rule(self, dataset: str) -> Rule:
        """Return the promotion rule of a dataset."""
        floor = self.specs[dataset].floor
        return Rule(floor=floor, require_significance=self.require_significance)


def _check_names(option: str, names: Iterable[str]) -> None:
    listed = list(names)
    if not listed:
        raise UsageError(f"--{option} is empty: name at least one")
    if len(set(listed)) < len(listed):
        raise UsageError(f"--{option} has a duplicate: {','.join(listed)}")


def _check_trials(trials: int | None, choices: Choices, epochs: int | None) -> None:
    asked = {*choices.values, *choices.ranges}
    if epochs is not None and "epochs" in asked:
        raise UsageError("--epochs and --set epochs exclude each other")
    if trials is None and choices.ranges:
        name = next(iter(choices.ranges))
        raise UsageError(
            f"--set {name}: a range needs --trials N, so that Optuna proposes values; or list the "
            "values, separated by commas"
        )
    if trials is not None:
        check_optuna()
    if trials is not None and not asked:
        raise UsageError(
            "--trials needs something to choose from, as in --set 'learning_rate=0.001..0.01:log'"
        )
