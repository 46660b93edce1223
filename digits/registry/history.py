"""Roll back a promotion; describe the champion and the decisions about it."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from digits.errors import DamagedError, UsageError
from digits.registry.garbage import runs_lock
from digits.registry.late_forms import Convert, make_late_forms
from digits.registry.ledger import (
    Entry,
    Ledger,
    ModelVersion,
    Verdict,
    champion_of,
    find_version,
    forms_of,
)
from digits.registry.recorded_forms import new_forms
from digits.storage.chain import decided_anew
from digits.storage.locks import hold
from digits.storage.records import Record
from digits.storage.workspace import Workspace


def status(dataset: str, workspace: Workspace) -> dict[str, Any]:
    """Return a dataset's champion, its last decision and last report, as plain values."""
    entries = Ledger(dataset, workspace.settings).entries()
    champion = champion_of(entries)
    report = last_report(dataset, workspace)
    return {
        "dataset": dataset,
        "champion": describe_version(champion, entries) if champion else None,
        "last_decision": describe_entry(entries[-1]) if entries else None,
        "num_decisions": len(entries),
        "report": str(report) if report else None,
    }


def last_report(dataset: str, workspace: Workspace) -> Path | None:
    """Return the page of the dataset's last run, or None if there is none."""
    for record in workspace.records.of_step("report"):
        if _dataset_of(record) == dataset:
            with contextlib.suppress(DamagedError):
                page = workspace.store.folder(record.reference) / "report.html"
                if page.is_file():
                    return page
    return None


def _dataset_of(report: Record) -> str | None:
    # A lineage lacks the steps whose results could not be cached.
    ingest = report.key.inputs["lineage"].get("ingest")
    return ingest["key"]["inputs"]["layout"]["name"] if ingest else None


def describe_version(version: ModelVersion, entries: list[Entry]) -> dict[str, Any]:
    """Return the facts of a model version, and since when it has been champion."""
    since = max(
        entry.time
        for entry in entries
        if entry.verdict.champion_after == version.number
        and entry.verdict.champion_before != version.number
    )
    forms = forms_of(entries, version.number)
    return {
        "version": version.number,
        "model": version.model.model,
        "digest": version.model.digest,
        "onnx": forms[0].digest if forms else None,
        "num_parameters": version.model.num_parameters,
        "accuracy": version.evaluation.accuracy,
        "interval": version.evaluation.interval,
        "loss": version.evaluation.loss,
        "since": since.isoformat(timespec="seconds"),
    }


def describe_entry(entry: Entry) -> dict[str, Any]:
    """Return the facts of a decision, as plain values."""
    verdict = entry.verdict
    return {
        "number": entry.number,
        "time": entry.time.isoformat(timespec="seconds"),
        "run": entry.run,
        "data_digest": entry.data_digest,
        **verdict.model_dump(mode="json"),
    }


def roll_back(
    dataset: str,
    number: int | None,
    run: str,
    workspace: Workspace,
    convert: Convert | None = None,
) -> Entry:
    """Make an earlier version champion again after checking every byte of it.

    Without `number`, this is the previous champion. Runs never promote the replaced version again;
    only another rollback restores it. `convert` makes the ONNX form of a version that has none
    (default: at once, uncached). Raises UsageError if there is no such version, and DamagedError if
    it is corrupted; the champion is then unchanged.
    """
    return decided_anew(partial(_roll_back, dataset, number, run, workspace, convert))


def _roll_back(
    dataset: str,
    number: int | None,
    run: str,
    workspace: Workspace,
    convert: Convert | None,
) -> Entry:
    with (
        # What is converted is garbage until the ledger has it.
        hold(runs_lock(workspace), "waiting for garbage collection to end", shared=True),
        Ledger(dataset, workspace.settings).deciding() as ledger,
    ):
        champion = ledger.champion
        if champion is None:
            raise UsageError(
                f"{dataset} has no champion yet: nothing to roll back; see `digits run`"
            )
        if number is None:
            number = _champion_before(ledger.entries, champion, dataset)
        target = find_version(ledger.entries, number, dataset)
        if target.number == champion.number:
            raise UsageError(f"version {number} of {dataset} is already the champion")
        workspace.store.verify(target.model)
        workspace.store.verify(target.evaluation)
        is_same_test = champion.evaluation.test_digest == target.evaluation.test_digest
        replaced = champion.evaluation if is_same_test else None
        verdict = Verdict(
            outcome="rolled back",
            reason=f"version {champion.number} was rolled back to version {number} by hand",
            rule="by hand",
            candidate=target.model.model,
            candidate_digest=target.model.digest,
            candidate_accuracy=target.evaluation.accuracy,
            champion_accuracy=replaced.accuracy if replaced else None,
            champion_score=replaced,
            champion_before=champion.number,
            champion_after=number,
        )
        made = make_late_forms(target, champion, ledger.entries, workspace, convert)
        forms = new_forms(made, target, ledger.entries)
        for form in forms:
            workspace.store.secure(form)
        return ledger.append(
            verdict,
            run=run,
            data_digest=ledger.entries[-1].data_digest,
            forms=forms,
        )


def _champion_before(entries: list[Entry], champion: ModelVersion, dataset: str) -> int:
    # The champion that this version replaced when it was promoted, so that repeated rollbacks go
    # further back instead of alternating between two versions.
    for entry in entries:
        before = entry.verdict.champion_before
        if entry.version and entry.version.number == champion.number and before is not None:
            return before
    raise UsageError(
        f"version {champion.number} of {dataset} is the first champion; there is no earlier one"
    )
