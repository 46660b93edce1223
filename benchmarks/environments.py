"""Environments of their own for what benchmarks compare with, made by pip on first use."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def installed(folder: Path, packages: Sequence[str]) -> Path:
    """Return the folder of programs of an environment, after installing its packages if need be."""
    marker, wanted = folder / ".packages", "\n".join(packages)
    if not marker.exists() or marker.read_text() != wanted:
        print(f"Installing {packages[0]} in {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
        subprocess.run([*pip, "install", "-qq", "--compile", *packages], check=True)
        marker.write_text(wanted)
    return folder / "bin"
