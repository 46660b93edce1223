import io
import logging

import pytest
from rich.console import Console

from digits.registry.reproduction import Reproduction
from digits.storage.files import printable
from flows import console
from flows.console import Once, describe_outcome, describe_steps, model_table, print_reproduction
from tests.support.histories import make_model, make_score
from tests.support.names import HOSTILE_NAMES, is_inert


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, __file__, 1, message, (), None)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            {"ingest": "a run"},
            "nothing has changed: all 1 came from the cache, nothing was trained",
        ),
        ({"ingest": None, "train cnn": None}, "executed ingest, train cnn"),
        ({"ingest": "a run", "train cnn": None}, "executed train cnn; 1 from the cache"),
    ],
)
def test_steps_are_described_in_one_line(steps: dict[str, str | None], expected: str) -> None:
    assert describe_steps(steps) == expected


@pytest.mark.parametrize(
    ("columns", "dropped"),
    [(80, set()), (70, {"95% interval"}), (40, {"95% interval", "test loss", "parameters"})],
)
def test_the_table_of_models_fits_the_terminal(columns: int, dropped: set[str]) -> None:
    console, model = Console(width=columns, file=io.StringIO()), make_model()
    with console.capture() as capture:
        console.print(model_table([(model, make_score(model, 36))], console))
    heading, row = capture.get().splitlines()
    known = {"model", "parameters", "test accuracy", "95% interval", "test loss", "training time"}
    assert {name for name in known if name in heading} == known - dropped
    assert "…" not in heading + row


def test_without_a_champion_none_is_said_to_be_kept() -> None:
    assert describe_outcome("kept", None) == "nothing promoted; still no champion"
    assert describe_outcome("kept", 3) == "kept"
    assert describe_outcome("promoted", 1) == "promoted"


def test_messages_of_one_logger_are_shown_once_and_others_always() -> None:
    once = Once("digits.training.devices")
    shown = [
        once.filter(record(name, message))
        for name, message in [
            ("digits.training.devices", "one GPU"),
            ("digits.training.devices", "one GPU"),
            ("digits.training.devices", "no GPU"),
            ("digits.datasets.sources.downloads", "trying again"),
            ("digits.datasets.sources.downloads", "trying again"),
        ]
    ]
    assert shown == [True, False, True, True, True]


def test_a_version_that_was_not_reproduced_is_printed_with_the_differences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_reproduction(
        Reproduction(
            version=3,
            is_same=False,
            recorded="a" * 64,
            reproduced="b" * 64,
            differences=("keras 3.14.0 -> 3.15.1", "device gpu:A -> gpu:B"),
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "version 3 was not reproduced: recorded aaaaaaaaaaaa, now bbbbbbbbbbbb",
        "  differs: keras 3.14.0 -> 3.15.1",
        "  differs: device gpu:A -> gpu:B",
    ]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_foreign_text_is_inert_in_messages_and_logs(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.echo(f"one\n{printable(name)}")
    record = logging.LogRecord("digits", logging.INFO, "", 0, "read %s", (printable(name),), None)

    shown = capsys.readouterr().out

    assert shown.count("\n") == 2
    assert is_inert(shown.replace("\n", ""))
    assert is_inert(console.Inert("%(message)s").format(record))


def test_escape_sequences_of_any_message_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.echo("red \x1b[31m and \u202eback")
    assert capsys.readouterr().out == "red \\x1b[31m and \\u202eback\n"
