"""The work of a sweep: datasets are prepared once, then many models are trained side by side."""

import contextlib
import logging
import statistics
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, as_completed

from digits.errors import DigitsError
from digits.progress import marked
from digits.storage.references import ArraysRef, EvaluationRef, ModelRef
from digits.sweeps.statistics import Scored, Summary, summarize
from digits.sweeps.variants import Combination, Variant
from flows.sweeps.places import Place
from flows.sweeps.request import SweepRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A finished training of a sweep and its score; `is_cached` if nothing was trained.

    `number` is its place among the trainings that were begun.
    """

    combination: Combination
    scored: Scored
    is_cached: bool
    number: int


@dataclass(frozen=True)
class Failure:
    """What failed, a dataset or a training, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class UnderWay:
    """A training under way, `number` of all; `training` is set while it is scored."""

    combination: Combination
    number: int
    training: PrefectFuture[ModelRef] | None = None


class Trainings:
    """Trains combinations side by side, as many as their place has room for, and keeps the results.

    `arrays` are those of each dataset that could be prepared; combinations of others are left out.
    `scored_on` names the kind of images in their test sets.
    """

    def __init__(
        self,
        request: SweepRequest,
        arrays: Mapping[str, ArraysRef],
        *,
        scored_on: str,
        train: Task[..., ModelRef],
        evaluate: Task[..., EvaluationRef],
        place: Place,
    ) -> None:
        self._request, self._arrays, self._scored_on = request, arrays, scored_on
        self._train, self._evaluate, self._place = train, evaluate, place
        self._done: dict[str, Training] = {}
        self._failed: dict[str, Failure] = {}
        self._num_begun = 0

    @property
    def datasets(self) -> set[str]:
        """The datasets that can be trained on."""
        return set(self._arrays)

    @property
    def num_parallel(self) -> int:
        """The number of trainings side by side."""
        return self._place.num_parallel

    @property
    def finished(self) -> list[Training]:
        """The trainings that succeeded, in the order in which they were asked for."""
        return sorted(self._done.values(), key=lambda training: training.number)

    @property
    def failures(self) -> list[Failure]:
        """The trainings that failed."""
        return list(self._failed.values())

    def run(self, combinations: Iterable[Combination]) -> None:
        """Train and score all that were not trained before; a failure does not end the others."""
        waiting = deque(self._new(combinations))
        under_way: dict[PrefectFuture[Any], UnderWay] = {}
        while waiting or under_way:
            while waiting and len(under_way) < self.num_parallel:
                under_way |= self._begin(waiting.popleft())
            future = next(as_completed(list(under_way)))
            under_way |= self._go_on(future, under_way.pop(future))

    def accuracy(self, variant: Variant, seeds: Sequence[int]) -> float | None:
        """Return a variant's mean accuracy over seeds, or None if one of them failed."""
        labels = [Combination(variant=variant, seed=seed).label for seed in seeds]
        if not all(label in self._done for label in labels):
            return None
        return statistics.fmean(self._done[label].scored[1].accuracy for label in labels)

    def _new(self, combinations: Iterable[Combination]) -> list[Combination]:
        asked = {one.label: one for one in combinations}
        return [
            one
            for label, one in asked.items()
            if label not in self._done | self._failed and one.variant.dataset in self._arrays
        ]

    def _begin(self, combination: Combination) -> dict[PrefectFuture[Any], UnderWay]:
        self._num_begun += 1
        number, variant = self._num_begun, combination.variant
        parameters = {
            "arrays": self._arrays[variant.dataset],
            "model": variant.model,
            "settings": combination.settings,
            "device": self._request.device,
        }
        with self._as_training(number):
            training = self._place.runner.submit(self._train, parameters=parameters)
        return {training: UnderWay(combination, number)}

    @contextlib.contextmanager
    def _as_training(self, number: int) -> Iterator[None]:
        """Submit a step of a training, whose run in the dashboard bears its number."""
        mark = f"{number}/{max(number, self._request.num_trainings)}"
        with marked(mark, scored_on=self._scored_on), self._place.resources():
            yield

    def _go_on(
        self, future: PrefectFuture[Any], step: UnderWay
    ) -> dict[PrefectFuture[Any], UnderWay]:
        """Score a finished training, or keep its score."""
        future.wait()
        if not future.state.is_completed():
            self._fail(step.combination, future.result(raise_on_failure=False))
        elif step.training is not None:
            self._keep(step, step.training, future.result())
        else:
            arrays = self._arrays[step.combination.variant.dataset]
            parameters = {
                "model": future.result(),
                "arrays": arrays,
                "device": self._request.device,
            }
            with self._as_training(step.number):
                evaluation = self._place.runner.submit(self._evaluate, parameters=parameters)
            return {evaluation: replace(step, training=future)}
        return {}

    def _keep(
        self, step: UnderWay, training: PrefectFuture[ModelRef], score: EvaluationRef
    ) -> None:
        model, label = training.result(), step.combination.label
        is_cached = training.state.name == "Cached"
        self._done[label] = Training(step.combination, (model, score), is_cached, step.number)
        how = "from the cache" if is_cached else f"trained in {model.seconds:.1f} s"
        logger.info("%d %s: %.2f%%, %s", step.number, label, 100 * score.accuracy, how)

    def _fail(self, combination: Combination, error: object) -> None:
        reason = (
            str(error) if isinstance(error, DigitsError) else f"{type(error).__name__}: {error}"
        )
        self._failed[combination.label] = Failure(combination.label, reason)
        logger.error("%s failed: %s", combination.label, reason)


def summarized(trainings: Sequence[Training]) -> list[Summary]:
    """Summarize the trainings by variant."""
    return summarize(
        [training.combination for training in trainings],
        [training.scored for training in trainings],
    )
