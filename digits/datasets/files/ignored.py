"""The files that are never data: hidden ones, and those of operating systems and of Spark.

They are ignored in datasets, batches and class folders alike, and deleted with an added batch.
Any other file is either read or named.
"""

import re

OF_SYSTEMS = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "__macosx",
        "@eadir",
        # Finder writes a carriage return; some archivers replace it.
        "icon\r",
        "icon\uf00d",
    }
)
# Empty files, or footers of the files beside them.
MARKER = re.compile(r"_success|_(common_)?metadata|_(started|committed)_\d+")


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is hidden or belongs to an operating system."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def is_marker(name: str) -> bool:
    """Whether a file of this name is one that Spark and Databricks write beside their data."""
    return MARKER.fullmatch(name.lower()) is not None
