"""From files as they were distributed to a typed dataset in the store."""

from digits.dataset import DatasetSpec, Layout
from digits.images import content_digest, write_split
from digits.records import canonical_digest
from digits.references import DatasetRef
from digits.sources import Content, obtain
from digits.splits import load_raw
from digits.workspace import Workspace


def ingest_dataset(
    layout: Layout, content: Content, spec: DatasetSpec, workspace: Workspace
) -> DatasetRef:
    """Obtain the files of `spec`, check them, and store train.parquet and test.parquet.

    `content` maps each role to the SHA-256 that its uncompressed IDX file must have. Raises
    DataError when the files cannot be had or are not what they should be.
    """
    files = obtain(spec, content, workspace.settings)
    x_train, y_train, x_test, y_test = load_raw(files, layout)
    with workspace.store.create("datasets") as draft:
        write_split(draft.path / "train.parquet", x_train, y_train)
        write_split(draft.path / "test.parquet", x_test, y_test)
    test_digest = content_digest(x_test, y_test)
    return DatasetRef(
        digest=draft.digest,
        layout=layout,
        num_train=len(x_train),
        num_test=len(x_test),
        content_digest=canonical_digest(
            [layout.model_dump(mode="json"), content_digest(x_train, y_train), test_digest]
        ),
        test_digest=test_digest,
    )
