"""Options that several commands share, with their choices for --help and for completion."""

from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from digits.settings import Settings
from digits.spec import available_datasets

# Those of digits.registry.exporting, which imports Keras.
FORMATS = ("keras", "savedmodel", "onnx", "litert")


class Names(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """Names separated by commas, as a list; --help and completion show the known ones.

    Others are left to the command, whose errors say more.
    """

    name = "names"

    def __init__(self, known: Iterable[str]) -> None:
        self._known = tuple(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """Return what --help shows in place of the value."""
        return f"[{','.join(self._known)}]"

    def convert(self, value: Any, param: object, ctx: object) -> list[str]:  # noqa: ARG002
        """Split the value at commas."""
        if isinstance(value, list):
            return value
        return [name.strip() for name in value.split(",") if name.strip()]

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the last name to those that are not there yet."""
        before, comma, last = incomplete.rpartition(",")
        rest = [name for name in self._known if name not in before.split(",")]
        return [CompletionItem(before + comma + name) for name in rest if name.startswith(last)]


class AboutDataset(click.Command):
    """A command about a dataset, whose name may also come first: `digits dataset show mine`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a leading name of a dataset is an option without its name."""
        is_first = args and args[0] in available_datasets(Settings())
        return super().parse_args(ctx, ["--dataset", *args] if is_first else args)


def _complete_dataset(_: object, __: object, incomplete: str) -> list[str]:
    return [name for name in available_datasets(Settings()) if name.startswith(incomplete)]


dataset_option = click.option(
    "--dataset",
    metavar="NAME",
    default="mnist",
    show_default=True,
    shell_complete=_complete_dataset,
    help="Dataset: the name of a spec in data/datasets.",
)
