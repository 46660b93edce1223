"""The labels of many images in one Parquet file, streamed and written atomically."""

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digits.datasets.images import iter_split
from digits.inference.loaded_versions import LoadedVersion
from digits.labeling.drift import Reference, Watch, reference_of
from digits.labeling.image_search import Passed, find_files
from digits.labeling.label_reports import LabelReport
from digits.labeling.labeler import Answer, Prediction, label_files
from digits.labeling.pictures import Refused
from digits.registry.champion import dataset_folder
from digits.registry.ledger import Ledger, find_version
from digits.storage.files import TEMPORARY, flush, make_folder
from digits.storage.workspace import Workspace

ROW_GROUP = 8192
# If `error` gives a reason, `label` and `probability` are null.
SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("probability", pa.float32()),
        pa.field("error", pa.string()),
        pa.field("note", pa.string()),
    ]
)


def label_pictures(
    arguments: Iterable[str],
    version: LoadedVersion,
    path: Path,
    workspace: Workspace,
    *,
    as_is: bool | None,
) -> LabelReport:
    """Label files and folders with a version; write a row for each image into a Parquet file.

    Writing is atomic: on an error, `path` is unchanged. Raises DigitsError if the version's
    training data, which drift is measured against, is not in the store.
    """
    watch = Watch(_reference(version, workspace))
    passed = Passed()
    answers = label_files(find_files(arguments, passed), version, as_is=as_is)
    num_refused = _write(path, answers, watch)
    return LabelReport(
        path=path,
        dataset=version.dataset,
        version=version.number,
        class_counts=dict(zip(version.layout.class_names, watch.label_counts, strict=True)),
        num_refused=num_refused,
        passed=tuple(passed.sentences()),
        drift=watch.measures(),
    )


def _reference(version: LoadedVersion, workspace: Workspace) -> Reference:
    entries = Ledger(version.dataset, workspace.settings).entries()
    recorded, layout = find_version(entries, version.number, version.dataset), version.layout
    workspace.store.verify(recorded.evaluation)
    return reference_of(
        iter_split(dataset_folder(recorded, workspace) / "train.parquet", layout),
        workspace.store.folder(recorded.evaluation) / "predictions.parquet",
        layout.num_classes,
    )


def _write(path: Path, answers: Iterator[Answer], watch: Watch) -> int:
    """Write all answers, pass labeled ones to `watch`, and return the number without a label."""
    make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex}")
    num_refused = 0
    try:
        with pq.ParquetWriter(temporary, SCHEMA, write_page_checksum=True) as writer:
            while rows := list(islice(answers, ROW_GROUP)):
                writer.write_table(_table(rows))
                labeled = [row for row in rows if isinstance(row, Prediction)]
                num_refused += len(rows) - len(labeled)
                if labeled:
                    watch.add(
                        np.stack([row.seen for row in labeled]),
                        np.array([row.label for row in labeled]),
                        np.array([row.probability for row in labeled]),
                    )
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return num_refused


def _table(rows: list[Answer]) -> pa.Table:
    # A file name that is not UTF-8 contains surrogates, which Arrow would reject.
    files = [row.file.encode("utf-8", "backslashreplace").decode() for row in rows]
    columns = {
        "file": files,
        "label": [row.label if isinstance(row, Prediction) else None for row in rows],
        "probability": [row.probability if isinstance(row, Prediction) else None for row in rows],
        "error": [row.error if isinstance(row, Refused) else None for row in rows],
        "note": [row.note if isinstance(row, Prediction) else None for row in rows],
    }
    return pa.table(columns, schema=SCHEMA)
