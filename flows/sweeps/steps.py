"""What a sweep does for each dataset: before its trainings, and with the best of them."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

from digits.errors import DigitsError
from digits.registry.promotion import RunOutcome
from digits.registry.promotion_rule import choose_candidate
from digits.settings import Settings
from digits.storage import locks
from digits.storage.workspace import Workspace
from digits.sweeps.statistics import Scored, best
from digits.sweeps.variants import Combination
from flows.pipeline import Prepared, Request, conclude, prepare
from flows.retrain import steps_noted_in
from flows.serving.service import page_address
from flows.sweeps.request import SweepRequest
from flows.sweeps.trainings import Failure, Training, Trainings, summarized
from tasks.dashboard import failures_on_dashboard
from tasks.journal import Journal
from tasks.publish import publish_run

logger = logging.getLogger(__name__)


class AlreadyRunningError(DigitsError):
    """Another run of the same sweep is active."""


@contextlib.contextmanager
def alone(name: str, settings: Settings) -> Iterator[None]:
    """Hold the lock of a sweep's name. Raises AlreadyRunningError if another run has it."""
    path = settings.artifacts_dir / "locks" / "sweeps" / f"{name}.lock"
    try:
        descriptor = locks.acquire(path, wait=False)
    except BlockingIOError as error:
        raise AlreadyRunningError(
            f"the sweep {name} is already running; wait for it, or use another --name"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def prepared_datasets(
    request: SweepRequest, workspace: Workspace
) -> tuple[dict[str, Prepared], list[Failure]]:
    """Prepare each dataset once; one that fails does not end the others."""
    prepared, failures = {}, []
    for name, spec in request.specs.items():
        logger.info("preparing %s", name)
        try:
            with failures_on_dashboard(name, spec.title, page_address):
                prepared[name] = prepare(spec, steps_noted_in(Journal()), workspace)
        except DigitsError as error:
            logger.error("%s failed: %s", name, error)
            failures.append(Failure(name, str(error)))
    return prepared, failures


def promoted(
    request: SweepRequest,
    *,
    prepared: Mapping[str, Prepared],
    trainings: Sequence[Training],
    whole: Trainings,
    workspace: Workspace,
) -> tuple[dict[str, RunOutcome], list[Failure]]:
    """Let the best variant of each dataset go through the promotion rule.

    The best one has the highest mean accuracy over seeds. On the test set, its most accurate seed
    is the candidate. After held-out scores, its first seed is trained on `whole` training sets, so
    that nothing was selected on the test set.
    """
    outcomes, failures = {}, []
    for dataset, ready in prepared.items():
        of_dataset = [one for one in trainings if one.combination.variant.dataset == dataset]
        try:
            candidate = _candidate(request, of_dataset, whole)
            if candidate is not None:
                asked = Request(request.specs[dataset], {}, request.device, request.rule(dataset))
                steps = steps_noted_in(Journal())
                outcomes[dataset] = conclude(asked, ready, [candidate], steps, workspace)
                publish_run(dataset, outcomes[dataset])
        except DigitsError as error:
            logger.error("%s: no decision: %s", dataset, error)
            failures.append(Failure(f"{dataset}, promotion", str(error)))
    return outcomes, failures


def _candidate(
    request: SweepRequest, trainings: Sequence[Training], whole: Trainings
) -> Scored | None:
    if not trainings:
        return None
    chosen = best(summarized(trainings))
    if request.is_held_out:
        combination = Combination(variant=chosen.variant, seed=chosen.seeds[0])
        whole.run([combination])
        return next((one.scored for one in whole.finished if one.combination == combination), None)
    seeds = [one.scored for one in trainings if one.combination.variant == chosen.variant]
    winner = choose_candidate([score for _, score in seeds])
    return next(pair for pair in seeds if pair[1] == winner)
