"""Machines that share a store: each with folders and a cache of its own."""

from pathlib import Path

from digits.settings import Settings
from digits.storage.workspace import Workspace


def machine(folder: Path, name: str, *, cache_gb: float = 1) -> Workspace:
    """Return the workspace of a machine; all below one folder share the store in it."""
    home = folder / name
    settings = Settings(
        data_dir=home / "data",
        artifacts_dir=home / "artifacts",
        cache_dir=home / "cache",
        cache_gb=cache_gb,
        store=f"file://{folder}/store",
    )
    return Workspace(settings)


def stored(folder: Path, name: str) -> Path:
    """Return the file of an object in the store of `machine`."""
    return folder / "store" / name
