"""Real edits of a copy of the project: which steps run, and whether the results are right.

`digits plan` must predict the steps, and the results must equal those of a run from scratch.
"""

import ast
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import invariants
from tests.faults.conftest import Tally
from tests.faults.preludes import see_gpu
from tests.faults.project import Copy, Run
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME, write_small_dataset

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

Edit = Callable[[Copy], object]


@dataclass(frozen=True)
class Row:
    """An edit, the steps that the next run executes, and the options of that run."""

    name: str
    edit: Edit
    executed: frozenset[str]
    options: tuple[str, ...] = ()


def replaced(path: str, old: str, new: str) -> Edit:
    """Replace the only `old` in a source file by `new`."""
    return lambda copy: copy.edit(path, old, new)


def touched(path: str, function: str) -> Edit:
    """Add a statement to a function that does not change its result."""

    def edit(copy: Copy) -> None:
        file = copy.root / path
        text = file.read_text(encoding="utf-8")
        nodes = ast.walk(ast.parse(text))
        body = next(node.body for node in nodes if getattr(node, "name", None) == function)
        lines = text.splitlines(keepends=True)
        lines.insert(body[-1].lineno - 1, f"{' ' * body[-1].col_offset}assert __name__\n")
        file.write_text("".join(lines), encoding="utf-8")

    return edit


def in_spec(old: str, new: str) -> Edit:
    """Replace the only `old` in the dataset's spec by `new`."""

    def edit(copy: Copy) -> None:
        path = copy.settings.datasets_dirs[0] / f"{NAME}.toml"
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")

    return edit


def installed(name: str, version: str = "99.1") -> Edit:
    """Make a library appear to have this version."""

    def edit(copy: Copy) -> None:
        folder = copy.root / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n", encoding="utf-8")

    return edit


def nothing_edited(_: Copy) -> None: ...


def module_added(copy: Copy) -> None:
    (copy.root / "digits" / "unrelated.py").write_text("VALUE = 1\n", encoding="utf-8")


def commented(copy: Copy) -> None:
    for path in copy.root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(f"# Copyright, all rights reserved.\n\n{text}# The end.\n", "utf-8")


def reformatted(copy: Copy) -> None:
    for path in copy.root.rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_bytes())), encoding="utf-8")


def documented(copy: Copy) -> None:
    class Documented(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            if ast.get_docstring(node) is not None:
                node.body[0] = ast.Expr(ast.Constant("It does what its name says."))
            return node

    for path in copy.root.rglob("*.py"):
        tree = Documented().visit(ast.parse(path.read_bytes()))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")


def pixel_changed(copy: Copy) -> None:
    splits = make_splits()
    splits["train"][0][0, 5, 5] ^= 255
    write_small_dataset(copy.settings, splits)


def data_moved(copy: Copy) -> None:
    elsewhere = copy.folder / "elsewhere"
    shutil.move(copy.settings.raw_dir / NAME, elsewhere)
    source = f'sources = [{{ kind = "folder", path = "{elsewhere}" }}]'
    in_spec("\n[thresholds]\n", f"\n{source}\n[thresholds]\n")(copy)


# The report shows the code and data behind everything, so it is rebuilt after any step that ran.
PAGE = frozenset({"report"})
VALIDATION = PAGE | {"validate"}
TRAININGS = PAGE | {"train mlp", "train cnn"}
SCORES = PAGE | {"evaluate mlp", "evaluate cnn"}
MLP = PAGE | {"train mlp", "evaluate mlp"}
CNN = PAGE | {"train cnn", "evaluate cnn"}
ALL = frozenset({"ingest", "normalize"}) | VALIDATION | TRAININGS | SCORES
NONE: frozenset[str] = frozenset()

READERS = VALIDATION | {"ingest", "normalize"}
RATE = 'optimizer="adamax", learning_rate='
LAYERS, CNN_FILE = "digits/training/models/layers.py", "digits/training/models/cnn.py"
MLP_FILE = "digits/training/models/mlp.py"
MEASURES = "digits/validation/image_measures.py"
EVALUATION = "digits/training/evaluation.py"

ROWS = (
    # The body of a step. Its output stays the same, so later steps do not run.
    Row("body of ingest", touched("tasks/ingest.py", "ingest"), PAGE | {"ingest"}),
    Row("body of validate", touched("tasks/validate.py", "validate"), VALIDATION),
    Row("body of normalize", touched("tasks/normalize.py", "normalize"), PAGE | {"normalize"}),
    Row("body of train", touched("tasks/train.py", "train"), TRAININGS),
    Row("body of evaluate", touched("tasks/evaluate.py", "evaluate"), SCORES),
    Row("body of report", touched("tasks/report.py", "report"), PAGE),
    # Code that a step reaches, at any depth, in any module.
    Row("helper of readers", touched("digits/datasets/images.py", "_opened"), READERS),
    Row("helper of trainings", touched("digits/training/trainer.py", "_timeless"), TRAININGS),
    Row("helper of the page", touched("digits/report/svg.py", "_png"), PAGE),
    Row("helper of models", replaced(LAYERS, "1000 + 1", "1000 + 2"), MLP | CNN),
    Row(
        "helper of one model",
        replaced(LAYERS, "(filters, 3,", "(filters, 2,"),
        CNN,
    ),
    Row("one model", replaced(MLP_FILE, " dense(512,", " dense(256,"), MLP),
    # A constant in another module.
    Row("constant of checks", replaced(MEASURES, "= 127", "= 126"), VALIDATION),
    Row(
        "constant of scores",
        replaced(EVALUATION, "SHIFT = 6", "SHIFT = 2"),
        SCORES,
    ),
    Row("settings of a model", replaced("digits/models.py", f"{RATE}0.001", f"{RATE}0.002"), MLP),
    # A template.
    Row("page of a run", replaced("digits/templates/report.html", "<main>", "<main >"), PAGE),
    Row(
        "page of checks",
        replaced("digits/templates/validation.html", "<main>", "<main >"),
        VALIDATION,
    ),
    # Edits that do not change the computation.
    Row("comments", commented, NONE),
    Row("docstrings", documented, NONE),
    Row("formatting", reformatted, NONE),
    # Code that no step reaches.
    Row("another module", module_added, NONE),
    Row("the flow", touched("flows/retrain.py", "retrain"), NONE),
    Row("the decision", touched("tasks/promote.py", "promote"), NONE),
    Row("the ledger", touched("digits/registry/ledger.py", "deciding"), NONE),
    Row("the progress", touched("digits/progress.py", "finish_epoch"), NONE),
    Row("the places", touched("digits/settings.py", "raw_dir"), NONE),
    # A parameter that one step reads.
    Row("thresholds", in_spec("divergence = 0.1", "divergence = 0.2"), VALIDATION),
    Row("title", in_spec("Made-up", "Invented"), PAGE),
    Row("floor", in_spec("floor = 0.2", "floor = 0.3"), NONE),
    Row("seed", nothing_edited, MLP | CNN, ("--seed", "5")),
    Row("epochs", nothing_edited, MLP | CNN, ("--epochs", "2")),
    Row("fewer models", nothing_edited, PAGE, ("--models", "mlp")),
    # The data.
    Row("data changed in place", pixel_changed, ALL),
    Row("same data elsewhere", data_moved, NONE),
    # A library.
    Row("numpy", installed("numpy"), ALL),
    Row("keras", installed("keras"), TRAININGS | SCORES),
    Row("tensorflow", installed("tensorflow"), TRAININGS | SCORES),
    Row("scipy", installed("scipy"), VALIDATION | SCORES),
    Row("great expectations", installed("great_expectations"), VALIDATION),
    Row("matplotlib", installed("matplotlib"), PAGE),
    Row("rich", installed("rich"), NONE),
)


# One of each kind; the slow test below covers all rows.
FORETOLD = (
    *("body of train", "helper of models", "constant of scores", "page of a run"),
    *("settings of a model", "comments", "docstrings", "formatting", "the progress"),
    *("thresholds", "epochs", "data changed in place", "same data elsewhere", "keras"),
)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.name in FORETOLD], ids=lambda row: row.name
)
def test_plan_predicts_the_steps_that_run_after_an_edit(row: Row, copy: Copy, tally: Tally) -> None:
    with tally.attempt("edits"):
        row.edit(copy)
        check_foretold(copy.plan(*row.options), row.executed)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_edit_runs_what_depends_on_it_and_gives_the_results_of_a_run_from_scratch(
    row: Row, copy: Copy, tmp_path: Path, tally: Tally
) -> None:
    with tally.attempt("edits"):
        row.edit(copy)
        plan = copy.plan(*row.options)
        fresh = copy.from_nothing(tmp_path / "fresh")
        started = [one.start("run", *row.options, "--json") for one in (copy, fresh)]
        run, from_nothing = (Run.of(one.wait()) for one in started)
        assert run.executed - conversions(run) == row.executed
        check_foretold(plan, run.executed)
        assert from_nothing.executed == from_nothing.steps
        check_equal(copy, fresh)
        assert not copy.run(*row.options).executed


def test_results_for_one_kind_of_device_are_not_used_for_another(copy: Copy, tally: Tally) -> None:
    with tally.attempt("edits"):
        installed("nvidia_cudnn_cu12")(copy)
        check_foretold(copy.plan(prelude=see_gpu), TRAININGS | SCORES)
        check_foretold(copy.plan("--device", "cpu", prelude=see_gpu), NONE)
        refused = copy.call("run", prelude=see_gpu)
        assert refused.status == 2
        assert "found Pretended GPU, but tensorflow does not see it" in refused.log
        assert not copy.run("--device", "cpu", prelude=see_gpu).executed


@pytest.mark.slow
def test_code_edited_during_a_run_is_not_mistaken_for_the_code_that_ran(
    copy: Copy, tally: Tally
) -> None:
    with tally.attempt("edits"):
        run = copy.start("run", "--seed", "5")
        run.await_file(copy.settings.artifacts_dir / "checkpoints", "checkpoint.json", 3)
        # It has been imported, and runs last.
        replaced("tasks/report.py", "title=title", 'title=f"{title}, edited"')(copy)
        ended = run.wait()
        assert "source files changed during the run" in ended.log
        assert copy.run("--seed", "5").executed >= PAGE
        page = max(copy.settings.artifacts_dir.glob("reports/*/report.html"), key=changed_at)
        assert "Made-up handwriting, edited" in page.read_text(encoding="utf-8")


def changed_at(path: Path) -> int:
    return path.stat().st_mtime_ns


def check_foretold(plan: dict[str, str], executed: frozenset[str]) -> None:
    """Assert that a plan and a run agree; a step that depends on others may or may not run."""
    certain = {step for step, would in plan.items() if would == "run"} - {"promote"}
    possible = {step for step, would in plan.items() if would == "depend"}
    assert certain <= executed <= certain | possible, plan


def conversions(run: Run) -> set[str]:
    """Return the steps that a run adds if it promotes a model."""
    is_promoted = run.outcome == "promoted"
    return {step for step in run.steps if is_promoted and step.startswith("convert ")}


def check_equal(copy: Copy, fresh: Copy) -> None:
    """Assert that the results of a run from scratch equal the copy's under the same keys.

    The run from scratch may have promoted, and so converted, models that the copy's did not.
    """
    made = {record.path.name: record.bundle.name for record in invariants.finished(copy.settings)}
    for record in invariants.finished(fresh.settings):
        # The report contains durations.
        is_known = record.path.name in made or not record.label.startswith("convert ")
        if record.label != "report" and is_known:
            assert made[record.path.name] == record.bundle.name, record.label
    invariants.check(copy.settings)
