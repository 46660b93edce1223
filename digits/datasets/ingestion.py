"""From files as they are distributed to a typed dataset in the store."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import LabeledChunk, RowNames
from digits.datasets.formats.readers import read_files
from digits.datasets.images import Images, Labels, SplitWriter, content_digest
from digits.datasets.kept_batches import read_batch
from digits.datasets.sources.content import Content, opened
from digits.datasets.splits import is_test
from digits.datasets.versions import DatasetVersions
from digits.errors import DataError
from digits.spec import DatasetSpec, Layout, ReadOptions
from digits.storage.records import canonical_digest
from digits.storage.references import DatasetRef
from digits.storage.workspace import Workspace
from digits.thresholds import SPLITS, Split


def ingest_dataset(
    layout: Layout,
    content: Content,
    read_options: ReadOptions,
    spec: DatasetSpec,
    workspace: Workspace,
    *,
    added: Collection[str] = (),
) -> DatasetRef:
    """Obtain the files of `spec`, check them, and store train.parquet and test.parquet.

    `content` gives the SHA-256 that each file must have, `added` the digests of the batches that
    come after them. The images stream through: never are more than a few thousand in memory. Raises
    DataError when files or batches cannot be had or are not what they should be.
    """
    with workspace.store.create("datasets") as draft:
        batches = chain(
            read_source(layout, content, read_options, spec, workspace),
            read_added(added, layout, DatasetVersions(spec.name, workspace.settings)),
        )
        counts = write_splits(batches, layout, read_options.test_share, draft.path)
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


def read_source(
    layout: Layout,
    content: Content,
    read_options: ReadOptions,
    spec: DatasetSpec,
    workspace: Workspace,
) -> Iterator[LabeledChunk]:
    """The images of the files that a spec names; raises as ingest_dataset does."""
    with opened(spec, content, workspace.settings) as files:
        defects = Defects(read_options.severity)
        yield from read_files(files, layout, read_options, defects)
        defects.enforce()


def read_added(
    added: Collection[str], layout: Layout, versions: DatasetVersions
) -> Iterator[LabeledChunk]:
    """The images of batches by their digests; raises DataError where one is not whole."""
    for change in versions.kept(added):
        for images, labels in read_batch(change, versions, layout):
            names = RowNames(f"batch {change.batch[:12]}", range(len(labels)))
            yield LabeledChunk(images=images, labels=labels, split=None, names=names)


def split_rows(batch: LabeledChunk, test_share: float) -> Iterator[tuple[Split, Images, Labels]]:
    """The images and labels of each split in a batch."""
    if batch.split is not None:
        yield batch.split, batch.images, batch.labels
        return
    test = is_test(batch.images, test_share)
    yield "train", batch.images[~test], batch.labels[~test]
    yield "test", batch.images[test], batch.labels[test]


def write_splits(
    batches: Iterable[LabeledChunk], layout: Layout, test_share: float, folder: Path
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
            for split, images, labels in split_rows(batch, test_share):
                writers[split].write(images, labels)
    return {split: writer.num_images for split, writer in writers.items()}


def _check(counts: dict[Split, int], name: str) -> None:
    for split, count in counts.items():
        if not count:
            found = ", ".join(f"{count:,} for {split}" for split, count in counts.items())
            raise DataError(
                f"the files of {name} hold no image for {split}, expected at least one of each "
                f"class; there are {found}"
            )
