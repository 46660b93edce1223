"""The trials of a sweep: Optuna proposes settings, round by round, from what it has seen."""

from digits.settings import Settings
from digits.sweeps.studies import Study
from digits.sweeps.variants import Combination, Variant
from flows.sweeps.request import SweepRequest
from flows.sweeps.trainings import Trainings


def search(request: SweepRequest, trainings: Trainings, settings: Settings) -> None:
    """Run the trials that are still to be run, with the request's seeds each.

    The objective is the mean accuracy over seeds. A round has as many trials as there is room for
    trainings; then Optuna is told, and proposes the next ones.
    """
    studies = [
        Study(
            request.name, base, request.choices, num_trials=request.trials or 0, settings=settings
        )
        for base in request.bases
        if base.dataset in trainings.datasets
    ]
    trainings.run(
        combination
        for study in studies
        for variant in study.finished()
        for combination in _seeded(variant, request)
    )
    width = max(1, trainings.num_parallel // (len(request.seeds) * max(1, len(studies))))
    while any(study.remaining for study in studies):
        asked = [
            (study, *study.ask()) for study in studies for _ in range(min(width, study.remaining))
        ]
        trainings.run(one for _, _, variant in asked for one in _seeded(variant, request))
        for study, number, variant in asked:
            study.tell(number, trainings.accuracy(variant, request.seeds))


def _seeded(variant: Variant, request: SweepRequest) -> list[Combination]:
    return [Combination(variant=variant, seed=seed) for seed in request.seeds]
