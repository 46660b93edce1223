"""The steps of a run without their work: small bundles and records in the real format."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digits.recipes import training_settings
from digits.registry.garbage import running
from digits.registry.ledger import Entry, Ledger
from digits.registry.promotion import Decision, decide, models_to_convert
from digits.registry.promotion_rule import Rule
from digits.storage.lineage import Lineage, trace
from digits.storage.records import StepKey
from digits.storage.references import (
    ArraysRef,
    DatasetRef,
    EvaluationRef,
    Kind,
    ModelRef,
    OnnxRef,
    Reference,
    ReportRef,
    ValidationRef,
)
from digits.storage.workspace import Workspace
from tests.support.histories import NUM_IMAGES, digest, store_form, store_score
from tests.support.small_dataset import small_layout

MODELS = ("mlp", "cnn")


@dataclass
class Run:
    """A run on `data` with `code`; `executed` are the steps that were not cached."""

    workspace: Workspace
    data: str = "data"
    code: str = "code"
    wrong: int = 20
    executed: list[str] = field(default_factory=list)
    made: dict[str, Reference] = field(default_factory=dict)

    def step(self, label: str, inputs: dict[str, Any], make: Any) -> Any:
        """Return a step's result from its record, or make it."""
        name = label.partition(" ")[0]
        key = StepKey(step=name, inputs=inputs, code={"all": digest(self.code)}, libraries={})
        record = self.workspace.records.verified(key.digest)
        if record is None:
            reference = make().model_copy(update={"made_by": key.digest})
            self.workspace.records.write(key, reference, run_id="0", run_name="a run")
            self.prefects_copy(key.digest)
            self.executed.append(label)
        else:
            reference = record.reference
        self.made[label] = reference
        return reference

    def prefects_copy(self, key: str) -> None:
        """Write a stand-in for the copy of each value that Prefect stores."""
        self.workspace.records.values.mkdir(parents=True, exist_ok=True)
        (self.workspace.records.values / key).write_text("{}")

    def store(self, kind: Kind, content: str) -> str:
        """Store a bundle of a kilobyte and return its digest."""
        with self.workspace.store.create(kind) as draft:
            (draft.path / "content").write_text(f"{content:1000}")
        return draft.digest

    def prepare(self) -> tuple[DatasetRef, ValidationRef, ArraysRef]:
        """Ingest, validate and normalize."""
        layout, test = small_layout(), digest(f"test {self.data}")
        dataset = self.step(
            "ingest",
            {"layout": layout.model_dump(mode="json"), "content": digest(self.data)},
            lambda: DatasetRef(
                digest=self.store("datasets", self.data),
                layout=layout,
                num_train=600,
                num_test=NUM_IMAGES,
                content_digest=digest(self.data),
                test_digest=test,
            ),
        )
        validation = self.step(
            "validate",
            {"dataset": dataset.content},
            lambda: ValidationRef(digest=self.store("validations", self.data), num_expectations=1),
        )
        arrays = self.step(
            "normalize",
            {"dataset": dataset.content},
            lambda: ArraysRef(
                digest=self.store("arrays", self.data),
                layout=layout,
                num_train=600,
                num_test=NUM_IMAGES,
                test_digest=test,
            ),
        )
        return dataset, validation, arrays

    def train(self, model: str, arrays: ArraysRef) -> ModelRef:
        """Train one model, and leave its checkpoint."""
        settings = training_settings("reference", model)

        def make() -> ModelRef:
            return ModelRef(
                digest=self.store("models", f"{model} {self.data} {self.code}"),
                model=model,
                num_parameters=len(model),
                settings=settings,
                device="cpu",
                seconds=1.0,
            )

        inputs = {"arrays": arrays.content, "model": model, "settings": settings.model_dump()}
        reference: ModelRef = self.step(f"train {model}", inputs, make)
        self.checkpoint(reference.made_by)
        return reference

    def compare(self, scored: list[tuple[ModelRef, EvaluationRef]]) -> ReportRef:
        """Write the page of a sweep of these trainings."""
        pairs = [[model.content, score.content] for model, score in scored]
        reference: ReportRef = self.step(
            "compare",
            {"scored": pairs},
            lambda: ReportRef(digest=self.store("reports", str(pairs))),
        )
        return reference

    def checkpoint(self, key: str) -> Path:
        """Write the checkpoint that training leaves, finished or not."""
        folder = self.workspace.settings.artifacts_dir / "checkpoints" / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "epoch-0001.npz").write_text(f"{key:1000}")
        return folder

    def evaluate(self, model: ModelRef, arrays: ArraysRef, num_wrong: int) -> EvaluationRef:
        """Score one model."""
        reference: EvaluationRef = self.step(
            f"evaluate {model.model}",
            {"model": model.content, "arrays": arrays.content},
            lambda: store_score(
                self.workspace, model, range(num_wrong), test_set=f"test {self.data}"
            ),
        )
        return reference

    def convert(self, model: ModelRef, arrays: ArraysRef) -> OnnxRef:
        """Make the ONNX form of a model."""
        reference: OnnxRef = self.step(
            f"convert {model.model}",
            {"model": model.content, "arrays": arrays.content},
            lambda: store_form(self.workspace, model),
        )
        return reference

    def incumbent(self, arrays: ArraysRef) -> EvaluationRef | None:
        """Score the champion on this test set; its accuracy is the same on all test sets."""
        champion = Ledger(arrays.layout.name, self.workspace.settings).champion()
        if champion is None or champion.evaluation.test_digest == arrays.test_digest:
            return champion.evaluation if champion else None
        return self.evaluate(champion.model, arrays, NUM_IMAGES - champion.evaluation.num_correct)

    def decide(
        self,
        dataset: DatasetRef,
        scored: list[tuple[ModelRef, EvaluationRef]],
        arrays: ArraysRef,
        lineage: Lineage,
    ) -> Decision | None:
        """Decide, or return None if another run has changed the champion meanwhile."""
        incumbent, rule = self.incumbent(arrays), Rule(floor=0.1)
        due = models_to_convert(
            arrays.layout.name, scored, incumbent, rule=rule, workspace=self.workspace
        )
        return decide(
            dataset,
            scored,
            incumbent,
            rule=rule,
            lineage=lineage,
            forms=[self.convert(model, arrays) for model in due],
            run="a run",
            workspace=self.workspace,
        )

    def run(self) -> Decision:
        """Do all steps, make the decision and write the page."""
        dataset, validation, arrays = self.prepare()
        models = [self.train(model, arrays) for model in MODELS]
        # The CNN labels one more image correctly.
        scored = [
            (model, self.evaluate(model, arrays, self.wrong - (model.model == "cnn")))
            for model in models
        ]
        lineage = trace(self.made.values(), self.workspace.records)
        decision = None
        while decision is None:
            decision = self.decide(dataset, scored, arrays, lineage)
        verdict = decision.standing.model_dump(mode="json")
        self.step(
            "report",
            {"verdict": verdict, "validation": validation.content},
            lambda: ReportRef(digest=self.store("reports", str(verdict))),
        )
        return decision


def run_once(workspace: Workspace, **changes: Any) -> Entry:
    """Do a run and return its line in the ledger."""
    with running(workspace):
        return Run(workspace, **changes).run().entry


def leave_remains(workspace: Workspace, number: int) -> None:
    """Write what killed runs leave behind: a draft, temporary files, locks and a checkpoint."""
    chance = random.Random(number)
    key = digest(f"killed {number}")
    root = workspace.store.root(chance.choice(["arrays", "models", "reports"]))
    draft = root / f".tmp-{key[:32]}"
    draft.mkdir()
    (draft / "half").write_text(f"{number:1000}")
    (root / f"{draft.name}.lock").touch()
    (workspace.records.root / f".tmp-{key}.json-0").write_text("{")
    (workspace.records.values / f".tmp-{key}-0").write_text("{")
    locks = workspace.settings.artifacts_dir / "locks"
    (locks / f"{key}.lock").touch()
    Run(workspace).checkpoint(key)
