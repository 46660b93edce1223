"""The work of a sweep: datasets are prepared once, then many models are trained side by side."""

import logging
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import Task, tags
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from digits.errors import DigitsError
from digits.progress import marked
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.sweeps.statistics import Scored, Summary, summarize
from digits.sweeps.variants import Combination, Variant
from flows.sweep_request import SweepRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A finished training of a sweep and its score; `is_cached` if nothing was trained."""

    combination: Combination
    scored: Scored
    is_cached: bool


@dataclass(frozen=True)
class Failure:
    """What failed, a dataset or a training, and why."""

    label: str
    reason: str


class Trainings:
    """Trains combinations side by side and keeps what came of each.

    `arrays` are those of each dataset that could be prepared; combinations of others are left out.
    """

    def __init__(
        self,
        request: SweepRequest,
        arrays: Mapping[str, ArraysRef],
        *,
        train: Task[..., ModelRef],
        evaluate: Task[..., EvaluationRef],
        runner: TaskRunner[Any],
    ) -> None:
        self._request, self._arrays = request, arrays
        self._train, self._evaluate, self._runner = train, evaluate, runner
        self._done: dict[str, Training] = {}
        self._failed: dict[str, Failure] = {}
        self._num_begun = 0

    @property
    def datasets(self) -> set[str]:
        """The datasets that can be trained on."""
        return set(self._arrays)

    @property
    def finished(self) -> list[Training]:
        """The trainings that succeeded, in the order in which they were asked for."""
        return list(self._done.values())

    @property
    def failures(self) -> list[Failure]:
        """The trainings that failed."""
        return list(self._failed.values())

    def run(self, combinations: Iterable[Combination]) -> None:
        """Train and score all that were not trained before; a failure does not end the others."""
        begun = [
            (combination, *self._begin(combination))
            for combination in combinations
            if combination.label not in self._done | self._failed
            and combination.variant.dataset in self._arrays
        ]
        scores = [(*one, self._score(*one)) for one in begun]
        for combination, mark, training, evaluation in scores:
            if evaluation is not None:
                self._keep(combination, mark, training, evaluation)

    def accuracy(self, variant: Variant, seeds: Sequence[int]) -> float | None:
        """Return a variant's mean accuracy over seeds, or None if one of them failed."""
        labels = [Combination(variant=variant, seed=seed).label for seed in seeds]
        if not all(label in self._done for label in labels):
            return None
        return statistics.fmean(self._done[label].scored[1].accuracy for label in labels)

    def _begin(self, combination: Combination) -> tuple[str, PrefectFuture[ModelRef]]:
        variant = combination.variant
        self._num_begun += 1
        mark = f"{self._num_begun}/{max(self._num_begun, self._request.num_trainings)}"
        with marked(mark), tags(variant.dataset, variant.recipe, f"seed {combination.seed}"):
            training = self._runner.submit(
                self._train,
                parameters={
                    "arrays": self._arrays[variant.dataset],
                    "model": variant.model,
                    "settings": combination.settings,
                    "device": self._request.device,
                },
            )
        return mark, training

    def _score(
        self, combination: Combination, _: str, training: PrefectFuture[ModelRef]
    ) -> PrefectFuture[EvaluationRef] | None:
        """Wait for a training and submit its evaluation."""
        model = self._result(combination, training)
        if model is None:
            return None
        arrays = self._arrays[combination.variant.dataset]
        parameters = {"model": model, "arrays": arrays, "device": self._request.device}
        evaluation: PrefectFuture[EvaluationRef] = self._runner.submit(
            self._evaluate, parameters=parameters
        )
        return evaluation

    def _keep(
        self,
        combination: Combination,
        mark: str,
        training: PrefectFuture[ModelRef],
        evaluation: PrefectFuture[EvaluationRef],
    ) -> None:
        score = self._result(combination, evaluation)
        if score is None:
            return
        is_cached = training.state.name == "Cached"
        model = training.result()
        self._done[combination.label] = Training(combination, (model, score), is_cached)
        how = "from the cache" if is_cached else f"trained in {model.seconds:.1f} s"
        logger.info("%s %s: %.2f%%, %s", mark, combination.label, 100 * score.accuracy, how)

    def _result(self, combination: Combination, future: PrefectFuture[Any]) -> Any:
        """Wait for a step and return what it made, or None if it failed."""
        future.wait()
        if future.state.is_completed():
            return future.result()
        error = future.result(raise_on_failure=False)
        reason = (
            str(error) if isinstance(error, DigitsError) else f"{type(error).__name__}: {error}"
        )
        self._failed[combination.label] = Failure(combination.label, reason)
        logger.error("%s failed: %s", combination.label, reason)
        return None


def summarized(trainings: Sequence[Training]) -> list[Summary]:
    """Summarize the trainings by variant."""
    return summarize(
        [training.combination for training in trainings],
        [training.scored for training in trainings],
    )
