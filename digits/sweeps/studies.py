"""Optuna's studies: which settings to try next, and how well those before have done.

Optuna is an extra; only this module imports it.
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from digits.errors import UsageError
from digits.settings import Settings
from digits.storage.records import canonical_digest
from digits.sweeps.options import Choices, Range
from digits.sweeps.variants import Base, Variant

# Digits of a proposed number: more would only make equal trainings differ.
NUM_DIGITS = 4


def check_optuna() -> None:
    """Raise UsageError if Optuna is not installed."""
    if find_spec("optuna") is None:
        raise UsageError("--trials needs Optuna, which is not installed: run `make optuna`")


class Study:
    """The trials of one base in a sweep: up to `num_trials`, each with a proposal of settings.

    Trials are kept in the database of the setting `optuna_storage`, or in the file
    `artifacts/sweeps/NAME.journal`. Those that a killed sweep left are proposed again, so that
    their trainings go on.
    """

    def __init__(
        self, sweep: str, base: Base, choices: Choices, *, num_trials: int, settings: Settings
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._base, self._choices = base, choices
        known = optuna.create_study(
            storage=_storage(sweep, settings),
            study_name=f"{sweep}: {base.dataset} {base.model} {base.recipe}",
            direction="maximize",
            load_if_exists=True,
        )
        # Otherwise a study that goes on would repeat its first random proposals.
        known.sampler = optuna.samplers.TPESampler(seed=len(known.trials))
        self._study, self._states = known, optuna.trial.TrialState
        self._check_space(sweep)
        self._propose_again()
        self.remaining = max(0, num_trials - len(list(self.finished())))

    def finished(self) -> Iterator[Variant]:
        """Yield the variants of the trials that an earlier run of this sweep finished."""
        for trial in self._study.get_trials(states=[self._states.COMPLETE]):
            yield self._variant(trial.params)

    def ask(self) -> tuple[int, Variant]:
        """Return the number and the variant of the next trial."""
        trial = self._study.ask()
        for name, values in self._choices.values.items():
            trial.suggest_categorical(name, [json.dumps(value) for value in values])
        for name, ends in self._choices.ranges.items():
            suggest = trial.suggest_int if ends.is_whole else trial.suggest_float
            suggest(name, ends.low, ends.high, log=ends.is_log)
        self.remaining -= 1
        return trial.number, self._variant(trial.params)

    def tell(self, number: int, accuracy: float | None) -> None:
        """Report the accuracy of a trial; None if its training failed."""
        if accuracy is None:
            self._study.tell(number, state=self._states.FAIL)
        else:
            self._study.tell(number, accuracy)

    def _variant(self, proposed: dict[str, Any]) -> Variant:
        changes = {name: json.loads(proposed[name]) for name in self._choices.values}
        changes |= {
            name: _rounded(proposed[name], ends) for name, ends in self._choices.ranges.items()
        }
        return self._base.changed(changes)

    def _check_space(self, sweep: str) -> None:
        """Raise UsageError if the study's trials chose from something else."""
        space = canonical_digest(
            [
                self._base.model_dump(mode="json"),
                {name: list(values) for name, values in self._choices.values.items()},
                {name: str(ends) for name, ends in self._choices.ranges.items()},
            ]
        )
        if self._study.user_attrs.setdefault("space", space) != space:
            raise UsageError(
                f"--name {sweep}: its trials so far had other settings to choose from; use another "
                "name, or leave it out"
            )
        self._study.set_user_attr("space", space)

    def _propose_again(self) -> None:
        for trial in self._study.get_trials(states=[self._states.RUNNING]):
            self._study.enqueue_trial(trial.params)
            self._study.tell(trial.number, state=self._states.FAIL)


def _storage(sweep: str, settings: Settings) -> Any:
    if settings.optuna_storage is not None:
        return settings.optuna_storage.get_secret_value()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path: Path = settings.artifacts_dir / "sweeps" / f"{sweep}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_partial_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _drop_partial_line(path: Path) -> None:
    """Remove what a killed sweep wrote of its last line, which Optuna would refuse."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        path.write_bytes(whole)


def _rounded(number: float, ends: Range) -> float:
    if ends.is_whole:
        return number
    return min(max(float(f"{number:.{NUM_DIGITS}g}"), ends.low), ends.high)
