"""The small dataset as network sources serve it, and a spec that names the sources."""

import gzip
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from digits.datasets.sources.archives import FILE_NAMES
from digits.settings import Settings
from digits.spec import ROLES, DatasetSpec, Role, load_spec
from tests.support.archives import idx_files, npz, package
from tests.support.handwriting import make_splits
from tests.support.server import Answer, Server
from tests.support.small_dataset import NAME, SPEC, write_spec

SPLITS = make_splits()
FILES: Mapping[Role, bytes] = idx_files(SPLITS)
CONTENT = {role: hashlib.sha256(FILES[role]).hexdigest() for role in ROLES}
NPM = {"kind": "npm", "package": "handwriting", "version": "1.0.0", "folder": "data"}

Source = Mapping[str, str]


def write_served_spec(settings: Settings, *sources: Source) -> DatasetSpec:
    """Write the spec of the small dataset with its digests and these sources, and load it."""
    lines = ["[content]", *(f'{role} = "{digest}"' for role, digest in CONTENT.items())]
    for source in sources:
        lines += ["[[sources]]", *(f'{key} = "{value}"' for key, value in source.items())]
    write_spec(settings, "\n".join([SPEC, *lines]))
    return load_spec(NAME, settings)


def serve_npz(server: Server, content: bytes | None = None) -> Source:
    """Serve the dataset, or `content` instead, as an .npz."""
    server.answers["/digits.npz"] = [Answer(npz(SPLITS) if content is None else content)]
    return {"kind": "npz", "url": f"{server.url}/digits.npz"}


def serve_idx(server: Server, others: Mapping[Role, Answer] | None = None) -> Source:
    """Serve the dataset as four .gz files; `others` replace their answers by role."""
    for role in ROLES:
        answer = (others or {}).get(role, Answer(gzip.compress(FILES[role])))
        server.answers[f"/idx/{FILE_NAMES[role]}.gz"] = [answer]
    return {"kind": "idx", "url": f"{server.url}/idx"}


def install_npm(folder: Path, content: bytes | None = None) -> Source:
    """Install a fake npm in a folder, whose `npm pack` writes the package, or `content` instead."""
    archive = folder / "handwriting.archive"
    folder.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(package(dict(FILES)) if content is None else content)
    write_npm(
        folder,
        f"""
        assert args[0] == "pack" and args[-1] == "handwriting@1.0.0", args
        shutil.copy({str(archive)!r}, destination / "handwriting-1.0.0.tgz")
        """,
    )
    return NPM


def write_npm(folder: Path, code: str) -> None:
    """Write an executable `npm` that runs Python code, which can use `args` and `destination`."""
    lines = [
        f"#!{sys.executable} -S",
        "import shutil, sys, time",
        "from pathlib import Path",
        "args = sys.argv[1:]",
        'destination = Path(args[args.index("--pack-destination") + 1])',
        *(line.strip() for line in code.splitlines()),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "npm").write_text("\n".join(lines), encoding="utf-8")
    (folder / "npm").chmod(0o755)
