"""What must hold of the run-time folders at any moment, whatever happened."""

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
    "artifacts": ("validations", "models", "evaluations", "reports", "lineages"),
}


@dataclass(frozen=True)
class Finished:
    """A record of the cache: which step it is of, and the bundle that it made."""

    path: Path
    label: str
    bundle: Path


def check(settings: Settings) -> None:
    """Assert that all that is visible is whole, whatever happened and when."""
    for bundle in bundles(settings):
        assert_whole(bundle)
    check_known(settings)


def check_known(settings: Settings) -> None:
    """Assert that all that the cache and the ledger speak of is there and whole."""
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


def assert_whole(bundle: Path) -> None:
    """Assert that a bundle's manifest has its name's digest, and each file the manifest's."""
    manifest = (bundle / "manifest.json").read_bytes()
    assert sha256(manifest).hexdigest() == bundle.name, bundle
    files = json.loads(manifest)["files"]
    assert {path.name for path in bundle.iterdir()} == {"manifest.json", *files}, bundle
    for name, facts in files.items():
        content = (bundle / name).read_bytes()
        assert sha256(content).hexdigest() == facts["sha256"], bundle / name
        assert len(content) == facts["bytes"], bundle / name


def bundles(settings: Settings) -> list[Path]:
    """All bundles under their final names."""
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
    """The records of the cache, the last used last. Each must be as it was written."""
    workspace = Workspace(settings)
    records = (settings.artifacts_dir / "cache" / "records").glob("[!.]*.json")
    found = []
    for path in sorted(records, key=lambda path: path.stat().st_mtime_ns):
        record = workspace.records.read(path.stem)
        assert record is not None
        found.append(Finished(path, record.label, workspace.store.folder(record.reference)))
    return found


def begun(settings: Settings) -> list[Path]:
    """The checkpoints of trainings that have not ended."""
    ended = {record.path.stem for record in finished(settings)}
    checkpoints = (settings.artifacts_dir / "checkpoints").glob("*/checkpoint.json")
    return [path.parent for path in checkpoints if path.parent.name not in ended]


def ledger(settings: Settings) -> list[dict[str, Any]]:
    """The ledger's lines; each must be as it was written, and name the one before.

    Only the last may lack its end: it was being written when its process was killed.
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
    """The version that a ledger's last line leaves as champion."""
    after: int | None = entries[-1]["judgement"]["champion_after"] if entries else None
    return after


def leftovers(settings: Settings) -> list[Path]:
    """What was being written or set aside, and should be gone once a run has ended well."""
    return [
        path
        for folder in (settings.prepared_dir, settings.raw_dir, settings.artifacts_dir)
        for path in folder.rglob(".*")
        if path.name.startswith((".tmp-", ".damaged-"))
    ]


def results(settings: Settings) -> dict[str, set[str]]:
    """The digests of what was made, by kind. A report holds durations, hence no part of it."""
    kinds = ("datasets", "arrays", "validations", "models", "evaluations")
    return {
        kind: {path.name for path in bundles(settings) if path.parent.name == kind}
        for kind in kinds
    }
