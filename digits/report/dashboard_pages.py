"""The dashboard's Markdown pages: runs, the champion, new batches and garbage collection."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from digits.datasets.growth import Growth
from digits.datasets.versions import DatasetVersion
from digits.escaping import markdown_code, markdown_link, markdown_table, markdown_text
from digits.intake.incoming import Addition
from digits.registry.garbage import Garbage
from digits.registry.ledger import Entry, ModelVersion, Verdict, forms_of
from digits.registry.promotion import RunOutcome
from digits.report.sentences import headline, shared_remark
from digits.storage.files import printable
from digits.storage.records import Record
from digits.storage.references import OnnxRef, ValidationRef
from digits.thresholds import SPLITS
from digits.validation.findings import ValidationOutcome

NUM_SHOWN = 12
"""Characters shown of a digest; the report has full digests."""

NO_PICTURES = (
    "This run trained and evaluated nothing: the report and the runs linked below have the charts."
)


def run_page(
    title: str,
    outcome: RunOutcome,
    *,
    steps: Mapping[str, str | None],
    origins: Mapping[str, Record],
    report: Path,
    link: str | None,
    pictures: Mapping[str, str],
) -> str:
    """Render the page of a run: the decision and its reason, scores, data, steps and lineage.

    `steps` maps each step to the run that produced its result, or to None for this run; `origins`
    maps steps to the cache records of those results, as far as they still exist. `pictures` maps
    titles to data URIs and is empty if nothing was trained. `report` is the path of the HTML
    report, `link` its URL.
    """
    verdict = outcome.decision.entry.verdict
    parts = [
        f"# {markdown_text(headline(verdict))}",
        markdown_text(f"{title}: {verdict.reason}."),
        _models(outcome),
        _comparison(verdict),
        shared_remark(outcome.validation.num_shared_images, outcome.scored[0][1].num_images),
        _page("Full report", report, link),
        *(f"## {name}\n\n![{name}]({uri})" for name, uri in pictures.items()),
        "" if pictures else NO_PICTURES,
        "## Data",
        _version(outcome.version),
        "## Validation",
        _validation(outcome.validation),
        "## Steps",
        markdown_table(
            ("step", "result from"),
            ((markdown_text(step), _origin(run, origins.get(step))) for step, run in steps.items()),
        ),
        "## Lineage",
        markdown_table(
            ("step", "output", "cache key"),
            (
                (markdown_text(label), _code(step.output), _code(step.key.digest))
                for label, step in outcome.lineage.items()
            ),
        ),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def champion_page(title: str, entries: Sequence[Entry], drawing_page: str | None = None) -> str:
    """Render the page of the champion and all champion changes, newest first.

    `entries` must contain at least one change. `drawing_page` is the URL of the model server's
    page.
    """
    changes = [entry for entry in entries if _is_change(entry.verdict)]
    versions = {entry.version.number: entry.version for entry in entries if entry.version}
    last = changes[-1]
    champion = versions[last.verdict.champion_after or 0]
    parts = (
        f"# {markdown_text(title)}: version {champion.number} is the champion",
        f"Since {last.time:%Y-%m-%d %H:%M} UTC, set by "
        + markdown_text(f"{last.run}: {last.verdict.reason}."),
        markdown_link("Draw a digit and see how it reads it", drawing_page) if drawing_page else "",
        _champion(champion, forms_of(entries, champion.number)),
        "## History",
        markdown_table(
            ("time (UTC)", "outcome", "version", "reason"),
            (_change(entry) for entry in reversed(changes)),
        ),
    )
    return "\n\n".join(filter(None, parts))


def failure_page(title: str, outcome: ValidationOutcome, page: Path, link: str | None) -> str:
    """Render the page of a validation that stopped a run."""
    return "\n\n".join(
        (
            f"# {markdown_text(title)}: data validation failed",
            f"{len(outcome.failures)} of {outcome.num_expectations} expectations failed.",
            "Nothing was trained, and the champion is unchanged.",
            _page("All findings", page, link),
            markdown_table(
                ("split", "property", "found", "expected", "rows"),
                (
                    [
                        markdown_text(cell)
                        for cell in (f.split, f.about, f.found, f.expected, ", ".join(f.named))
                    ]
                    for f in outcome.failures
                ),
            ),
        )
    )


def batch_page(title: str, addition: Addition) -> str:
    """Render the page of a new batch: added, already known, refused, or left where it is."""
    if addition.status == "quarantined":
        heading = f"A batch for {title} was refused"
        text = "Nothing was added: the dataset and the champion are unchanged."
    elif addition.status == "left":
        heading = f"A batch for {title} was left in the incoming folder"
        text = "The next run tries again."
    elif addition.status == "known":
        heading, text = f"{title} already has this batch", "Nothing was changed."
    else:
        heading = f"{title}: dataset version {addition.version}"
        text = f"Batch {markdown_code(addition.batch)} was added; the next training uses it."
    return "\n\n".join(
        filter(
            None,
            (
                f"# {markdown_text(heading)}",
                f"Source: {markdown_code(addition.source)}. {text}",
                _listed(addition.reasons),
                _page("All findings", addition.page, None) if addition.page else "",
                _growth(addition.growth) if addition.status == "accepted" else "",
                _listed(f"warning: {warning}" for warning in addition.warnings),
            ),
        )
    )


def garbage_page(garbage: Garbage, *, is_dry_run: bool) -> str:
    """Render the page of what garbage collection deletes or, in a dry run, would delete."""
    verb = "would free" if is_dry_run else "frees"
    return "\n".join(
        (
            f"# Garbage collection {verb} {garbage.num_bytes / 1e6:.1f} MB",
            "",
            *(
                f"- {markdown_code(printable(str(place)))}"
                for place in (*garbage.paths, *garbage.objects)
            ),
        )
    )


def _version(version: DatasetVersion) -> str:
    lines = [f"Data: {version.describe()}."]
    rows = [
        (
            _code(batch.batch),
            f"version {batch.version}, {batch.time:%Y-%m-%d %H:%M} UTC",
            f"{batch.growth.train.num_images:,}",
            f"{batch.growth.test.num_images:,}",
            markdown_text(batch.source),
        )
        for batch in version.batches
    ]
    if rows:
        lines.append(markdown_table(("batch", "added in", "train", "test", "source"), rows))
    return "\n\n".join(lines)


def _growth(growth: Growth) -> str:
    splits = {split: growth.of(split).class_sizes for split in SPLITS}
    return markdown_table(
        ("split", "images", *(f"class {label}" for label in range(len(splits["train"])))),
        (
            (split, f"{sum(sizes):,}", *(f"{size:,}" for size in sizes))
            for split, sizes in splits.items()
        ),
    )


def _models(outcome: RunOutcome) -> str:
    verdict, rival = outcome.decision.entry.verdict, outcome.decision.rival
    candidate = verdict.candidate
    rows = [
        (_emphasized(model.model, is_bold=model.model == candidate), model, score)
        for model, score in outcome.scored
    ]
    if rival is not None and verdict.champion_score is not None:
        name = markdown_text(f"champion, v{rival.number} ({rival.model.model})")
        rows.append((name, rival.model, verdict.champion_score))
    return markdown_table(
        ("model", "test accuracy", "95% interval", "test loss", "parameters", "training"),
        (
            (
                name,
                f"{score.accuracy:.2%}",
                f"{score.interval[0]:.2%} to {score.interval[1]:.2%}",
                f"{score.loss:.4f}",
                f"{score.num_parameters:,}",
                markdown_text(f"{model.seconds:.1f} s, {model.device}"),
            )
            for name, model, score in rows
        ),
    )


def _emphasized(name: str, *, is_bold: bool) -> str:
    return f"**{markdown_text(name)}**" if is_bold else markdown_text(name)


def _comparison(verdict: Verdict) -> str:
    if verdict.discordant is None or verdict.p_value is None:
        return markdown_text(f"Rule: {verdict.rule}.")
    champion, candidate = verdict.discordant
    return (
        f"Test images that only the candidate classified correctly: {candidate:,}; only the "
        f"champion: {champion:,} (exact McNemar p = {verdict.p_value:.3g}). "
        + markdown_text(f"Rule: {verdict.rule}.")
    )


def _validation(validation: ValidationRef) -> str:
    lines = [f"{validation.num_expectations} expectations checked, none failed"]
    if validation.warnings:
        num_warnings = len(validation.warnings)
        lines[0] += f", {num_warnings} {'warning' if num_warnings == 1 else 'warnings'}:"
    return "\n".join((*lines, "", _listed(validation.warnings))).strip()


def _origin(run: str | None, record: Record | None) -> str:
    if run is None:
        return "this run"
    if record is None:
        return f"the cache: {markdown_text(run)}"
    made = f"{record.created:%Y-%m-%d %H:%M} UTC"
    linked = markdown_link(record.run_name, f"/runs/flow-run/{record.run_id}")
    return f"the cache: {linked}, {made}"


def _page(name: str, path: Path, link: str | None) -> str:
    return markdown_link(name, link) if link else f"{name}: {markdown_code(str(path))}"


def _champion(version: ModelVersion, forms: Sequence[OnnxRef]) -> str:
    score = version.evaluation
    low, high = score.interval
    return "\n".join(
        (
            f"- {markdown_text(version.model.model)} with {score.num_parameters:,} parameters",
            f"- test accuracy {score.accuracy:.2%} ({low:.2%} to {high:.2%})",
            f"- test loss {score.loss:.4f}",
            f"- model {markdown_code(version.model.digest)}",
            *(f"- its ONNX form {markdown_code(form.digest)}" for form in forms[:1]),
            f"- lineage {markdown_code(version.lineage)}",
        )
    )


def _is_change(verdict: Verdict) -> bool:
    return verdict.champion_before != verdict.champion_after


def _change(entry: Entry) -> tuple[str, ...]:
    verdict = entry.verdict
    return (
        f"{entry.time:%Y-%m-%d %H:%M}",
        verdict.outcome,
        f"{verdict.champion_before or '-'} → {verdict.champion_after}",
        markdown_text(verdict.reason),
    )


def _code(digest: str) -> str:
    return markdown_code(digest[:NUM_SHOWN])


def _listed(texts: Iterable[str]) -> str:
    return "\n".join(f"- {markdown_text(text)}" for text in texts)
