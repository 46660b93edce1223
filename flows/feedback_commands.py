"""`digits feedback`: corrections from the drawing page, and passing them on as a batch."""

from typing import Any

import click

from digits.settings import Settings
from digits.spec import available_datasets, load_spec
from digits.storage.workspace import current_workspace
from flows import console
from flows.options import AboutDataset, dataset_option


@click.group(invoke_without_command=True)
@console.json_option
@click.pass_context
def feedback(ctx: click.Context, as_json: bool) -> None:
    """List the corrections that wait, for each dataset; `add` passes them on.

    They are pictures in a folder for each class. Look through them first: delete what is wrong, or
    move it to the right class. Anybody who reaches the server can correct an answer.
    """
    if ctx.invoked_subcommand is not None:
        return
    from digits.intake.corrections import feedback_folder

    settings = current_workspace().settings
    names = [
        name for name in available_datasets(settings) if feedback_folder(name, settings).is_dir()
    ]
    found = [_waiting(name, settings) for name in names]
    facts = [one for one in found if one["num_images"]]
    if as_json:
        console.print_json(facts)
    else:
        console.print_corrections(facts)


def _waiting(name: str, settings: Settings) -> dict[str, Any]:
    from digits.intake.corrected_batches import waiting_corrections
    from digits.intake.corrections import corrections_folder

    sizes = waiting_corrections(load_spec(name, settings), settings)
    folder = corrections_folder(name, settings)
    return {
        "dataset": name,
        "num_images": sizes.total(),
        "class_sizes": dict(sizes),
        "folder": str(folder),
    }


@feedback.command(cls=AboutDataset)
@dataset_option
@console.json_option
def add(dataset: str, as_json: bool) -> None:
    """Move all corrections that wait into the dataset's incoming folder, as one batch.

    The next run, or `digits dataset add-incoming`, validates it like any other batch.
    """
    from digits.intake.corrected_batches import pass_on

    settings = current_workspace().settings
    batches = [
        {
            "dataset": dataset,
            "batch": str(passed.batch),
            "num_images": sum(passed.sizes.values()),
            "class_sizes": dict(passed.sizes),
        }
        for passed in pass_on(load_spec(dataset, settings), settings)
    ]
    if as_json:
        console.print_json(batches)
    else:
        console.print_passed_on(dataset, batches)
