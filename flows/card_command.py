"""`digits card`: the model card of a version."""

import click

from digits.storage.workspace import current_workspace
from flows.options import dataset_option


@click.command()
@click.argument("version", type=click.IntRange(min=1), required=False)
@dataset_option
def card(version: int | None, dataset: str) -> None:
    """Print the model card of VERSION, or of the champion, as Markdown."""
    from digits.cards.model_card import model_card

    click.echo(model_card(dataset, version, current_workspace()), nl=False)
