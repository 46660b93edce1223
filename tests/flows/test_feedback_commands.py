"""What `digits feedback` and `digits feedback add` print."""

import numpy as np

from digits.intake.corrections import Correction, corrections_folder, keep_correction
from digits.intake.incoming import incoming_folder
from digits.settings import Settings
from tests.support.commands import call_digits, read_json
from tests.support.small_dataset import NAME, SHAPE, small_layout


def keep(settings: Settings, label: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)
    keep_correction(Correction(image, label, 8, version=1), small_layout(), settings)


def test_waiting_corrections_are_listed_and_become_a_batch_in_the_incoming_folder(
    here: Settings,
) -> None:
    nothing = call_digits("feedback").stdout
    for seed, label in enumerate((3, 3, 5)):
        keep(here, label, seed)

    listed = call_digits("feedback").stdout
    facts = read_json(call_digits("feedback", "--json"))
    added = call_digits("feedback", "add", NAME)
    again = call_digits("feedback", "add", "--dataset", NAME).stdout

    folder = corrections_folder(NAME, here)
    (batch,) = incoming_folder(NAME, here).iterdir()
    assert nothing == "no corrections wait\n"
    assert listed == (
        f"{NAME}: 3 corrections (3: 2, 5: 1) in {folder}\n"
        f"  look through them, then run `digits feedback add {NAME}`\n"
    )
    assert facts == [
        {
            "dataset": NAME,
            "num_images": 3,
            "class_sizes": {"3": 2, "5": 1},
            "folder": str(folder),
        }
    ]
    assert added.exit_code == 0
    assert added.stdout == (
        f"3 corrections (3: 2, 5: 1): now {batch}\n"
        "the next run validates this data like any other batch\n"
    )
    assert again == f"no corrections of {NAME} wait\n"
