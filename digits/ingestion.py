"""From files as they are distributed to a typed dataset in the store."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from digits.batches import LabelledBatch
from digits.dataset import DatasetSpec, Layout, Reading
from digits.defects import Defects
from digits.errors import DataError
from digits.images import SplitWriter, content_digest
from digits.readers import read_files
from digits.records import canonical_digest
from digits.references import DatasetRef
from digits.sources import Content, opened
from digits.splits import is_test
from digits.thresholds import SPLITS, Split
from digits.workspace import Workspace


def ingest_dataset(
    layout: Layout, content: Content, reading: Reading, spec: DatasetSpec, workspace: Workspace
) -> DatasetRef:
    """Obtain the files of `spec`, check them, and store train.parquet and test.parquet.

    `content` gives the SHA-256 that each file must have. The images stream through: never are more
    than a few thousand in memory. Raises DataError when the files cannot be had or are not what
    they should be.
    """
    with workspace.store.create("datasets") as draft:
        with opened(spec, content, workspace.settings) as files:
            defects = Defects(reading.severity)
            batches = read_files(files, layout, reading, defects)
            counts = write_splits(batches, layout, reading.test_share, draft.path)
            defects.judge()
        digests = {
            split: content_digest(draft.path / f"{split}.parquet", layout) for split in SPLITS
        }
        _check(counts, spec.name)
    return DatasetRef(
        digest=draft.digest,
        layout=layout,
        num_train=counts["train"],
        num_test=counts["test"],
        content_digest=canonical_digest(
            [layout.model_dump(mode="json"), digests["train"], digests["test"]]
        ),
        test_digest=digests["test"],
    )


def write_splits(
    batches: Iterable[LabelledBatch], layout: Layout, test_share: float, folder: Path
) -> dict[Split, int]:
    """Write train.parquet and test.parquet; how many images each has.

    Where a batch does not say of which split it is, each image's own content does.
    """
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(SplitWriter(folder / f"{split}.parquet", layout.image_shape))
            for split in SPLITS
        }
        for batch in batches:
            if batch.split is not None:
                writers[batch.split].write(batch.images, batch.labels)
                continue
            test = is_test(batch.images, test_share)
            writers["test"].write(batch.images[test], batch.labels[test])
            writers["train"].write(batch.images[~test], batch.labels[~test])
    return {split: writer.num_images for split, writer in writers.items()}


def _check(counts: dict[Split, int], name: str) -> None:
    for split, count in counts.items():
        if not count:
            found = ", ".join(f"{count:,} for {split}" for split, count in counts.items())
            raise DataError(
                f"the files of {name} hold no image for {split}, expected at least one of each "
                f"class; there are {found}"
            )
