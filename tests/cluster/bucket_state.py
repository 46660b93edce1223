"""What lies in a store, read and checked without the project's own readers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from obstore.store import S3Store

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class BucketState:
    """All objects below a prefix, by their names after it."""

    objects: Mapping[str, bytes]

    @property
    def bundles(self) -> dict[str, dict[str, Any]]:
        """The manifests of visible bundles, by KIND/DIGEST."""
        return {
            name.removesuffix(f"/{MANIFEST}"): json.loads(content)
            for name, content in self.objects.items()
            if name.endswith(f"/{MANIFEST}")
        }

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of the cache."""
        found = (name for name in self.objects if name.startswith("records/"))
        return [unsealed(self.objects[name], name) for name in found]

    def ledger(self, dataset: str) -> list[dict[str, Any]]:
        """The lines of a ledger, each of which must follow the one before."""
        lines: list[dict[str, Any]] = []
        folder = f"ledger/{dataset}/"
        names = sorted(name for name in self.objects if name.startswith(folder))
        if names and names[-1] == f"{folder}head.json":
            names.pop()
        for number, name in enumerate(names, start=1):
            assert name == f"ledger/{dataset}/{number:08}.json"
            line = unsealed(self.objects[name], name)
            assert line["number"] == number, name
            assert line["previous"] == (lines[-1]["digest"] if lines else ""), name
            lines.append(line)
        return lines

    def check(self, dataset: str) -> None:
        """Assert that everything visible is whole, and what records and ledger name is there."""
        bundles = self.bundles
        for bundle, manifest in bundles.items():
            content = self.objects[f"{bundle}/{MANIFEST}"]
            assert sha256(content).hexdigest() == bundle.partition("/")[2], bundle
            for name, facts in manifest["files"].items():
                assert sha256(self.objects[f"{bundle}/{name}"]).hexdigest() == facts["sha256"]
        digests = {bundle.partition("/")[2] for bundle in bundles}
        assert {record["value"]["digest"] for record in self.records} <= digests
        for line in self.ledger(dataset):
            version = line["version"]
            if version:
                model, score = version["model"]["digest"], version["evaluation"]["digest"]
                assert {model, score, version["lineage"]} <= digests
            assert {form["digest"] for form in line["forms"]} <= digests


def bucket_state(store: S3Store, prefix: str) -> BucketState:
    """Read all objects below a prefix."""
    names = object_names(store, prefix)
    return BucketState({name: bytes(store.get(f"{prefix}/{name}").bytes()) for name in names})


def object_names(store: S3Store, prefix: str) -> set[str]:
    """Return the names of all objects below a prefix, without reading them."""
    paths = (one["path"] for page in store.list(f"{prefix}/") for one in page)
    return {path.removeprefix(f"{prefix}/") for path in paths}


def unsealed(content: bytes, name: str) -> dict[str, Any]:
    """Return the fields of a sealed object, whose digest must match."""
    fields: dict[str, Any] = json.loads(content)
    body = {key: value for key, value in fields.items() if key != "digest"}
    text = json.dumps(body, separators=(",", ":")).encode()
    assert sha256(text).hexdigest() == fields["digest"], name
    return fields
