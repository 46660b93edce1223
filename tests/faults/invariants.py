"""Invariants of the run-time folders, which must hold at any time."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from digits.registry.ledger import Ledger
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.small_dataset import NAME

KINDS = {
    "prepared": ("datasets", "arrays"),
    "artifacts": ("validations", "models", "evaluations", "onnx", "reports", "lineages"),
}


@dataclass(frozen=True)
class Finished:
    """A record of the cache: its step, and the bundle that the step made."""

    path: Path
    label: str
    bundle: Path


def check(settings: Settings) -> None:
    """Assert that everything visible is intact."""
    for bundle in bundles(settings):
        assert_whole(bundle)
    check_known(settings)


def check_known(settings: Settings) -> None:
    """Assert that everything that the cache and the ledger refer to exists and is intact."""
    for record in finished(settings):
        assert_whole(record.bundle)
    entries = ledger(settings)
    number = champion(entries)
    if number is not None:
        versions = {e["version"]["number"]: e["version"] for e in entries if e["version"]}
        version = versions[number]
        for kind, digest in (
            ("models", version["model"]["digest"]),
            ("evaluations", version["evaluation"]["digest"]),
            ("lineages", version["lineage"]),
        ):
            assert_whole(settings.artifacts_dir / kind / digest)
        recorded = [e["forms"] for e in entries if e["judgement"]["champion_after"] == number]
        for form in next(forms for forms in reversed(recorded) if forms):
            assert_whole(settings.artifacts_dir / "onnx" / form["digest"])


def assert_whole(bundle: Path) -> None:
    """Assert that a bundle is named by its manifest's digest, and that its files match it."""
    manifest = (bundle / "manifest.json").read_bytes()
    assert sha256(manifest).hexdigest() == bundle.name, bundle
    files = json.loads(manifest)["files"]
    assert {path.name for path in bundle.iterdir()} == {"manifest.json", *files}, bundle
    for name, facts in files.items():
        content = (bundle / name).read_bytes()
        assert sha256(content).hexdigest() == facts["sha256"], bundle / name
        assert len(content) == facts["bytes"], bundle / name


def bundles(settings: Settings) -> list[Path]:
    """Return all bundles under their final names."""
    roots = {"prepared": settings.prepared_dir, "artifacts": settings.artifacts_dir}
    folders = (roots[name] / kind for name, kinds in KINDS.items() for kind in kinds)
    return [
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if not path.name.startswith(".")
    ]


def finished(settings: Settings) -> list[Finished]:
    """Return the intact records of the cache, the most recently used last."""
    workspace = Workspace(settings)
    records = (settings.artifacts_dir / "cache" / "records").glob("[!.]*.json")
    found = []
    for path in sorted(records, key=lambda path: path.stat().st_mtime_ns):
        record = workspace.records.read(path.stem)
        assert record is not None
        found.append(Finished(path, record.label, workspace.store.folder(record.reference)))
    return found


def begun(settings: Settings) -> list[Path]:
    """Return the checkpoints of unfinished trainings."""
    ended = {record.path.stem for record in finished(settings)}
    checkpoints = (settings.artifacts_dir / "checkpoints").glob("*/checkpoint.json")
    return [path.parent for path in checkpoints if path.parent.name not in ended]


def ledger(settings: Settings) -> list[dict[str, Any]]:
    """Return the ledger's lines; each must be intact and contain the digest of the one before.

    Only the last line may be incomplete, if its process was killed while writing it.
    """
    ledger = Ledger(NAME, settings)
    content = ledger.path.read_bytes() if ledger.path.exists() else b""
    entries: list[dict[str, Any]] = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        entry = json.loads(line)
        assert entry["number"] == len(entries) + 1, entry
        assert entry["previous"] == (entries[-1]["digest"] if entries else ""), entry
        entries.append(entry)
    assert [entry.digest for entry in ledger.entries()] == [entry["digest"] for entry in entries]
    return entries


def champion(entries: list[dict[str, Any]]) -> int | None:
    """Return the version that is champion after a ledger's last line."""
    after: int | None = entries[-1]["judgement"]["champion_after"] if entries else None
    return after


def leftovers(settings: Settings) -> list[Path]:
    """Return temporary and set-aside files, which should be gone after a successful run."""
    return [
        path
        for folder in (settings.prepared_dir, settings.raw_dir, settings.artifacts_dir)
        for path in folder.rglob(".*")
        if path.name.startswith((".tmp-", ".damaged-"))
    ]


def results(settings: Settings) -> dict[str, set[str]]:
    """Return the digests of results by kind, except reports, which contain durations."""
    kinds = ("datasets", "arrays", "validations", "models", "evaluations", "onnx")
    return {
        kind: {path.name for path in bundles(settings) if path.parent.name == kind}
        for kind in kinds
    }
