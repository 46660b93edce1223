"""What processes on machines do in the tests of races and kills: `python -m tests.cluster.work`.

`decide ROUNDS` appends one decision for each line that it reads, and prints its digest.
`run SEED` does whole runs without their arithmetic until it is killed, and prints their numbers.
`again SEED NUMBER` does the same with the first runs, again and again.
`collect` collects garbage until it is killed, and prints how many objects were garbage.
"""

import itertools
import sys
from collections.abc import Iterable

from digits.errors import LostRaceError
from digits.registry.garbage import collect
from digits.registry.ledger import Ledger
from digits.storage.workspace import current_workspace
from tests.support.histories import keep, promote_next
from tests.support.runs import Run
from tests.support.small_dataset import NAME


def say(what: object) -> None:
    """Tell the test something, on a line of its own."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def decide(rounds: int) -> None:
    """Append a decision in each round, however often another machine is first."""
    ledger = Ledger(NAME, current_workspace().settings)
    say("ready")
    for number in range(rounds):
        sys.stdin.readline()
        say(append(ledger, f"{number} of {sys.argv[3]}"))


def append(ledger: Ledger, text: str) -> str:
    """Append one decision and return its digest."""
    while True:
        try:
            with ledger.deciding() as deciding:
                is_kept = deciding.champion is not None and hash(text) % 2
                entry = keep(deciding) if is_kept else promote_next(deciding, text)
                return entry.digest
        except LostRaceError:
            continue


def run(seed: str, numbers: Iterable[int]) -> None:
    """Do one run after another: bundles, records and a decision each."""
    workspace = current_workspace()
    for number in numbers:
        say(number)
        Run(workspace, data=f"data {seed} {number}", wrong=number % 20).run()


def collect_all() -> None:
    """Collect garbage again and again, keeping as little as possible."""
    while True:
        collect(
            current_workspace(),
            keep_records=1,
            is_dry_run=False,
            announce=lambda garbage: say(len(garbage.objects)),
        )


MODES = {
    "decide": lambda rounds, _: decide(int(rounds)),
    "run": lambda seed: run(seed, itertools.count()),
    "again": lambda seed, number: run(seed, itertools.cycle(range(int(number)))),
    "collect": collect_all,
}

if __name__ == "__main__":
    MODES[sys.argv[1]](*sys.argv[2:])
